"""The Open Inference Protocol, version 2, as JSON (KServe and Triton clients).

Specification: kserve/open-inference-protocol, ``specification/protocol/inference_rest.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from mlops_serve.decoding import Request, parse, tensor, validated
from mlops_serve.failures import Refused
from mlops_serve.outputs import PREDICTION, PROBABILITY, Outputs
from mlops_serve.signature import Column

_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
DATATYPES = frozenset({"BOOL", "BYTES"}) | _INTEGERS | _FLOATS
_OF_COLUMN = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
    "any": "BYTES",
}
_OF_NUMPY = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_ELEMENTS: Mapping[str, frozenset[type]] = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **dict.fromkeys(_INTEGERS, frozenset({int, type(None)})),
    **dict.fromkeys(_FLOATS, frozenset({int, float, type(None)})),
}


def decode(body: bytes, inputs: tuple[Column, ...]) -> Request:
    """Read an inference request; Refused with 400 when it is no such request, with 422 when a column does not fit."""
    content = parse(body)
    given = content.get("inputs")
    if not isinstance(given, list) or not given:
        raise Refused(400, "`inputs` must be a list of at least one tensor")
    tensors = _by_name(given)
    if any(column.is_tensor for column in inputs):
        rows = _tensors(tensors, inputs)
        count = next(iter(rows.values())).shape[0]
    else:
        values, count = _columns(tensors, inputs)
        rows = validated(inputs, values, count)
    return Request(rows, count, _id(content), _wanted(content))


def _by_name(given: Sequence[Any]) -> Mapping[str, Mapping[str, Any]]:
    tensors: dict[str, Mapping[str, Any]] = {}
    for index, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise Refused(400, f"input {index} must be an object with a `name`")
        if each["name"] in tensors:
            raise Refused(400, f"input `{each['name']}` is given twice")
        if not isinstance(each.get("data"), list):
            parameters = each.get("parameters")
            binary = isinstance(parameters, dict) and "binary_data_size" in parameters
            hint = " (binary data is not supported)" if binary else ""
            raise Refused(400, f"input `{each['name']}` must have its values as the list `data`{hint}")
        datatype = each.get("datatype")
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise _unfit(each, f"has the datatype {datatype!r}; known are {', '.join(sorted(DATATYPES))}")
        tensors[each["name"]] = each
    return tensors


def _columns(
    tensors: Mapping[str, Mapping[str, Any]], inputs: tuple[Column, ...]
) -> tuple[Mapping[str, Sequence[Any]], int]:
    """Return the values of each column, and the number of rows."""
    if len(tensors) == 1 and len(inputs) > 1:
        only = next(iter(tensors.values()))
        shape = _shape(only)
        if only["name"] not in {column.name for column in inputs} and shape[1:] == [len(inputs)]:
            return _matrix(only, inputs, shape[0]), shape[0]
    count = _shape(next(iter(tensors.values())))[0]
    return {name: _vector(each, count) for name, each in tensors.items()}, count


def _matrix(given: Mapping[str, Any], inputs: tuple[Column, ...], count: int) -> Mapping[str, Sequence[Any]]:
    """Read one [n, k] tensor as the model's k columns, in their order."""
    flat, width = _flat(given, count * len(inputs)), len(inputs)
    return {column.name: flat[index::width] for index, column in enumerate(inputs)}


def _vector(given: Mapping[str, Any], count: int) -> Sequence[Any]:
    shape = _shape(given)
    if shape not in ([count], [count, 1]):
        raise _unfit(given, f"must have shape [{count}] or [{count}, 1], found {shape}")
    return _flat(given, count)


def _shape(given: Mapping[str, Any]) -> list[int]:
    shape = given.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise _unfit(given, f"must have a `shape` such as [1], found {shape!r}")
    return shape


def _flat(given: Mapping[str, Any], size: int) -> Sequence[Any]:
    """Return the values as one list, checked against the datatype; nested lists are allowed by the protocol."""
    data: Sequence[Any] = given["data"]
    while data and type(data[0]) is list:
        if not all(type(each) is list for each in data):
            raise _unfit(given, "has `data` of uneven depth")
        data = list(chain.from_iterable(data))
    if len(data) != size:
        raise _unfit(given, f"has {len(data)} values, its shape says {size}")
    allowed = _ELEMENTS[given["datatype"]]
    if not allowed.issuperset(map(type, data)):
        row = next(row for row, value in enumerate(data) if type(value) not in allowed)
        raise _unfit(given, f"is {given['datatype']}, found {str(data[row])[:60]!r} in row {row}", row)
    return data


def _tensors(
    tensors: Mapping[str, Mapping[str, Any]], inputs: tuple[Column, ...]
) -> Mapping[str, np.ndarray[Any, Any]]:
    rows = {}
    for column in inputs:
        # A model with one unnamed input takes it under any name.
        only = next(iter(tensors.values())) if len(inputs) == 1 and len(tensors) == 1 else None
        given = tensors.get(column.name) or only
        if given is None:
            raise Refused(422, f"tensor `{column.name}` is missing", column=column.name)
        shape = _shape(given)
        rows[column.name] = tensor(column, _flat(given, prod(shape)), shape)
    if len({array.shape[0] for array in rows.values()}) > 1:
        raise Refused(422, "the inputs have different numbers of rows")
    return rows


def _unfit(given: Mapping[str, Any], what: str, row: int | None = None) -> Refused:
    return Refused(422, f"column `{given['name']}` {what}", column=given["name"], row=row)


def _id(content: Mapping[str, Any]) -> str | None:
    value = content.get("id")
    return None if value is None else str(value)


def _wanted(content: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = content.get("outputs") or []
    if not isinstance(wanted, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in wanted
    ):
        raise Refused(400, "`outputs` must be a list of objects with a `name`")
    return tuple(each["name"] for each in wanted)


def encode(request: Request, outputs: Outputs, *, model: str, version: str) -> bytes:
    """Write the answer; Refused (422) when an output was asked for that the model does not have."""
    names = request.outputs or tuple(outputs.named)
    for name in names:
        if name not in outputs.named:
            raise Refused(422, f"there is no output `{name}`; the model has {', '.join(outputs.named)}")
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": version,
        "outputs": [_output(name, outputs.named[name]) for name in names],
    }
    if request.id is not None:
        answer["id"] = request.id
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY, default=str)


def _output(name: str, array: np.ndarray[Any, Any]) -> Mapping[str, Any]:
    datatype = _OF_NUMPY.get(array.dtype.name, "BYTES")
    flat = np.ascontiguousarray(array).ravel()
    data: Any = flat if datatype not in ("BYTES", "FP16") else flat.tolist()
    if datatype == "BYTES":
        data = [value if value is None else _text(value) for value in data]
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def model_metadata(
    *, name: str, version: str, platform: str, inputs: tuple[Column, ...], classes: Sequence[Any] | None
) -> Mapping[str, Any]:
    """Return the model metadata of the protocol; a classifier's classes are a parameter of ``probability``."""
    outputs: list[dict[str, Any]] = [
        {"name": PREDICTION, "datatype": _prediction_type(classes), "shape": [-1]}
    ]
    if classes is not None:
        outputs.append(
            {
                "name": PROBABILITY,
                "datatype": "FP64",
                "shape": [-1, len(classes)],
                "parameters": {"classes": list(classes)},
            }
        )
    return {
        "name": name,
        "versions": [version],
        "platform": platform,
        "inputs": [_input(column) for column in inputs],
        "outputs": outputs,
    }


def _prediction_type(classes: Sequence[Any] | None) -> str:
    return "FP64" if classes is None else _OF_NUMPY.get(np.asarray(classes).dtype.name, "BYTES")


def _input(column: Column) -> Mapping[str, Any]:
    if column.is_tensor:
        datatype = _OF_NUMPY.get(np.dtype(column.dtype).name, "BYTES")
        return {"name": column.name or "input-0", "datatype": datatype, "shape": list(column.shape)}
    return {
        "name": column.name,
        "datatype": _OF_COLUMN[column.type],
        "shape": [-1],
        "parameters": {"required": column.required},
    }
