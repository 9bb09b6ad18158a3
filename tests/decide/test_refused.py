"""Refused requests (4xx) before the judge: by comparison with stable alone, and never by an objective."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.decide.canary import Interval, Limits, Settings, State, Verdict, judge, update
from mlops.decide.cases import WEIGHTS, Case
from mlops.decide.eprocess import log_mean_exp, log_negligible, odds_times
from mlops.decide.forecasts import nearing

SETTINGS = Settings()
METRICS = ("errors", "latency", "refused")
RATES = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
COUNTS = RATES.map(lambda t: (t[0], round(t[0] * t[2] ** 4), t[1], round(t[1] * t[3] ** 4)))


def state(*counts: int, metric: str = "refused", settings: Settings = SETTINGS) -> State:
    """Return the state after one interval."""
    return update(State(metric=metric), Interval(*counts), settings)


def case(*counts: int, grant: float = 1.0, metric: str = "refused") -> Case:
    return Case(state(*counts, metric=metric), SETTINGS, grant, False)


def verdict(*counts: int, grant: float = 1.0) -> Any:
    """Return the judgement on these refused requests, with flawless answers otherwise."""
    n_c, _, n_b, _ = counts
    states = {metric: state(n_c, 0, n_b, 0, metric=metric) for metric in ("errors", "latency")}
    return judge({**states, "refused": state(*counts)}, SETTINGS, grant=grant)


def test_refused_requests_have_the_negligible_rate_of_errors_and_no_objective() -> None:
    assert SETTINGS.limits("refused") == Limits(None, 0.001)
    assert Settings(objective_error_rate=0.02).limits("refused") == Limits(None, 0.002)
    assert Settings(negligible_error_rate=0.004).limits("refused") == Limits(None, 0.004)


def test_a_candidate_that_refuses_a_fifth_is_rolled_back_and_the_sentence_says_so() -> None:
    judgement = verdict(100, 20, 900, 0)
    assert judgement.verdict is Verdict.ROLLBACK
    assert judgement.message == (
        "The candidate is worse: 20 % refused requests (4xx) in 100 requests, stable 0 % in 900;"
        " evidence over a million, 100 was needed."
    )


def test_what_both_sides_refuse_cancels() -> None:
    judgement = verdict(10_000, 300, 10_000, 300)
    assert judgement.verdict is Verdict.PROMOTE
    assert verdict(10_000, 5000, 10_000, 5000).verdict is Verdict.PROMOTE


def test_a_breach_of_the_error_objective_by_both_sides_is_nothing_against_the_candidate() -> None:
    """A tenth of all requests refused: as errors that would be ten times the objective."""
    refused = case(5000, 500, 5000, 500)
    assert refused.against == refused.against_ratio < 0
    assert set(refused.state.breach) == {0.0}


def test_the_ratio_has_the_whole_weight() -> None:
    refused, errors = case(1000, 12, 9000, 45), case(1000, 12, 9000, 45, metric="errors")
    assert refused.weights == {"ratio": 1.0}
    assert errors.weights == WEIGHTS
    assert refused.against == pytest.approx(log_mean_exp(refused.state.worse))
    assert refused.against_ratio == errors.against_ratio
    assert refused.numbers()["weights"] == {"ratio": 1.0}
    assert errors.numbers()["weights"] == WEIGHTS


def test_evidence_far_below_everything_stays_a_number() -> None:
    refused = case(10_000, 0, 10_000, 9000)
    assert refused.against < -700
    assert refused.numbers()["against"] == 0.0


@pytest.mark.parametrize("grant", [0.5, 1.0])
def test_promotion_asks_for_the_two_sided_evidence_of_errors(grant: float) -> None:
    counts = (3000, 6, 3000, 6)
    refused, errors = case(*counts, grant=grant), case(*counts, grant=grant, metric="errors")
    rate = 0.001 if grant == 1.0 else odds_times(2.5, 0.001)
    ratio = refused.state.good[0 if grant == 1.0 else 1]
    assert refused.good == pytest.approx(log_mean_exp([ratio, log_negligible(rate, 3000, 6)]))
    assert (refused.good, refused.bar) == (errors.good, errors.bar)


def test_what_is_not_excluded_yet_is_named() -> None:
    judgement = verdict(20_000, 12, 20_000, 12)
    assert judgement.verdict is Verdict.HOLD
    assert "0.06 % refused requests (4xx) in 20,000 requests, stable 0.06 % in 20,000" in judgement.message
    assert "2 times stable's rate (and at least 0.1 % refused requests (4xx))" in judgement.message
    assert judgement.forecast.promotion > 0


def test_every_metric_weighs_the_same_in_the_evidence_against() -> None:
    apart = [case(1000, 12, 9000, 45, metric=metric) for metric in METRICS]
    judgement = judge({each.state.metric: each.state for each in apart}, SETTINGS, grant=1.0)
    mean = sum(math.exp(each.against) for each in apart) / 3
    assert judgement.evidence["against"] == pytest.approx(mean, rel=1e-5)


def test_without_a_stable_release_the_metric_is_left_out() -> None:
    errors = state(2000, 2, metric="errors")
    alone = judge({"errors": errors}, SETTINGS, grant=1.0, first=True)
    both = judge({"errors": errors, "refused": state(2000, 900)}, SETTINGS, grant=1.0, first=True)
    assert both == alone
    assert both.verdict is Verdict.PROMOTE
    with pytest.raises(ValueError, match="no metric"):
        judge({"refused": state(2000, 900)}, SETTINGS, grant=1.0, first=True)


def test_before_stable_has_answered_nothing_is_forecast() -> None:
    alone = case(100, 90, 0, 0)
    assert nearing([alone], alone.against).rollback is None
    assert judge({"refused": alone.state}, SETTINGS, grant=1.0).verdict is Verdict.HOLD


@given(n_c=st.integers(0, 10**6), n_b=st.integers(0, 10**6), grant=st.floats(0.01, 1.0))
def test_silence_is_judged_as_silence_of_errors_is(n_c: int, n_b: int, grant: float) -> None:
    """So the metric slows no rollout down in which nobody refuses anything."""
    refused, errors = (case(n_c, 0, n_b, 0, grant=grant, metric=metric) for metric in ("refused", "errors"))
    assert refused.good == errors.good
    judgements = [
        judge(states, SETTINGS, grant=grant).verdict
        for states in ({"errors": errors.state}, {"errors": errors.state, "refused": refused.state})
    ]
    assert judgements[0] is judgements[1] is not Verdict.ROLLBACK


@given(counts=COUNTS, grant=st.floats(0.01, 1.0), first=st.booleans())
def test_evidence_is_plain_json_whatever_happens(
    counts: tuple[int, int, int, int], grant: float, first: bool
) -> None:
    states = {metric: state(*counts, metric=metric) for metric in METRICS}
    judgement = judge(states, SETTINGS, grant=grant, first=first)
    assert json.loads(json.dumps(judgement.evidence, allow_nan=False)) == judgement.evidence
    assert judgement.message.endswith(".")


@given(counts=COUNTS)
def test_one_more_refused_request_never_speaks_for_the_candidate(
    counts: tuple[int, int, int, int],
) -> None:
    n_c, k_c, n_b, k_b = counts
    if k_c == n_c or n_b == 0:
        return
    less, more = case(n_c, k_c, n_b, k_b), case(n_c, k_c + 1, n_b, k_b)
    assert more.state.good[0] <= less.state.good[0]
    assert log_negligible(0.001, n_c, k_c + 1) <= log_negligible(0.001, n_c, k_c)


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 3e-4, 6e-4, 1e-3, 3e-3, 0.03, 0.3])
def test_no_rate_common_to_both_sides_blocks_for_ever(rate: float) -> None:
    """Exact expected counts, a million requests a side: at every rate one of the two kinds of evidence grows."""
    step = 50_000
    events = round(rate * step)
    running = State(metric="refused")
    for _ in range(20):
        running = update(running, Interval(step, events, step, events), SETTINGS)
    assert judge({"refused": running}, SETTINGS, grant=1.0).verdict is Verdict.PROMOTE


@pytest.mark.parametrize(("requests", "expected"), [(43_000, Verdict.HOLD), (46_000, Verdict.PROMOTE)])
def test_the_slowest_rate_takes_what_the_docstring_says(requests: int, expected: Verdict) -> None:
    events = round(0.0006 * requests)
    refused = {"refused": state(requests, events, requests, events)}
    assert judge(refused, SETTINGS, grant=1.0).verdict is expected


ROLLOUTS = 100


def play(
    refused: tuple[float, float], *, seed: int, settings: Settings, crowd: int = 1
) -> dict[Verdict, float]:
    """Return how often each verdict ended a rollout of 40 minutes at 1,000 requests, all three metrics judged.

    ``crowd`` requests in a row are mistaken together; each is sent to a side at random all the same.
    """
    random = np.random.default_rng(seed)
    ends = []
    for _ in range(ROLLOUTS):
        states, end = {metric: State(metric=metric) for metric in METRICS}, Verdict.HOLD
        for minute in range(40):
            share = 0.1 if minute < 20 else 0.5
            n_c = int(random.binomial(1000, share))
            for metric, rates in {
                "errors": (0.001,) * 2,
                "latency": (0.005,) * 2,
                "refused": refused,
            }.items():
                counts = _drawn(random, n_c, rates, crowd if metric == "refused" else 1)
                states[metric] = update(states[metric], Interval(*counts), settings)
            end = judge(states, settings, grant=1.0).verdict
            if end is not Verdict.HOLD:
                break
        ends.append(end)
    return {each: ends.count(each) / ROLLOUTS for each in Verdict}


def _drawn(
    random: np.random.Generator, n_c: int, rates: tuple[float, float], crowd: int
) -> tuple[int, int, int, int]:
    n_b = 1000 - n_c
    if crowd == 1:
        return n_c, int(random.binomial(n_c, rates[0])), n_b, int(random.binomial(n_b, rates[1]))
    mistakes = int(random.binomial(1000 // crowd, rates[0])) * crowd
    k_c = int(random.hypergeometric(n_c, n_b, mistakes))
    return n_c, k_c, n_b, mistakes - k_c


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.0006, 0.03, 0.3])
def test_alpha_holds_for_a_candidate_that_refuses_as_often_as_stable(rate: float) -> None:
    ends = play((rate, rate), seed=11, settings=Settings(beta=1e-9))
    assert ends[Verdict.ROLLBACK] <= 0.02


@pytest.mark.slow
def test_alpha_holds_when_the_mistakes_of_callers_come_in_crowds() -> None:
    """Without any calibration: whoever is mistaken, each request is sent to a side at random."""
    ends = play((0.05, 0.05), seed=12, settings=Settings(beta=1e-9), crowd=50)
    assert ends[Verdict.ROLLBACK] <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.001, 0.03])
def test_beta_holds_for_a_candidate_that_refuses_twice_as_much(rate: float) -> None:
    ends = play((2 * rate, rate), seed=13, settings=Settings(alpha=1e-9))
    assert ends[Verdict.PROMOTE] <= 0.05 + 0.03


@pytest.mark.slow
def test_a_candidate_that_refuses_a_fifth_is_always_found_and_a_healthy_one_promoted() -> None:
    assert play((0.23, 0.03), seed=14, settings=SETTINGS)[Verdict.ROLLBACK] == 1.0
    assert play((0.03, 0.03), seed=15, settings=Settings(objective_error_rate=0.05))[Verdict.PROMOTE] >= 0.95
