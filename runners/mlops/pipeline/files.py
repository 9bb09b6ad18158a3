"""The folder ``.mlops`` of a workspace: what a run leaves there, and how a file gets there whole or not at
all.

.mlops/.gitignore                     keeps all of it out of the model repo
.mlops/run.json  junit.xml  error.json  report/  log.jsonl  traceback.txt    the whole run
.mlops/<stage>/output/                the stage's own files (``Context.output``), kept in the cache
.mlops/<stage>/result.json  junit.xml                                        what the frame writes about the
stage
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from mlops.telemetry import mask

FOLDER = ".mlops"


_LOG_BYTES = 8 << 20
_OF_THE_RUN = ("run.json", "junit.xml", "error.json", "traceback.txt")


class Folders:
    """Names the places of one workspace; nothing is made until :meth:`prepare`."""

    def __init__(self, workspace: Path) -> None:
        self.root = workspace / FOLDER

    def log(self) -> Path:
        """Return the log file; a long one is first put aside, so that two at most are kept."""
        path = self.root / "log.jsonl"
        with suppress(OSError):
            if path.stat().st_size > _LOG_BYTES:
                path.replace(self.root / "log.1.jsonl")
        return path

    def make(self) -> None:
        """Make the folder, ignored by git."""
        self.root.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            write_text(ignore, "*\n")

    def prepare(self) -> None:
        """Make the folder, without the files that tell of an earlier run's end."""
        self.make()
        for name in _OF_THE_RUN:
            (self.root / name).unlink(missing_ok=True)

    def stage(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.root / name

    def output(self, name: str) -> Path:
        """Return the folder of the stage's own files."""
        return self.root / name / "output"

    def emptied(self, name: str) -> Path:
        """Return the stage's output folder, existing and empty, and forget what the frame wrote about an
        earlier run."""
        self.forget(name)
        output = self.output(name)
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        return output

    def forget(self, name: str) -> None:
        """Remove what the frame wrote about an earlier run of the stage."""
        for file in ("result.json", "junit.xml"):
            (self.stage(name) / file).unlink(missing_ok=True)

    def discard(self, name: str) -> None:
        """Remove the files of a stage that was interrupted."""
        shutil.rmtree(self.output(name), ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write the file whole or not at all (temporary file, rename), secrets masked; OSError leaves the old
    one in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(mask(text), encoding="utf-8")
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
