"""The main job on the real example, told in order: each test goes on where the one before ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.conftest import Laptop
from tests.end_to_end.scenes import traffic, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

MODEL = "flight-delay"
Load = AbstractContextManager[Callable[[], dict[str, Any]]]


def status(laptop: Laptop) -> dict[str, Any]:
    return laptop.json("status", MODEL)["models"][0]


def version(laptop: Laptop) -> str:
    return status(laptop)["serving"]["release"]["version"]


def events(laptop: Laptop) -> list[dict[str, Any]]:
    return laptop.json("history", MODEL)["events"]


def features(flights: Path) -> list[str]:
    package = json.loads((flights / ".mlops" / "package" / "output" / "package" / "package.json").read_text())
    return package["features"]


@pytest.fixture
def load(laptop: Laptop, flights: Path, tmp_path: Path) -> Load:
    """Traffic of 100 requests a second through the proxy."""
    address = f"{status(laptop)['address']}/v2/models/{MODEL}/infer"
    return traffic(address, flights / "data" / "replay.parquet", features(flights), tmp_path / "traffic.json")


def test_nothing_is_released_at_first(laptop: Laptop) -> None:
    assert "Nothing has been released yet" in laptop.mlops("status")
    assert "no model has been released" in laptop.mlops("rollback", MODEL, code=2)


def test_the_baseline_is_released_without_a_stable_side(laptop: Laptop, flights: Path) -> None:
    laptop.mlops("exec", str(flights), "--", "python", "data.py", "--through", "3")
    said = laptop.mlops("run", str(flights))
    assert f"{MODEL} version 1" in said
    assert status(laptop)["answering"]


def test_the_candidate_is_promoted_as_a_canary_without_a_failed_request(
    laptop: Laptop, flights: Path, load: Load
) -> None:
    laptop.mlops("exec", str(flights), "--", "python", "data.py", "--through", "4")
    with load as so_far:
        said = laptop.mlops("run", str(flights))
        seen = so_far()
    assert seen["failed"] == 0, seen
    assert seen["sent"] > 500
    assert f"{MODEL} version 2" in said
    assert f"mlops rollback {MODEL}" in said
    weights = [each["data"]["weight"] for each in events(laptop) if each["kind"] == "weight-set"]
    assert weights[-2:] == [0.1, 0.5]


def test_the_gates_and_the_report_are_on_disk(flights: Path) -> None:
    run = json.loads((flights / ".mlops" / "run.json").read_text())
    statuses = {each["stage"]: each["status"] for each in run["stages"]}
    assert statuses["build"] == statuses["scan"] == "skipped"
    assert {statuses[name] for name in ("evaluate", "benchmark", "register", "rollout")} == {"passed"}
    page = (flights / ".mlops" / "report" / "index.html").read_text()
    assert "<script" not in page
    assert "flight-delay" in page
    assert (flights / ".mlops" / "evaluate" / "junit.xml").exists()


def test_a_second_run_deploys_nothing(laptop: Laptop, flights: Path) -> None:
    before = len(events(laptop))
    said = laptop.mlops("run", str(flights))
    assert "already serving" in said
    assert len(events(laptop)) == before


def test_a_rollback_loses_no_request_and_can_be_undone(laptop: Laptop, load: Load) -> None:
    with load as so_far:
        until(lambda: so_far()["sent"] > 100)
        laptop.mlops("rollback", MODEL, "--reason", "a test")
        assert version(laptop) == "1"
        sent = so_far()["sent"]
        until(lambda: so_far()["sent"] > sent + 100)
        assert "Already back" in laptop.mlops("rollback", MODEL)
        assert version(laptop) == "1"
        laptop.mlops("rollback", MODEL, "--again")
        until(lambda: so_far()["sent"] > sent + 200)
        assert so_far()["failed"] == 0, so_far()
    assert version(laptop) == "2"
    assert any(each["reason"] == "a test" for each in events(laptop))


def test_a_killed_proxy_and_server_come_back(laptop: Laptop) -> None:
    for name in ("envoy", "mlops_serve"):
        ours = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(laptop.home) in word for word in process.info["cmdline"] or ())
            and any(name in word for word in process.info["cmdline"])
        ]
        assert ours, name
        for process in ours:
            os.kill(process.pid, signal.SIGKILL)
    until(lambda: not status(laptop)["answering"])
    until(lambda: laptop.mlops("rollout", "advance", MODEL) and status(laptop)["answering"])


def test_the_ledger_is_whole_and_a_changed_event_is_found(laptop: Laptop) -> None:
    assert "whole" in laptop.mlops("ledger", "verify")
    event = sorted((laptop.home / "store" / "ledger" / MODEL / "production").glob("*.json"))[1]
    content = event.read_bytes()
    try:
        event.write_bytes(content.replace(b"actor", b"acter") if b"actor" in content else content[:-9])
        laptop.mlops("ledger", "verify", code=1)
    finally:
        event.write_bytes(content)
    laptop.mlops("ledger", "verify")


def test_everything_ends_and_a_run_brings_it_back(laptop: Laptop, flights: Path) -> None:
    laptop.mlops("stop")
    assert not status(laptop)["answering"]
    laptop.mlops("run", str(flights))
    until(lambda: status(laptop)["answering"])
