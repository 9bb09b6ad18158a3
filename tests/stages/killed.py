"""Runs one stage as a process of its own that may be killed: ``killed.py register|evaluate FILE``.

The file is a pickle of what the machine of the test consists of.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def killed(stage: str, machine: Mapping[str, Any], folder: Path, point: str) -> None:
    """Run the stage on the machine until it kills itself at the point."""
    file = folder / "machine.pickle"
    file.write_bytes(pickle.dumps(dict(machine)))
    done = subprocess.run(
        [sys.executable, __file__, stage, str(file)],
        env={**os.environ, "MLOPS_KILL_AT": point, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runners'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, f"not killed at {point}: {done.returncode} {done.stdout} {done.stderr}"


def _register(machine: Mapping[str, Any]) -> None:
    from mlops.environments.uv import UvEnvironments
    from mlops.signing import Signer
    from mlops.stages.register import Register
    from mlops.tracking.mlflow import MlflowTracker
    from tests.stages.lab import Lab

    lab = Lab(
        repo=machine["repo"],
        profile=machine["profile"],
        tracker=MlflowTracker(machine["tracker"]),
        environments=UvEnvironments(machine["profile"].home),
        signer=Signer.from_pem(machine["key"]),
        results=machine["results"],
        folders=machine["folders"],
    )
    lab.run(Register())


def _evaluate(machine: Mapping[str, Any]) -> None:
    from mlops.environments.uv import UvEnvironments
    from mlops.stages.evaluate import Evaluate
    from tests.stages.evaluation_rig import Rig, cache_folder

    rig = Rig(machine["folder"], machine["models"], machine["installed"], UvEnvironments(cache_folder()))
    rig._packages, rig._runs = machine["packages"], machine["runs"]
    Evaluate().run(rig.context(machine["candidate"]))


if __name__ == "__main__":
    {"register": _register, "evaluate": _evaluate}[sys.argv[1]](pickle.loads(Path(sys.argv[2]).read_bytes()))
