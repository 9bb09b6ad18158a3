"""Delivery of machine-learning models: from a model repository to a served, reversible release."""

__version__ = "0.1.0"
