"""The metrics of the champion gate, each as a smooth function of row means, so that one theory serves them
all.

A metric maps every row to a few numbers (``rows``: shape (n, m)) and their means to its value (``value``:
(..., m) -> (...)). AUC is the exception: it is a statistic of pairs and has its own variance (DeLong).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Truth = NDArray[Any]
"""What really happened, per row: the index of the class, or the number."""

_SMALLEST_PROBABILITY = 1e-15
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model says of n rows.

    For regression ``prediction`` is the number. For classification it is the index of the class among the C
    sorted classes, and ``scores`` holds the probabilities (n, C) where the model gives any; with two classes
    the second is the positive one.
    """

    prediction: Floats | Integers
    scores: Floats | None = None
    classes: int = 2
    """C, the number of classes that the truth can have."""

    def take(self, rows: Integers) -> Scored:
        """Return the same for some of the rows."""
        scores = None if self.scores is None else self.scores[rows]
        return Scored(self.prediction[rows], scores, self.classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric: which way is better, what it needs, and how it is made of row means."""

    name: str
    higher_is_better: bool
    task: str
    unit_interval: bool = False
    """Whether its values lie in [0, 1], which the default margin depends on."""
    needs_scores: bool = False
    additive: bool = False
    """Whether it is the plain mean of one number per row."""
    discrete: bool = False
    """Whether its row numbers are zeros and ones."""
    rows: Callable[[Truth, Scored], Floats] | None = None
    value: Callable[[Floats], Floats] | None = None

    @property
    def sign(self) -> float:
        """Factor that makes "larger is better" of the metric."""
        return 1.0 if self.higher_is_better else -1.0


def check(truth: Truth, scored: Scored, metric: Metric) -> None:
    """Refuse what cannot be compared: ValueError for lengths that differ, NaN or infinite numbers, scores
    that are no probabilities."""
    if len(truth) == 0 or len(truth) != len(scored.prediction):
        raise ValueError(f"{len(scored.prediction)} predictions do not belong to {len(truth)} rows")
    for name, values in (("truth", truth), ("predictions", scored.prediction)):
        wrong = int(np.count_nonzero(~np.isfinite(values)))
        if wrong:
            raise ValueError(f"{wrong} of {len(values)} {name} are not finite numbers")
    if metric.needs_scores:
        _check_scores(truth, scored.scores, metric)


def _check_scores(truth: Truth, scores: Floats | None, metric: Metric) -> None:
    if scores is None:
        raise ValueError(f"{metric.name} needs the probabilities of the classes, and the model gives none")
    if scores.shape[0] != len(truth):
        raise ValueError(f"{scores.shape[0]} scores do not belong to {len(truth)} rows")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} scores are not finite numbers")
    if metric.name == "auc":
        if scores.shape[1] != 2:
            raise ValueError(f"auc needs two classes, not {scores.shape[1]}")
        return
    sums = scores.sum(axis=1)
    if scores.min() < 0.0 or scores.max() > 1.0 or np.abs(sums - 1.0).max() > _SUM_TOLERANCE:
        raise ValueError(f"{metric.name} needs probabilities between 0 and 1 that add up to 1")


def evaluate(metric: Metric, truth: Truth, scored: Scored) -> float:
    """Return the metric's value; NaN for an AUC of rows that are all of one class."""
    check(truth, scored, metric)
    if metric.rows is None or metric.value is None:
        assert scored.scores is not None  # noqa: S101 - checked above
        return auc(truth, scored.scores[:, 1])
    return float(metric.value(metric.rows(truth, scored).mean(axis=0)))


def auc(truth: Truth, scores: Floats) -> float:
    """Return the probability that a positive row (1) is scored above a negative one (0), ties counting
    half."""
    positive = truth == 1
    m = int(np.count_nonzero(positive))
    n = len(truth) - m
    if m == 0 or n == 0:
        return float("nan")
    return float((midranks(scores)[positive].sum() - m * (m + 1) / 2) / (m * n))


def midranks(values: Floats) -> Floats:
    """Return the ranks from 1, equal values sharing the mean of theirs; O(n log n)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return ranks


def _column(values: Truth) -> Floats:
    return np.asarray(values, dtype=np.float64)[:, None]


def _of_truth(truth: Truth, scores: Floats | None) -> Floats:
    """Return the probability that each row's true class was given."""
    assert scores is not None  # noqa: S101 - `check` refuses it
    taken: Floats = np.take_along_axis(scores, truth.astype(np.int64)[:, None], axis=1)[:, 0]
    return taken


def _log_loss_rows(truth: Truth, scored: Scored) -> Floats:
    return _column(-np.log(np.clip(_of_truth(truth, scored.scores), _SMALLEST_PROBABILITY, 1.0)))


def _brier_rows(truth: Truth, scored: Scored) -> Floats:
    scores = scored.scores
    assert scores is not None  # noqa: S101 - `check` refuses it
    if scores.shape[1] == 2:
        return _column((scores[:, 1] - truth.astype(np.float64)) ** 2)
    return _column((scores**2).sum(axis=1) - 2.0 * _of_truth(truth, scores) + 1.0)


def _accuracy_rows(truth: Truth, scored: Scored) -> Floats:
    return _column(truth == scored.prediction)


def _error(truth: Truth, scored: Scored) -> Floats:
    return np.asarray(scored.prediction, dtype=np.float64) - truth.astype(np.float64)


def _mae_rows(truth: Truth, scored: Scored) -> Floats:
    return _column(np.abs(_error(truth, scored)))


def _rmse_rows(truth: Truth, scored: Scored) -> Floats:
    return _column(_error(truth, scored) ** 2)


def _f1_rows(truth: Truth, scored: Scored) -> Floats:
    """Return, per class that counts, (hit, said, true) of each row: (n, 3 C'); of two classes only the
    positive one counts."""
    counted = [1] if scored.classes <= 2 else range(scored.classes)
    columns = []
    for each in counted:
        said, true = scored.prediction == each, truth == each
        columns += [said & true, said, true]
    return np.column_stack(columns).astype(np.float64)


def _f1_value(means: Floats) -> Floats:
    parts = means.reshape(*means.shape[:-1], -1, 3)
    both = parts[..., 1] + parts[..., 2]
    each: Floats = np.divide(2.0 * parts[..., 0], both, out=np.zeros_like(both), where=both > 0)
    mean: Floats = each.mean(axis=-1)
    return mean


def _first(means: Floats) -> Floats:
    return means[..., 0]


def _root(means: Floats) -> Floats:
    return np.sqrt(np.maximum(means[..., 0], 0.0))


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="auc", higher_is_better=True, task="classification", unit_interval=True, needs_scores=True
        ),
        Metric(
            name="log_loss",
            higher_is_better=False,
            task="classification",
            needs_scores=True,
            additive=True,
            rows=_log_loss_rows,
            value=_first,
        ),
        Metric(
            name="brier",
            higher_is_better=False,
            task="classification",
            unit_interval=True,
            needs_scores=True,
            additive=True,
            rows=_brier_rows,
            value=_first,
        ),
        Metric(
            name="accuracy",
            higher_is_better=True,
            task="classification",
            unit_interval=True,
            additive=True,
            rows=_accuracy_rows,
            value=_first,
        ),
        Metric(
            name="f1",
            higher_is_better=True,
            task="classification",
            unit_interval=True,
            discrete=True,
            rows=_f1_rows,
            value=_f1_value,
        ),
        Metric(
            name="mae", higher_is_better=False, task="regression", additive=True, rows=_mae_rows, value=_first
        ),
        Metric(name="rmse", higher_is_better=False, task="regression", rows=_rmse_rows, value=_root),
    )
}
