"""An MLproject runs as `mlflow run` runs it: compared with the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.contract.loading import load_contract
from mlops.errors import UserError
from mlops.stages.commands import training_command
from mlops.tracking.mlflow import MlflowTracker
from tests.stages.lab import CONTRACT, make_repo

PROJECT = """\
name: shown
entry_points:
  main:
    parameters:
      epochs: {type: int, default: 3}
      rate: {type: float, default: 0.5}
      label: {type: string, default: "it's \\"quoted\\" $HOME"}
      data: {type: path, default: data/train.parquet}
      needed: int
    command: "python show.py {epochs} --rate {rate} --label {label} {data} {needed} && echo done > done.txt"
"""
SHOW = "import json, sys; json.dump(sys.argv[1:], open('argv.json', 'w'))\n"

PARAMETERS = {"epochs": 10, "needed": -2, "flag": True, "name": "two words; $(false)", "label": "a {b} 'c'"}


def contract_with(train: str) -> str:
    return CONTRACT.replace("{command: python train.py}", train)


def repo_with(folder: Path, train: str, project: str | None = PROJECT) -> Path:
    files = {"mlops.yaml": contract_with(train), "show.py": SHOW}
    return make_repo(folder, files | ({"MLproject": project} if project is not None else {}))


@pytest.mark.slow
def test_the_command_is_the_one_of_mlflow_run(tracker: MlflowTracker, tmp_path: Path) -> None:
    train = json.dumps({"entry_point": "main", "parameters": PARAMETERS})
    ours, theirs = repo_with(tmp_path / "ours", train), repo_with(tmp_path / "theirs", train)
    command = training_command(load_contract(ours), ours)
    assert command.arguments[:2] == ("bash", "-c")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command.arguments, cwd=ours, env=environment, check=True)

    given = [word for name, value in command.parameters.items() for word in ("-P", f"{name}={value}")]
    subprocess.run(
        [sys.executable, "-m", "mlflow", "run", ".", *given, "--env-manager", "local"],
        cwd=theirs,
        env={**environment, "MLFLOW_TRACKING_URI": tracker.uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
        check=True,
        capture_output=True,
    )
    expected = json.loads((theirs / "argv.json").read_text().replace(str(theirs), str(ours)))
    assert json.loads((ours / "argv.json").read_text()) == expected
    assert (ours / "done.txt").exists()
    assert command.parameters["flag"] == "true"


def test_a_plain_command_is_left_as_it_is(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    command = training_command(load_contract(repo), repo)
    assert (command.arguments, command.shown, command.parameters) == (
        "python train.py",
        "python train.py",
        {},
    )


@pytest.mark.parametrize(
    ("train", "project", "found"),
    [
        ("{entry_point: main}", None, "no MLproject"),
        ("{entry_point: other}", PROJECT, "other"),
        ("{entry_point: main}", PROJECT, "'needed'"),
        ("{entry_point: main}", "entry_points: {main: {command: 'python {undeclared}'}}", "undeclared"),
        ("{entry_point: main}", "entry_points: [main]", "form"),
        ("{entry_point: main}", "entry_points: {main: {}}", "form"),
        ("{entry_point: main}", "entry_points: {", "expected"),
        ("{entry_point: main}", "entry_points: {main: {command: 'python {0}'}}", "does not declare"),
    ],
)
def test_an_entry_point_that_cannot_be_run_is_the_users_to_correct(
    tmp_path: Path, train: str, project: str | None, found: str
) -> None:
    repo = repo_with(tmp_path / "repo", train, project)
    with pytest.raises(UserError) as caught:
        training_command(load_contract(repo), repo)
    assert found in caught.value.found
    assert caught.value.where == "MLproject"
