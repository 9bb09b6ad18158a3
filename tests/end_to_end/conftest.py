"""A laptop of its own per module: a data folder, the command as a person types it, and everything ended afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MLOPS = Path(sys.executable).parent / "mlops"


@dataclass(frozen=True)
class Laptop:
    """The command `mlops` with a home of its own."""

    home: Path
    environment: dict[str, str]

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(MLOPS), *arguments],
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def mlops(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run the command to its end and demand its exit code."""
        process = self.start(*arguments, **variables)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, (
            f"mlops {' '.join(arguments)} ended with {process.returncode}:\n{output}"
        )
        return output

    def json(self, *arguments: str) -> dict:
        return json.loads(self.mlops(*arguments, "--json"))


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Model environments are shared with the other tests (they are named by their content); all else is new."""
    base = tmp_path_factory.mktemp("laptop")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLOPS_", "MLFLOW_", "XDG_", "VIRTUAL_ENV", "PYTHONPATH"))
    }
    environment |= {
        "XDG_DATA_HOME": str(base / "data"),
        "XDG_CONFIG_HOME": str(base / "config"),
        "MLOPS_WAIT_SECONDS": "20",
        "COLUMNS": "120",
        "CI": "true",
    }
    laptop = Laptop(base / "data" / "mlops", environment)
    yield laptop
    laptop.mlops("stop")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the example, without data."""
    folder = tmp_path_factory.mktemp("repos") / "flights"
    shutil.copytree(
        ROOT / "examples" / "flights", folder, ignore=shutil.ignore_patterns("data", ".mlops", "__pycache__")
    )
    return folder
