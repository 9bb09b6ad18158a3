"""Predict files of rows: Parquet in, Parquet out, by the same code that answers requests."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_serve.failures import Refused, Unusable
from mlops_serve.loading import load
from mlops_serve.model import Model
from mlops_serve.outputs import PREDICTION, PROBABILITY, Outputs
from mlops_serve.package import Package
from mlops_serve.signature import Column
from mlops_serve.values import missing, to_array

Array = Any


@dataclass(frozen=True)
class Job:
    """One file to predict. ``batch_rows`` predicts so many rows at a time (all at once by default).

    With ``error`` a failure is written to that file as JSON (``type``, ``message``) and the next job goes on.
    """

    input: Path
    output: Path
    batch_rows: int | None = None
    error: Path | None = None


def read_jobs(path: Path) -> list[Job]:
    """Read the list of jobs; raises Unusable."""
    try:
        return [_job(entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{path} is no list of jobs: {error}") from error


def _job(entry: Mapping[str, Any]) -> Job:
    error = entry.get("error")
    return Job(
        Path(entry["input"]), Path(entry["output"]), entry.get("batch_rows"), Path(error) if error else None
    )


def score(package: Package, jobs: Sequence[Job]) -> None:
    """Load the model once and do all jobs.

    The output has ``prediction``; for a classifier ``score_<class>`` with each class's probability, and ``score``, that
    of the second class, when there are two; the columns of a returned table under their own names.
    Raises Unusable for a package or file that cannot be used; whatever the model raises passes through.
    """
    model = load(package)
    for job in jobs:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            _do(model, job)
        except Exception as error:
            if job.error is None:
                raise
            job.error.write_text(json.dumps({"type": type(error).__name__, "message": str(error)}))


def _do(model: Model, job: Job) -> None:
    parquet = _parquet()
    try:
        table = parquet.read_table(job.input)
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read {job.input}: {error}") from error
    columns = {column.name: _values(column, table) for column in _inputs(model, table)}
    rows = _as_model_takes(model, columns)
    begun = time.perf_counter()
    parts = list(_predicted(model, rows, table.num_rows, job.batch_rows or table.num_rows))
    seconds = time.perf_counter() - begun
    _write(parquet, _named(parts, model.classes), job.output, seconds)


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Unusable("scoring needs pyarrow in the model's environment") from error
    return pyarrow.parquet


def _inputs(model: Model, table: Any) -> Sequence[Column]:
    if model.inputs and not any(column.is_tensor for column in model.inputs):
        return model.inputs
    return [Column(name, "any") for name in table.column_names]


def _as_model_takes(model: Model, rows: Mapping[str, Array]) -> Mapping[str, Array]:
    tensors = [column for column in model.inputs if column.is_tensor]
    if not tensors:
        return rows
    if len(tensors) > 1:
        raise Unusable("a model with several tensors cannot be scored from a table")
    return {tensors[0].name: np.column_stack(list(rows.values())).astype(tensors[0].dtype)}


def _values(column: Column, table: Any) -> Array:
    """Return a column of the table in the model's type. Unlike a request it may have missing values in any type."""
    if column.name not in table.column_names:
        if column.required:
            raise Unusable(f"column `{column.name}` is missing; the file has {', '.join(table.column_names)}")
        return missing(column, table.num_rows)
    import pyarrow as pa

    found = table.column(column.name)
    kind = found.type
    if pa.types.is_dictionary(kind):
        found = found.cast(kind.value_type)
    if pa.types.is_decimal(found.type):
        found = found.cast(pa.float64())
    if pa.types.is_timestamp(found.type) and column.type in ("datetime", "any"):
        return found.to_numpy().astype("datetime64[ns]")
    if _is_number(found.type) and column.type in ("float", "double"):
        return (
            found.cast(pa.float64()).to_numpy().astype(np.float32 if column.type == "float" else np.float64)
        )
    if pa.types.is_integer(found.type) and column.type in ("integer", "long") and not found.null_count:
        return found.cast(pa.int32() if column.type == "integer" else pa.int64()).to_numpy()
    if column.type == "any" and (_is_number(found.type) or pa.types.is_boolean(found.type)):
        return found.to_numpy()
    return _checked(column, found.to_pylist())


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _checked(column: Column, values: list[Any]) -> Array:
    if column.type in ("integer", "long"):
        values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    if column.type == "datetime":
        values = [value.isoformat() if hasattr(value, "isoformat") else value for value in values]
    if column.type == "binary":
        column = replace(column, type="any")
    try:
        return to_array(replace(column, required=False), values)
    except Refused as refusal:
        raise Unusable(refusal.message) from refusal


def _predicted(model: Model, rows: Mapping[str, Array], count: int, batch_rows: int) -> Any:
    if count == 0:
        raise Unusable("the file has no rows")
    for start in range(0, count, batch_rows):
        stop = min(start + batch_rows, count)
        yield model.predict({name: array[start:stop] for name, array in rows.items()}, stop - start)


def _named(parts: Sequence[Outputs], classes: Sequence[Any] | None) -> Mapping[str, Array]:
    joined = {
        name: np.concatenate([part.named[name] for part in parts])
        for name in parts[0].named
        if name != PROBABILITY
    }
    columns = {name: array if array.ndim == 1 else list(array) for name, array in joined.items()}
    if PROBABILITY not in parts[0].named or classes is None:
        return columns
    probability = np.concatenate([part.named[PROBABILITY] for part in parts])
    if len(classes) == 2:
        columns["score"] = probability[:, 1]
    columns.update({f"score_{label}": probability[:, index] for index, label in enumerate(classes)})
    return columns


def _write(parquet: Any, columns: Mapping[str, Array], path: Path, seconds: float) -> None:
    import pyarrow as pa

    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"seconds": f"{seconds:.6f}"})
    partial = path.with_name(f".{path.name}.partial")
    parquet.write_table(table, partial)
    partial.replace(path)


__all__ = ["PREDICTION", "Job", "read_jobs", "score"]
