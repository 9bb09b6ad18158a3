"""Decisions with controlled error rates: pure mathematics on counts and arrays.

No input or output, no clock, no randomness that is not seeded by the caller. Every function names its
hypothesis, its guarantee and its source.
"""
