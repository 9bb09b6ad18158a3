"""``python -m mlops``: the same as the command ``mlops``."""

from mlops.cli import main

main()
