"""``mlops exec``: a command in the model's own Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from mlops.cli.repo import opened


# Whatever follows the repo belongs to the command, its `--help` and `--debug` too.
@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("workspace", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(workspace: Path, command: tuple[str, ...]) -> int:
    """Run a command in the model's own locked Python.

    For example: mlops exec . -- python data.py --through 4
    """
    import os

    house, contract = opened(workspace)
    locked = house.environments.resolve(workspace, contract.environment.python, contract.environment.lock)
    python = house.environments.install(locked).python
    variables = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}
    }
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables.get('PATH', os.defpath)}"
    variables["VIRTUAL_ENV"] = str(python.parent.parent)
    if "mlflow" in command:
        variables["MLFLOW_TRACKING_URI"] = house.profile.tracking_uri or house.server.ensure()
    program, *arguments = command[1:] if command[0] == "--" else command
    found = _program(program, python.parent, variables["PATH"])
    return subprocess.run([found, *arguments], cwd=workspace, env=variables, check=False).returncode


def _program(name: str, scripts: Path, path: str) -> str:
    """Find the program, in the environment first; UserError when there is none."""
    import shutil

    from mlops.errors import UserError

    found = shutil.which(name, path=path)
    if found is None:
        raise UserError(
            f"there is no program {name!r}",
            expected=f"a program in {scripts} or on PATH",
            found="none",
            remedy="add the package that brings it to the repo's requirements and lock them again",
        )
    return found
