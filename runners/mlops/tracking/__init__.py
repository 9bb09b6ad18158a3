"""Experiment tracking and the model registry: the port, the MLflow adapter, and the laptop's own server."""
