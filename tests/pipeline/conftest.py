"""A model repo with a real store on files, and runs of small stages in it, here or in a process of their
own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.fakes import NAMES, Fake, Repo

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


@pytest.fixture
def stages() -> list[Fake]:
    return [Fake(name) for name in NAMES]


@dataclass
class Outside:
    """Runs in processes of their own, ended by whoever started them."""

    repo: Repo
    started: list[subprocess.Popen[str]]

    @property
    def notes(self) -> Path:
        return self.repo.base / "notes"

    def start(self, kill_at: str = "", **settings: Any) -> subprocess.Popen[str]:
        path = self.repo.base / f"settings-{len(self.started)}.json"
        path.write_text(json.dumps({"base": str(self.repo.base), "notes": str(self.notes), **settings}))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.fakes", str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "runners", "MLOPS_KILL_AT": kill_at},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, kill_at: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
        process = self.start(kill_at, **settings)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def noted(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []

    def until_it_waits(self) -> None:
        until(lambda: Path(f"{self.notes}.waiting").exists())


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


@pytest.fixture
def outside(repo: Repo) -> Iterator[Outside]:
    runs = Outside(repo, [])
    yield runs
    for process in runs.started:
        process.kill()
        process.communicate(timeout=10)
