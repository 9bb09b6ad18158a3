"""The model's own Python: locked environments, made once and used by every command that touches model code."""
