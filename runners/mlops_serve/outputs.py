"""What a model answered: one row of output per row of input, under names that never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops_serve.failures import ModelError

PREDICTION = "prediction"
PROBABILITY = "probability"


@dataclass(frozen=True)
class Outputs:
    """The answer for n rows.

    ``named`` has ``prediction`` ([n]) first and, for a classifier, ``probability`` ([n, k]); a model that returns a
    table adds its columns under their own names. ``table`` lists those columns, None when it returned no table.
    """

    named: Mapping[str, np.ndarray[Any, Any]]
    table: tuple[str, ...] | None = None
    invoked: str = PREDICTION
    """The output that MLflow's server would return as ``predictions``."""
    rows: int = field(default=0)

    def part(self, start: int, stop: int) -> Outputs:
        """Return the answer for some of the rows."""
        named = {name: array[start:stop] for name, array in self.named.items()}
        return Outputs(named, self.table, self.invoked, stop - start)


def outputs_of(answer: Any, rows: int) -> Outputs:
    """Name what a model returned: an array, a list, a series, a table, or several arrays by name.

    Raises ModelError when it has not one row of output per row of input.
    """
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        return _checked(_table(answer), rows, tuple(map(str, answer.columns)))
    if isinstance(answer, Mapping):
        named = {str(name): _array(value) for name, value in answer.items()}
        return _checked(_led(named), rows, tuple(named))
    return _checked({PREDICTION: _array(answer)}, rows, None)


def _table(frame: Any) -> Mapping[str, np.ndarray[Any, Any]]:
    return _led({str(name): frame[name].to_numpy() for name in frame.columns})


def _led(named: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
    """Put ``prediction`` first; without one the first column is it, under both names."""
    if not named:
        raise ModelError("the model returned a table without columns")
    first = named[PREDICTION] if PREDICTION in named else next(iter(named.values()))
    return {PREDICTION: first, **{name: array for name, array in named.items() if name != PREDICTION}}


def _array(value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "toarray"):  # SciPy's sparse matrices
        value = value.toarray()
    array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    # [n, 1] is a column vector: some estimators return one for one target.
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _checked(named: Mapping[str, np.ndarray[Any, Any]], rows: int, table: tuple[str, ...] | None) -> Outputs:
    for name, array in named.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise ModelError(f"the model returned {array.shape} as `{name}` for {rows} rows")
    return Outputs(named, table, PREDICTION, rows)
