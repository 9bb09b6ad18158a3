"""The judge: which verdict, on which numbers, in which words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.decide.canary import Interval, Nearing, Settings, State, Verdict, judge, update
from mlops.decide.cases import WEIGHTS, Case
from mlops.decide.eprocess import log_mean_exp, log_negligible, odds_times
from mlops.decide.forecasts import nearing, rates

SETTINGS = Settings()


def state(*counts: Any, share: float | None = None, metric: str = "errors", settings: Any = SETTINGS) -> Any:
    """Return the state after one interval."""
    return update(State(metric=metric), Interval(*counts, share=share), settings)


def verdict(
    *counts: Any,
    grant: float = 1.0,
    first: bool = False,
    share: float | None = None,
    settings: Any = SETTINGS,
) -> Any:
    return judge({"errors": state(*counts, share=share)}, settings, grant=grant, first=first)


def test_a_healthy_candidate_is_promoted() -> None:
    judgement = verdict(10_000, 50, 10_000, 50)
    assert judgement.verdict is Verdict.PROMOTE
    assert judgement.message == (
        "The candidate may have 100% of the traffic: 0.5 % errors in 10,000 requests, stable 0.5 % in 10,000;"
        " 2 times stable's rate (and at least 0.1 % errors) is excluded."
    )


def test_a_bad_candidate_is_rolled_back() -> None:
    judgement = verdict(1000, 50, 9000, 45)
    assert judgement.verdict is Verdict.ROLLBACK
    assert judgement.message == (
        "The candidate is worse: 5 % errors in 1,000 requests, stable 0.5 % in 9,000;"
        " evidence over a million, 100 was needed."
    )


def test_little_data_is_a_hold_with_a_forecast() -> None:
    judgement = verdict(1000, 5, 9000, 45)
    assert judgement.verdict is Verdict.HOLD
    assert judgement.message.startswith(
        "Not decided yet: 0.5 % errors in 1,000 requests, stable 0.5 % in 9,000;"
        " evidence against 2 times stable's rate (and at least 0.1 % errors) is "
    )
    assert judgement.message.endswith("more candidate requests.")
    assert judgement.forecast.promotion > 0


def test_less_is_asked_for_a_partial_share() -> None:
    counts = (1000, 5, 9000, 45)
    assert verdict(*counts, grant=0.5).verdict is Verdict.PROMOTE
    assert verdict(*counts, grant=1.0).verdict is Verdict.HOLD
    evidence = verdict(*counts, grant=0.5).evidence["metrics"]["errors"]
    assert evidence["excludes_ratio"] == 5.0
    assert evidence["excludes_rate"] == odds_times(2.5, 0.001)
    full = verdict(*counts, grant=1.0).evidence["metrics"]["errors"]
    assert (full["excludes_ratio"], full["excludes_rate"]) == (2.0, 0.001)


def test_a_candidate_without_errors_is_promoted_on_silence_of_both_sides() -> None:
    """No errors anywhere: only the absolute process can speak."""
    assert verdict(6000, 0, 6000, 0).verdict is Verdict.PROMOTE
    assert verdict(3000, 0, 3000, 0).verdict is Verdict.HOLD


@pytest.mark.parametrize("first", [True, False])
def test_without_requests_of_the_candidate_nothing_is_decided(first: bool) -> None:
    judgement = verdict(0, 0, 9000, 4, first=first)
    assert judgement.verdict is Verdict.HOLD
    assert "not answered a request yet" in judgement.message
    assert judgement.message.startswith("Nothing is known of the candidate")
    assert judgement.forecast == Nearing(None, None)


def test_without_requests_of_stable_nothing_is_promoted() -> None:
    judgement = verdict(100_000, 0, 0, 0)
    assert judgement.verdict is Verdict.HOLD
    assert judgement.message.startswith("Nothing can be compared: stable")


def test_a_first_release_is_held_to_the_objective() -> None:
    assert verdict(2000, 2, first=True).verdict is Verdict.PROMOTE
    assert verdict(2000, 20, first=True).verdict is Verdict.HOLD
    assert verdict(2000, 80, first=True).verdict is Verdict.ROLLBACK
    assert verdict(200, 1, first=True).verdict is Verdict.HOLD
    assert "; a rate of 1 % errors or more is excluded." in verdict(2000, 2, first=True).message
    assert verdict(2000, 2, first=True).message.startswith(
        "The candidate may have 100% of the traffic: 0.1 % errors in 2,000 requests;"
    )


def test_a_first_release_ignores_the_ratio_to_nothing() -> None:
    case = Case(state(2000, 2), SETTINGS, 1.0, True)
    assert case.good == pytest.approx(log_negligible(0.01, 2000, 2))
    partial = Case(state(2000, 2), SETTINGS, 0.5, True)
    assert partial.good == pytest.approx(log_negligible(odds_times(2.5, 0.01), 2000, 2))


def test_every_metric_must_be_good() -> None:
    good = state(10_000, 50, 10_000, 50)
    slow = state(1000, 30, 1000, 30, metric="latency")
    assert judge({"errors": good}, SETTINGS, grant=1.0).verdict is Verdict.PROMOTE
    judgement = judge({"errors": good, "latency": slow}, SETTINGS, grant=1.0)
    assert judgement.verdict is Verdict.HOLD
    assert "slow answers" in judgement.message


def test_one_bad_metric_rolls_back_and_is_named() -> None:
    good = state(10_000, 50, 10_000, 50)
    slow = state(10_000, 900, 10_000, 100, metric="latency")
    judgement = judge({"errors": good, "latency": slow}, SETTINGS, grant=1.0)
    assert judgement.verdict is Verdict.ROLLBACK
    assert "9 % slow answers" in judgement.message


def test_the_evidence_against_is_the_mean_over_metrics() -> None:
    one = state(1000, 9, 9000, 45)
    other = state(1000, 5, 9000, 45, metric="latency")
    apart = [Case(each, SETTINGS, 1.0, False).against for each in (one, other)]
    judgement = judge({"errors": one, "latency": other}, SETTINGS, grant=1.0)
    assert judgement.evidence["against"] == pytest.approx(math.exp(log_mean_exp(apart)), rel=1e-5)


def test_the_weights_are_fixed() -> None:
    assert WEIGHTS == {"ratio": 0.9, "objective": 0.1}
    case = Case(state(1000, 12, 9000, 45), SETTINGS, 1.0, False)
    mean = 0.9 * math.exp(case.against_ratio) + 0.1 * math.exp(case.against_objective)
    assert math.exp(case.against) == pytest.approx(mean)
    assert case.against_ratio == log_mean_exp(case.state.worse)
    assert case.against_objective == log_mean_exp(case.state.breach)


def test_good_enough_is_the_mean_of_ratio_and_rate() -> None:
    case = Case(state(3000, 6, 3000, 6), SETTINGS, 1.0, False)
    expected = log_mean_exp([case.state.good[0], log_negligible(0.001, 3000, 6)])
    assert case.good == pytest.approx(expected)
    deflated = Case(state(3000, 6, 3000, 6), Settings(deflation=3.0), 0.5, False)
    rate = odds_times(2.5, 0.001)
    assert deflated.good == pytest.approx(
        log_mean_exp([deflated.state.good[1], log_negligible(rate, 1000, 2)])
    )


def test_a_wrong_split_holds_what_would_be_promoted() -> None:
    counts = (20_000, 100, 20_000, 100)
    assert verdict(*counts, share=0.5).verdict is Verdict.PROMOTE
    judgement = verdict(*counts, share=0.3)
    assert judgement.verdict is Verdict.HOLD
    assert "not split as intended" in judgement.message
    assert judgement.evidence["split"] > judgement.evidence["split_limit"] == 1000.0


def test_a_wrong_split_does_not_keep_a_bad_candidate() -> None:
    assert verdict(1000, 50, 9000, 45, share=0.5).verdict is Verdict.ROLLBACK


def test_a_small_imbalance_at_a_huge_count_is_nobodys_concern() -> None:
    assert verdict(1_010_000, 5050, 1_000_000, 5000, share=0.5).verdict is Verdict.PROMOTE


@pytest.mark.parametrize(("alpha", "expected"), [(0.011, Verdict.ROLLBACK), (0.009, Verdict.HOLD)])
def test_rollback_begins_at_one_over_alpha(alpha: float, expected: Any) -> None:
    exact = State(worse=(math.log(100 / 0.9),) * 7, breach=(-50.0,) * 7, n_candidate=9, n_stable=9)
    assert judge({"errors": exact}, Settings(alpha=alpha), grant=1.0).verdict is expected


@pytest.mark.parametrize(("beta", "expected"), [(0.051, Verdict.PROMOTE), (0.049, Verdict.HOLD)])
def test_promotion_begins_at_one_over_beta(beta: float, expected: Any) -> None:
    exact = State(good=(math.log(2 * 20), -50.0), n_candidate=10, n_stable=10, k_candidate=9)
    assert judge({"errors": exact}, Settings(beta=beta), grant=1.0).verdict is expected


def test_at_the_limits_the_verdict_falls() -> None:
    back = State(worse=(5.0,) * 7, breach=(5.0,) * 7, n_candidate=1, n_stable=1)
    assert (
        judge({"e": back}, Settings(alpha=math.exp(-5.0) * (1 + 1e-12)), grant=1.0).verdict
        is Verdict.ROLLBACK
    )
    split = State(split=(7.0,) * 6, good=(90.0, 90.0), n_candidate=1, n_stable=1)
    held = judge({"e": split}, Settings(alpha_split=math.exp(-7.0) * (1 + 1e-12)), grant=1.0)
    assert "split" in held.message
    free = judge({"e": split}, Settings(alpha_split=math.exp(-7.0) * (1 - 1e-9)), grant=1.0)
    assert free.verdict is Verdict.PROMOTE


@pytest.mark.parametrize("grant", [0.0, -0.1, 1.1, math.nan])
def test_an_impossible_grant_is_refused(grant: float) -> None:
    with pytest.raises(ValueError, match="grant"):
        verdict(10, 0, 10, 0, grant=grant)


def test_no_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric"):
        judge({}, SETTINGS, grant=1.0)


@given(
    n=st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    grant=st.floats(0.01, 1.0),
    first=st.booleans(),
)
def test_evidence_is_plain_json_whatever_happens(
    n: int, share: float | None, grant: float, first: bool
) -> None:
    counts = (n[0], round(n[0] * share[0] ** 5), n[1], round(n[1] * share[1] ** 5))
    judgement = judge({"errors": state(*counts, share=0.5)}, SETTINGS, grant=grant, first=first)
    assert json.loads(json.dumps(judgement.evidence, allow_nan=False)) == judgement.evidence
    assert judgement.message.endswith(".")


@given(n=st.integers(0, 10**6))
def test_silence_never_rolls_back_and_one_side_never_promotes(n: int) -> None:
    assert verdict(n, 0, n, 0).verdict is not Verdict.ROLLBACK
    assert verdict(n, 0, 0, 0).verdict is Verdict.HOLD
    assert verdict(0, 0, n, 0).verdict is Verdict.HOLD


def test_all_numbers_are_in_the_evidence() -> None:
    evidence = verdict(1000, 9, 9000, 45, share=0.1).evidence
    assert evidence["against_needed"] == 100.0
    assert evidence["good_needed"] == 20.0
    assert (evidence["grant"], evidence["first"], evidence["weights"]) == (1.0, False, WEIGHTS)
    metric = evidence["metrics"]["errors"]
    assert metric["candidate"] == {"requests": 1000, "events": 9}
    assert metric["stable"] == {"requests": 9000, "events": 45}
    case = Case(state(1000, 9, 9000, 45), SETTINGS, 1.0, False)
    for name in ("against", "against_ratio", "against_objective", "good"):
        assert metric[name] == pytest.approx(math.exp(getattr(case, name)), rel=1e-5)
    assert set(evidence["forecast"]) == {"promotion_requests", "rollback_requests"}


def test_rates_are_shrunk_towards_each_other_by_one_event() -> None:
    shrunk = rates(State(n_candidate=100, k_candidate=0, n_stable=899, k_stable=9))
    common = 9.5 / 1000
    assert shrunk == pytest.approx((1 / (100 + 1 / common), 10 / (899 + 1 / common)))


def test_the_forecast_is_the_missing_evidence_over_its_growth() -> None:
    case = Case(state(10_000, 50, 90_000, 450), SETTINGS, 1.0, False)
    p_c, p_b = rates(case.state)
    ratio = (p_c + 9 * p_b) * math.log1p(0.1) - p_c * math.log(2.0)
    near = nearing([case], case.against)
    assert near.promotion == math.ceil(max(0.0, math.log(20) - case.good) / ratio)
    assert near.rollback is None


def test_the_forecast_of_a_rollback_takes_the_best_bet() -> None:
    case = Case(state(100, 2, 900, 4), SETTINGS, 1.0, False)
    p_c, p_b = rates(case.state)
    bets = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
    growth = max(p_c * math.log(psi) - (p_c + 9 * p_b) * math.log1p(0.1 * (psi - 1)) for psi in bets)
    assert nearing([case], case.against).rollback == math.ceil((math.log(100) - case.against) / growth)


def test_the_forecast_of_a_first_release_goes_by_the_objective() -> None:
    case = Case(state(300, 6), SETTINGS, 1.0, True)
    p, _ = rates(case.state)
    growth = max(
        p * math.log(q / 0.01) + (1 - p) * (math.log1p(-q) - math.log1p(-0.01))
        for q in (odds_times(psi, 0.01) for psi in (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0))
    )
    near = nearing([case], case.against)
    assert near.promotion is None
    assert near.rollback == math.ceil((math.log(100) - case.against) / growth)
    good = Case(state(300, 1), SETTINGS, 1.0, True)
    p, _ = rates(good.state)
    growth = max(
        p * math.log(s) + (1 - p) * (math.log1p(-s * 0.01) - math.log1p(-0.01))
        for s in (0.001, 0.1, 0.3, 0.6)
    )
    assert nearing([good], good.against).promotion == math.ceil((math.log(20) - good.good) / growth)


def test_deflation_makes_everything_take_longer() -> None:
    plain = Case(state(1000, 5, 9000, 45), SETTINGS, 1.0, False)
    slow_settings = Settings(deflation=2.0)
    slow = Case(state(1000, 5, 9000, 45), slow_settings, 1.0, False)
    ratio = nearing([slow], slow.against).promotion / nearing([plain], plain.against).promotion
    assert ratio == pytest.approx((math.log(20) - slow.good) / (math.log(20) - plain.good) * 2, rel=0.01)
    bad, bad_slow = (Case(state(100, 2, 900, 4), each, 1.0, False) for each in (SETTINGS, slow_settings))
    ratio = nearing([bad_slow], 0.0).rollback / nearing([bad], 0.0).rollback
    assert ratio == pytest.approx(2.0, rel=0.05)


def test_promotion_waits_for_the_slowest_metric_and_rollback_for_the_fastest() -> None:
    one = Case(state(1000, 5, 9000, 45), SETTINGS, 1.0, False)
    other = Case(state(1000, 2, 9000, 18), SETTINGS, 1.0, False)
    apart = [nearing([each], 0.0).promotion for each in (one, other)]
    assert nearing([one, other], 0.0).promotion == max(apart)
    bad = Case(state(100, 3, 900, 4), SETTINGS, 1.0, False)
    worse = Case(state(100, 6, 900, 4), SETTINGS, 1.0, False)
    apart = [nearing([each], 0.0).rollback for each in (bad, worse)]
    assert nearing([bad, worse], 0.0).rollback == min(apart)
    assert nearing([one, worse], 0.0).promotion is None


def test_the_forecast_is_about_right() -> None:
    """What the formula says at 1,000 requests is what it takes when the rates stay."""
    case = Case(state(1000, 5, 9000, 45), SETTINGS, 1.0, False)
    said = nearing([case], case.against).promotion
    running, requests = case.state, 0
    while judge({"errors": running}, SETTINGS, grant=1.0).verdict is Verdict.HOLD:
        running = update(running, Interval(200, 1, 1800, 9), SETTINGS)
        requests += 200
    assert said == pytest.approx(requests, rel=0.25)


def test_a_stalemate_is_said() -> None:
    """The candidate's rate sits where neither process grows."""
    judgement = verdict(1000, 8, 9000, 45)
    stalled = judge({"errors": State(n_candidate=10, k_candidate=10, n_stable=0)}, SETTINGS, grant=1.0)
    assert judgement.verdict is Verdict.HOLD
    assert stalled.verdict is Verdict.HOLD
    from mlops.decide.sentences import undecided

    case = Case(state(1000, 8, 9000, 45), SETTINGS, 1.0, False)
    assert undecided(case, Nearing(None, None)).endswith("at the present rates it will not be decided.")
    assert "it is promoted after about 1,200 more" in undecided(case, Nearing(1200, None))
    assert "it is rolled back after about 7 more" in undecided(case, Nearing(1200, 7))
    assert "it is rolled back after about 9 more" in undecided(case, Nearing(None, 9))


def test_evidence_in_words() -> None:
    from mlops.decide.sentences import worse

    case = Case(state(1000, 8, 9000, 45), SETTINGS, 1.0, False)
    assert "evidence 1.2e+02, 100 was needed" in worse(case, math.log(123))
    assert "evidence over a million, 100" in worse(case, math.log(1e6) + 1e-9)
    assert "evidence 1e+06" in worse(case, math.log(1e6) - 1e-6)


def test_the_judge_is_imported_without_numeric_libraries() -> None:
    """`mlops rollout advance` and `mlops status` import it, and must start at once."""
    code = "import mlops.decide.canary, sys; print({'numpy', 'scipy', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
