"""MLflow as tracker and model registry, versions 2 and 3 of client and server alike.

Runs, metrics, tags, versions and aliases go over :mod:`mlops.tracking.rest`, files over :mod:`mlops.tracking.files`.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlops.errors import UserError
from mlops.tracking.files import Files
from mlops.tracking.port import LoggedModel, Registration
from mlops.tracking.rest import Refused, Rest

PACKAGE_TAG = "mlops.package"
"""Tag of a model version with the digest of the package that it consists of."""

_CREDENTIALS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_WORKSPACE",
)
_PARAMETERS_PER_CALL = 100
_METRICS_PER_CALL = 500
_TAGS_PER_CALL = 100
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 5000
_LONGEST_DESCRIPTION = 5000
_DEEPEST_FOLDER = 4

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a logged model is: how people name it, and the address that its files lie under."""

    uri: str
    root: str


@dataclass(frozen=True)
class MlflowTracker:
    """The tracker of one MLflow server, named by its http(s) address."""

    uri: str
    _rest: Rest = field(init=False, repr=False)
    _files: Files = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.uri):
            raise UserError(
                "The tracking address is not a server's",
                expected="an address such as https://mlflow.example.com",
                found=self.uri,
                remedy="Set MLFLOW_TRACKING_URI to an MLflow server, or unset it to use the laptop's own.",
            )
        object.__setattr__(self, "_rest", Rest(self.uri))
        object.__setattr__(self, "_files", Files(self.uri))

    def variables(self, run_id: str) -> dict[str, str]:
        """Return the variables by which a training logs into this run.

        Of secrets only those of the tracking server itself, without which nothing could be logged.
        """
        experiment = str(self._run(run_id)["info"]["experiment_id"])
        return {
            **{name: os.environ[name] for name in _CREDENTIALS if name in os.environ},
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_EXPERIMENT_ID": experiment,
            "MLFLOW_EXPERIMENT_NAME": self._experiment_name(experiment),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def start_run(self, model: str, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open a run in the experiment that is named like the model, made on first use; return its id."""
        answer = self._rest.post(
            "runs/create",
            experiment_id=self._experiment(model),
            run_name=name,
            start_time=_now_ms(),
            tags=_pairs(tags, _LONGEST_TAG),
        )
        run_id = str(answer["run"]["info"]["run_id"])
        for part in _chunks(_pairs(parameters, _LONGEST_PARAMETER), _PARAMETERS_PER_CALL):
            self._rest.post("runs/log-batch", run_id=run_id, params=part)
        return run_id

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics and tags to a run."""
        now = _now_ms()
        points = [
            {"key": name, "value": _number(value), "timestamp": now, "step": 0}
            for name, value in (metrics or {}).items()
        ]
        for part in _chunks(points, _METRICS_PER_CALL):
            self._rest.post("runs/log-batch", run_id=run_id, metrics=part)
        for pairs in _chunks(_pairs(tags or {}, _LONGEST_TAG), _TAGS_PER_CALL):
            self._rest.post("runs/log-batch", run_id=run_id, tags=pairs)

    def log_folder(self, run_id: str, folder: Path, under: str) -> None:
        """Add the files of a folder to a run; files that are there already are replaced."""
        self._files.keep(run_id, folder, under)

    def end_run(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        self._rest.post("runs/update", run_id=run_id, status=status, end_time=_now_ms())

    def end_left_open(self, model: str, tag: str, value: str) -> None:
        """Close as KILLED what a process that is gone left open: the model's running runs with this tag."""
        found = self._rest.post(
            "runs/search",
            experiment_ids=[self._experiment(model)],
            filter=f"attributes.status = 'RUNNING' and tags.`{tag}` = '{value}'",
        )
        for run in found.get("runs", []):
            self.end_run(str(run["info"]["run_id"]), "KILLED")

    def run_metrics(self, run_id: str) -> dict[str, float]:
        """Return the run's last metric values; NaN and infinity come as such."""
        metrics = self._run(run_id)["data"].get("metrics", [])
        return {str(each["key"]): _value(float(each["value"])) for each in metrics}

    def logged_models(self, run_id: str) -> tuple[LoggedModel, ...]:
        """Return every model of the run, of any flavour, oldest first.

        MLflow 3 keeps logged models as things of their own, MLflow 2 as folders of the run with ``MLmodel`` (as
        does everybody who saves a model and logs the folder). Of several of one name the newest counts.
        """
        run = self._run(run_id)
        places = dict(self._models_of_version_3(run))
        for path in self._model_folders(run_id, "", _DEEPEST_FOLDER):
            name = path or str(run["info"]["run_name"])
            places.setdefault(name, _Place(uri=f"runs:/{run_id}/{path}", root=f"runs:/{run_id}/{path}"))
        return tuple(LoggedModel(name, each.uri, self._flavors(each.root)) for name, each in places.items())

    def download(self, uri: str, into: Path) -> Path:
        """Fetch a logged model's folder (the one with ``MLmodel``) into ``into``, which is made."""
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".download-") as scratch:
            folder = self._files.fetch(uri, Path(scratch))
            found = next((each.parent for each in sorted(folder.rglob("MLmodel"))), None)
            if found is None:
                raise UserError(
                    "The logged model has no MLmodel file",
                    expected="a folder that `mlflow.<flavour>.log_model` wrote",
                    found=", ".join(sorted(each.name for each in folder.iterdir())[:10]) or "an empty folder",
                    remedy="Log the model with mlflow.<flavour>.log_model in the training.",
                    where=uri,
                )
            # MLflow adds this file on the way; it is not part of what was logged.
            ignored = shutil.ignore_patterns("registered_model_meta")
            shutil.copytree(found, into, dirs_exist_ok=True, ignore=ignored)
        return into

    def register(self, registration: Registration) -> str:
        """Create a version with the package's files and return its number.

        A package is registered once: the version that carries its digest is returned when there is one.
        """
        self._ensure_registered_model(registration.model)
        if version := self._version_of(registration.model, registration.package_digest):
            return version
        self.log_folder(registration.run_id, registration.package, "package")
        self._log_card(registration)
        root = str(self._run(registration.run_id)["info"]["artifact_uri"]).rstrip("/")
        answer = self._rest.post(
            "model-versions/create",
            name=registration.model,
            source=f"{root}/package/model",
            run_id=registration.run_id,
            description=_shortened(registration.card),
            tags=_pairs({**registration.tags, PACKAGE_TAG: registration.package_digest}, _LONGEST_TAG),
        )
        return str(answer["model_version"]["version"])

    def mirror(self, model: str, aliases: Mapping[str, str | None], tags: Mapping[str, str]) -> None:
        """Make these aliases and tags of the registered model equal to the given ones; None removes an alias.

        Others are left alone, and what is equal is not written again. Takes some 20 ms.
        """
        current = self._ensure_registered_model(model)
        has = {each["alias"]: str(each["version"]) for each in current.get("aliases", [])}
        for alias, version in aliases.items():
            if version is None and alias in has:
                self._rest.delete("registered-models/alias", name=model, alias=alias)
            elif version is not None and has.get(alias) != version:
                self._rest.post("registered-models/alias", name=model, alias=alias, version=version)
        written = {each["key"]: each.get("value", "") for each in current.get("tags", [])}
        for pair in _pairs(tags, _LONGEST_TAG):
            if written.get(pair["key"]) != pair["value"]:
                self._rest.post("registered-models/set-tag", name=model, **pair)

    def _run(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self._rest.get("runs/get", run_id=run_id)["run"]
        return run

    def _experiment(self, model: str) -> str:
        try:
            found = self._rest.get("experiments/get-by-name", experiment_name=model)
            return str(found["experiment"]["experiment_id"])
        except Refused as error:
            if not error.missing:
                raise
        try:
            return str(self._rest.post("experiments/create", name=model)["experiment_id"])
        except Refused as error:
            if not error.exists:
                raise
            # Another process of the same model was quicker.
            return self._experiment(model)

    def _experiment_name(self, experiment: str) -> str:
        return str(self._rest.get("experiments/get", experiment_id=experiment)["experiment"]["name"])

    def _models_of_version_3(self, run: Mapping[str, Any]) -> Iterator[tuple[str, _Place]]:
        info = run["info"]
        try:
            answer = self._rest.post(
                "logged-models/search",
                experiment_ids=[info["experiment_id"]],
                filter=f"source_run_id = '{info['run_id']}'",
                max_results=50,
            )
        except Refused as error:
            if error.missing:  # a server of MLflow 2 has no such thing
                return
            raise
        models = [each["info"] for each in answer.get("models", [])]
        for each in sorted(models, key=lambda info: int(info["creation_timestamp_ms"])):
            if each.get("status") == "LOGGED_MODEL_READY":
                yield str(each["name"]), _Place(uri=f"models:/{each['model_id']}", root=each["artifact_uri"])

    def _model_folders(self, run_id: str, path: str, depth: int) -> Iterator[str]:
        """Walk the run's files for folders with an ``MLmodel``; what is inside such a folder is its own."""
        query = {"run_id": run_id, **({"path": path} if path else {})}
        files = self._rest.get("artifacts/list", **query).get("files", [])
        if any(each["path"].rpartition("/")[2] == "MLmodel" for each in files):
            yield path
        elif depth:
            for each in files:
                if each.get("is_dir"):
                    yield from self._model_folders(run_id, each["path"], depth - 1)

    def _flavors(self, root: str) -> tuple[str, ...]:
        import yaml

        with tempfile.TemporaryDirectory() as scratch:
            file = self._files.fetch(f"{root.rstrip('/')}/MLmodel", Path(scratch))
            described = yaml.safe_load(file.read_text()) or {}
        return tuple(sorted(described.get("flavors", {})))

    def _ensure_registered_model(self, model: str) -> dict[str, Any]:
        try:
            return dict(self._rest.get("registered-models/get", name=model)["registered_model"])
        except Refused as error:
            if not error.missing:
                raise
        try:
            self._rest.post("registered-models/create", name=model)
        except Refused as error:
            if not error.exists:
                raise
        return {}

    def _version_of(self, model: str, package_digest: str) -> str | None:
        answer = self._rest.get(
            "model-versions/search",
            filter=f"name = '{model}' and tags.`{PACKAGE_TAG}` = '{package_digest}'",
            max_results="1",
        )
        versions = answer.get("model_versions", [])
        return str(versions[0]["version"]) if versions else None

    def _log_card(self, registration: Registration) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "model-card.md").write_text(registration.card)
            self.log_folder(registration.run_id, Path(scratch), "card")


def _pairs(values: Mapping[str, Any], longest: int) -> list[dict[str, str]]:
    return [{"key": str(name), "value": str(value)[:longest]} for name, value in values.items()]


def _chunks(values: list[_Item], size: int) -> Iterator[list[_Item]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _shortened(card: str) -> str:
    if len(card) <= _LONGEST_DESCRIPTION:
        return card
    note = "\n\n(Shortened; the whole card is in the run: card/model-card.md)"
    return card[: _LONGEST_DESCRIPTION - len(note)] + note


def _number(value: float) -> float | str:
    """Write a number as protobuf's JSON does: what is not finite has a name there, and none in JSON."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _value(stored: float) -> float:
    """Undo what MLflow's databases do to infinity: they keep the largest number instead."""
    return math.copysign(math.inf, stored) if abs(stored) == sys.float_info.max else stored


def _now_ms() -> int:
    return int(time.time() * 1000)
