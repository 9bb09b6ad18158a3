"""From cumulative counts to intervals: epochs, gaps, warm-up, shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.platforms.port import Observation
from mlops.rollout.observing import WARM_UP_REQUESTS, Blind, counted, difference, progress
from mlops.rollout.ticks import Tick, thinned
from tests.rollout.conftest import settings


def seen(
    lane: str, requests: int, errors: int = 0, slow: int = 0, epoch: str = "1", release: str = "r"
) -> Observation:
    return Observation(
        lane=lane,
        release=release,
        epoch=epoch,
        at=0.0,
        requests=requests,
        errors=errors,
        latency_seconds=(0.5, 1.0, 2.0),
        latency_counts=(requests - slow, requests - slow, requests),
    )


def look(earlier: Tick, *observations: Observation, weight: float = 0.1) -> Tick:
    tick = replace(earlier, number=earlier.number + 1, weight=weight, notes=())
    return counted(earlier, tick, {each.lane: each for each in observations}, ("green", "blue"), settings())


def test_the_first_look_only_sets_the_baseline() -> None:
    tick = look(Tick(), seen("green", 50, 5), seen("blue", 1000))
    assert tick.counted["green"].requests == 0
    assert tick.judge["errors"]["n_candidate"] == 0


def test_the_second_look_counts_what_came_since() -> None:
    tick = look(
        look(Tick(), seen("green", 50, 5), seen("blue", 1000)), seen("green", 150, 6), seen("blue", 1900)
    )
    assert (tick.judge["errors"]["n_candidate"], tick.judge["errors"]["k_candidate"]) == (100, 1)
    assert tick.judge["errors"]["n_stable"] == 900


def test_latency_does_not_count_until_both_sides_are_warm() -> None:
    one = look(Tick(), seen("green", 0), seen("blue", 0))
    two = look(one, seen("green", WARM_UP_REQUESTS, slow=40), seen("blue", 900))
    assert two.judge["latency"]["n_candidate"] == 0
    three = look(two, seen("green", WARM_UP_REQUESTS + 50, slow=41), seen("blue", 1800))
    assert three.judge["latency"]["n_candidate"] == 50
    assert three.judge["latency"]["k_candidate"] == 1


def test_the_split_is_tested_only_while_the_share_is_the_same() -> None:
    one = look(Tick(), seen("green", 0), seen("blue", 0), weight=0.1)
    changed = look(one, seen("green", 500), seen("blue", 500), weight=0.5)
    assert set(changed.judge["errors"]["split"]) == {0.0}
    same = look(changed, seen("green", 1000), seen("blue", 1000), weight=0.5)
    assert set(same.judge["errors"]["split"]) != {0.0}


def test_a_share_starts_its_own_count() -> None:
    one = look(Tick(), seen("green", 0), seen("blue", 0))
    two = look(one, seen("green", 70), seen("blue", 600))
    assert two.here == 70
    assert look(two, seen("green", 90), seen("blue", 900), weight=0.5).here == 0


def test_a_new_epoch_began_at_zero() -> None:
    found = difference(seen("green", 900, 9), seen("green", 40, 1, epoch="2"), 1.0)
    assert (found.requests, found.errors) == (40, 1)
    assert "anew" in found.note


def test_counts_that_go_backwards_are_a_new_epoch_and_said_to_be() -> None:
    found = difference(seen("green", 900, 9), seen("green", 40, 1), 1.0)
    assert (found.requests, found.errors) == (40, 1)
    assert "backwards" in found.note


def test_another_release_in_the_lane_has_its_own_baseline() -> None:
    found = difference(seen("green", 900, 9), seen("green", 950, 9, release="s"), 1.0)
    assert (found.requests, found.errors) == (0, 0)


@pytest.mark.parametrize(("objective", "slow"), [(1.0, 7), (0.7, 7), (1.5, 0), (9.0, None)])
def test_slow_is_what_the_next_bound_above_the_objective_says(objective: float, slow: int | None) -> None:
    assert difference(seen("green", 0), seen("green", 100, slow=7), objective).slow == slow


@pytest.mark.parametrize(
    "broken",
    [
        {"requests": float("nan")},
        {"requests": -1},
        {"errors": 200},
        {"requests": 10.5},
        {"latency_counts": (1,)},
    ],
)
def test_counts_that_make_no_sense_are_not_used(broken: dict[str, float]) -> None:
    with pytest.raises(Blind, match="green"):
        look(Tick(), replace(seen("green", 100), **broken), seen("blue", 100))  # type: ignore[arg-type]


def test_a_missing_side_is_not_used() -> None:
    with pytest.raises(Blind, match="no counts for blue"):
        look(Tick(), seen("green", 100))


def test_without_evidence_there_is_no_progress() -> None:
    assert progress({}) == (0.0, 0.0)


@given(
    counts=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 400), st.booleans(), st.floats(0, 1)), max_size=20
    )
)
def test_nothing_is_counted_that_was_not_there(counts: list[tuple[int, int, bool, float]]) -> None:
    """Whatever restarts happen in between: at most all requests, and never more errors than requests."""
    tick, total, epoch, requests, errors = look(Tick(), seen("green", 0), seen("blue", 0)), 0, 1, 0, 0
    for new, _, restart, share in counts:
        if restart:
            epoch, requests, errors = epoch + 1, 0, 0
        requests, errors, total = requests + new, errors + int(new * share), total + new
        tick = look(tick, seen("green", requests, errors, epoch=str(epoch)), seen("blue", 0))
    evidence = tick.judge["errors"]
    assert evidence["n_candidate"] == total
    assert evidence["k_candidate"] <= evidence["n_candidate"]


@given(st.integers(0, 5000))
def test_the_series_stays_short_and_keeps_the_newest(length: int) -> None:
    series: tuple[tuple[float, ...], ...] = ()
    for index in range(length):
        series = thinned((*series, (float(index),)))
    assert len(series) <= 200
    assert not length or series[-1] == (length - 1,)
    assert list(series) == sorted(set(series))
