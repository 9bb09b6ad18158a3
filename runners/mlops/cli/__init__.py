"""The command ``mlops``. Each sub-command is imported when it is used, so that ``mlops --help`` answers at once."""

from mlops.cli.entry import main

__all__ = ["main"]
