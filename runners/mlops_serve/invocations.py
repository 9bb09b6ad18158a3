"""MLflow's ``/invocations``: the four JSON forms and CSV, answered byte for byte as MLflow's own server does."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_serve.decoding import Request, parse, tensor, validated
from mlops_serve.failures import Refused
from mlops_serve.outputs import Outputs
from mlops_serve.signature import Column

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_MISSING = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
"""What pandas takes for a missing value in CSV, as MLflow's server reads it."""


def decode(body: bytes, content_type: str, inputs: tuple[Column, ...]) -> Request:
    """Read a request; Refused with 400, 415 (neither JSON nor CSV) or 422."""
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    if kind == "text/csv":
        values, count = _csv(body, inputs)
        return Request(validated(inputs, values, count), count)
    if kind not in ("application/json", ""):
        raise Refused(415, f"content type `{kind}` is not supported; send application/json or text/csv")
    content = parse(body)
    given = [form for form in _FORMS if form in content]
    if len(given) != 1:
        raise Refused(
            400, f"the body must have exactly one of {', '.join(_FORMS)}; found {given or list(content)}"
        )
    return _decode(given[0], content[given[0]], inputs)


def _decode(form: str, data: Any, inputs: tuple[Column, ...]) -> Request:
    if any(column.is_tensor for column in inputs) and form in ("instances", "inputs"):
        rows = _tensors(form, data, inputs)
        return Request(rows, next(iter(rows.values())).shape[0])
    values, count = {
        "dataframe_split": _split,
        "dataframe_records": _records,
        "instances": _instances,
        "inputs": _inputs,
    }[form](data, inputs)
    if inputs and all(column.is_tensor for column in inputs):
        matrix = list(zip(*values.values()))
        return Request({inputs[0].name: tensor(inputs[0], matrix)}, count)
    return Request(validated(inputs, values, count), count)


Values = tuple[Mapping[str, Sequence[Any]], int]


def _split(data: Any, inputs: tuple[Column, ...]) -> Values:
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise Refused(400, "`dataframe_split` must be an object with `columns` and `data`")
    names = data.get("columns")
    return _transposed(data["data"], names if names is not None else _names(inputs))


def _names(inputs: tuple[Column, ...]) -> list[str]:
    return [column.name for column in inputs]


def _transposed(rows: Sequence[Any], names: Any) -> Values:
    if not isinstance(names, list):
        raise Refused(400, "`columns` must be a list")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise Refused(422, f"row {index} must be a list of {len(names)} values", row=index)
    columns = zip(*rows) if rows else ((),) * len(names)
    return {str(name): column for name, column in zip(names, columns)}, len(rows)


def _records(data: Any, inputs: tuple[Column, ...]) -> Values:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise Refused(400, "`dataframe_records` must be a list of objects")
    # The first row says which columns there are, later ones may add; pandas does the same.
    names = list(dict.fromkeys(name for row in data for name in row))
    optional = {column.name for column in inputs if not column.required}
    for name in names:
        gap = next((index for index, row in enumerate(data) if name not in row), None)
        if gap is not None and inputs and name in _names(inputs) and name not in optional:
            raise Refused(422, f"column `{name}` is missing in row {gap}", column=name, row=gap)
    return {name: [row.get(name) for row in data] for name in names}, len(data)


def _instances(data: Any, inputs: tuple[Column, ...]) -> Values:
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return _records(data, inputs)
    if not isinstance(data, list):
        raise Refused(400, "`instances` must be a list")
    return _transposed([row if isinstance(row, list) else [row] for row in data], _names(inputs))


def _inputs(data: Any, inputs: tuple[Column, ...]) -> Values:
    if not isinstance(data, dict):
        return _instances(data, inputs)
    values = {name: value if isinstance(value, list) else [value] for name, value in data.items()}
    flat = {
        name: [v[0] if isinstance(v, list) and len(v) == 1 else v for v in each]
        for name, each in values.items()
    }
    return flat, len(next(iter(flat.values()), ()))


def _tensors(form: str, data: Any, inputs: tuple[Column, ...]) -> Mapping[str, np.ndarray[Any, Any]]:
    if form == "instances" and isinstance(data, list) and data and isinstance(data[0], dict):
        data = _records(data, ())[0]
    if not isinstance(data, dict):
        if len(inputs) > 1:
            raise Refused(422, f"the model has {len(inputs)} inputs; give each by its name")
        return {inputs[0].name: tensor(inputs[0], data)}
    for column in inputs:
        if column.name not in data:
            raise Refused(422, f"tensor `{column.name}` is missing", column=column.name)
    rows = {column.name: tensor(column, data[column.name]) for column in inputs}
    if len({array.shape[0] for array in rows.values()}) > 1:
        raise Refused(422, "the inputs have different numbers of rows")
    return rows


def _csv(body: bytes, inputs: tuple[Column, ...]) -> Values:
    try:
        table = list(csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(400, f"the body is not CSV: {error}") from None
    if not table:
        raise Refused(400, "the body is empty; the first line must name the columns")
    names, rows = table[0], [row for row in table[1:] if row]
    values, count = _transposed(rows, names)
    types = {column.name: column for column in inputs}
    return {name: _typed(types.get(name), name, column) for name, column in values.items()}, count


def _typed(column: Any, name: str, texts: Sequence[str]) -> Sequence[Any]:
    kind = column.type if column is not None else "any"
    return [None if text in _MISSING else _value(kind, name, text, row) for row, text in enumerate(texts)]


def _value(kind: str, name: str, text: str, row: int) -> Any:
    if kind in ("string", "datetime", "binary"):
        return text
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        if kind == "any":
            return text
        raise Refused(
            422, f"column `{name}` must be a number, found {text[:60]!r} in row {row}", column=name, row=row
        ) from None
    whole = kind not in ("double", "float") and text.strip().lstrip("+-").isdigit()
    return int(text) if whole else number


def encode(outputs: Outputs) -> bytes:
    """Write ``{"predictions": ...}`` with the separators and the digits of MLflow's server; NaN becomes null."""
    body = {"predictions": _plain(outputs)}
    try:
        return json.dumps(body, allow_nan=False, default=_scalar).encode()
    except ValueError:
        return json.dumps(_without_nan(body), allow_nan=False, default=_scalar).encode()


def _plain(outputs: Outputs) -> Any:
    if outputs.table is None:
        return outputs.named[outputs.invoked].tolist()
    names = outputs.table
    columns = [outputs.named[name].tolist() for name in names]
    return [dict(zip(names, row)) for row in zip(*columns)]


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list) else value
