"""The running evidence: what an interval changes, what it must not change, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.decide.canary import Interval, Limits, Settings, State, judge, update
from mlops.decide.eprocess import (
    RATIOS,
    SPLIT_ODDS,
    log_above,
    log_good_ratio,
    log_split,
    log_worse,
    odds_times,
)

SETTINGS = Settings()
COUNTS = st.tuples(
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.none() | st.floats(0.01, 0.99),
).map(lambda t: Interval(t[0], round(t[0] * t[2] ** 4), t[1], round(t[1] * t[3] ** 4), share=t[4]))


def test_defaults_are_those_of_the_design() -> None:
    assert (SETTINGS.alpha, SETTINGS.beta, SETTINGS.r_bad, SETTINGS.r_gross) == (0.01, 0.05, 2.0, 5.0)
    assert SETTINGS.limits("errors") == Limits(0.01, 0.001)
    assert SETTINGS.limits("latency") == Limits(0.01, 0.01)
    assert (SETTINGS.gross_scale, SETTINGS.alpha_split, SETTINGS.deflation) == (2.5, 0.001, 1.0)


def test_limits_can_be_given_and_an_unknown_metric_is_refused() -> None:
    settings = Settings(
        objective_error_rate=0.02,
        objective_slow_rate=0.05,
        negligible_error_rate=0.004,
        negligible_slow_rate=0.03,
    )
    assert settings.limits("errors") == Limits(0.02, 0.004)
    assert settings.limits("latency") == Limits(0.05, 0.03)
    assert Settings(objective_error_rate=0.02).limits("errors") == Limits(0.02, 0.002)
    assert Settings(objective_slow_rate=0.02).limits("latency") == Limits(0.02, 0.02)
    with pytest.raises(ValueError, match="'latencies'"):
        settings.limits("latencies")
    assert Settings.from_record(json.loads(json.dumps(settings.as_record()))) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"beta": math.nan},
        {"beta": -0.1},
        {"alpha_split": 1.0},
        {"objective_error_rate": 0.0},
        {"objective_slow_rate": 1.0},
        {"r_bad": 1.0},
        {"r_bad": 6.0},
        {"r_gross": math.inf},
        {"deflation": 0.99},
        {"deflation": math.nan},
        {"deflation": math.inf},
        {"gross_scale": 0.5},
        {"negligible_error_rate": 0.02},
        {"negligible_error_rate": 0.0},
        {"negligible_slow_rate": 0.011},
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|is needed|the negligible"):
        Settings(**wrong)


@pytest.mark.parametrize(
    "counts",
    [
        (-1, 0),
        (1, -1),
        (3, 4),
        (math.nan, 0),
        (5, math.nan),
        (math.inf, 1),
        (2.5, 1),
        (5, 1, 3, 4),
        (5, 1, -1, 0),
    ],
)
def test_impossible_counts_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a whole number|more events"):
        Interval(*counts)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_an_impossible_share_is_refused(share: float | None) -> None:
    with pytest.raises(ValueError, match="share"):
        Interval(1, 0, 1, 0, share=share)


def test_borderline_counts_and_shares_are_taken() -> None:
    for taken in (Interval(3, 3, 2, 2, share=1.0), Interval(0, 0, share=0.0), Interval(3.0, 1.0)):
        assert taken.k_candidate <= taken.n_candidate


def test_one_interval_moves_every_process_by_its_formula() -> None:
    counts = (1000, 9, 9000, 40)
    state = update(State(), Interval(*counts, share=0.12), SETTINGS)
    worse = [log_worse(psi, *counts) for psi in RATIOS]
    alone = [log_above(odds_times(psi, 0.01), 0.01, 1000, 9) for psi in RATIOS]
    assert state.worse == pytest.approx(worse)
    assert state.breach == pytest.approx([min(a, b) for a, b in zip(alone, worse, strict=True)])
    assert state.good == pytest.approx((log_good_ratio(2.0, *counts), log_good_ratio(5.0, *counts)))
    assert state.split == pytest.approx([log_split(odds, 0.12, 1000, 9000) for odds in SPLIT_ODDS])
    totals = (state.n_candidate, state.k_candidate, state.n_stable, state.k_stable)
    assert (totals, state.sequence, state.share) == (counts, 1, 0.1)


def test_without_stable_the_objective_alone_decides() -> None:
    state = update(State(), Interval(1000, 50), SETTINGS)
    alone = [log_above(odds_times(psi, 0.01), 0.01, 1000, 50) for psi in RATIOS]
    assert state.breach == pytest.approx(alone)
    assert set(state.worse) == {0.0}
    assert set(state.good) == {0.0}
    assert state.share == 1.0


def test_latency_has_its_own_objective() -> None:
    settings = Settings(objective_slow_rate=0.05)
    state = update(State(metric="latency"), Interval(100, 20), settings)
    assert state.breach[0] == pytest.approx(log_above(odds_times(1.5, 0.05), 0.05, 100, 20))


def test_evidence_adds_up_over_intervals_and_weights() -> None:
    first, second = Interval(100, 3, 900, 4, share=0.1), Interval(500, 8, 500, 2, share=0.5)
    state = update(update(State(), first, SETTINGS), second, SETTINGS)
    apart = [update(State(), each, SETTINGS) for each in (first, second)]
    for name in ("worse", "breach", "good", "split"):
        sums = [a + b for a, b in zip(getattr(apart[0], name), getattr(apart[1], name), strict=True)]
        assert getattr(state, name) == pytest.approx(sums)
    assert (state.n_candidate, state.k_candidate, state.n_stable, state.k_stable) == (600, 11, 1400, 6)
    assert (state.sequence, state.share) == (2, 0.5)


def test_deflation_divides_the_evidence_and_keeps_to_the_binomial_form() -> None:
    counts = (100, 30, 100, 10)
    state = update(State(), Interval(*counts, share=0.4), Settings(deflation=4.0))
    assert state.worse[2] == pytest.approx(log_worse(3.0, *counts, exact=False) / 4.0)
    assert state.good[0] == pytest.approx(log_good_ratio(2.0, *counts) / 4.0)
    assert state.good[1] == pytest.approx(log_good_ratio(5.0, *counts) / 4.0)
    assert state.split[5] == pytest.approx(log_split(2.0, 0.4, 100, 100) / 4.0)
    alone = update(State(), Interval(100, 30), Settings(deflation=4.0))
    assert alone.breach[6] == pytest.approx(log_above(odds_times(50.0, 0.01), 0.01, 100, 30) / 4.0)


def test_the_exact_form_is_used_without_deflation() -> None:
    counts = (100, 30, 100, 10)
    state = update(State(), Interval(*counts), SETTINGS)
    assert state.worse[2] == pytest.approx(log_worse(3.0, *counts, exact=True))


@pytest.mark.parametrize("share", [None, 0.0, 1.0])
def test_the_split_is_not_tested_where_it_cannot_be(share: float | None) -> None:
    assert set(update(State(), Interval(10, 0, 90, 0, share=share), SETTINGS).split) == {0.0}


@given(interval=COUNTS)
def test_an_interval_that_is_delivered_twice_counts_once(interval: Interval) -> None:
    numbered = Interval(**{**_fields(interval), "sequence": 4})
    once = update(State(), numbered, SETTINGS)
    assert once.sequence == 4
    assert update(once, numbered, SETTINGS) is once
    with pytest.raises(ValueError, match="interval 3 comes after interval 4"):
        update(once, Interval(**{**_fields(interval), "sequence": 3}), SETTINGS)


def _fields(interval: Interval) -> Any:
    return {
        name: getattr(interval, name)
        for name in ("n_candidate", "k_candidate", "n_stable", "k_stable", "share")
    }


@given(intervals=st.lists(COUNTS, max_size=6), at=st.integers(0, 6))
def test_a_restart_changes_nothing(intervals: list[Interval], at: int) -> None:
    straight = restarted = State(metric="latency")
    for number, interval in enumerate(intervals):
        straight = update(straight, interval, SETTINGS)
        if number == at:
            restarted = State.from_record(json.loads(json.dumps(restarted.as_record(), allow_nan=False)))
        restarted = update(restarted, interval, SETTINGS)
    assert restarted == straight
    if intervals:
        assert State.from_record(json.loads(json.dumps(straight.as_record()))) == straight


@given(intervals=st.lists(COUNTS, min_size=2, max_size=5))
def test_order_does_not_matter_for_the_evidence(intervals: list[Interval]) -> None:
    def fold(parts: Any) -> Any:
        state = State()
        for each in parts:
            state = update(state, each, SETTINGS)
        return state

    forwards, backwards = fold(intervals), fold(intervals[::-1])
    for name in ("worse", "breach", "good", "split"):
        assert getattr(forwards, name) == pytest.approx(getattr(backwards, name), rel=1e-9, abs=1e-6)


def test_merged_intervals_of_one_share_give_the_same_rare_evidence() -> None:
    parts = [Interval(100, 1, 900, 5), Interval(100, 2, 900, 3)]
    apart = update(update(State(), parts[0], SETTINGS), parts[1], SETTINGS)
    merged = update(State(), Interval(200, 3, 1800, 8), SETTINGS)
    assert apart.worse == pytest.approx(merged.worse)
    assert apart.good == pytest.approx(merged.good)


@given(interval=COUNTS)
def test_nothing_happening_changes_no_evidence(interval: Interval) -> None:
    state = update(State(), interval, SETTINGS)
    after = update(state, Interval(0, 0, 0, 0, share=0.1), SETTINGS)
    assert (after.worse, after.breach, after.good, after.split) == (
        state.worse,
        state.breach,
        state.good,
        state.split,
    )
    assert after.share == state.share


@pytest.mark.parametrize("name", ["worse", "breach", "good", "split"])
def test_a_damaged_record_is_refused(name: str) -> None:
    record = State().as_record()
    record[name] = [math.nan, *record[name][1:]]
    with pytest.raises(ValueError, match="not finite"):
        State.from_record(record)


def test_an_incident_that_both_sides_share_cancels() -> None:
    """From 0.5 % to 20 % errors on both sides at once: a hundred minutes of it say nothing against the
    candidate."""
    state = State()
    for _ in range(100):
        state = update(state, Interval(100, 20, 900, 180), SETTINGS)
    assert judge({"errors": state}, SETTINGS, grant=1.0).evidence["against"] < 1.0
