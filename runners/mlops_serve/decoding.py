"""JSON in, JSON out, and the shape that all requests are brought into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from mlops_serve.failures import Refused
from mlops_serve.signature import Column
from mlops_serve.values import missing, to_array

Array = Any
Values = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Request:
    """Validated rows: arrays by column name in the model's own order, ``count`` rows each."""

    rows: Mapping[str, np.ndarray[Any, Any]]
    count: int
    id: str | None = None
    outputs: tuple[str, ...] = field(default=())
    """The outputs that the caller wants; all of them when empty."""


def parse(body: bytes) -> Mapping[str, Any]:
    """Parse a JSON object; NaN is accepted as a missing number, as many Python clients write it. Refused (400)."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        content = _leniently(body, str(error))
    if not isinstance(content, dict):
        raise Refused(400, f"the body must be a JSON object, found {type(content).__name__}")
    return content


def _leniently(body: bytes, reason: str) -> Any:
    if b"NaN" in body:
        try:
            return json.loads(body, parse_constant=_constant)
        except (ValueError, RecursionError):
            pass
    raise Refused(400, f"the body is not JSON: {reason}")


def _constant(word: str) -> None:
    if word != "NaN":
        raise ValueError(word)


def validated(inputs: tuple[Column, ...], values: Values, count: int) -> Mapping[str, np.ndarray[Any, Any]]:
    """Bring named lists into the model's columns, order and types; extra columns are ignored. Refused (422)."""
    if count == 0:
        raise Refused(422, "the request has no rows")
    if not inputs:
        return {name: to_array(Column(name, "any"), column) for name, column in values.items()}
    return {column.name: _column(column, values, count) for column in inputs}


def _column(column: Column, values: Values, count: int) -> np.ndarray[Any, Any]:
    found = values.get(column.name)
    if found is None:
        if column.required:
            known = ", ".join(f"`{name}`" for name in list(values)[:20])
            raise Refused(
                422,
                f"column `{column.name}` is missing; the request has {known or 'no columns'}",
                column=column.name,
            )
        return missing(column, count)
    if len(found) != count:
        raise Refused(
            422, f"column `{column.name}` has {len(found)} values for {count} rows", column=column.name
        )
    return to_array(column, found)


def tensor(column: Column, data: Any, shape: Sequence[int] | None = None) -> np.ndarray[Any, Any]:
    """Make a tensor input of nested or flat numbers; its shape must agree with the declared one. Refused (422)."""
    name = column.name or "input"
    try:
        array = np.array(data, dtype=column.dtype or None)
        array = array if shape is None else array.reshape(tuple(shape))
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(422, f"tensor `{name}` is not acceptable: {error}", column=name) from None
    if array.dtype == object or array.ndim == 0 or not _agrees(column.shape, array.shape):
        raise Refused(
            422,
            f"tensor `{name}` must have shape {list(column.shape)}, found {list(array.shape)}",
            column=name,
        )
    return array


def _agrees(declared: tuple[int, ...], found: tuple[int, ...]) -> bool:
    if not declared:
        return True
    return len(declared) == len(found) and all(
        want in (-1, have) for want, have in zip(declared[1:], found[1:])
    )
