"""How a packaged model is started, and scored, in its own Python."""
