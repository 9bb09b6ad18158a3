"""One real tracking server for all tests of this folder; it is ended by its own record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.tracking.mlflow import MlflowTracker
from mlops.tracking.server import EmbeddedServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("home"))
    server.ensure()
    yield server
    server.stop()


@pytest.fixture
def tracker(server: EmbeddedServer) -> MlflowTracker:
    return MlflowTracker(server.ensure())


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder that looks like one that `mlflow.sklearn.save_model` wrote."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: mlflow.sklearn}\n  sklearn: {}\n"
    )
    (folder / "model.pkl").write_bytes(b"bytes of a model")
    return folder
