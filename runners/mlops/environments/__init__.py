"""The model's own Python: locked environments that every command on model code runs in."""
