"""Rollout platforms: the port, and one module per platform."""
