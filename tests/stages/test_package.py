"""Packaging: complete, loadable without the repo, and the same bytes for the same model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mlops.artifacts import fetch_folder
from mlops.canonical import digest_tree
from mlops.environments.port import Command, Completed
from mlops.errors import InfrastructureError, UserError
from mlops.ledger.events import Promoted, RolloutStarted
from mlops.pipeline.results import Answer, Status
from mlops.pipeline.stage import Forever
from mlops.stages import packaging
from mlops.stages.package import Package, release_of
from mlops.stages.train import Train
from tests.stages.lab import Lab, MakeLab


@pytest.fixture(scope="module")
def packaged(make_lab: MakeLab) -> Lab:
    """A model that was really trained and really packaged."""
    lab = make_lab()
    lab.run(Train())
    lab.run(Package())
    return lab


@pytest.mark.slow
def test_a_package_has_all_that_a_server_and_a_judge_need(packaged: Lab) -> None:
    result = packaged.results["package"]
    assert result.status is Status.PASSED, result.checks
    folder = packaged.folders["package"] / result.artifacts["package"]
    assert {path.name for path in folder.iterdir()} == {
        "package.json",
        "requirements.lock",
        "model",
        "golden.parquet",
        "golden-predictions.parquet",
    }
    facts = json.loads((folder / "package.json").read_text())
    assert facts["model"] == "colours"
    assert facts["features"] == ["x", "y", "colour"]
    assert facts["classes"] == [0, 1]
    assert facts["kind"] == "classification"
    assert facts["serve"] == {"drain_seconds": 20.0, "batch_rows": 64}
    assert [column["name"] for column in facts["signature"]["inputs"]] == ["x", "y", "colour"]
    assert "scikit-learn==1.5.2" in (folder / "requirements.lock").read_text()
    golden = parquet.read_table(folder / "golden.parquet")
    assert (golden.num_rows, golden.column_names) == (200, ["x", "y", "colour"])
    predictions = parquet.read_table(folder / "golden-predictions.parquet")
    assert predictions.num_rows == 200
    assert {"prediction", "score"} <= set(predictions.column_names)
    assert digest_tree(folder) == result.facts["package"]
    assert not (packaged.profile.home / "work" / "colours" / "package").exists()


def test_the_package_is_in_the_store_under_its_digest(packaged: Lab, tmp_path: Path) -> None:
    digest = packaged.results["package"].facts["package"]
    fetched = fetch_folder(packaged.store, digest, tmp_path / "fetched")
    assert (fetched / "model" / "MLmodel").is_file()


def test_a_package_names_no_run_and_no_time(packaged: Lab) -> None:
    folder = packaged.folders["package"] / "package"
    text = "".join(
        path.read_text()
        for path in folder.rglob("*")
        if path.suffix in {".json", ".yaml", ""} and path.is_file()
    )
    assert packaged.results["train"].facts["run_id"] not in text
    assert packaged.results["train"].facts["model_uri"].removeprefix("models:/") not in text
    assert "utc_time_created" not in text


@pytest.mark.slow
def test_equal_trainings_make_equal_packages(packaged: Lab) -> None:
    first = packaged.results["package"].facts
    lab = Lab(**{**vars(packaged), "results": {}, "folders": {}})
    lab.run(Train())
    assert lab.results["train"].facts["run_id"] != packaged.results["train"].facts["run_id"]
    assert lab.run(Package()).facts["package"] == first["package"]


def test_a_package_loads_in_mlflow_too(packaged: Lab, tmp_path: Path) -> None:
    folder = packaged.folders["package"] / "package" / "model"
    code = f"import mlflow; print(mlflow.pyfunc.load_model({str(folder)!r}).metadata.flavors.keys())"
    locked = packaged.environments.resolve(packaged.repo, None, None)
    done = packaged.environments.run(
        packaged.environments.install(locked),
        Command(arguments=["python", "-c", code], folder=tmp_path, log=tmp_path / "log", timeout_seconds=120),
    )
    assert done.code == 0, done.tail


def test_the_environment_that_serves_it_is_recognised(packaged: Lab) -> None:
    stage, result = Package(), packaged.results["package"]
    context = packaged.context("package-again")
    assert not stage.already_serving(context, result)
    release = release_of(context, result, version="4").as_record()
    ledger = packaged.ledger(packaged.profile.environment)
    started = RolloutStarted(rollout="r", release=release, lane="blue", strategy="canary", settings={})
    ledger.append(started, reason="test", expect=ledger.state().sequence)
    promoted = Promoted(rollout="r", verdict="PROMOTE")
    ledger.append(promoted, reason="test", expect=ledger.state().sequence)
    assert stage.already_serving(packaged.context("package-again"), result)


def test_another_drain_time_is_another_release(packaged: Lab) -> None:
    result = packaged.results["package"]
    before = packaged.inputs(Package())
    text = (packaged.repo / "mlops.yaml").read_text()
    try:
        packaged.write("mlops.yaml", text + "serve: {drain_seconds: 5}\n")
        assert packaged.inputs(Package())["contract"] != before["contract"]
    finally:
        packaged.write("mlops.yaml", text)
    assert result.facts["contract_digest"] == before["contract"]
    assert isinstance(Package().validity(packaged.context("package"), result), Forever)


@pytest.mark.slow
def test_a_model_that_needs_a_file_of_the_repo_fails_the_gate(make_lab: MakeLab) -> None:
    lab = make_lab({"helpers.py": "def double(rows):\n    return rows * 2\n"})
    lab.edit("train.py", "from sklearn.linear_model", "from helpers import double\nfrom sklearn.linear_model")
    lab.edit(
        "train.py",
        "make_pipeline(encoded, LogisticRegression())",
        "make_pipeline(encoded, __import__('sklearn.preprocessing').preprocessing.FunctionTransformer(double), "
        "LogisticRegression())",
    )
    lab.run(Train())
    result = lab.run(Package())
    assert result.status is Status.FAILED
    (check,) = result.checks
    assert "helpers" in check.message
    assert "code_paths" in check.remedy
    # With its file it loads: the same model, logged as the remedy says.
    lab.edit("train.py", "pip_requirements=", 'code_paths=["helpers.py"], pip_requirements=')
    lab.run(Train())
    assert lab.run(Package()).status is Status.PASSED


@pytest.mark.slow
def test_a_model_that_wants_the_id_fails_the_gate(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.edit("train.py", 'features = ["x", "y", "colour"]', 'features = ["x", "y", "colour", "row"]')
    lab.edit("train.py", '["colour"]), remainder', '["colour", "row"]), remainder')
    lab.run(Train())
    result = lab.run(Package())
    assert result.status is Status.FAILED
    assert result.checks[0].evidence["unknown"] == ["row"]


@pytest.mark.slow
def test_a_model_without_signature_gets_one_and_that_is_said(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.edit(
        "train.py",
        "        signature=infer_signature(rows[features], model.predict_proba(rows[features])),\n",
        "",
    )
    lab.run(Train())
    result = lab.run(Package())
    assert result.status is Status.PASSED
    said = {check.name: check for check in result.checks}["signature"]
    assert (said.answer, said.gate) == (Answer.INCONCLUSIVE, False)
    assert "inferred" in said.message
    assert result.facts["signature"]["inputs"] == [
        {"name": "x", "type": "double", "required": True},
        {"name": "y", "type": "double", "required": True},
        {"name": "colour", "type": "string", "required": True},
    ]


@pytest.mark.slow
def test_predictions_that_are_nan_fail_the_gate(make_lab: MakeLab) -> None:
    lab = make_lab({"train.py": NAN_MODEL})
    lab.run(Train())
    result = lab.run(Package())
    assert result.status is Status.FAILED
    assert "NaN" in result.summary
    assert {check.name for check in result.checks} == {
        "loads in its own environment",
        "signature",
        "golden predictions",
    }


NAN_MODEL = """\
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

rows = pd.read_parquet("data/train.parquet")[["x", "y", "colour"]]


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.where(model_input["x"] > 0, np.nan, 0.5)


with mlflow.start_run():
    mlflow.pyfunc.log_model(
        name="model", python_model=Model(), signature=infer_signature(rows, np.zeros(3)), pip_requirements=["numpy"]
    )
"""


def test_a_model_that_is_gone_from_the_server_is_the_users_to_train_again(packaged: Lab) -> None:
    from dataclasses import replace

    lab = Lab(**{**vars(packaged), "folders": {}})
    train = packaged.results["train"]
    lab.results = {"train": replace(train, facts={**train.facts, "model_uri": "models:/m-" + "0" * 32})}
    with pytest.raises(UserError):
        lab.run(Package())


@pytest.mark.parametrize(
    ("completed", "reason"),
    [
        (
            Completed(code=2, tail="mlops-serve: cannot load x: No module named 'helpers'", seconds=1),
            "helpers",
        ),
        (Completed(code=1, tail="", seconds=1), "exit code 1"),
        (Completed(code=1, tail="Traceback\nValueError: odd", seconds=1), "ValueError: odd"),
        (Completed(code=-15, tail="", seconds=600, timed_out=True), "still loading after 600 s"),
    ],
)
def test_the_reason_is_the_servers_own_sentence(completed: Completed, reason: str) -> None:
    assert reason in packaging.reason_of(completed)


def test_a_killed_load_says_nothing_about_the_model(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="killed"):
        packaging.refuse_crash(Completed(code=-9, tail="", seconds=1), tmp_path)
    packaging.refuse_crash(Completed(code=1, tail="", seconds=1), tmp_path)


def test_types_are_inferred_in_mlflows_words() -> None:
    table = pa.table(
        {
            "flag": pa.array([True, False]),
            "count": pa.array([1, 2]),
            "gaps": pa.array([1, None]),
            "price": pa.array([1.5, 2.5]),
            "exact": pa.array([1, 2], pa.decimal128(5, 2)),
            "when": pa.array([0, 1], pa.timestamp("ns")),
            "raw": pa.array([b"a", b"b"]),
            "word": pa.array(["a", None]),
            "category": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    found = {
        each["name"]: (each["type"], each["required"])
        for each in packaging.inferred(table, table.column_names)
    }
    assert found == {
        "flag": ("boolean", True),
        "count": ("long", True),
        "gaps": ("double", False),
        "price": ("double", True),
        "exact": ("double", True),
        "when": ("datetime", True),
        "raw": ("binary", True),
        "word": ("string", False),
        "category": ("string", True),
    }


@pytest.mark.parametrize("rows", [0, 1, 5, 1000])
def test_golden_rows_are_spread_over_the_holdout(rows: int) -> None:
    table = pa.table({"x": list(range(rows)), "label": [0] * rows})
    golden = packaging.golden_rows(table, ["x"])
    picked = golden.column("x").to_pylist()
    assert golden.column_names == ["x"]
    assert len(picked) == min(rows, 200)
    assert picked == sorted(set(picked))
    assert not rows or (picked[0] == 0 and picked[-1] == rows - 1 if rows > 1 else True)


def test_lines_of_libraries_beside_the_answer_are_passed_over(packaged: Lab, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"not": "it"}\n{broken\nwarning: old format\n')
    assert packaging._facts(log) is None
    shutil.copy(packaged.folders["package"] / "describe.log", log)
    with log.open("a") as stream:
        stream.write("{a library prints this\n")
    facts = packaging._facts(log)
    assert facts is not None
    assert facts["classes"] == [0, 1]
