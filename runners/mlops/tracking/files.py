"""Files of runs and models, moved by MLflow's own client, since they may lie in any object storage.

The client is imported when the first file moves; its time limits and retries are bounded, its errors become ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.errors import InfrastructureError, MlopsError, UserError

_QUICK = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


@dataclass(frozen=True, slots=True)
class Files:
    """The files that one tracking server knows."""

    uri: str

    def fetch(self, address: str, into: Path) -> Path:
        """Fetch a file or folder; UserError when there is none, InfrastructureError when it cannot be had."""
        with _translated(self.uri, address), _client(self.uri) as mlflow:
            fetched = mlflow.artifacts.download_artifacts(
                artifact_uri=address, dst_path=str(into), tracking_uri=self.uri
            )
        return Path(fetched)

    def keep(self, run_id: str, folder: Path, under: str) -> None:
        """Add the files of a folder to a run; files that are there already are replaced."""
        with _translated(self.uri, f"run {run_id}"), _client(self.uri) as mlflow:
            mlflow.MlflowClient(tracking_uri=self.uri).log_artifacts(run_id, str(folder), under)


@contextmanager
def _client(uri: str) -> Iterator[Any]:
    """Give MLflow with our limits on time and retries; the process's variables are as before afterwards."""
    before = {name: os.environ.get(name) for name in (*_QUICK, "MLFLOW_TRACKING_URI")}
    os.environ.update({**_QUICK, "MLFLOW_TRACKING_URI": uri})
    try:
        import mlflow
        import mlflow.artifacts

        yield mlflow
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _translated(uri: str, what: str) -> Iterator[None]:
    """Turn whatever MLflow and the storage clients below it raise into errors of ours, the cause kept."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:
        # The clients of a dozen storages meet here, each with a tree of its own: there is no narrower class.
        code = getattr(error, "error_code", "")
        if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
            raise UserError(
                "The tracking server has no such files",
                expected=f"files of {what}",
                found=str(error)[:500],
                remedy="Check that the run still exists and that the training logged its model into it.",
                where=uri,
            ) from error
        raise InfrastructureError(
            "Files could not be moved from or to the tracking server",
            expected=f"files of {what}",
            found=f"{type(error).__name__}: {str(error)[:500]}",
            remedy="Check the server and its artifact storage, then run again.",
            where=uri,
        ) from error
