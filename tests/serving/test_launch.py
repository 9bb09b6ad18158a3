"""Packages from the store, their servers' commands, and scoring."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.artifacts import Corrupted, keep_folder
from mlops.canonical import canonical_json, digest_tree
from mlops.environments.port import Locked
from mlops.environments.uv import UvEnvironments
from mlops.errors import InfrastructureError, MlopsError, UserError
from mlops.processes import free_port
from mlops.release import RELEASE_TYPE, Release
from mlops.serving.launch import Launcher, ScoreJob, locked_of
from mlops.signing import SignatureError, Signer
from mlops.store import Store, open_store
from tests.serving.servers import Server, wait_ready


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture(scope="module")
def signer() -> Signer:
    """The key of whoever registers."""
    return Signer.generate()


@pytest.fixture
def launcher(store: Store, environments: UvEnvironments, tmp_path: Path, signer: Signer) -> Launcher:
    """A launcher with an empty home, which trusts the key."""
    return Launcher(store, environments, tmp_path / "home", signer.verifier())


@pytest.fixture
def release(store: Store, packages: Path) -> Release:
    """A release whose package is in the store, and which nobody has signed."""
    digest = keep_folder(store, packages / "regression")
    return Release(model="minutes", version="4", package=digest, contract="c", evidence={"test": "e"})


def sign(store: Store, release: Release, signer: Signer, **changes: Any) -> None:
    """Write the envelope of the release, or of what the changes make of it, to the release's place."""
    record = {**release.as_record(), **changes}
    envelope = signer.sign(canonical_json(record), RELEASE_TYPE)
    store.put(release.envelope, canonical_json(envelope))


def test_a_release_is_served_from_the_store(
    launcher: Launcher,
    store: Store,
    release: Release,
    signer: Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    sign(store, release, signer)
    port = free_port()
    command = launcher.command(release, port)
    assert command.folder == launcher.package(release.package)
    assert command.folder == tmp_path / "home" / "packages" / release.package
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
    assert list((tmp_path / "home").rglob("*")) == []


def test_of_several_who_fetch_at_once_all_get_the_package(
    launcher: Launcher, release: Release, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(launcher.package, [release.package] * 4))
    assert folders == {tmp_path / "home" / "packages" / release.package}
    assert [digest_tree(each) for each in folders] == [release.package]
    assert [each.name for each in (tmp_path / "home" / "packages").iterdir()] == [release.package]


def _missing(store: Store, release: Release, _: Signer) -> None:
    assert not store.exists(release.envelope)


def _foreign(store: Store, release: Release, _: Signer) -> None:
    sign(store, release, Signer.generate())


def _another_type(store: Store, release: Release, signer: Signer) -> None:
    envelope = signer.sign(canonical_json(release.as_record()), "application/vnd.mlops.approval+json")
    store.put(release.envelope, canonical_json(envelope))


def _altered(store: Store, release: Release, signer: Signer) -> None:
    sign(store, release, signer)
    envelope = json.loads(store.get(release.envelope) or b"")
    other = signer.sign(canonical_json({**release.as_record(), "version": "5"}), RELEASE_TYPE)
    store.put(release.envelope, canonical_json({**envelope, "payload": other["payload"]}))


def _another_release(store: Store, release: Release, signer: Signer) -> None:
    other = replace(release, package="0" * 64)
    sign(store, release, signer, **other.as_record())


def _no_envelope(store: Store, release: Release, _: Signer) -> None:
    store.put(release.envelope, b"{")


def _no_release(store: Store, release: Release, signer: Signer) -> None:
    sign(store, release, signer, digest="0" * 64)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing, "is not signed, so it is not started"),
        (_foreign, "does not hold: no trusted key signed this content"),
        (_another_type, "does not hold: this was signed as something else"),
        (_altered, "does not hold: no trusted key signed this content"),
        (_another_release, "does not hold: the signature is of another release"),
        (_no_envelope, "does not hold: the file is not a signed release"),
        (_no_release, "does not hold: the file is not a signed release"),
    ],
)
def test_a_release_whose_signature_does_not_hold_is_not_started(
    launcher: Launcher,
    store: Store,
    release: Release,
    signer: Signer,
    spoil: Callable[[Store, Release, Signer], None],
    said: str,
    tmp_path: Path,
) -> None:
    spoil(store, release, signer)
    with pytest.raises(SignatureError, match=said) as caught:
        launcher.command(release, 1)
    assert release.short in caught.value.headline
    assert caught.value.where.endswith(f"releases/{release.digest}.json")
    assert "mlops run" in caught.value.remedy
    assert not (tmp_path / "home").exists(), "nothing is fetched for it"


@pytest.mark.parametrize(
    ("changes", "names"),
    [({"version": "5"}, "version"), ({"evidence": {}, "commit": "f" * 40}, "commit, evidence")],
)
def test_more_than_the_digest_must_be_what_was_signed(
    launcher: Launcher, store: Store, release: Release, signer: Signer, changes: dict[str, Any], names: str
) -> None:
    sign(store, release, signer, **changes)
    with pytest.raises(SignatureError, match="other things were signed") as caught:
        launcher.command(release, 1)
    assert caught.value.found == f"different: {names}"


def test_a_second_key_that_is_trusted_counts(
    store: Store, environments: UvEnvironments, release: Release, signer: Signer, tmp_path: Path
) -> None:
    from mlops.signing import Verifier

    sign(store, release, signer)
    trusting = Verifier.trusting([Signer.generate().public_key, signer.public_key])
    command = Launcher(store, environments, tmp_path / "home", trusting).command(release, 1)
    assert release.digest in command.argv


def test_a_candidate_that_nobody_has_signed_can_be_measured(launcher: Launcher, release: Release) -> None:
    assert release.digest in launcher.unreleased(release, 1).argv


def test_a_copy_that_was_altered_is_fetched_again(
    launcher: Launcher, store: Store, release: Release, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    sign(store, release, signer)
    folder = launcher.package(release.package)
    good = (folder / "model" / "MLmodel").read_bytes()
    (folder / "model" / "MLmodel").write_bytes(good + b"# bad\n")
    (folder / "model" / "more.py").write_text("raise SystemExit('bad')")
    (folder / "model" / "code" / "__pycache__").mkdir(parents=True)
    (folder / "model" / "code" / "__pycache__" / "own.cpython-311.pyc").write_bytes(b"bad")
    with caplog.at_level(logging.WARNING, logger="mlops"):
        command = launcher.command(release, 1)
    assert digest_tree(command.folder) == release.package
    assert (folder / "model" / "MLmodel").read_bytes() == good
    assert [each.message for each in caplog.records if "was altered" in each.message]


def test_a_copy_as_it_should_be_is_not_fetched_again(
    launcher: Launcher, store: Store, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    folder = launcher.package(release.package)
    (folder / "model" / "__pycache__").mkdir()
    (folder / "model" / "__pycache__" / "own.cpython-311.pyc").write_bytes(b"compiled")
    store.delete(f"trees/{release.package}.json")  # nothing could be fetched
    assert launcher.package(release.package) == folder
    assert not (folder / "model" / "__pycache__").exists()
    assert caplog.records == []


def test_an_altered_copy_is_not_used_when_the_store_was_altered_too(
    launcher: Launcher, store: Store, release: Release
) -> None:
    folder = launcher.package(release.package)
    (folder / "package.json").write_text("{}")
    for blob in store.list("blobs/"):
        store.put(blob, b"bad")
    with pytest.raises(Corrupted):
        launcher.unreleased(release, 1)


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
