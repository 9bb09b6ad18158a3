"""Packages from the store, their servers' commands, and scoring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from mlops.artifacts import keep_folder
from mlops.environments.port import Locked
from mlops.environments.uv import UvEnvironments
from mlops.errors import InfrastructureError, MlopsError, UserError
from mlops.processes import free_port
from mlops.release import Release
from mlops.serving.launch import Launcher, ScoreJob, locked_of
from mlops.store import Store, open_store
from tests.serving.servers import Server, wait_ready


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def launcher(store: Store, environments: UvEnvironments, tmp_path: Path) -> Launcher:
    """A launcher with an empty home."""
    return Launcher(store, environments, tmp_path / "home")


def test_a_release_is_served_from_the_store(
    launcher: Launcher, store: Store, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    digest = keep_folder(store, packages / "regression")
    release = Release(model="minutes", version="4", package=digest, contract="c")
    port = free_port()
    command = launcher.command(release, port)
    assert command.folder == launcher.package(digest) == tmp_path / "home" / "packages" / digest
    assert command.variables["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")
    assert "AWS_SECRET_ACCESS_KEY" not in command.variables
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.argv, env=dict(command.variables), cwd=command.folder, stdout=output, stderr=output
        )
    server = Server(process, port, log)
    try:
        wait_ready(server)
        assert server.call("/v2/models/minutes/versions/4/ready").status == 200
        assert f'release="{release.digest}"' in server.call("/metrics").body.decode()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_package_that_is_not_in_the_store_leaves_nothing_behind(launcher: Launcher, tmp_path: Path) -> None:
    with pytest.raises(MlopsError):
        launcher.package("0" * 64)
    assert list((tmp_path / "home" / "packages").iterdir()) == []


def test_who_fetches_second_gets_what_the_first_has_put_there(
    launcher: Launcher, store: Store, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops import artifacts

    digest = keep_folder(store, packages / "regression")
    real = artifacts.fetch_folder

    def raced(source: Store, wanted: str, into: Path) -> Path:
        fetched = real(source, wanted, into)
        shutil.copytree(fetched, into.parent.parent / wanted)  # another process comes first
        return fetched

    monkeypatch.setattr(artifacts, "fetch_folder", raced)
    assert (launcher.package(digest) / "package.json").is_file()


@pytest.mark.parametrize(("name", "classes"), [("classifier", ["late", "on time"]), ("boosted", ["0", "1"])])
def test_scores_are_those_of_training(
    launcher: Launcher, packages: Path, tmp_path: Path, name: str, classes: list[str]
) -> None:
    package = packages / name
    rows = package / "golden.parquet"
    launcher.score(
        package,
        [
            ScoreJob(rows, tmp_path / "all.parquet"),
            ScoreJob(rows, tmp_path / "single.parquet", batch_rows=7),
        ],
        tmp_path / "work",
    )
    found = pd.read_parquet(tmp_path / "all.parquet")
    expected = pd.read_parquet(package / "golden-predictions.parquet")
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    assert found["score"].tolist() == pytest.approx(expected["score"].tolist(), abs=1e-12)
    assert list(found.columns) == ["prediction", "score", *(f"score_{each}" for each in classes)]
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "single.parquet"), rtol=1e-12)


def test_a_model_that_fails_is_the_users_and_can_be_one_jobs(
    launcher: Launcher, packages: Path, tmp_path: Path
) -> None:
    rows = packages / "faulty" / "golden.parquet"
    with pytest.raises(UserError, match="cannot predict these rows") as failure:
        launcher.score(packages / "faulty", [ScoreJob(rows, tmp_path / "out.parquet")], tmp_path / "work")
    assert "RuntimeError" in failure.value.found
    job = ScoreJob(rows, tmp_path / "out.parquet", error=tmp_path / "error.json")
    launcher.score(packages / "faulty", [job], tmp_path / "work")
    assert json.loads((tmp_path / "error.json").read_text())["type"] == "RuntimeError"


def test_scoring_that_takes_too_long_is_worth_a_retry(
    launcher: Launcher, packages: Path, tmp_path: Path
) -> None:
    job = ScoreJob(packages / "faulty" / "golden.parquet", tmp_path / "out.parquet")
    with pytest.raises(InfrastructureError, match="did not come to its end"):
        launcher.score(packages / "faulty", [job], tmp_path / "work", timeout_seconds=0.05)


def test_a_folder_that_is_no_package_is_said(tmp_path: Path, packages: Path, locked: Locked) -> None:
    with pytest.raises(UserError, match="is not a packaged model"):
        locked_of(tmp_path)
    assert locked_of(packages / "matrix").digest == locked.digest
