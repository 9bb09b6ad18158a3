"""The behavioural checks on answers of a function that plays the model: what each of them sees, and what it must not see."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mlops.errors import UserError
from mlops.pipeline.results import Answer, Check
from mlops.serving.launch import ScoreJob
from mlops.stages.behaviours import Behaviours, sample_of

Model = Callable[[pd.DataFrame], Any]


def honest(rows: pd.DataFrame) -> Any:
    number = pd.to_numeric(rows["x"]).fillna(0.0).to_numpy(dtype=float)
    hours = pd.to_datetime(rows["when"], utc=True).dt.hour.fillna(12).to_numpy(dtype=float)
    return number + hours + (rows["kind"] == "a").to_numpy(dtype=float)


def holdout(count: int = 500) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "x": random.normal(size=count),
            "kind": pa.array(random.choice(["a", "b"], count)).dictionary_encode(),
            "when": [datetime(2024, 1, 1 + i % 28, i % 24, tzinfo=UTC) for i in range(count)],
            "target": random.normal(size=count),
        }
    )


def score(job: ScoreJob, model: Model) -> None:
    """Do what the model server's command does with one job."""
    rows = parquet.read_table(job.input).to_pandas()
    size = job.batch_rows or len(rows)
    try:
        parts = [model(rows.iloc[start : start + size]) for start in range(0, len(rows), size)]
    except (ValueError, ArithmeticError) as error:
        assert job.error is not None
        job.error.write_text(json.dumps({"type": type(error).__name__, "message": str(error)}))
        return
    parquet.write_table(pa.table({"prediction": np.concatenate(parts)}), job.output)


def checks_of(
    model: Model, folder: Path, features: tuple[str, ...] = ("x", "kind", "when")
) -> dict[str, Check]:
    table = holdout()
    golden = folder / "golden.parquet"
    parquet.write_table(table.select(list(features)).slice(0, 30), golden)
    score(ScoreJob(golden, folder / "expected.parquet", None, folder / "golden.error"), model)
    if not (folder / "expected.parquet").exists():
        parquet.write_table(pa.table({"prediction": np.zeros(30)}), folder / "expected.parquet")
    sample, positions = sample_of(table, features)
    behaviours = Behaviours(folder / "work", sample, positions, golden, folder / "expected.parquet")
    for job in behaviours.jobs():
        score(job, model)
    whole = ScoreJob(folder / "holdout.parquet", folder / "whole.parquet", None, folder / "whole.error")
    parquet.write_table(table, whole.input)
    score(whole, model)
    answers = (
        parquet.read_table(whole.output) if whole.output.exists() else pa.table({"prediction": np.zeros(500)})
    )
    return {check.name: check for check in behaviours.checks(answers)}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.answer is Answer.FAILED}


def test_an_honest_model_passes_every_check(tmp_path: Path) -> None:
    checks = checks_of(honest, tmp_path)
    assert {check.answer for check in checks.values()} == {Answer.PASSED}
    assert checks["same answer in any batch"].message.startswith("440 answers compared (one row at a time")
    assert checks["missing values"].message == "3 of 3 features: predicted"
    assert checks["unseen categories"].message == "1 of 1 features: predicted"


def test_times_that_are_no_text_fail_only_after_serialisation(tmp_path: Path) -> None:
    def model(rows: pd.DataFrame) -> Any:
        if not pd.api.types.is_datetime64_any_dtype(rows["when"]) and rows["when"].notna().any():
            raise ValueError("when must be a timestamp")
        return honest(rows)

    checks = checks_of(model, tmp_path)
    assert failed(checks) == {"same answer after serialisation"}
    assert "ValueError: when must be a timestamp" in checks["same answer after serialisation"].message


def test_a_model_that_remembers_is_not_steady(tmp_path: Path) -> None:
    calls = []

    def model(rows: pd.DataFrame) -> Any:
        calls.append(1)
        return honest(rows) + len(calls)

    assert "same answer twice" in failed(checks_of(model, tmp_path))


def test_only_the_order_can_fail(tmp_path: Path) -> None:
    """It numbers equal rows of one call: the sample in its own order, and any part of it from its beginning, hide it."""

    def model(rows: pd.DataFrame) -> Any:
        whole = len(rows) == 210
        return honest(rows) + (
            np.arange(len(rows)) % 2 * 1e-6 if whole and rows.index[0] == 0 and _shuffled(rows) else 0
        )

    def _shuffled(rows: pd.DataFrame) -> bool:
        first = holdout()["x"][0].as_py()
        return bool(abs(rows["x"].iloc[0] - first) > 0)

    assert failed(checks_of(model, tmp_path)) == {"same answer in any order"}


def test_numbers_that_are_not_finite_fail_where_they_come_from(tmp_path: Path) -> None:
    def model(rows: pd.DataFrame) -> Any:
        answer = honest(rows)
        answer[pd.to_numeric(rows["x"]).isna().to_numpy()] = np.inf
        return answer

    checks = checks_of(model, tmp_path)
    assert failed(checks) == {"missing values"}
    assert checks["missing values"].evidence == {"not_finite": {"x": 30}, "refused": {}}


def test_a_refusal_is_told_and_allowed(tmp_path: Path) -> None:
    def model(rows: pd.DataFrame) -> Any:
        if not set(rows["kind"].dropna()) <= {"a", "b"}:
            raise ValueError("kind is unknown")
        return honest(rows)

    check = checks_of(model, tmp_path)["unseen categories"]
    assert check.answer is Answer.PASSED
    assert check.message == "0 of 1 features: predicted; refused in kind"
    assert check.evidence["refused"] == {"kind": "ValueError: kind is unknown"}


def test_without_text_there_are_no_unseen_categories(tmp_path: Path) -> None:
    numbers = lambda rows: rows["x"].fillna(0).to_numpy(dtype=float)  # noqa: E731
    assert checks_of(numbers, tmp_path, ("x",))["unseen categories"].answer is Answer.SKIPPED


def test_a_model_that_fails_on_the_sample_is_stopped_at_once(tmp_path: Path) -> None:
    def model(rows: pd.DataFrame) -> Any:
        raise ArithmeticError("no")

    checks = checks_of(model, tmp_path)
    assert list(checks) == ["same answer twice"]
    assert "ArithmeticError: no" in checks["same answer twice"].message
    assert failed(checks) == {"same answer twice"}


def test_the_sample_is_spread_over_the_holdout() -> None:
    sample, positions = sample_of(holdout(1000), ["x"])
    assert (sample.num_rows, positions[0], positions[-1]) == (210, 0, 999)
    assert sample.column_names == ["x"]
    assert sample_of(holdout(5), ["x"])[1] == (0, 1, 2, 3, 4)
    with pytest.raises(UserError, match="columns that the holdout does not have"):
        sample_of(holdout(5), ["x", "absent"])
