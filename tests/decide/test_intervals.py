"""Intervals for differences: against naive implementations, against published numbers, and by their coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mlops.decide import intervals
from mlops.decide.intervals import Estimate, difference, probability, quantile
from mlops.decide.metrics import METRICS, Scored, auc, evaluate


def two_models(n: int, seed: int = 0, noise: Any = (1.0, 1.1)) -> Any:
    """Return truth and the answers of two classifiers that see the same signal with different noise."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.4).astype(int)
    signal = truth + 0.3 * random.normal(size=n)
    return truth, *(_classifier(signal + each * random.normal(size=n)) for each in noise)


def _classifier(raw: Any) -> Any:
    positive = 1 / (1 + np.exp(-2 * (raw - 0.5)))
    return Scored((positive >= 0.5).astype(int), np.column_stack([1 - positive, positive]))


def naive_delong(truth: Any, first: bool, second: Any) -> Any:
    """Return the difference of two AUCs and its variance from the definition, pair by pair."""
    positive, negative = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)

    def kernel(scores: Any) -> Any:
        gaps = scores[positive][:, None] - scores[negative][None, :]
        return (gaps > 0) + 0.5 * (gaps == 0)

    change = kernel(first) - kernel(second)
    v10, v01 = change.mean(axis=1), change.mean(axis=0)
    return change.mean(), v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)


@pytest.mark.parametrize("levels", [3, 1000])
def test_delong_is_the_definition_also_with_ties(levels: Any) -> None:
    truth, one, two = two_models(80)
    one, two = (Scored(m.prediction, np.round(m.scores * levels) / levels) for m in (one, two))
    gap, variance = naive_delong(truth, one.scores[:, 1], two.scores[:, 1])
    estimate = difference(METRICS["auc"], truth, one, two, alpha=0.05)
    assert estimate.difference == pytest.approx(gap)
    assert estimate.standard_error == pytest.approx(np.sqrt(variance))
    assert estimate.upper == pytest.approx(gap + 1.959964 * np.sqrt(variance), abs=1e-6)
    assert estimate.lower == pytest.approx(gap - 1.959964 * np.sqrt(variance), abs=1e-6)
    assert estimate.method == "DeLong"
    assert gap == pytest.approx(auc(truth, one.scores[:, 1]) - auc(truth, two.scores[:, 1]))


def test_delong_of_one_model_is_the_definition() -> None:
    truth, one, _ = two_models(90, seed=3)
    gap, variance = naive_delong(truth, one.scores[:, 1], np.zeros(90))
    estimate = difference(METRICS["auc"], truth, one, None, alpha=0.1)
    assert estimate.difference == pytest.approx(gap + 0.5)
    assert estimate.standard_error == pytest.approx(np.sqrt(variance))
    assert estimate.upper - estimate.lower == pytest.approx(2 * 1.644854 * np.sqrt(variance), rel=1e-5)


def test_hanley_and_mcneil_agree_roughly_with_delong() -> None:
    """Hanley & McNeil (1982) give the error of one AUC from its value alone: an independent formula for the size."""
    truth, one, _ = two_models(2000, seed=5)
    estimate = difference(METRICS["auc"], truth, one, None, alpha=0.05)
    a, m = estimate.difference, int(truth.sum())
    n = len(truth) - m
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n))
    assert estimate.standard_error == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0]])
def test_auc_of_one_class_has_no_interval(truth: Any) -> None:
    scored = Scored(np.zeros(3), np.full((3, 2), 0.5))
    estimate = difference(METRICS["auc"], np.array(truth), scored, None, alpha=0.05)
    assert np.isnan(estimate.difference)
    assert (estimate.lower, estimate.upper, estimate.standard_error) == (-np.inf, np.inf, np.inf)


def test_a_single_positive_row_says_nothing() -> None:
    scored = Scored(np.zeros(4), np.column_stack([1 - np.linspace(0, 1, 4), np.linspace(0, 1, 4)]))
    estimate = difference(METRICS["auc"], np.array([0, 1, 0, 0]), scored, None, alpha=0.05)
    assert estimate.standard_error == np.inf


def test_auc_needs_scores() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        difference(METRICS["auc"], np.array([0, 1]), Scored(np.zeros(2)), None, alpha=0.05)


@pytest.mark.parametrize("name", ["log_loss", "brier"])
def test_mean_losses_are_a_paired_t_test(name: str) -> None:
    truth, one, two = two_models(150)
    rows = METRICS[name].rows(truth, one)[:, 0] - METRICS[name].rows(truth, two)[:, 0]
    expected = stats.ttest_1samp(rows, 0.0).confidence_interval(0.9)
    estimate = difference(METRICS[name], truth, one, two, alpha=0.1)
    assert (estimate.lower, estimate.upper) == pytest.approx((expected.low, expected.high))
    assert estimate.difference == pytest.approx(
        evaluate(METRICS[name], truth, one) - evaluate(METRICS[name], truth, two)
    )
    assert (estimate.method, estimate.degrees) == ("paired t", 149)


def test_a_mean_of_one_model_is_a_t_interval() -> None:
    truth = np.zeros(20)
    scored = Scored(np.arange(20.0))
    expected = stats.ttest_1samp(np.arange(20.0), 0.0).confidence_interval(0.95)
    estimate = difference(METRICS["mae"], truth, scored, None, alpha=0.05)
    assert (estimate.lower, estimate.upper) == pytest.approx((expected.low, expected.high))


def test_one_row_has_no_interval() -> None:
    estimate = difference(METRICS["mae"], np.zeros(1), Scored(np.ones(1)), Scored(np.zeros(1)), alpha=0.05)
    assert estimate.standard_error == np.inf


def test_accuracy_of_two_models_is_agresti_and_min() -> None:
    """Cells of 40 rows: 9 won, 3 lost; (9.5 - 3.5) / 42 and its error by Agresti & Min 2005, section 3."""
    truth = np.ones(40, dtype=int)
    one, two = np.ones(40, dtype=int), np.ones(40, dtype=int)
    two[:9] = 0
    one[9:12] = 0
    estimate = difference(METRICS["accuracy"], truth, Scored(one), Scored(two), alpha=0.05)
    error = np.sqrt(13 - 36 / 42) / 42
    assert estimate.difference == pytest.approx(6 / 40)
    assert estimate.standard_error == pytest.approx(error)
    assert estimate.lower == pytest.approx(6 / 42 - 1.959964 * error, abs=1e-6)
    assert estimate.upper == pytest.approx(6 / 42 + 1.959964 * error, abs=1e-6)
    assert estimate.method == "adjusted Wald"


def test_models_that_never_differ_are_not_certain_to_be_equal() -> None:
    same = Scored(np.ones(50, dtype=int))
    estimate = difference(METRICS["accuracy"], np.ones(50, dtype=int), same, same, alpha=0.05)
    assert estimate.lower < -0.03 < 0.03 < estimate.upper


def test_accuracy_of_one_model_is_agresti_and_coull() -> None:
    hits = Scored(np.r_[np.ones(9, dtype=int), np.zeros(3, dtype=int)])
    estimate = difference(METRICS["accuracy"], np.ones(12, dtype=int), hits, None, alpha=0.05)
    z2 = 1.959964**2
    share = (9 + z2 / 2) / (12 + z2)
    half = 1.959964 * np.sqrt(share * (1 - share) / (12 + z2))
    assert estimate.difference == 0.75
    assert (estimate.lower, estimate.upper) == pytest.approx((share - half, share + half), abs=1e-6)
    assert estimate.standard_error == pytest.approx(half / 1.959964, abs=1e-6)
    assert estimate.method == "adjusted Wald"


def numbers(n: int, seed: int = 0, noise: Any = (1.0, 1.1)) -> Any:
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    shared = random.normal(size=n)
    return truth, *(Scored(truth + shared + each * random.normal(size=n)) for each in noise)


def test_bca_is_that_of_scipy() -> None:
    truth, one, two = numbers(120)
    rows = [METRICS["rmse"].rows(truth, each)[:, 0] for each in (one, two)]

    def statistic(a: Any, b: Any, axis: Any = -1) -> Any:
        return np.sqrt(a.mean(axis=axis)) - np.sqrt(b.mean(axis=axis))

    expected = stats.bootstrap(
        rows, statistic, paired=True, n_resamples=20_000, confidence_level=0.95, method="BCa", rng=1
    ).confidence_interval
    estimate = difference(METRICS["rmse"], truth, one, two, alpha=0.05)
    width = expected.high - expected.low
    assert estimate.method == "BCa bootstrap"
    assert (estimate.lower, estimate.upper) == pytest.approx((expected.low, expected.high), abs=0.06 * width)
    assert estimate.difference == pytest.approx(statistic(*rows))


def test_bca_shifts_with_bias_and_acceleration() -> None:
    """A skewed statistic: the interval of scipy's percentile method would miss these ends."""
    random = np.random.default_rng(2)
    truth, skewed = np.zeros(60), Scored(random.lognormal(sigma=1.0, size=60))
    rows = METRICS["rmse"].rows(truth, skewed)[:, 0]
    found = {
        method: stats.bootstrap(
            (rows,), lambda a, axis=-1: np.sqrt(a.mean(axis=axis)), n_resamples=20_000, method=method, rng=1
        ).confidence_interval
        for method in ("BCa", "percentile")
    }
    estimate = difference(METRICS["rmse"], truth, skewed, None, alpha=0.05)
    assert abs(estimate.upper - found["BCa"].high) < 0.35 * abs(found["percentile"].high - found["BCa"].high)
    assert abs(estimate.lower - found["BCa"].low) < 0.35 * abs(found["percentile"].low - found["BCa"].low)


def test_the_bootstrap_is_seeded() -> None:
    truth, one, two = numbers(100)
    run = lambda seed: difference(METRICS["rmse"], truth, one, two, alpha=0.05, seed=seed)  # noqa: E731
    assert run(1) == run(1)
    assert run(1).lower != run(2).lower


def test_the_jackknife_is_the_definition() -> None:
    truth, one, two = numbers(40)
    rows = [METRICS["rmse"].rows(truth, each)[:, 0] for each in (one, two)]
    left_out = np.array(
        [np.diff([np.sqrt(np.delete(r, i).mean()) for r in rows[::-1]])[0] for i in range(40)]
    )
    error = np.sqrt(39 / 40 * ((left_out - left_out.mean()) ** 2).sum())
    estimate = difference(METRICS["rmse"], truth, one, two, alpha=0.05, analytic=True)
    assert estimate.standard_error == pytest.approx(error)
    half = stats.t.ppf(0.975, 39) * error
    assert (estimate.lower, estimate.upper) == pytest.approx(
        (estimate.difference - half, estimate.difference + half)
    )
    assert estimate.method == "jackknife"


def test_f1_is_resampled_by_cells_as_by_rows() -> None:
    truth, one, two = two_models(400)
    estimate = difference(METRICS["f1"], truth, one, two, alpha=0.05)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(3000):
        rows = random.integers(0, 400, 400)
        values = [evaluate(METRICS["f1"], truth[rows], each.take(rows)) for each in (one, two)]
        draws.append(values[0] - values[1])
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (estimate.lower, estimate.upper) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert estimate.standard_error == pytest.approx(np.std(draws), rel=0.1)
    assert estimate.method == "BCa bootstrap"


def test_f1_of_several_classes_is_resampled_too() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 500)
    one, two = (Scored(np.where(random.random(500) < p, truth, 0), None, 3) for p in (0.9, 0.7))
    estimate = difference(METRICS["f1"], truth, one, two, alpha=0.05)
    gap = evaluate(METRICS["f1"], truth, one) - evaluate(METRICS["f1"], truth, two)
    assert estimate.difference == pytest.approx(gap)
    assert 0 < estimate.lower < gap < estimate.upper


@pytest.mark.parametrize(
    ("rows", "alpha", "method"),
    [
        (200, 0.05, "BCa bootstrap"),
        (200, 0.01, "BCa bootstrap"),
        (200, 0.009, "jackknife"),
        (301, 0.05, "jackknife"),
    ],
)
def test_where_the_bootstrap_ends(
    rows: int, alpha: float, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "BOOTSTRAP_ROWS", 300)
    truth, one, two = numbers(rows)
    assert difference(METRICS["rmse"], truth, one, two, alpha=alpha).method == method
    assert intervals.REPETITIONS == 2000


def test_equal_models_have_an_interval_of_no_width() -> None:
    truth, one, _ = numbers(300)
    estimate = difference(METRICS["rmse"], truth, one, one, alpha=0.05)
    assert (estimate.lower, estimate.difference, estimate.upper) == (0.0, 0.0, 0.0)


def test_a_constant_prediction_has_an_interval() -> None:
    truth, one, _ = two_models(300)
    constant = Scored(np.zeros(300, dtype=int), np.tile([0.6, 0.4], (300, 1)))
    estimate = difference(METRICS["auc"], truth, one, constant, alpha=0.05)
    assert 0 < estimate.lower < estimate.upper < 0.5
    assert difference(METRICS["f1"], truth, one, constant, alpha=0.05).difference > 0


def test_draws_that_come_in_parts_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 7 * 500)
    truth, one, two = numbers(500)
    rows = [METRICS["rmse"].rows(truth, each) for each in (one, two)]
    draws = intervals._Resampled(METRICS["rmse"], *rows)._draws(3)
    assert draws.shape == (2000,)
    assert len(np.unique(draws)) == 2000
    normal = difference(METRICS["rmse"], truth, one, two, alpha=0.05, analytic=True)
    assert draws.std() == pytest.approx(normal.standard_error, rel=0.1)


COVERAGE = [
    (name, n) for name in ("auc", "log_loss", "brier", "accuracy", "f1", "mae", "rmse") for n in (200, 1000)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), COVERAGE)
def test_an_interval_covers_as_often_as_it_says(name: str, n: int) -> None:
    """300 samples; the share of intervals with the true difference lies in the 99.9 % band around 95 %."""
    make = numbers if METRICS[name].task == "regression" else two_models
    truth, one, two = make(400_000, seed=77)
    metric = METRICS[name]
    true = evaluate(metric, truth, one) - evaluate(metric, truth, two)
    hits = 0
    for seed in range(300):
        rows = np.arange(seed * n, (seed + 1) * n)
        estimate = difference(
            metric, truth[rows], one.take(rows), two.take(rows), alpha=0.05, analytic=n > 500
        )
        hits += estimate.lower <= true <= estimate.upper
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= hits <= min(high, 300)


def test_quantiles_and_probabilities() -> None:
    assert quantile(0.975) == pytest.approx(1.959964, abs=1e-6)
    assert quantile(0.975, 10) == pytest.approx(2.228139, abs=1e-6)
    assert probability(1.959964) == pytest.approx(0.975, abs=1e-6)
    assert probability(2.228139, 10) == pytest.approx(0.975, abs=1e-6)
    assert Estimate(0, 0, 0, 0, "").degrees == np.inf
