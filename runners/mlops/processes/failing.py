"""What is said of a process that could not even be started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlops.errors import InfrastructureError


def not_started(argv: Sequence[str], folder: Path, error: OSError) -> InfrastructureError:
    """Return the error for a program that the operating system refused to start."""
    return InfrastructureError(
        f"Could not start {argv[0]}: {error.strerror}",
        expected="a program that can be started",
        found=str(error),
        remedy="Check that the file exists, may be executed, and that the machine has memory left.",
        where=str(folder),
    )
