"""Intervals for the difference of a metric between two models on the same rows (or for one model alone).

Every interval is two-sided with coverage 1 - alpha. A row is the unit of resampling: rows are taken as
independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.decide.metrics import Floats, Metric, Scored, Truth, midranks

REPETITIONS = 2000
BOOTSTRAP_ROWS = 5000
"""Up to so many distinct rows the bootstrap is used; beyond, the analytic interval is as good and much
faster."""
_DRAWN_AT_ONCE = 500_000
_TAIL = 10
"""Bootstrap values that each tail must hold for its quantile to mean something."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference (candidate minus champion, in the metric's own direction), its standard error, and its
    interval."""

    difference: float
    standard_error: float
    lower: float
    upper: float
    method: str
    degrees: float = float("inf")


def difference(
    metric: Metric,
    truth: Truth,
    candidate: Scored,
    champion: Scored | None,
    *,
    alpha: float,
    analytic: bool = False,
    seed: int = 0,
) -> Estimate:
    """Estimate how much the metric of the candidate exceeds that of the champion; without champion, its own
    value.

    AUC: DeLong, DeLong & Clarke-Pearson 1988. Accuracy: adjusted Wald, Agresti & Min 2005. Other means:
    paired t. F1 and RMSE, which are functions of means: BCa bootstrap (Efron 1987), or the jackknife's
    normal interval when ``analytic``, above 5,000 distinct rows, or at a level so small that the bootstrap
    has no values out there.
    """
    if metric.rows is None or metric.value is None:
        return _delong(truth, candidate, champion, alpha)
    rows = metric.rows(truth, candidate)
    others = None if champion is None else metric.rows(truth, champion)
    if metric.name == "accuracy":
        return _adjusted_wald(rows[:, 0], None if others is None else others[:, 0], alpha)
    if metric.additive:
        return _paired_t(rows[:, 0] if others is None else rows[:, 0] - others[:, 0], alpha)
    return _Resampled(metric, rows, others).interval(alpha, analytic=analytic, seed=seed)


def quantile(probability: float, degrees: float = float("inf")) -> float:
    """Return the quantile of Student's t distribution; the normal one for infinitely many degrees of
    freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if np.isinf(degrees) else stdtrit(degrees, probability))


def probability(statistic: float, degrees: float = float("inf")) -> float:
    """Return the distribution function of Student's t (normal for infinitely many degrees of freedom)."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(statistic) if np.isinf(degrees) else stdtr(degrees, statistic))


def _symmetric(
    value: float, error: float, alpha: float, method: str, degrees: float = float("inf")
) -> Estimate:
    half = quantile(1.0 - alpha / 2.0, degrees) * error
    return Estimate(value, error, value - half, value + half, method, degrees)


def _paired_t(differences: Floats, alpha: float) -> Estimate:
    n = len(differences)
    error = float(differences.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return _symmetric(float(differences.mean()), error, alpha, "paired t", max(n - 1, 1))


def _adjusted_wald(hits: Floats, others: Floats | None, alpha: float) -> Estimate:
    """Add half a row to each cell of the paired table, so that two models that never differ are not taken
    for identical."""
    n = len(hits)
    if others is None:
        spread = quantile(1.0 - alpha / 2.0) ** 2
        share = (hits.sum() + spread / 2.0) / (n + spread)
        error = float(np.sqrt(share * (1.0 - share) / (n + spread)))
        half = error * np.sqrt(spread)
        return Estimate(float(hits.mean()), error, float(share - half), float(share + half), "adjusted Wald")
    won = float(np.count_nonzero(hits > others)) + 0.5
    lost = float(np.count_nonzero(hits < others)) + 0.5
    total = n + 2.0
    centre = (won - lost) / total
    error = float(np.sqrt(won + lost - (won - lost) ** 2 / total) / total)
    around = _symmetric(centre, error, alpha, "adjusted Wald")
    return Estimate(float((hits - others).mean()), error, around.lower, around.upper, around.method)


def _delong(truth: Truth, candidate: Scored, champion: Scored | None, alpha: float) -> Estimate:
    positive = truth == 1
    if positive.all() or not positive.any():
        return Estimate(float("nan"), float("inf"), float("-inf"), float("inf"), "DeLong")
    above, below = _placements(positive, candidate)
    if champion is not None:
        above_other, below_other = _placements(positive, champion)
        above, below = above - above_other, below - below_other
    variance = _variance(above) / len(above) + _variance(below) / len(below)
    return _symmetric(float(above.mean()), float(np.sqrt(variance)), alpha, "DeLong")


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else float("inf")


def _placements(positive: NDArray[np.bool_], scored: Scored) -> tuple[Floats, Floats]:
    """Return, per positive row, the share of negatives below it, and per negative row, the share of
    positives above it.

    By midranks, in O(n log n) (Sun & Xu 2014). The mean of either is the AUC.
    """
    if scored.scores is None:
        raise ValueError("auc needs the probabilities of the classes")
    scores = scored.scores[:, 1]
    ranks = midranks(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    above = (ranks[positive] - midranks(scores[positive])) / n
    below = 1.0 - (ranks[~positive] - midranks(scores[~positive])) / m
    return above, below


class _Resampled:
    """Bootstrap and jackknife of a function of row means; equal rows are drawn together, by their count."""

    def __init__(self, metric: Metric, rows: Floats, others: Floats | None) -> None:
        self._metric = metric
        self._width = rows.shape[1]
        joined = rows if others is None else np.hstack([rows, others])
        self._paired = others is not None
        self._n = len(joined)
        if metric.discrete:
            self._rows, self._counts = _distinct(joined)
        else:
            self._rows, self._counts = joined, np.ones(len(joined), dtype=np.int64)

    def interval(self, alpha: float, *, analytic: bool, seed: int) -> Estimate:
        sums = self._counts @ self._rows
        centre = float(self._difference(sums / self._n))
        left_out = self._difference((sums - self._rows) / (self._n - 1))
        influence = self._counts @ left_out / self._n - left_out
        squares = float(self._counts @ influence**2)
        error = float(np.sqrt((self._n - 1) / self._n * squares))
        if (
            analytic
            or len(self._rows) > BOOTSTRAP_ROWS
            or alpha / 2.0 * REPETITIONS < _TAIL
            or squares == 0.0
        ):
            return _symmetric(centre, error, alpha, "jackknife", self._n - 1)
        acceleration = float(self._counts @ influence**3) / (6.0 * squares**1.5)
        lower, upper = _bca(self._draws(seed), centre, acceleration, alpha)
        return Estimate(centre, error, lower, upper, "BCa bootstrap", self._n - 1)

    def _difference(self, means: Floats) -> Floats:
        value = self._metric.value
        assert value is not None  # noqa: S101 - the caller has sent AUC elsewhere
        candidate = value(means[..., : self._width])
        if not self._paired:
            return candidate
        return np.asarray(candidate - value(means[..., self._width :]))

    def _draws(self, seed: int) -> Floats:
        random = np.random.default_rng(seed)
        chunk = max(1, _DRAWN_AT_ONCE // len(self._rows))
        parts = []
        for start in range(0, REPETITIONS, chunk):
            size = min(chunk, REPETITIONS - start)
            parts.append(self._difference(self._drawn(random, size) / self._n))
        return np.concatenate(parts)

    def _drawn(self, random: np.random.Generator, size: int) -> Floats:
        """Return the sums of ``size`` samples of n rows with replacement."""
        if self._metric.discrete:
            drawn: Floats = random.multinomial(self._n, self._counts / self._n, size=size) @ self._rows
            return drawn
        picked = random.integers(0, self._n, (size, self._n), dtype=np.int32)
        return np.stack([column[picked].sum(axis=1) for column in self._rows.T], axis=1)


def _distinct(rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct rows of zeros and ones and how often each occurs."""
    codes = rows.astype(np.int64) @ (1 << np.arange(rows.shape[1], dtype=np.int64))
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return rows[first], counts.astype(np.int64)


def _bca(draws: Floats, centre: float, acceleration: float, alpha: float) -> tuple[float, float]:
    """Return the bias-corrected and accelerated percentiles (Efron 1987, equations 2.3 and 6.4)."""
    below = (np.count_nonzero(draws < centre) + 0.5 * np.count_nonzero(draws == centre)) / len(draws)
    inside = min(max(float(below), 1.0 / len(draws)), 1.0 - 1.0 / len(draws))
    bias = quantile(inside)
    ends = []
    for tail in (alpha / 2.0, 1.0 - alpha / 2.0):
        shifted = bias + quantile(tail)
        ends.append(probability(bias + shifted / (1.0 - acceleration * shifted)))
    lower, upper = np.quantile(draws, ends)
    return float(lower), float(upper)
