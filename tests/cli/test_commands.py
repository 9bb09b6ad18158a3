"""What every command has in common, and those that need nothing but an empty home."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Mlops

LOCK = Path(__file__).parents[2] / "examples" / "flights" / "requirements.lock"
HEAVY = ("pandas", "numpy", "scipy", "pyarrow", "mlflow", "rich", "pydantic", "aiohttp", "obstore")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo before its first contract: rows, a training script, a lock."""
    folder = tmp_path / "churn"
    folder.mkdir()
    rows = "\n".join(f"{number % 7},{number % 3},{number % 2}" for number in range(300))
    (folder / "rows.csv").write_text(f"visits,calls,churned\n{rows}\n")
    (folder / "train.py").write_text("raise SystemExit('not in this test')\n")
    shutil.copy(LOCK, folder / "requirements.lock")
    return folder


def test_help_lists_every_command_and_imports_nothing_heavy(environment: dict[str, str]) -> None:
    program = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", sorted(set(sys.modules) & set({HEAVY!r}))))
sys.argv = ["mlops", "--help"]
from mlops.cli import main
main()
"""
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "HEAVY []" in said
    for name in ("init", "run", "plan", "exec", "status", "history", "rollout", "rollback", "ledger"):
        assert f"\n  {name} " in said
    assert "Exit codes: 0 passed" in said


def test_the_version_is_the_package_s(mlops: Mlops) -> None:
    from mlops import __version__

    assert __version__ in mlops("--version").stdout


def test_an_unknown_command_is_answered_with_the_nearest(mlops: Mlops) -> None:
    assert "Did you mean `rollback`?" in mlops("rolback", "m", code=2).stderr
    assert " --help`" in mlops("xyzzy", code=2).stderr


def test_an_empty_home_has_no_releases_and_says_how_to_begin(mlops: Mlops) -> None:
    assert "Start with `mlops run`" in mlops("status").stdout
    assert json.loads(mlops("status", "--json").stdout) == {"models": []}
    missing = mlops("rollback", "churn", code=2).stderr
    assert "no model has been released" in missing
    assert "do this: " in missing


def test_init_writes_a_contract_that_plan_understands(mlops: Mlops, repo: Path) -> None:
    mlops("init", str(repo), "--target", "churned", "--metric", "auc")
    assert "target: churned" in (repo / "mlops.yaml").read_text()
    planned = json.loads(mlops("plan", str(repo), "--json").stdout)
    actions = {each["stage"]: each["action"] for each in planned["stages"]}
    assert actions["validate"] == "run"
    assert list(actions)[-1] == "rollout"
    assert "already" in mlops("init", str(repo), code=2).stderr


def test_a_mistake_in_the_contract_is_told_on_the_terminal_and_in_the_error_file(
    mlops: Mlops, repo: Path
) -> None:
    (repo / "mlops.yaml").write_text("model: churn\ntaget: churned\n")
    (repo / ".mlops").mkdir()
    (repo / ".mlops" / "run.json").write_text("{}")
    said = mlops("run", str(repo), code=2).stderr
    assert "taget" in said
    assert "Traceback" not in said
    error = json.loads((repo / ".mlops" / "error.json").read_text())
    assert (error["category"], error["exit_code"]) == ("input", 2)
    assert error["remedy"]
    # The run that may be at work in this folder keeps its files.
    assert (repo / ".mlops" / "run.json").exists()
    assert (repo / ".mlops" / ".gitignore").read_text() == "*\n"


def test_a_store_that_cannot_be_opened_is_in_the_error_file_too(mlops: Mlops, repo: Path) -> None:
    mlops("init", str(repo), "--target", "churned", "--metric", "auc")
    in_the_way = repo.parent / "a-file"
    in_the_way.write_text("")
    said = mlops("run", str(repo), code=2, MLOPS_STORE=(in_the_way / "store").as_uri())
    error = json.loads((repo / ".mlops" / "error.json").read_text())
    assert error["exit_code"] == 2
    assert "a-file" in said.stdout + said.stderr
    assert "Traceback" not in said.stdout + said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--debug", "rollout", "watch", "m"),
        ("rollout", "watch", "m", "--debug"),
        ("rollout", "--debug", "watch", "m"),
    ],
)
def test_debug_may_stand_anywhere(mlops: Mlops, arguments: tuple[str, ...]) -> None:
    assert "Traceback" in mlops(*arguments, code=2).stderr


def test_without_debug_there_is_no_traceback(mlops: Mlops) -> None:
    assert "Traceback" not in mlops("rollout", "watch", "m", code=2).stderr
    assert "Traceback" in mlops("rollout", "watch", "m", code=2, MLOPS_DEBUG="1").stderr


def test_what_follows_the_repo_of_exec_belongs_to_the_command(mlops: Mlops, tmp_path: Path) -> None:
    # No contract there: the error is ours, the switch is the command's.
    said = mlops("exec", str(tmp_path), "--", "python", "--debug", code=2).stderr
    assert "mlops.yaml" in said
    assert "Traceback" not in said
    assert "Traceback" not in mlops("exec", str(tmp_path), "python", "--debug", code=2).stderr
    assert "Traceback" in mlops("exec", "--debug", str(tmp_path), "--", "python", code=2).stderr


def test_a_reader_that_goes_away_is_nobody_s_error(environment: dict[str, str]) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-u", "-m", "mlops", "status"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    writer.stdout.close()
    assert writer.stderr is not None
    with writer.stderr as errors:
        said = errors.read()
    assert writer.wait(timeout=60) == 0, said
    assert said == ""
