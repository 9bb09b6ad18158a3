"""Who was slow and acts on a ledger that others have moved on since changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlops.errors import InfrastructureError
from mlops.platforms.port import Deployment, Outdated, Readiness
from mlops.rollout.outcome import Progress
from mlops.rollout.placing import place
from tests.rollout.conftest import World, a_release


class Interleaved:
    """The platform as a slow process sees it: before its ``number``-th question something happens elsewhere."""

    def __init__(self, world: World, number: int, meanwhile: Callable[[], object]) -> None:
        self._platform = world.platform
        self._left = number
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def ready(self, lane: str) -> Readiness:
        self._left -= 1
        if self._left == 0:
            self._meanwhile()
        return self._platform.ready(lane)


@pytest.fixture
def at_ten_percent(served: World) -> World:
    """A world in which version 2 has 10 % of the traffic."""
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    return served


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("tidied", [False, True])
def test_a_stale_look_gives_no_traffic_back_to_what_was_rolled_back(
    at_ten_percent: World, number: int, tidied: bool
) -> None:
    world = at_ten_percent

    def meanwhile() -> None:
        world.engine.rollback("bad")
        if tidied:
            world.engine.advance()

    outcome = world.an_engine(Interleaved(world, number, meanwhile)).advance()
    assert outcome.progress is Progress.IDLE
    assert world.platform.look().weights == {"blue": 1.0}
    splits = world.platform.effects("split")
    assert splits[-1] == [{"blue": 1.0}]
    world.settle()
    assert world.serves() == "1"
    assert world.platform.effects("split") == splits
    assert len(world.platform.effects("deploy")) == 2, "its server was not started again"


def test_a_rollback_that_moves_no_traffic_still_stops_a_stale_split(served: World) -> None:
    """The candidate had no share yet, so the split before and after the rollback is the same."""
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    state = served.state
    served.platform.kill_lane("green")
    served.engine.advance()
    assert served.platform.look().weights == {"blue": 1.0}
    splits = served.platform.effects("split")
    served.engine.rollback("bad")
    assert served.platform.effects("split") == splits
    placed = place(served.platform, state)
    assert any("newer decision" in each for each in placed.trouble)
    assert served.platform.effects("split") == splits


def test_a_stale_look_reports_nothing_and_looks_again(at_ten_percent: World) -> None:
    """Even where nothing was appended: what it saw is of a rollout that is over."""
    world = at_ten_percent
    world.platform.traffic(0)
    other = Interleaved(world, 4, lambda: world.engine.rollback("bad"))
    assert world.an_engine(other).advance().rollout == ""


def test_a_stale_look_removes_nothing_that_has_begun_since(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.engine.rollback("bad")
    draining = served.state
    assert draining.draining
    served.begin(2)
    served.engine.advance()
    with pytest.raises(Outdated):
        served.platform.remove("green", draining.sequence)
    assert served.platform.ready("green").release == a_release(2).digest


def test_a_platform_ahead_of_a_ledger_that_was_begun_anew_says_so(served: World) -> None:
    ahead = served.state.sequence + 10
    serving = Deployment("blue", a_release(1), sequence=ahead)
    served.platform.deploy(serving)
    assert "newer decision is in force" in served.engine.advance().sentence
    served.platform.stop()
    served.settle()
    assert served.serves() == "1"


def test_a_rollback_on_such_a_platform_is_no_success(served: World) -> None:
    served.roll_out(2)
    served.settle()
    served.platform.deploy(Deployment("green", a_release(2), sequence=served.state.sequence + 10))
    with pytest.raises(InfrastructureError, match="newer decision"):
        served.engine.rollback("bad")
