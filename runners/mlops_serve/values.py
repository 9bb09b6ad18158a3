"""Turn JSON values into arrays of a column's type; what does not fit is refused with column and row.

Missing values: NaN in numbers, None in strings (as pandas reads them from Parquet). Integers and booleans have no
missing value of their own: they may be missing only where the column is optional, as in MLflow's signatures.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Callable

import numpy as np

from mlops_serve.failures import Refused
from mlops_serve.signature import Column

Array = np.ndarray[Any, Any]
_NONE = type(None)
_NUMBERS = frozenset({int, float, _NONE})
_MEANINGS = {
    "boolean": "true or false",
    "integer": "a whole number of 32 bits",
    "long": "a whole number of 64 bits",
    "float": "a number",
    "double": "a number",
    "string": "a string",
    "binary": "a string in base64",
    "datetime": "a time such as 2024-05-01T12:00:00",
}


def to_array(column: Column, values: Sequence[Any]) -> Array:
    """Return the values as an array of the column's type, shape [n]; raises Refused (422)."""
    try:
        return _CONVERSIONS[column.type](column, values)
    except OverflowError:
        raise _unfit(
            column, values, _fits_float if column.type in ("float", "double") else _fits_long
        ) from None


def missing(column: Column, rows: int) -> Array:
    """Return what stands for an optional column that was left out."""
    return (
        _objects([None] * rows) if column.type not in ("float", "double", "integer", "long") else _nan(rows)
    )


def _nan(rows: int) -> Array:
    return np.full(rows, np.nan)


def _float(column: Column, values: Sequence[Any]) -> Array:
    if not _NUMBERS.issuperset(map(type, values)):
        raise _unfit(column, values, lambda value: type(value) in _NUMBERS)
    return np.array(values, dtype=np.float32 if column.type == "float" else np.float64)


def _integer(column: Column, values: Sequence[Any]) -> Array:
    kinds = set(map(type, values))
    fits = _fits_long if column.type == "long" else _fits_integer
    if not kinds <= _NUMBERS or (
        kinds != {int} and not all(value is None or fits(value) for value in values)
    ):
        raise _unfit(column, values, lambda value: value is None or (type(value) in _NUMBERS and fits(value)))
    if _NONE in kinds:
        _allow_missing(column, values)
        return np.array(values, dtype=np.float64)
    array = np.array(values, dtype=np.int64)
    if column.type == "long":
        return array
    if array.size and (array.max() >= 2**31 or array.min() < -(2**31)):
        raise _unfit(column, values, fits)
    return array.astype(np.int32)


def _fits_long(value: Any) -> bool:
    return bool(-(2**63) <= value < 2**63 and int(value) == value)


def _fits_float(value: Any) -> bool:
    return value is None or float(value) == value


def _fits_integer(value: Any) -> bool:
    return bool(-(2**31) <= value < 2**31 and int(value) == value)


def _boolean(column: Column, values: Sequence[Any]) -> Array:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return np.array(values, dtype=np.bool_)
    fits = lambda value: value is None or type(value) is bool or (type(value) is int and value in (0, 1))  # noqa: E731
    if not all(map(fits, values)):
        raise _unfit(column, values, fits)
    if _NONE in kinds:
        _allow_missing(column, values)
        return _objects([None if value is None else bool(value) for value in values])
    return np.array(values, dtype=np.bool_)


def _string(column: Column, values: Sequence[Any]) -> Array:
    if not {str, _NONE}.issuperset(map(type, values)):
        raise _unfit(column, values, lambda value: value is None or type(value) is str)
    return _objects(values)


def _binary(column: Column, values: Sequence[Any]) -> Array:
    return _objects([_decoded(column, value, row) for row, value in enumerate(values)])


def _decoded(column: Column, value: Any, row: int) -> Any:
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _wrong(column, value, row) from None


def _datetime(column: Column, values: Sequence[Any]) -> Array:
    return np.array([_moment(column, value, row) for row, value in enumerate(values)], dtype="datetime64[ns]")


def _moment(column: Column, value: Any, row: int) -> np.datetime64:
    if value is None:
        return np.datetime64("NaT", "ns")
    try:
        # Python before 3.11 does not know the Z.
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if moment.tzinfo is not None:
            moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
        found = np.datetime64(moment, "ns")
    except (AttributeError, ValueError, OverflowError):
        raise _wrong(column, value, row) from None
    return found


def _any(column: Column, values: Sequence[Any]) -> Array:  # noqa: ARG001 - one form for all conversions
    kinds = set(map(type, values))
    if kinds == {bool}:
        return np.array(values, dtype=np.bool_)
    if kinds == {int} and all(map(_fits_long, values)):
        return np.array(values, dtype=np.int64)
    if kinds <= _NUMBERS and kinds != {_NONE}:
        return np.array(values, dtype=np.float64)
    array = _objects([None] * len(values))
    for row, value in enumerate(values):
        array[row] = value  # one by one: NumPy would make a second axis of lists
    return array


_CONVERSIONS: dict[str, Callable[[Column, Sequence[Any]], Array]] = {
    "boolean": _boolean,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "string": _string,
    "binary": _binary,
    "datetime": _datetime,
    "any": _any,
}


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _allow_missing(column: Column, values: Sequence[Any]) -> None:
    if column.required:
        raise _wrong(column, None, next(row for row, value in enumerate(values) if value is None))


def _unfit(column: Column, values: Sequence[Any], fits: Callable[[Any], bool]) -> Refused:
    row = next((row for row, value in enumerate(values) if not _holds(fits, value)), 0)
    return _wrong(column, values[row], row)


def _holds(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return fits(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _wrong(column: Column, value: Any, row: int) -> Refused:
    found = "a missing value" if value is None else _shown(value)
    return Refused(
        422,
        f"column `{column.name}` must be {_MEANINGS.get(column.type, column.type)}, found {found} in row {row}",
        column=column.name,
        row=row,
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
