"""Training: tracked, without the holdout, and clear about every way in which it can go wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlops.environments.port import Command, Completed
from mlops.errors import InfrastructureError, Interrupted, UserError
from mlops.pipeline.results import Answer, Status
from mlops.pipeline.stage import Forever
from mlops.processes import free_port
from mlops.stages.train import Train, chosen
from mlops.stages.training import last_line, refuse_failure
from mlops.tracking.mlflow import MlflowTracker
from mlops.tracking.port import LoggedModel
from tests.stages.lab import Lab, MakeLab, commit

TELL = (
    "import os, pandas as pd; rows = {read}; "
    # Without the interpreter's own end: threads of pyarrow may abort in it, which is another failure.
    "print('saw', len(rows), sorted(os.listdir('data')), flush=True); os._exit(9)"
)

FOLDERS = """
import mlflow
from pathlib import Path

with mlflow.start_run():
    for name in NAMES:
        folder = Path(name)
        folder.mkdir()
        (folder / "MLmodel").write_text("flavors: {sklearn: {}, python_function: {}}")
        mlflow.log_artifacts(name, name)
    mlflow.log_metrics(METRICS)
"""


def training(names: list[str], metrics: str = "{}") -> str:
    return FOLDERS.replace("NAMES", str(names)).replace("METRICS", metrics)


def train_with(lab: Lab, train: str) -> None:
    lab.edit("mlops.yaml", "{command: python train.py}", train)


def failure_of(lab: Lab) -> UserError:
    with pytest.raises(UserError) as caught:
        lab.run(Train())
    return caught.value


@pytest.mark.slow
def test_a_training_is_run_and_tracked(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    lab = make_lab()
    revision = commit(lab.repo)
    result = lab.run(Train())
    assert result.status is Status.PASSED
    assert result.metrics == {"rows": 400.0}
    assert result.facts["commit"] == revision
    assert result.facts["dirty"] is False
    assert "sklearn" in result.facts["flavors"]
    assert result.facts["model_uri"].startswith("models:/m-")
    assert "trained" in (lab.folders["train"] / result.artifacts["log"]).read_text()
    assert "training: python train.py" in lab.said
    assert "trained" in lab.said

    run = lab.last_run()
    assert run["info"]["run_id"] == result.facts["run_id"]
    assert run["info"]["status"] == "FINISHED"
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["mlops.commit"] == tags["mlflow.source.git.commit"] == revision
    assert tags["mlops.environment"] == result.facts["environment_digest"]
    assert tags["mlops.data.train"] == result.facts["train_digest"]
    assert tags["mlops.dirty"] == "false"
    assert not (lab.profile.home / "work" / "colours" / "train").exists()


def test_an_entry_point_is_run_with_its_parameters_tracked(lab: Lab) -> None:
    lab.write(
        "MLproject",
        "entry_points: {main: {parameters: {n: {default: 1}}, command: 'python few.py {n} | cat'}}",
    )
    lab.write("few.py", training(["model"], "{'n': float(__import__('sys').argv[1])}"))
    train_with(lab, "{entry_point: main, parameters: {n: 7}}")
    assert lab.run(Train()).metrics == {"n": 7.0}
    run = lab.last_run()
    assert run["data"]["params"] == [{"key": "n", "value": "7"}]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["mlflow.project.entryPoint"] == "main"
    assert tags["mlflow.source.type"] == "PROJECT"


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_derived_holdout_is_not_in_what_training_sees(lab: Lab, kind: str) -> None:
    import pandas as pd

    lab.edit("mlops.yaml", "  holdout: data/holdout.parquet\n", "")
    (lab.repo / "data" / "holdout.parquet").unlink()
    read = "pd.read_parquet('data/train.parquet')"
    if kind == "csv":
        frame = pd.read_parquet(lab.repo / "data" / "train.parquet")
        frame.to_csv(lab.repo / "data" / "train.csv", index=False)
        lab.edit("mlops.yaml", "data/train.parquet", "data/train.csv")
        (lab.repo / "data" / "train.parquet").unlink()
        read = "pd.read_csv(os.environ['MLOPS_TRAIN_DATA'])"
    lab.write("train.py", TELL.format(read=read))
    error = failure_of(lab)
    assert f"['train.{kind}']" in error.found
    seen = int(error.found.split("saw ")[1].split()[0])
    assert 280 < seen < 360  # about four fifths of 400


def test_a_given_csv_is_copied_as_it_is(lab: Lab) -> None:
    import pandas as pd

    for name in ("train", "holdout"):
        frame = pd.read_parquet(lab.repo / "data" / f"{name}.parquet")
        frame.to_csv(lab.repo / "data" / f"{name}.csv", index=False)
        (lab.repo / "data" / f"{name}.parquet").unlink()
        lab.edit("mlops.yaml", f"data/{name}.parquet", f"data/{name}.csv")
    lab.write("train.py", TELL.format(read="pd.read_csv('data/train.csv')"))
    assert "saw 400 ['train.csv']" in failure_of(lab).found


def test_a_command_that_fails_shows_its_last_lines(lab: Lab) -> None:
    lab.write("train.py", "print('reading'); raise ValueError('a column is missing')")
    error = failure_of(lab)
    assert "exit code 1" in error.headline
    assert "a column is missing" in error.found
    assert Path(error.where).read_text().startswith("reading")
    assert lab.last_run()["info"]["status"] == "FAILED"
    assert lab.tracker._rest.get("artifacts/list", run_id=lab.last_run()["info"]["run_id"], path="log")[
        "files"
    ]


def test_a_command_that_does_not_exist_is_the_users(lab: Lab) -> None:
    train_with(lab, "{command: no-such-program --at all}")
    with pytest.raises((UserError, InfrastructureError)) as caught:
        lab.run(Train())
    assert "no-such-program" in caught.value.headline + caught.value.found


def test_a_training_without_a_model_is_told_how_to_log_one(lab: Lab) -> None:
    train_with(lab, "{command: python -c pass}")
    error = failure_of(lab)
    assert "logged no model" in error.headline
    assert "mlflow.<flavour>.log_model" in error.remedy
    assert lab.last_run()["info"]["status"] == "FAILED"


def test_of_several_models_the_contract_must_choose(lab: Lab) -> None:
    lab.write("train.py", training(["first", "second"]))
    error = failure_of(lab)
    assert "first, second" in error.found
    assert "train" in error.remedy
    train_with(lab, "{command: python train.py, model: second}")
    assert lab.run(Train()).facts["model_name"] == "second"


def test_a_model_by_another_name_is_not_taken() -> None:
    with pytest.raises(UserError) as caught:
        chosen("wanted", (LoggedModel("other", "models:/m-1"),))
    assert caught.value.found == "other"


def test_metrics_that_are_not_numbers_fail_the_gate(lab: Lab) -> None:
    lab.write("train.py", training(["model"], "{'good': 1.0, 'bad': float('nan'), 'worse': float('inf')}"))
    result = lab.run(Train())
    assert result.status is Status.FAILED
    assert result.metrics == {"good": 1.0}
    (check,) = result.checks
    assert check.answer is Answer.FAILED
    assert check.evidence == {"not_finite": ["bad", "worse"]}
    assert all(math.isfinite(value) for value in result.metrics.values())


def test_a_training_without_metrics_passes_and_is_told(lab: Lab) -> None:
    lab.write("train.py", training(["model"]))
    result = lab.run(Train())
    assert result.status is Status.PASSED
    assert result.checks[0].answer is Answer.SKIPPED


def test_a_training_that_takes_too_long_is_ended(lab: Lab) -> None:
    lab.write("train.py", "import time; print('begun', flush=True); time.sleep(600)")
    train_with(lab, "{command: python train.py, timeout: 2}")
    error = failure_of(lab)
    assert "within 2 s" in error.expected
    assert "train.timeout" in error.remedy
    assert lab.last_run()["info"]["status"] == "FAILED"


def test_a_training_that_is_killed_may_be_tried_again(lab: Lab) -> None:
    lab.write("train.py", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InfrastructureError) as caught:
        lab.run(Train())
    assert "signal 9" in caught.value.found
    assert lab.last_run()["info"]["status"] == "FAILED"


def test_a_run_that_is_stopped_is_marked_as_killed(lab: Lab) -> None:
    lab.write("train.py", "import time; print('begun', flush=True); time.sleep(600)")

    def stop(sentence: str, share: float | None) -> None:
        if sentence == "begun":
            raise Interrupted("Stopped", remedy="Run again.")

    with pytest.raises(Interrupted):
        lab.run(Train(), stop)
    assert lab.last_run()["info"]["status"] == "KILLED"


def test_a_tracking_server_that_is_down_is_infrastructure(make_lab: MakeLab) -> None:
    lab = make_lab(tracker=MlflowTracker(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(InfrastructureError, match="tracking server"):
        lab.run(Train())


def test_what_a_killed_run_left_is_swept(lab: Lab) -> None:
    left = lab.profile.home / "work" / "colours" / "train" / "repo" / "data" / "holdout.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left")
    lab.write("train.py", TELL.format(read="pd.read_parquet('data/train.parquet')"))
    assert "['train.parquet']" in failure_of(lab).found


def test_the_cache_key_follows_what_training_reads(lab: Lab) -> None:
    before = lab.inputs(Train())
    lab.edit("mlops.yaml", "metric: auc\n", "metric: accuracy\nrollout: {strategy: rolling}\n")
    lab.write("README.md", "# More words\n")
    (lab.repo / "data" / "holdout.parquet").write_bytes(b"other")
    assert lab.inputs(Train()) == before
    changed = dict(before)
    for part, change in {
        "code": lambda: lab.write("features.py", "X = 1\n"),
        "rows": lambda: (lab.repo / "data" / "train.parquet").write_bytes(b"other"),
        "contract": lambda: train_with(lab, "{command: python train.py --more}"),
        "environment": lambda: lab.write("requirements.txt", "pytest==8.4.2\n"),
    }.items():
        change()
        now = lab.inputs(Train())
        assert [name for name in now if now[name] != changed[name]] in (
            [part],
            ["code", part],
            [part, "code"],
        )
        changed = now
    assert isinstance(Train().validity(lab.context("train"), None), Forever)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tail", "remedy"),
    [
        ("ModuleNotFoundError: No module named 'lightgbm'", "Add lightgbm to the requirements"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'data/planes.csv'",
            "data/planes.csv is not there",
        ),
        ("Cannot start run with ID x because active experiment ID does not match", "set_experiment"),
        ("ZeroDivisionError", "whole output"),
    ],
)
def test_common_failures_get_their_remedy(tmp_path: Path, tail: str, remedy: str) -> None:
    command = Command(arguments="x", folder=tmp_path, log=tmp_path / "log", timeout_seconds=1)
    with pytest.raises(UserError) as caught:
        refuse_failure(Completed(code=1, tail=tail, seconds=0.1), command, "x")
    assert remedy in caught.value.remedy


def test_people_see_the_last_state_of_a_progress_bar() -> None:
    said: list[str] = []
    line = last_line(lambda sentence, share: said.append(sentence))
    for text in ("1 %\r50 %\r100 %", "", "   ", "x" * 500):
        line(text)
    assert said == ["100 %", "x" * 160]
