"""The MLflow tracker against a real server: runs, models of both MLflow generations, versions, aliases."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mlops.errors import InfrastructureError, UserError
from mlops.tracking.mlflow import PACKAGE_TAG, MlflowTracker
from mlops.tracking.port import Registration, Tracker
from mlops.tracking.rest import Refused

LOG_AS_MLFLOW_3 = """
import mlflow
from sklearn.linear_model import LogisticRegression

model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
with mlflow.start_run():
    mlflow.log_metric("good", 0.5)
    mlflow.log_metric("bad", float("nan"))
    mlflow.log_metric("huge", float("inf"))
    for name in ("first", "second"):
        mlflow.sklearn.log_model(model, name=name, pip_requirements=["scikit-learn"])
"""


def registration(run: str, folder: Path, **fields: str) -> Registration:
    values = {"model": "registered", "package_digest": uuid.uuid4().hex, "card": "# A card", **fields}
    return Registration(run_id=run, package=folder, tags={"mlops.commit": "abc"}, **values)


@pytest.fixture
def run(tracker: MlflowTracker) -> str:
    return tracker.start_run("registered", "a run", {}, {})


@pytest.fixture
def package(tmp_path: Path, model_folder: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    model_folder.rename(folder / "model")
    (folder / "package.json").write_text("{}")
    return folder


def test_it_is_a_tracker(tracker: MlflowTracker) -> None:
    port: Tracker = tracker
    assert port.uri.startswith("http://")


def test_a_run_keeps_parameters_metrics_and_tags(tracker: MlflowTracker) -> None:
    parameters = {f"p{number}": number for number in range(130)}  # more than one call may carry
    run = tracker.start_run("tracked", "named", parameters, {"mlops.commit": "abc"})
    tracker.log(
        run, metrics={"auc": 0.75, "none": math.nan, "all": math.inf, "under": -math.inf}, tags={"k": "v"}
    )
    tracker.end_run(run, "FINISHED")
    stored = tracker._run(run)
    assert len(stored["data"]["params"]) == 130
    assert {tag["key"]: tag["value"] for tag in stored["data"]["tags"]}["mlops.commit"] == "abc"
    assert stored["info"]["status"] == "FINISHED"
    metrics = tracker.run_metrics(run)
    assert metrics["auc"] == 0.75
    assert math.isnan(metrics["none"])
    assert (metrics["all"], metrics["under"]) == (math.inf, -math.inf)


def test_what_was_left_open_under_a_mark_is_closed_and_nothing_else(tracker: MlflowTracker) -> None:
    marks = {"left": "a", "closed": "a", "another's": "b"}
    runs = {name: tracker.start_run("left", name, {}, {"mark": mark}) for name, mark in marks.items()}
    tracker.end_run(runs["closed"], "FAILED")
    tracker.end_left_open("left", "mark", "a")
    ended = {name: tracker._run(run)["info"]["status"] for name, run in runs.items()}
    assert ended == {"left": "KILLED", "closed": "FAILED", "another's": "RUNNING"}


def test_models_of_one_name_share_an_experiment(tracker: MlflowTracker) -> None:
    first, second = (tracker.start_run("together", name, {}, {}) for name in "ab")
    assert (
        tracker.variables(first)["MLFLOW_EXPERIMENT_ID"] == tracker.variables(second)["MLFLOW_EXPERIMENT_ID"]
    )
    assert tracker.variables(first)["MLFLOW_EXPERIMENT_NAME"] == "together"


def test_an_experiment_that_another_process_made_meanwhile_is_used(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracker.start_run("raced", "first", {}, {})
    asked: list[str] = []
    real = type(tracker._rest).get

    def absent_at_first(self: object, path: str, /, **query: str) -> dict:
        asked.append(path)
        if len(asked) == 1:
            raise Refused("no", code="RESOURCE_DOES_NOT_EXIST", found="", remedy="", where="")
        return real(self, path, **query)

    monkeypatch.setattr(type(tracker._rest), "get", absent_at_first)
    assert tracker._experiment("raced") == tracker.variables(run)["MLFLOW_EXPERIMENT_ID"]


def test_the_training_gets_credentials_of_the_tracking_server_and_nothing_else(
    tracker: MlflowTracker, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "for-tracking")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-training")
    variables = tracker.variables(run)
    assert variables["MLFLOW_TRACKING_TOKEN"] == "for-tracking"
    assert "not-for-training" not in variables.values()


def test_logged_models_are_found_whichever_way_they_were_logged(
    tracker: MlflowTracker, run: str, model_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(LOG_AS_MLFLOW_3)
    subprocess.run([sys.executable, str(script)], env={**os.environ, **tracker.variables(run)}, check=True)
    tracker.log_folder(run, model_folder, "deep/old-fashioned")
    found = {model.name: model for model in tracker.logged_models(run)}
    assert set(found) == {"first", "second", "deep/old-fashioned"}
    assert all(set(model.flavors) == {"python_function", "sklearn"} for model in found.values())
    for name, model in found.items():
        folder = tracker.download(model.uri, tmp_path / "downloaded" / name)
        assert (folder / "MLmodel").is_file()
        assert not (folder / "registered_model_meta").exists()
    metrics = tracker.run_metrics(run)
    assert metrics["good"] == 0.5
    assert math.isnan(metrics["bad"])
    assert metrics["huge"] == math.inf


def test_a_run_without_a_model_has_none(tracker: MlflowTracker, run: str) -> None:
    assert tracker.logged_models(run) == ()


def test_a_server_of_mlflow_2_that_knows_no_logged_models_is_searched_for_folders(
    tracker: MlflowTracker, run: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.log_folder(run, model_folder, "model")

    def not_found(self: object, path: str, /, **body: object) -> dict:
        raise Refused("no", code="ENDPOINT_NOT_FOUND", found="404", remedy="", where="")

    monkeypatch.setattr(type(tracker._rest), "post", not_found)
    assert [model.name for model in tracker.logged_models(run)] == ["model"]


def test_a_folder_without_mlmodel_is_not_downloaded_as_a_model(
    tracker: MlflowTracker, run: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "notes.txt").write_text("no model")
    tracker.log_folder(run, folder, "files")
    with pytest.raises(UserError, match="no MLmodel"):
        tracker.download(f"runs:/{run}/files", tmp_path / "into")


def test_files_that_are_not_there_are_the_users_mistake(tracker: MlflowTracker, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        tracker.download("models:/m-00000000000000000000000000000000", tmp_path / "into")


def test_a_package_is_registered_once(tracker: MlflowTracker, run: str, package: Path) -> None:
    wanted = registration(run, package)
    version = tracker.register(wanted)
    assert tracker.register(wanted) == version
    other = tracker.register(registration(run, package))
    assert int(other) > int(version)
    stored = tracker._rest.get("model-versions/get", name="registered", version=version)["model_version"]
    assert stored["description"] == "# A card"
    tags = {tag["key"]: tag["value"] for tag in stored["tags"]}
    assert tags[PACKAGE_TAG] == wanted.package_digest
    assert tags["mlops.commit"] == "abc"
    assert stored["run_id"] == run


def test_a_version_can_be_loaded_by_its_name(
    tracker: MlflowTracker, run: str, package: Path, tmp_path: Path
) -> None:
    version = tracker.register(registration(run, package))
    assert (tracker.download(f"models:/registered/{version}", tmp_path / "into") / "model.pkl").is_file()


def test_a_long_card_is_shortened_and_kept_whole_with_the_run(
    tracker: MlflowTracker, run: str, package: Path
) -> None:
    version = tracker.register(registration(run, package, card="x" * 9000))
    stored = tracker._rest.get("model-versions/get", name="registered", version=version)["model_version"]
    assert len(stored["description"]) == 5000
    assert "card/model-card.md" in stored["description"]
    files = tracker._rest.get("artifacts/list", run_id=run, path="card")["files"]
    assert [int(file["file_size"]) for file in files] == [9000]


def test_aliases_and_tags_become_what_the_ledger_says(
    tracker: MlflowTracker, run: str, package: Path
) -> None:
    first = tracker.register(registration(run, package, model="mirrored"))
    second = tracker.register(registration(run, package, model="mirrored"))
    tracker.mirror("mirrored", {"production": first, "staging": second, "none": None}, {"mlops.head": "1"})
    tracker.mirror("mirrored", {"production": second, "staging": None}, {"mlops.head": "2"})
    model = tracker._rest.get("registered-models/get", name="mirrored")["registered_model"]
    assert [(each["alias"], each["version"]) for each in model["aliases"]] == [("production", second)]
    assert {tag["key"]: tag["value"] for tag in model["tags"]} == {"mlops.head": "2"}


def test_nothing_is_written_when_the_mirror_is_right(
    tracker: MlflowTracker, run: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tracker.register(registration(run, package, model="unchanged"))
    tracker.mirror("unchanged", {"production": version}, {"k": "v"})

    def forbidden(*arguments: object, **body: object) -> dict:
        raise AssertionError("written again")

    for verb in ("post", "delete", "patch"):
        monkeypatch.setattr(type(tracker._rest), verb, forbidden)
    tracker.mirror("unchanged", {"production": version, "staging": None}, {"k": "v"})


def test_the_first_mirror_makes_the_registered_model(tracker: MlflowTracker) -> None:
    tracker.mirror("new-here", {"production": None}, {"k": "v"})
    assert (
        tracker._rest.get("registered-models/get", name="new-here")["registered_model"]["name"] == "new-here"
    )


def test_an_alias_of_a_version_that_is_not_there_is_refused(tracker: MlflowTracker) -> None:
    with pytest.raises(UserError):
        tracker.mirror("without-versions", {"production": "77"}, {})


def test_a_server_that_is_down_is_infrastructure(tmp_path: Path, model_folder: Path) -> None:
    from mlops.processes import free_port

    nobody = MlflowTracker(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InfrastructureError) as caught:
        nobody.start_run("m", "r", {}, {})
    assert nobody.uri in caught.value.expected
    with pytest.raises(InfrastructureError):
        nobody.log_folder("0" * 32, model_folder, "x")


def test_an_address_that_is_no_servers_is_refused() -> None:
    with pytest.raises(UserError, match="not a server"):
        MlflowTracker("sqlite:///mlflow.db")


def test_variables_of_the_process_are_left_as_they_were(
    tracker: MlflowTracker, run: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere.example")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    tracker.log_folder(run, model_folder, "x")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere.example"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
