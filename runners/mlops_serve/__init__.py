"""A small server for packaged models. It runs in the model's own Python (3.9 or later), never in the runner's."""

__version__ = "0.1.0"
