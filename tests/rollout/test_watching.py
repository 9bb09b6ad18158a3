"""Whoever waits for a rollout learns how that one ended, at a steady pace."""

from __future__ import annotations

from mlops.errors import CouldNotTell, GateFailed
from mlops.ledger.events import RolloutStarted
from mlops.rollout.outcome import Outcome, Progress
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World, a_release, settings


def test_a_rollout_that_ended_before_anybody_watched_is_told_by_its_end(served: World) -> None:
    rollout = served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.engine.rollback("not today")
    outcome = served.engine.watch(rollout=rollout)
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "person")
    assert outcome.exit_code == GateFailed.exit_code
    assert outcome.release["version"] == "2"


def test_its_promotion_is_told_too(served: World) -> None:
    rollout = served.begin(2)
    served.engine.watch()
    assert served.engine.watch(rollout=rollout).progress is Progress.PROMOTED


def test_it_is_not_mixed_up_with_the_one_that_runs_now(served: World) -> None:
    rollout = served.begin(2, Behaviour(error_rate=0.2))
    served.engine.watch()
    served.begin(3)
    outcome = served.engine.watch(rollout=rollout)
    assert (outcome.cause, outcome.exit_code) == ("judge", GateFailed.exit_code)
    assert served.state.rollout is not None


def test_a_rollout_without_an_end_could_not_tell(served: World) -> None:
    """Another writer began one over it; the fold gives it up."""
    rollout = served.begin(2)
    started = RolloutStarted(
        rollout="other",
        release=a_release(3).as_record(),
        lane="green",
        strategy="canary",
        settings=settings(),
    )
    served.ledger.append(started, reason="", expect=served.state.sequence)
    outcome = served.engine.watch(rollout=rollout)
    assert (outcome.progress, outcome.exit_code) == (Progress.UNDECIDED, CouldNotTell.exit_code)


def test_a_clock_that_jumps_back_does_not_stretch_the_ticks(served: World) -> None:
    served.begin(2)
    slept: list[float] = []
    jumped: list[Outcome] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        served.platform.sleep(min(seconds, 1))

    def clock() -> float:
        return served.platform.clock() - (3600 if jumped else 0)

    served.an_engine(clock=clock, sleep=sleep).watch(jumped.append)
    assert max(slept) <= 1


def test_not_even_the_pace_itself_can_stretch_a_tick(served: World) -> None:
    served.begin(2)
    slept: list[float] = []
    pace = iter(range(100_000, 0, -10))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        served.platform.sleep(seconds)

    served.an_engine(pace=lambda: float(next(pace)), sleep=sleep).watch()
    assert max(slept) <= 1


def test_the_deadline_does_not_count_while_a_candidate_was_never_ready(served: World) -> None:
    served.begin(2, Behaviour(start_seconds=100), deadline=60)
    outcome = served.engine.watch()
    assert outcome.progress is Progress.UNDECIDED, "it got its share, and then the deadline was over"
    assert len(served.events("weight-set")) == 2
