"""Rows that are alike: within a file, and across training rows and holdout.

Some identical rows are normal: with few distinct values, an honest holdout repeats training rows by coincidence.
How many, the holdout says itself. If both files are samples of the same source, a holdout row has a twin among
``s`` other holdout rows exactly as often as among ``s`` training rows; so the two rates are compared at equal
size ``s``, and only what the training rows have in excess is called leaked. Rows repeated within the training data
do not disturb this. What it cannot see: where coincidences are common and the holdout is small (some hundred rows),
a leak of less than about a third of the holdout drowns in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.stages.rows import row_hashes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of the holdout occurs among the training rows."""

    twins: int
    """Holdout rows that are identical to a training row."""
    share: float
    """The same as a share of the holdout."""
    coincidence: float
    """Probability that a holdout row has a twin among ``size`` other holdout rows."""
    observed: float
    """Probability that it has one among ``size`` training rows."""
    size: int
    leaked: float
    """Estimated share of the holdout that was copied from the training rows, in [0, 1]."""
    deviation: float
    """Excess in standard errors (clustered by identical rows); 0 without any excess."""
    examples: tuple[int, ...]
    """Row numbers, from 0, of the first twins in the holdout."""


def keys(
    train: pd.DataFrame, holdout: pd.DataFrame, columns: Sequence[str]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return a 64-bit key per row of each frame; equal rows have equal keys, whatever type a number has."""
    import pandas as pd

    both = pd.concat([train[list(columns)], holdout[list(columns)]], ignore_index=True)
    hashes = row_hashes(both)
    return hashes[: len(train)], hashes[len(train) :]


def repeated(keys_: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the rows that repeat an earlier one."""
    import pandas as pd

    marks: NDArray[np.bool_] = pd.Series(keys_).duplicated().to_numpy()
    return marks


def overlap(train: NDArray[np.uint64], holdout: NDArray[np.uint64], shown: int = 5) -> Overlap:
    """Compare how often a holdout row has a twin in train and in the holdout itself, at equal size."""
    import numpy as np

    values, inverse, own = np.unique(holdout, return_inverse=True, return_counts=True)
    theirs = _counts(values, train)
    size = min(len(train), len(holdout) - 1)
    # A random sample of `size` has no twin with probability (1 - share)^count, accurately enough.
    among_train = 1 - (1 - size / len(train)) ** theirs
    among_holdout = 1 - (1 - size / max(len(holdout) - 1, 1)) ** (own - 1)
    excess = own * (among_train - among_holdout)
    total, error = float(excess.sum()), math.sqrt(float((excess**2).sum()))
    twins = (theirs > 0)[inverse]
    return Overlap(
        twins=int(twins.sum()),
        share=float(twins.mean()),
        coincidence=float((own * among_holdout).sum() / len(holdout)),
        observed=float((own * among_train).sum() / len(holdout)),
        size=size,
        leaked=min(max(total / len(holdout) * len(train) / max(size, 1), 0.0), float(twins.mean())),
        deviation=total / error if total > 0 else 0.0,
        examples=tuple(int(row) for row in np.nonzero(twins)[0][:shown]),
    )


def _counts(values: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how often each of the sorted values occurs."""
    import numpy as np

    ordered = np.sort(among)
    counts: NDArray[np.int64] = np.searchsorted(ordered, values, "right") - np.searchsorted(
        ordered, values, "left"
    )
    return counts
