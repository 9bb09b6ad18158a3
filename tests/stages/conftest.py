"""The real services that the stages' tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops.environments.uv import UvEnvironments
from mlops.profile import Profile
from mlops.signing import Signer
from mlops.tracking.mlflow import MlflowTracker
from mlops.tracking.server import EmbeddedServer
from tests.stages.lab import Lab, MakeLab, make_repo


@pytest.fixture(scope="session")
def environments() -> UvEnvironments:
    """The real thing, in a folder that survives the session: the next one need not install again."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return UvEnvironments(base / "mlops-tests" / "serving")


@pytest.fixture(scope="session")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowTracker]:
    server = EmbeddedServer(tmp_path_factory.mktemp("tracking"))
    yield MlflowTracker(server.ensure())
    server.stop()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer.generate()


@pytest.fixture(scope="session")
def make_lab(
    tmp_path_factory: pytest.TempPathFactory,
    environments: UvEnvironments,
    tracker: MlflowTracker,
    signer: Signer,
) -> MakeLab:
    """Make a repo and a machine of its own for it; keywords replace parts of either."""

    def make(files: Mapping[str, str] | None = None, **parts: Any) -> Lab:
        base = tmp_path_factory.mktemp("lab")
        profile = Profile(home=base / "home", **parts.pop("profile", {}))
        repo = make_repo(base / "repo", files)
        services = {"tracker": tracker, "environments": environments, "signer": signer, **parts}
        return Lab(repo=repo, profile=profile, **services)

    return make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab()
