"""The champion gate: candidate against champion on the same rows, with one of four verdicts.

With the two-sided interval (L, U) of coverage 1 - alpha for the gain (candidate minus champion, turned so
that more is better) and the non-inferiority margin M: *better* when L > 0, *as good* when L >= -M, *worse*
when U < -M, else *not enough data*. So "better" is said of a candidate that is not better, and "as good" of
one that is worse by more than M, with a probability of at most alpha / 2 each.

One holdout is used many times. The k-th distinct candidate is compared at alpha_k = alpha 6 / (pi k)^2;
these add up to alpha, so the probability of *any* wrong word over all uses of a holdout is at most alpha
(union bound; the order of the candidates, and what was learnt from earlier verdicts, do not matter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite, pi
from typing import Any

import numpy as np

from mlops.decide.intervals import Estimate, difference, probability, quantile
from mlops.decide.metrics import METRICS, Integers, Metric, Scored, Truth, check, evaluate

FEWEST_PER_CLASS = 10
"""Rows of the rarer class without which AUC is not compared."""
SLICE_ROWS = 50
"""Rows without which a slice is not compared."""
_SPENT = 2.0
_DEFAULT_MARGIN = 0.01
_DEFAULT_RELATIVE_MARGIN = 0.02


class Word(StrEnum):
    """The four answers of the gate."""

    BETTER = "better"
    AS_GOOD = "as_good"
    WORSE = "worse"
    NOT_ENOUGH_DATA = "not_enough_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """A verdict and the numbers behind it. ``gain``, ``lower`` and ``upper`` are turned so that more is
    better."""

    metric: str
    verdict: Word
    rows: int
    candidate: float | None
    champion: float | None
    gain: float | None
    lower: float | None
    upper: float | None
    margin: float
    alpha: float
    method: str
    p_worse: float | None = None
    """P-value against "the candidate is within the margin"."""
    name: str = ""
    """Name of the slice; empty for all rows."""

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form; None where there is no finite number."""
        return {**asdict(self), "verdict": str(self.verdict)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a comparison is held to; the margin is :func:`default_margin` when None."""

    margin: float | None = None
    alpha: float = 0.05
    minimum_rows: int = 200


@dataclass(frozen=True, slots=True)
class Group:
    """A slice: its name, the positions of its rows, and the loss allowed in it."""

    name: str
    rows: Integers
    margin: float


def alpha_for(uses: int, alpha: float) -> float:
    """Return the error rate for the ``uses``-th distinct candidate on a holdout (1 for the first); they add
    up to alpha."""
    if uses < 1:
        raise ValueError(f"uses count from 1, not {uses}")
    return alpha * 6.0 / (pi * uses) ** 2


def spent(uses: int, alpha: float) -> bool:
    """Say whether a holdout has been used too often: its intervals would be twice as wide as at the first
    use.

    A decision then needs four times the rows that it needed at first, which is a new holdout's worth. At
    alpha = 0.05 that is after 45 candidates; the tails asked for stay above 1e-5, where normal intervals of
    a few hundred rows still mean something.
    """
    return _width(alpha_for(uses, alpha)) > _SPENT * _width(alpha_for(1, alpha))


def _width(alpha: float) -> float:
    return quantile(1.0 - alpha / 2.0)


def default_margin(metric: Metric, champion: float) -> float:
    """Return the margin when the contract gives none: 0.01 for metrics in [0, 1], else 2 % of the champion's
    value."""
    return _DEFAULT_MARGIN if metric.unit_interval else _DEFAULT_RELATIVE_MARGIN * abs(champion)


def compare(
    name: str,
    truth: Truth,
    candidate: Scored,
    champion: Scored,
    rule: Rule | None = None,
) -> GateResult:
    """Compare two models on the same rows. Raises ValueError for NaN or infinite predictions and for lengths
    that differ."""
    metric = METRICS[name]
    check(truth, candidate, metric)
    check(truth, champion, metric)
    values = (evaluate(metric, truth, candidate), evaluate(metric, truth, champion))
    rule = rule or Rule()
    allowed = default_margin(metric, values[1]) if rule.margin is None else rule.margin
    estimate = difference(metric, truth, candidate, champion, alpha=rule.alpha)
    enough = len(truth) >= rule.minimum_rows and _enough_classes(metric, truth)
    return _result(metric, len(truth), values, estimate, (allowed, rule.alpha, enough), "")


def _enough_classes(metric: Metric, truth: Truth) -> bool:
    if metric.name != "auc":
        return True
    positive = int(np.count_nonzero(truth == 1))
    return min(positive, len(truth) - positive) >= FEWEST_PER_CLASS


def _result(
    metric: Metric,
    rows: int,
    values: tuple[float, float],
    estimate: Estimate,
    terms: tuple[float, float, bool],
    name: str,
) -> GateResult:
    margin, alpha, enough = terms
    ends = sorted((metric.sign * estimate.lower, metric.sign * estimate.upper))
    gain = metric.sign * estimate.difference
    return GateResult(
        metric=metric.name,
        verdict=_word(ends[0], ends[1], margin) if enough else Word.NOT_ENOUGH_DATA,
        rows=rows,
        candidate=_finite(values[0]),
        champion=_finite(values[1]),
        gain=_finite(gain),
        lower=_finite(ends[0]),
        upper=_finite(ends[1]),
        margin=margin,
        alpha=alpha,
        method=estimate.method,
        p_worse=_p_worse(gain, estimate, margin),
        name=name,
    )


def _word(lower: float, upper: float, margin: float) -> Word:
    if lower > 0.0:
        return Word.BETTER
    if lower >= -margin:
        return Word.AS_GOOD
    return Word.WORSE if upper < -margin else Word.NOT_ENOUGH_DATA


def _p_worse(gain: float, estimate: Estimate, margin: float) -> float | None:
    if not isfinite(gain) or not isfinite(estimate.standard_error):
        return None
    if estimate.standard_error == 0.0:
        return 0.0 if gain < -margin else 1.0
    return probability((gain + margin) / estimate.standard_error, estimate.degrees)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def compare_slices(
    name: str,
    truth: Truth,
    candidate: Scored,
    champion: Scored,
    groups: Sequence[Group],
    *,
    alpha: float = 0.05,
) -> tuple[GateResult, ...]:
    """Compare on each slice; *worse* only beyond the slice's margin after Benjamini & Hochberg (1995) at
    level alpha.

    So among the slices that are called worse, on average at most a share alpha is not. A slice with fewer
    than 50 rows (or, for AUC, 10 of a class) is *not enough data* and takes no part in the correction.
    """
    metric = METRICS[name]
    check(truth, candidate, metric)
    check(truth, champion, metric)
    results = [_slice(metric, truth, candidate, champion, group, alpha) for group in groups]
    tested = [result.p_worse for result in results if result.p_worse is not None]
    limit = benjamini_hochberg(tested, alpha)
    return tuple(_corrected(result, limit) for result in results)


def _slice(
    metric: Metric,
    truth: Truth,
    candidate: Scored,
    champion: Scored,
    group: Group,
    alpha: float,
) -> GateResult:
    part = truth[group.rows]
    if len(part) < SLICE_ROWS or not _enough_classes(metric, part):
        nothing = Estimate(float("nan"), float("inf"), float("-inf"), float("inf"), "none")
        return _result(
            metric, len(part), (float("nan"),) * 2, nothing, (group.margin, alpha, False), group.name
        )
    ours, theirs = candidate.take(group.rows), champion.take(group.rows)
    values = (evaluate(metric, part, ours), evaluate(metric, part, theirs))
    estimate = difference(metric, part, ours, theirs, alpha=alpha, analytic=True)
    return _result(metric, len(part), values, estimate, (group.margin, alpha, True), group.name)


def benjamini_hochberg(p_values: Sequence[float], alpha: float) -> float:
    """Return the largest p-value that is rejected at false discovery rate alpha; -1 when none is."""
    ordered = sorted(p_values)
    passing = [p for rank, p in enumerate(ordered, start=1) if p <= alpha * rank / len(ordered)]
    return max(passing, default=-1.0)


def _corrected(result: GateResult, limit: float) -> GateResult:
    """Let the corrected p-value, not the slice's own interval, say "worse"."""
    if result.p_worse is None:
        return result
    if result.p_worse <= limit:
        word = Word.WORSE
    elif result.verdict is Word.WORSE:
        word = Word.NOT_ENOUGH_DATA
    else:
        return result
    return GateResult(**{**asdict(result), "verdict": word})


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorResult:
    """Whether the candidate alone reaches a value: True, False, or None for "could not tell"."""

    reached: bool | None
    value: float | None
    lower: float | None
    upper: float | None
    floor: float


def reaches(
    name: str,
    truth: Truth,
    candidate: Scored,
    floor: float,
    *,
    alpha: float = 0.05,
    minimum_rows: int = 200,
) -> FloorResult:
    """Say whether the candidate reaches the floor: its value must, and it misses only when its whole
    interval does.

    Between the two (a value short of the floor, by less than chance explains) and below ``minimum_rows``
    nothing can be told.
    """
    metric = METRICS[name]
    check(truth, candidate, metric)
    estimate = difference(metric, truth, candidate, None, alpha=alpha)
    best = estimate.upper if metric.higher_is_better else estimate.lower
    reached: bool | None = None
    if len(truth) >= minimum_rows and isfinite(estimate.difference):
        if metric.sign * (estimate.difference - floor) >= 0.0:
            reached = True
        elif metric.sign * (best - floor) < 0.0:
            reached = False
    return FloorResult(
        reached=reached,
        value=_finite(estimate.difference),
        lower=_finite(estimate.lower),
        upper=_finite(estimate.upper),
        floor=floor,
    )


def trivial(name: str, train: Truth, rows: int, classes: int = 2) -> Scored:
    """Return what one says without a model: the most frequent class and the class shares of ``train``; its
    median or mean."""
    if METRICS[name].task == "regression":
        constant = float(np.median(train) if name == "mae" else np.mean(train))
        return Scored(np.full(rows, constant))
    counts = np.bincount(train.astype(np.int64), minlength=classes)
    scores = np.tile(counts / counts.sum(), (rows, 1))
    # The best constant for F1 is to say "positive" of every row.
    said = 1 if name == "f1" and classes == 2 else int(counts.argmax())
    return Scored(np.full(rows, said), scores, classes)
