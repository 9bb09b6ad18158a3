"""The lines under a run: they never change how it went."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.cli.run import _closing
from mlops.pipeline.results import Status
from mlops.pipeline.run import RunResult
from mlops.profile import load_profile
from mlops.wiring import House


@pytest.fixture
def result() -> RunResult:
    return RunResult(
        model="churn", run="1", status=Status.PASSED, sentence="", exit_code=0, started="", seconds=1.0
    )


def house(home: Path, **variables: str) -> House:
    return House(load_profile({"XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), **variables}))


def test_a_store_that_fails_after_the_run_is_told_in_one_line(
    tmp_path: Path, result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").write_text("")
    broken = house(tmp_path, MLOPS_STORE=(tmp_path / "a-file" / "store").as_uri())
    _closing(broken, "churn", tmp_path, result)
    (line,) = capsys.readouterr().out.split("\n", 1)[1].splitlines()
    assert line.startswith("  serving  cannot be told: ")


def test_what_serves_and_where_to_look_is_told(
    tmp_path: Path, result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    _closing(house(tmp_path), "churn", tmp_path, result)
    said = capsys.readouterr().out
    assert "serving  nothing yet" in said
    assert str(tmp_path / ".mlops" / "report" / "index.html") in said
    assert "MLflow is not running here" in said
    assert "undo" not in said
