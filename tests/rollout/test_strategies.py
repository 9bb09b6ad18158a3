"""What each strategy does next; pure functions, so a table is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.decide.verdicts import Verdict
from mlops.errors import UserError
from mlops.rollout.strategies.finding import strategy_named
from mlops.rollout.strategies.port import Hold, Promote, Raise, Rollback, granted
from tests.rollout.conftest import settings

NAMES = ("canary", "rolling", "blue-green")


@pytest.mark.parametrize(
    ("name", "step", "verdict", "action"),
    [
        ("canary", -1, Verdict.HOLD, Raise(0, 0.1)),
        ("canary", 0, Verdict.HOLD, Hold()),
        ("canary", 0, Verdict.PROMOTE, Raise(1, 0.5)),
        ("canary", 1, Verdict.PROMOTE, Promote()),
        ("canary", 1, Verdict.ROLLBACK, Rollback()),
        ("blue-green", -1, Verdict.HOLD, Raise(0, 1.0)),
        ("blue-green", 0, Verdict.HOLD, Hold()),
        ("blue-green", 0, Verdict.PROMOTE, Promote()),
        ("blue-green", 0, Verdict.ROLLBACK, Rollback()),
        ("rolling", -1, Verdict.HOLD, Raise(0, 1 / 3)),
        ("rolling", 0, Verdict.PROMOTE, Raise(1, 2 / 3)),
        ("rolling", 1, Verdict.PROMOTE, Promote()),
        ("return", -1, Verdict.HOLD, Promote()),
    ],
)
def test_what_follows(name: str, step: int, verdict: Verdict, action: object) -> None:
    assert strategy_named(name).next(settings(), step, verdict, True) == action


@pytest.mark.parametrize("name", NAMES)
def test_the_first_release_gets_everything_at_once(name: str) -> None:
    assert strategy_named(name).next(settings(), -1, Verdict.HOLD, False) == Raise(0, 1.0)
    assert strategy_named(name).next(settings(), 0, Verdict.PROMOTE, False) == Promote()


@given(
    name=st.sampled_from(NAMES),
    step=st.integers(-1, 9),
    verdict=st.sampled_from(list(Verdict)),
    has_stable=st.booleans(),
    steps=st.lists(st.integers(1, 99), max_size=6, unique=True).map(sorted),
    replicas=st.integers(1, 9),
)
def test_nobody_is_promoted_without_the_verdict(
    name: str, step: int, verdict: Verdict, has_stable: bool, steps: list[int], replicas: int
) -> None:
    chosen = settings(steps=[*steps, 100], replicas=replicas)
    strategy = strategy_named(name)
    action = strategy.next(chosen, step, verdict, has_stable)
    if isinstance(action, Promote):
        assert verdict is Verdict.PROMOTE
    if isinstance(action, Raise):
        assert 0 < action.weight <= 1
        assert action.step == step + 1
        assert step == -1 or verdict is Verdict.PROMOTE
    if verdict is Verdict.ROLLBACK and step >= 0:
        assert isinstance(action, Rollback)
    assert 0 < granted(strategy.shares(chosen, has_stable), step) <= 1


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="yolo"):
        strategy_named("yolo")


@pytest.mark.parametrize("name", [*NAMES, "return"])
def test_each_says_what_it_is(name: str) -> None:
    strategy = strategy_named(name)
    assert strategy.name == name
    assert strategy.help.endswith(".")
