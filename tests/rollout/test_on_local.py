"""The engine on the real platform: processes behind Envoy, under load, killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.errors import UserError
from mlops.ledger import Author, Ledger
from mlops.platforms.local import LocalPlatform
from mlops.processes import alive, end
from mlops.rollout.engine import Engine
from mlops.rollout.outcome import Outcome, Progress
from mlops.store import open_store
from tests.platforms.rigs import Caller, StandIns, call, squatting
from tests.rollout.conftest import a_release, settings

# A wide objective asks for hundreds of requests instead of tens of thousands; the judge's constants stay.
WIDE = settings(objective={"error_rate": 0.1, "latency_ms": 5000}, deadline=60)
TICK_SECONDS = 0.3


class Laptop:
    """One model on the local platform; every call makes a new engine, as every command does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launch = StandIns(folder)
        self.store = open_store((folder / "store").as_uri())
        self.platform = LocalPlatform(folder / "home", launch=self.launch, drain_seconds=5)
        self.ledger = Ledger(self.store, "m", "production", author=Author("ann"))

    @property
    def engine(self) -> Engine:
        return Engine(self.ledger, self.platform, self.store, start_seconds=30)

    def roll_out(self, version: int, meddle: object = None) -> Outcome:
        self.engine.begin(a_release(version), WIDE, "a test")
        return self.engine.watch(meddle, TICK_SECONDS)  # type: ignore[arg-type]


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A laptop on which version 1 serves."""
    here = Laptop(tmp_path)
    try:
        here.engine.begin(a_release(1), WIDE, "the first")
        while here.engine.advance().progress is Progress.STARTING:
            time.sleep(0.05)
        with Caller(here.platform.endpoint(), rate=400):
            assert here.engine.watch(None, TICK_SECONDS).progress is Progress.PROMOTED
        yield here
    finally:
        here.platform.stop()


def test_a_canary_and_its_rollback_lose_no_request(laptop: Laptop) -> None:
    with Caller(laptop.platform.endpoint(), rate=400) as caller:
        outcome = laptop.roll_out(2)
        assert outcome.progress is Progress.PROMOTED, outcome.sentence
        promoted = time.time()
        time.sleep(0.3)
        back = laptop.engine.rollback("a test")
        rolled_back = time.time()
        time.sleep(0.3)
    assert caller.failed() == []
    assert back.exit_code == 0
    assert {each.lane for each in caller.answers if promoted < each.sent < rolled_back - 0.3} <= {"green"}
    assert {each.lane for each in caller.answers if each.sent > rolled_back} == {"blue"}


def test_a_candidate_with_errors_goes_by_itself(laptop: Laptop) -> None:
    laptop.launch.faults[a_release(2).digest] = (0.5, 0.0, 0.0)
    with Caller(laptop.platform.endpoint(), rate=400) as caller:
        outcome = laptop.roll_out(2)
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "judge")
    assert {each.lane for each in caller.failed()} == {"green"}
    assert len(caller.failed()) < 0.2 * len(caller.answers)
    assert laptop.ledger.state().draining == ()
    assert "worse" in next(event.reason for event in laptop.ledger.events() if event.kind == "rolled-back")


def test_a_candidate_that_refuses_what_users_ask_goes_by_itself(laptop: Laptop) -> None:
    laptop.launch.refused[a_release(2).digest] = 0.5
    with Caller(laptop.platform.endpoint(), rate=400) as caller:
        outcome = laptop.roll_out(2)
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "judge")
    assert "refused requests (4xx)" in outcome.sentence
    assert {(each.lane, each.status) for each in caller.failed()} == {("green", 422)}
    assert outcome.evidence["counted"]["candidate"]["errors"] == 0


def test_a_proxy_killed_in_the_middle_comes_back_with_the_same_shares(laptop: Laptop) -> None:
    killed: list[int] = []

    def kill(outcome: Outcome) -> None:
        process = alive(laptop.folder / "home" / "envoy" / "envoy.json")
        if outcome.weight == 0.5 and not killed and process is not None:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    with Caller(laptop.platform.endpoint(), rate=400):
        outcome = laptop.roll_out(2, kill)
    assert killed
    assert outcome.progress is Progress.PROMOTED, outcome.sentence


def test_a_port_in_use_is_found_before_a_rollout_is_open(laptop: Laptop) -> None:
    laptop.platform.stop()
    before = laptop.ledger.state().sequence
    with squatting(laptop.platform.endpoint()):
        with pytest.raises(UserError, match="is in use") as caught:
            laptop.engine.begin(a_release(2), WIDE, "a test")
        assert str(os.getpid()) in caught.value.found
        assert [event.kind for event in laptop.ledger.events(before + 1)] == []
    assert laptop.engine.begin(a_release(2), WIDE, "a test") != ""


def test_a_port_that_is_taken_in_the_middle_ends_the_rollout_with_the_reason(laptop: Laptop) -> None:
    laptop.engine.begin(a_release(2), WIDE, "a test")
    proxy = laptop.folder / "home" / "envoy" / "envoy.json"
    end(proxy, 0)
    with squatting(laptop.platform.endpoint()):
        outcome = laptop.engine.watch(None, TICK_SECONDS)
    assert outcome.cause == "deployment"
    assert "is in use" in outcome.sentence
    assert laptop.ledger.state().rollout is None
    while laptop.platform.current() is None:
        laptop.engine.advance()
    assert call(laptop.platform.endpoint(), 20).failed() == []


def test_a_release_that_cannot_start_is_taken_back_with_its_log(laptop: Laptop) -> None:
    laptop.launch.broken.add(a_release(2).digest)
    outcome = laptop.roll_out(2)
    assert outcome.cause == "deployment"
    assert "no such model" in outcome.sentence
