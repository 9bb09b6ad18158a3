"""Whatever happens, in whatever order, killed wherever: what must always hold of the ledger and the platform."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.errors import InfrastructureError, UserError
from mlops.ledger.events import Promoted, WeightSet
from mlops.ledger.state import State, fold
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World

ACTIONS = st.one_of(
    st.tuples(st.just("advance"), st.integers(1, 6)),
    st.tuples(
        st.just("begin"), st.tuples(st.integers(1, 4), st.sampled_from(["canary", "blue-green", "rolling"]))
    ),
    st.tuples(st.just("behave"), st.sampled_from([0.0, 0.001, 0.004, 0.05, 1.0])),
    st.tuples(st.just("rollback"), st.booleans()),
    st.tuples(st.just("kill at crossing"), st.integers(0, 6)),
    st.tuples(st.just("kill proxy"), st.none()),
    st.tuples(st.just("kill lane"), st.sampled_from(["blue", "green"])),
    st.tuples(st.just("fail"), st.sampled_from(["observe", "split", "deploy", "traffic", "remove"])),
    st.tuples(st.just("heal"), st.none()),
    st.tuples(st.just("lose counts"), st.none()),
    st.tuples(st.just("sleep"), st.sampled_from([1, 60, 5000, 100_000])),
)


class Killed(BaseException):
    """Stands for SIGKILL within one process: nothing that the program catches."""


@contextmanager
def killed_at(number: int) -> Iterator[None]:
    """Die at the crossing with this number, counted from 0."""
    left = [number]

    def crossing(point: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    with (
        patch("mlops.rollout.engine.crossing", crossing),
        patch("mlops.rollout.placing.crossing", crossing),
        patch("mlops.rollout.way_back.crossing", crossing),
        suppress(Killed),
    ):
        yield


def do(world: World, action: tuple[str, Any]) -> None:
    what, argument = action
    with suppress(InfrastructureError, UserError):
        match what:
            case "advance":
                for _ in range(argument):
                    world.engine.advance()
                    world.platform.sleep(1)
            case "begin":
                world.begin(argument[0], strategy=argument[1], deadline=600)
            case "behave":
                if (rollout := world.state.rollout) is not None:
                    world.platform.behave(rollout.candidate.digest, Behaviour(error_rate=argument))
            case "rollback":
                world.engine.rollback("asked for", again=argument)
            case "kill at crossing":
                with killed_at(argument):
                    world.engine.advance()
            case "kill proxy":
                world.platform.kill_proxy()
            case "kill lane":
                if argument in world.platform.look().lanes:
                    world.platform.kill_lane(argument)
            case "fail":
                world.platform.fail(argument)
            case "heal":
                world.platform.heal()
            case "lose counts":
                world.platform.lose_counts()
            case "sleep":
                world.platform.sleep(argument)


def check_the_ledger(world: World) -> None:
    """Replay the ledger and check every state that it ever was in."""
    state = State()
    for event in world.ledger.events():
        before, state = state, fold(state, [event])
        weights = state.weights()
        assert all(0 <= weight <= 1 for weight in weights.values())
        assert sum(weights.values()) <= 1 + 1e-9
        lanes = [each.lane for each in (state.serving, state.warm) if each is not None]
        lanes += [state.rollout.candidate.lane] if state.rollout else []
        assert len(lanes) == len(set(lanes))
        if isinstance(event.payload, Promoted):
            assert event.payload.verdict == "PROMOTE"
        if isinstance(event.payload, WeightSet):
            assert before.rollout is not None
            assert event.payload.weight > before.rollout.weight
            assert event.payload.verdict == "PROMOTE" or event.payload.step == 0


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(ACTIONS, min_size=4, max_size=14))
def test_nothing_that_happens_breaks_the_promises(actions: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "world")
        do(world, ("begin", (1, "canary")))
        do(world, ("advance", 6))
        for action in actions:
            do(world, action)
        check_the_ledger(world)
        world.platform.heal()
        world.platform.traffic(1000)
        for _ in range(6):
            world.engine.advance()
            world.platform.sleep(3)
        world.engine.advance()
        world.agrees()
