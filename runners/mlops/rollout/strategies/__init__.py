"""How a candidate takes over: one small pure module per strategy, found by entry point ``mlops.strategies``."""
