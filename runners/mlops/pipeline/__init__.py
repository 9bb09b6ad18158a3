"""The frame around the stages: their order, the cache, the run, and all that is written about it."""
