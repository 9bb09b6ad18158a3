"""What a model answered for a file of rows: read, compared, and put into the form that the gate takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops.decide.metrics import Floats, Integers, Scored

PREDICTION = "prediction"
_RELATIVE = {8: 1e-9, 4: 1e-5, 2: 1e-2}
"""Relative difference that is rounding, by the bytes of a float: sums in another order differ in the last
digits."""
_ABSOLUTE = 1e-12


def read_answers(path: Path) -> pa.Table:
    """Return a file that the model server's command ``score`` has written."""
    from pyarrow import parquet

    return parquet.read_table(path)


def unequal(left: pa.Table, right: pa.Table) -> int:
    """Return how many rows differ: numbers by more than rounding, anything else at all."""
    import numpy as np

    if left.num_rows != right.num_rows or left.column_names != right.column_names:
        return int(max(left.num_rows, right.num_rows))
    differs = np.zeros(left.num_rows, dtype=bool)
    for name in left.column_names:
        differs |= _column_differs(left.column(name), right.column(name))
    return int(differs.sum())


def _column_differs(left: pa.ChunkedArray, right: pa.ChunkedArray) -> NDArray[np.bool_]:
    import numpy as np

    ours, theirs = values(left), values(right)
    if ours.shape != theirs.shape:
        return np.ones(len(left), dtype=bool)
    if ours.dtype.kind == "f" and theirs.dtype.kind == "f":
        size = min(ours.dtype.itemsize, theirs.dtype.itemsize)
        same = np.isclose(ours, theirs, rtol=_RELATIVE[size], atol=_ABSOLUTE, equal_nan=True)
    else:
        same = ours == theirs
    return np.asarray(~same.reshape(len(left), -1).all(axis=1))


def values(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column as an array; a list column with equally long lists as a matrix, missing numbers as
    NaN."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.array(column.to_pylist())
    return np.asarray(column.to_numpy())


def not_finite(table: pa.Table) -> int:
    """Return how many rows have an answer that is missing, NaN or infinite."""
    import numpy as np

    wrong = np.zeros(table.num_rows, dtype=bool)
    for name in table.column_names:
        column = table.column(name)
        wrong |= np.asarray(column.is_null())
        answers = values(column)
        if answers.dtype.kind == "f":
            wrong |= ~np.isfinite(answers).reshape(len(column), -1).all(axis=1)
    return int(wrong.sum())


def label(value: object) -> str:
    """Return a class as text, the same for true, 1 and 1.0: files and models write one class in several
    types."""
    import numpy as np

    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def labels_of(*sources: Iterable[object]) -> tuple[str, ...]:
    """Return the distinct classes of all sources, numbers by size, else by name; of two the second is the
    positive one."""
    found = {label(value) for source in sources for value in source}
    try:
        return tuple(sorted(found, key=float))
    except ValueError:
        return tuple(sorted(found))


def codes(column: Iterable[object], labels: Sequence[str]) -> Integers:
    """Return each value's position among the classes."""
    import numpy as np

    positions = {name: index for index, name in enumerate(labels)}
    return np.array([positions[label(value)] for value in column], dtype=np.int64)


def scored(table: pa.Table, facts: Mapping[str, Any], labels: Sequence[str] | None) -> Scored:
    """Return the answers as the gate takes them; ``labels`` are the classes, None for a regression.

    Probabilities come from ``score_<class>``; from a prediction that is itself a list of them; or, with two
    classes, from a prediction that is a number between 0 and 1. UserError for a prediction that is none of
    these and no class.
    """
    import numpy as np

    from mlops.decide.metrics import Scored

    answers = values(table.column(PREDICTION))
    if labels is None:
        return Scored(_numbers(answers))
    scores = _scores(table, facts.get("classes"), labels, answers)
    if scores is not None and (answers.ndim > 1 or _is_probability(answers, labels)):
        return Scored(np.asarray(scores.argmax(axis=1)), scores, len(labels))
    known = set(labels)
    if unknown := sorted({label(value) for value in answers.tolist()} - known):
        raise _no_class(unknown, labels)
    return Scored(codes(answers.tolist(), labels), scores, len(labels))


def _numbers(answers: NDArray[Any]) -> Floats:
    import numpy as np

    try:
        return np.asarray(answers, dtype=np.float64).reshape(len(answers))
    except (TypeError, ValueError) as error:
        raise UserError(
            "The model's prediction is not a number",
            expected="one number per row, as `task: regression` says",
            found=f"{answers.dtype} of shape {answers.shape}",
            remedy="Let the model return one number per row, or correct `task` and `metric` in mlops.yaml.",
        ) from error


def _scores(
    table: pa.Table, classes: Sequence[Any] | None, labels: Sequence[str], answers: NDArray[Any]
) -> Floats | None:
    import numpy as np

    if answers.ndim == 2 and answers.shape[1] == len(labels):
        return np.asarray(answers, dtype=np.float64)
    columns = {label(each): f"score_{each}" for each in classes or ()}
    if columns and set(columns.values()) <= set(table.column_names):
        missing = np.zeros(len(answers))
        given = {name: values(table.column(column)) for name, column in columns.items()}
        return np.column_stack([given.get(name, missing) for name in labels]).astype(np.float64)
    if _is_probability(answers, labels):
        positive = np.asarray(answers, dtype=np.float64)
        return np.column_stack([1.0 - positive, positive])
    return None


def _is_probability(answers: NDArray[Any], labels: Sequence[str]) -> bool:
    """Say whether the prediction itself is the probability of the second of two classes."""
    if answers.dtype.kind != "f" or answers.ndim != 1 or len(labels) != 2:
        return False
    inside = bool(((answers >= 0.0) & (answers <= 1.0)).all())
    return inside and not {label(value) for value in answers.tolist()} <= set(labels)


def _no_class(unknown: Sequence[str], labels: Sequence[str]) -> UserError:
    return UserError(
        "The model predicts what is no class of the target",
        expected=f"one of {', '.join(labels[:10])}, or a probability per class",
        found=", ".join(unknown[:5]),
        remedy="Let the model return classes or predict_proba, or correct `target` and `task` in mlops.yaml.",
    )
