"""How a candidate takes over: one pure module per strategy, found by entry point."""
