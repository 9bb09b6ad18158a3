"""The e-values: pinned by numbers, by their exact expectation, and beside two reference implementations."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from mlops.decide import eprocess
from mlops.decide.eprocess import (
    RATIOS,
    SHRINKS,
    SPLIT_ODDS,
    as_number,
    log_above,
    log_good_ratio,
    log_hypergeometric_moment,
    log_mean_exp,
    log_negligible,
    log_split,
    log_worse,
    odds_times,
    weighted_log_mean,
)

SMALL = [(7, 5), (3, 9), (12, 12), (1, 20)]


def test_means_of_logs_are_exact_and_do_not_overflow() -> None:
    assert log_mean_exp([0.0, math.log(3.0)]) == pytest.approx(math.log(2.0))
    assert log_mean_exp([5000.0, 5000.0]) == pytest.approx(5000.0)
    assert log_mean_exp([-math.inf, -math.inf]) == -math.inf
    assert weighted_log_mean([math.log(2.0), math.log(6.0)], [0.75, 0.25]) == pytest.approx(math.log(3.0))
    # ville.evalues.combine([2, 0.5, 9], weights=[0.2, 0.3, 0.5]) of ville 0.1.0
    logs = [math.log(each) for each in (2.0, 0.5, 9.0)]
    assert math.exp(weighted_log_mean(logs, [0.2, 0.3, 0.5])) == pytest.approx(5.05)


def test_numbers_for_people_are_finite_and_short() -> None:
    assert as_number(0.0) == 1.0
    assert as_number(math.log(123.456789)) == 123.457
    assert as_number(1e9) == pytest.approx(math.exp(600), rel=1e-5)
    assert as_number(-1e9) == 0.0


def test_odds_are_multiplied() -> None:
    assert odds_times(3.0, 0.25) == pytest.approx(0.5)
    assert odds_times(50.0, 0.3) < 1.0
    assert odds_times(1.0, 0.2) == pytest.approx(0.2)


def test_the_ratio_form_against_the_candidate_is_that_of_the_design() -> None:
    # psi^k_c / (1 - w + w psi)^k with psi = 5, w = 0.1, k_c = 3, k_b = 4
    assert log_worse(5.0, 100, 3, 900, 4) == pytest.approx(3 * math.log(5.0) - 7 * math.log(1.4))
    assert log_worse(2.0, 500, 8, 500, 4) == pytest.approx(8 * math.log(2.0) - 12 * math.log(1.5))


def test_the_ratio_form_for_the_candidate_is_that_of_the_design() -> None:
    w, r, k_c, k_b = 0.2, 2.0, 3, 20
    th = r * w / (1 + (r - 1) * w)
    expected = k_c * math.log(w / th) + k_b * math.log((1 - w) / (1 - th))
    assert log_good_ratio(r, 200, k_c, 800, k_b) == pytest.approx(expected)


@pytest.mark.parametrize("form", [lambda *c: log_worse(3.0, *c), lambda *c: log_good_ratio(2.0, *c)])
@pytest.mark.parametrize("counts", [(0, 0, 10, 4), (10, 4, 0, 0), (10, 0, 30, 0), (0, 0, 0, 0)])
def test_nothing_is_learnt_from_one_side_or_without_events(form: Any, counts: Any) -> None:
    assert form(*counts) == 0.0


def test_without_events_the_good_form_says_nothing_and_with_one_side_only_nothing_either() -> None:
    assert log_good_ratio(2.0, 10, 0, 90, 0) == 0.0
    assert log_good_ratio(2.0, 10, 3, 0, 0) == 0.0


@pytest.mark.parametrize(("n_c", "n_b"), SMALL)
@pytest.mark.parametrize("psi", [1.5, 5.0, 50.0])
def test_the_hypergeometric_moment_is_exact(n_c: int, n_b: int, psi: float) -> None:
    for k in range(1, n_c + n_b + 1):
        law = hypergeom(n_c + n_b, n_c, k)
        exact = sum(law.pmf(j) * psi**j for j in range(max(0, k - n_b), min(k, n_c) + 1))
        assert log_hypergeometric_moment(psi, k, n_c, n_b) == pytest.approx(math.log(exact), abs=1e-10)


def test_the_hypergeometric_moment_is_exact_for_large_counts() -> None:
    n_c, n_b, k, psi = 3000, 7000, 2500, 3.0
    law = hypergeom(n_c + n_b, n_c, k)
    logs = [law.logpmf(j) + j * math.log(psi) for j in range(400, 2000)]
    expected = log_mean_exp(logs) + math.log(len(logs))
    assert log_hypergeometric_moment(psi, k, n_c, n_b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n_c", "n_b"), SMALL)
@pytest.mark.parametrize("p", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("exact", [True, False])
def test_evidence_against_a_candidate_that_is_not_worse_is_at_most_one_on_average(
    n_c: int, n_b: int, p: float, exact: bool
) -> None:
    for psi in RATIOS:
        for p_c in (p, p / 2):
            assert _mean(lambda *c, psi=psi: log_worse(psi, *c, exact=exact), n_c, n_b, p_c, p) <= 1 + 1e-12


@pytest.mark.parametrize(("n_c", "n_b"), SMALL)
@pytest.mark.parametrize("r", [2.0, 5.0])
@pytest.mark.parametrize("p", [0.01, 0.15])
def test_evidence_for_a_candidate_that_is_bad_is_at_most_one_on_average(
    n_c: int, n_b: int, r: float, p: float
) -> None:
    for p_c in (r * p, min(1.0, 1.3 * r * p)):
        assert _mean(lambda *c: log_good_ratio(r, *c), n_c, n_b, p_c, p) <= 1 + 1e-12


def test_at_low_rates_the_bounds_are_nearly_reached() -> None:
    """The tests above would pass with worthless e-values; these are not: on the boundary their mean is
    nearly one."""
    assert _mean(lambda *c: log_worse(2.0, *c), 12, 12, 0.01, 0.01) > 0.995
    assert _mean(lambda *c: log_good_ratio(2.0, *c), 12, 12, 0.01, 0.005) > 0.995
    assert _mean(lambda *c: log_worse(5.0, *c), 12, 12, 0.05, 0.01) > 1.05


def _mean(form: Any, n_c: int, n_b: int, p_c: float, p_b: float) -> Any:
    """Return the exact expectation of exp(form) over two binomial counts."""
    return sum(
        binom.pmf(k_c, n_c, p_c) * binom.pmf(k_b, n_b, p_b) * math.exp(form(n_c, k_c, n_b, k_b))
        for k_c, k_b in product(range(n_c + 1), range(n_b + 1))
    )


def test_bursts_are_paid_for_by_the_size_of_the_burst() -> None:
    """Requests fail three at a time: undeflated evidence is too large, raised to 1/3 it holds again."""

    def mean(power: Any, form: Any) -> Any:
        return sum(
            binom.pmf(a, 5, 0.1) * binom.pmf(b, 5, rate) * math.exp(form(15, 3 * a, 15, 3 * b) / power)
            for a, b in product(range(6), range(6))
        )

    rate = 0.1
    against = lambda *c: log_worse(5.0, *c, exact=False)  # noqa: E731
    assert mean(1.0, against) > 1.2
    assert mean(3.0, against) <= 1.0
    rate = 0.05
    bad = lambda *c: log_good_ratio(2.0, *c)  # noqa: E731
    assert mean(3.0, bad) <= 1.0


def test_the_exact_form_serves_above_five_percent_and_is_never_smaller() -> None:
    below = (1000, 30, 1000, 70)
    above = (1000, 31, 1000, 70)
    assert log_worse(3.0, *below) == log_worse(3.0, *below, exact=False)
    assert log_worse(3.0, *above) > log_worse(3.0, *above, exact=False)
    assert log_worse(3.0, 10, 9, 10, 2) == pytest.approx(
        9 * math.log(3.0) - log_hypergeometric_moment(3.0, 11, 10, 10)
    )


def test_beyond_a_million_events_the_binomial_form_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eprocess, "EXACT_LIMIT", 50)
    assert log_worse(2.0, 100, 30, 100, 20) > log_worse(2.0, 100, 30, 100, 20, exact=False)
    assert log_worse(2.0, 100, 31, 100, 20) == log_worse(2.0, 100, 31, 100, 20, exact=False)


@given(
    psi=st.sampled_from(RATIOS),
    n=st.integers(1, 10**15),
    data=st.data(),
)
def test_huge_counts_give_finite_evidence(psi: float, n: int, data: st.DataObject) -> None:
    k_c, k_b = (data.draw(st.integers(0, n // 30)) for _ in range(2))
    for value in (
        log_worse(psi, n, k_c, n, k_b),
        log_good_ratio(2.0, n, k_c, n, k_b),
        log_above(0.02, 0.01, n, k_c),
        log_negligible(0.001, n, k_c),
        log_split(1.2, 0.1, n, n),
    ):
        assert math.isfinite(value)


def test_a_likelihood_ratio_is_one() -> None:
    expected = 7 * math.log(0.03 / 0.01) + 93 * math.log(0.97 / 0.99)
    assert log_above(0.03, 0.01, 100, 7) == pytest.approx(expected)
    for rate in (0.01, 0.005):
        assert _mean_of_one(lambda n, k: log_above(0.03, 0.01, n, k), rate) <= 1 + 1e-12
    for rate in (0.01, 0.02):
        assert _mean_of_one(lambda n, k: log_negligible(0.01, n, k), rate) <= 1 + 1e-12


def _mean_of_one(form: Any, p: float, n: int = 60) -> Any:
    return sum(binom.pmf(k, n, p) * math.exp(form(n, k)) for k in range(n + 1))


def test_a_negligible_rate_is_shown_by_silence() -> None:
    """3,700 requests without an event exclude 1 in 1,000 at 1/20 with half the weight: ln(40)/0.001."""
    assert SHRINKS == (0.001, 0.1, 0.3, 0.6)
    expected = [3700 * (math.log1p(-s * 0.001) - math.log1p(-0.001)) for s in SHRINKS]
    assert log_negligible(0.001, 3700, 0) == pytest.approx(log_mean_exp(expected))
    assert log_negligible(0.001, 5000, 0) > math.log(20) > log_negligible(0.001, 3000, 0)
    with_events = [3 * math.log(s) + 997 * (math.log1p(-s * 0.01) - math.log1p(-0.01)) for s in SHRINKS]
    assert log_negligible(0.01, 1000, 3) == pytest.approx(log_mean_exp(with_events))


def test_a_split_is_tested_by_its_odds() -> None:
    expected = 130 * math.log(2.0) - 1000 * math.log(1.1)
    assert log_split(2.0, 0.1, 130, 870) == pytest.approx(expected)
    mean = sum(binom.pmf(n, 40, 0.3) * math.exp(log_split(1.2, 0.3, n, 40 - n)) for n in range(41))
    assert mean == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("counts", "share", "reference"),
    # log posterior odds of savvi 0.1 (Lindon & Malek's authors' method), Multinomial(theta_0=(share, 1 -
    # share), k=100)
    [((1200, 800), 0.5, 36.82), ((130, 870), 0.1, 2.91), ((60, 940), 0.1, 8.16), ((1000, 1000), 0.5, -1.52)],
)
def test_the_split_test_agrees_with_the_reference_implementation(
    counts: Any, share: float | None, reference: float
) -> None:
    ours = log_mean_exp(log_split(odds, share, *counts) for odds in SPLIT_ODDS)
    assert ours == pytest.approx(reference, rel=0.3, abs=2.0)


@pytest.mark.parametrize(
    ("k_c", "k_b", "w", "reference"),
    # savvi's Multinomial on the events, theta_0 = (w, 1 - w), k = 1: two-sided, with a Dirichlet in place of
    # our seven ratios
    [(12, 45, 0.1, 0.15), (25, 45, 0.1, 13.39), (5, 45, 0.1, -2.47), (30, 20, 0.5, -1.18)],
)
def test_the_evidence_against_agrees_with_the_reference_implementation(
    k_c: int, k_b: int, w: float, reference: float
) -> None:
    n = 1_000_000
    n_c = round(w * n)
    ours = log_mean_exp(log_worse(psi, n_c, k_c, n - n_c, k_b) for psi in RATIOS)
    assert reference - 1.0 <= ours <= reference + 3.0


def test_the_objective_agrees_with_the_reference_implementation() -> None:
    # ville 0.1.0, BernoulliTest(p0=0.01, prior=(0.5, 0.5)) after 10 events in 200
    ours = log_mean_exp(log_above(odds_times(psi, 0.01), 0.01, 200, 10) for psi in RATIOS)
    assert ours == pytest.approx(5.378, abs=1.5)
