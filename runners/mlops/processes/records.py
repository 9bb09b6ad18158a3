"""Small files between processes: JSON records, replaced in one step, and the ends of logs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.errors import InfrastructureError


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old content or the new.

    InfrastructureError when it cannot be written (disk full, no permission); the old content is then still there.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InfrastructureError(
            f"Could not write {path.name}: {error.strerror}",
            expected="a folder that can be written to, on a disk with room",
            found=str(error),
            remedy="Free disk space or fix the folder's permissions, then run the command again.",
            where=str(path.parent),
        ) from error


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the content of the file; None when it is absent or not a JSON object."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log file, empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
