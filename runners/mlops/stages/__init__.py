"""The stages of the pipeline: one module each, found by entry point."""
