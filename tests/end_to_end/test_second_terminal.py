"""A rollout belongs to the ledger, not to the terminal that began it. Told in order."""

from __future__ import annotations

import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops.processes import free_port
from tests.end_to_end import small_repo
from tests.end_to_end.conftest import Laptop
from tests.end_to_end.scenes import traffic, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

MODEL = "small"
FEATURES = ["x", "y", "colour"]
SLOW = {"MLOPS_TRAFFIC_RATE": "5"}
"""So few requests that the judge needs longer than the test."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, laptop: Laptop) -> Path:
    """A repo whose first release serves."""
    folder = small_repo.write(tmp_path_factory.mktemp("repos") / MODEL, model=MODEL)
    laptop.mlops("exec", str(folder), "--", "python", "make_data.py")
    laptop.mlops("run", str(folder))
    return folder


def status(laptop: Laptop) -> dict[str, Any]:
    return dict(laptop.json("status", MODEL)["models"][0])


def version(laptop: Laptop) -> str:
    return str(status(laptop)["serving"]["release"]["version"])


@contextmanager
def in_its_rollout(
    laptop: Laptop, repo: Path, *options: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run the repo as far as its candidate has a share of the users."""
    process = laptop.start("run", str(repo), *options, **variables)
    try:
        until(lambda: process.poll() is not None or (status(laptop)["rollout"] or {}).get("weight"), 300)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_run_that_is_told_to_end_leaves_its_rollout_in_the_ledger(laptop: Laptop, repo: Path) -> None:
    small_repo.write(repo, model=MODEL, strength=2.0)
    with in_its_rollout(laptop, repo, **SLOW) as run:
        begun = status(laptop)["rollout"]["id"]
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 4, said
    assert f"mlops rollout watch {MODEL}" in said
    assert "Traceback" not in said
    now = status(laptop)
    assert now["rollout"]["id"] == begun
    assert now["serving"]["release"]["version"] == "1"
    assert now["answering"]


def test_the_next_run_goes_on_with_it_until_a_second_terminal_rolls_it_back_without_a_failed_request(
    laptop: Laptop, repo: Path, tmp_path: Path
) -> None:
    now = status(laptop)
    users = traffic(
        f"{now['address']}/v2/models/{MODEL}/infer",
        repo / "data" / "holdout.parquet",
        FEATURES,
        tmp_path / "traffic.json",
        rate=10,
    )
    with in_its_rollout(laptop, repo, **SLOW) as run, users as so_far:
        until(lambda: so_far()["sent"] > 20)
        assert status(laptop)["rollout"]["id"] == now["rollout"]["id"]
        laptop.mlops("rollback", MODEL, "--reason", "seen on another screen")
        said, _ = run.communicate(timeout=60)
        sent = so_far()["sent"]
        until(lambda: so_far()["sent"] > sent + 20)
        seen = so_far()
    assert seen["failed"] == 0, seen
    assert run.returncode == 1, said
    assert "seen on another screen" in said
    now = status(laptop)
    assert now["rollout"] is None
    assert now["serving"]["release"]["version"] == "1"
    assert now["answering"]


def test_two_terminals_see_a_rollout_to_the_same_end(laptop: Laptop, repo: Path) -> None:
    assert "taken back before" in laptop.mlops("run", str(repo), code=1)
    with in_its_rollout(laptop, repo, "--again", MLOPS_TRAFFIC_RATE="400") as run:
        watch = laptop.start("rollout", "watch", MODEL)
        said, _ = run.communicate(timeout=300)
        seen, _ = watch.communicate(timeout=60)
    assert run.returncode == 0, said
    assert watch.returncode == 0, seen
    assert "version 2" in said
    ending = seen.strip().splitlines()[-1]
    assert ending.startswith("promoted")
    assert "version 2" in ending
    assert version(laptop) == "2"


def test_a_release_is_served_in_the_foreground_until_it_is_told_to_end(laptop: Laptop, repo: Path) -> None:
    port = free_port()
    server = laptop.start("serve", MODEL, "--port", str(port))
    try:
        until(lambda: server.poll() is not None or _ready(port))
        assert server.poll() is None, server.communicate()
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=60)
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()
    assert server.returncode == 0, said
    assert f"{MODEL} version 2" in said
    assert "Traceback" not in said


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
