"""Features that predict the target almost perfectly on their own: usually the answer in disguise.

Each feature is learnt alone on training rows (mean target per value, or per quantile bin of a number) and measured
on the holdout, so that a column with many distinct values does not look good by memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

_TRAIN_ROWS, _HOLDOUT_ROWS = 200_000, 100_000
_BINS = 256
_CLASSES = 10
_FEWEST = 5
"""Rows of a class below which its AUC says nothing."""


def strengths(
    train: pd.DataFrame, holdout: pd.DataFrame, features: Sequence[str], target: str, *, regression: bool
) -> dict[str, float]:
    """Return how well each feature alone predicts, in [0, 1]: AUC (mean of one against the rest) or R squared.

    At most 200,000 training and 100,000 holdout rows are used, drawn with a fixed seed. A class with fewer
    than five rows on one side is left out; a feature has no entry when nothing is left to measure.
    """
    train, holdout = _sample(train, _TRAIN_ROWS), _sample(holdout, _HOLDOUT_ROWS)
    if regression:
        answers = [(_floats(train[target]), _floats(holdout[target]))]
    else:
        answers = _one_against_rest(train[target], holdout[target])
    measure, direct = (_r_squared, _linear) if regression else (_auc, _either_way)
    found: dict[str, float] = {}
    for feature in features:
        codes = _codes(train[feature], holdout[feature])
        as_is = _as_is(holdout[feature])
        scores = [
            max(measure(_learnt(*codes, left), right), 0.0 if as_is is None else direct(as_is, right))
            for left, right in answers
        ]
        if scores:
            found[feature] = sum(scores) / len(scores)
    return found


def _as_is(column: pd.Series[Any]) -> Values | None:
    """Return a number as it stands (bins blur what is rare): the lowest value where it is missing."""
    import numpy as np
    from pandas.api.types import is_numeric_dtype

    if not is_numeric_dtype(column):
        return None
    values = _floats(column)
    finite = values[np.isfinite(values)]
    return (
        np.nan_to_num(values, nan=finite.min(), posinf=finite.max(), neginf=finite.min())
        if len(finite)
        else None
    )


def _sample(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    return frame if len(frame) <= rows else frame.sample(rows, random_state=0)


def _floats(column: pd.Series[Any]) -> Values:
    import numpy as np

    return column.to_numpy(np.float64, na_value=np.nan)


def _one_against_rest(train: pd.Series[Any], holdout: pd.Series[Any]) -> list[tuple[Values, Values]]:
    import numpy as np

    classes = list(train.value_counts().index[:_CLASSES])
    # Of two classes, one says it all.
    chosen = classes[:1] if len(classes) == 2 else classes
    pairs = [tuple((side == each).to_numpy(np.float64) for side in (train, holdout)) for each in chosen]
    return [(left, right) for left, right in pairs if _FEWEST <= right.sum() <= len(right) - _FEWEST]


def _codes(train: pd.Series[Any], holdout: pd.Series[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return a code per value or bin, 0 for missing and for values that training does not know."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(train) and is_numeric_dtype(holdout) and not is_bool_dtype(train):
        left, right = _floats(train), _floats(holdout)
        if len(pd.unique(left)) > _BINS:
            return _binned(left, left), _binned(left, right)
        train, holdout = pd.Series(left), pd.Series(right)
    known, values = pd.factorize(train)
    return known + 1, pd.Index(values).get_indexer(pd.Index(holdout)) + 1


def _binned(reference: Values, values: Values) -> NDArray[np.intp]:
    import numpy as np

    edges = np.unique(np.quantile(reference[np.isfinite(reference)], np.linspace(0, 1, _BINS)[1:-1]))
    return np.where(np.isnan(values), 0, np.searchsorted(edges, values, "right") + 1)


def _learnt(train: NDArray[np.intp], holdout: NDArray[np.intp], target: Values) -> Values:
    """Return the mean target of each code, drawn towards the overall mean by one row's weight."""
    import numpy as np

    size = int(max(train.max(), holdout.max())) + 1
    mean = target.mean()
    sums = np.bincount(train, weights=target, minlength=size)
    means: Values = (sums + mean) / (np.bincount(train, minlength=size) + 1)
    return means[holdout]


def _auc(scores: Values, positive: Values) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half)."""
    from scipy.stats import rankdata

    n = positive.sum()
    return float((rankdata(scores)[positive == 1].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def _either_way(scores: Values, positive: Values) -> float:
    area = _auc(scores, positive)
    return max(area, 1 - area)


def _linear(values: Values, actual: Values) -> float:
    """Return the squared correlation; 0 when one side has no variance."""
    import numpy as np

    if np.ptp(values) == 0 or np.ptp(actual) == 0:
        return 0.0
    return float(np.corrcoef(values, actual)[0, 1] ** 2)


def _r_squared(predicted: Values, actual: Values) -> float:
    """Return the share of the variance that is explained, at least 0; 0 when there is no variance."""
    spread = float(((actual - actual.mean()) ** 2).sum())
    return max(0.0, 1 - float(((actual - predicted) ** 2).sum()) / spread) if spread > 0 else 0.0
