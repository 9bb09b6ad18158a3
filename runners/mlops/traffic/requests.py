"""Rows as inference requests of the Open Inference Protocol, version 2, encoded once and sent many times."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def v2_bodies(rows: Path, features: Sequence[str] | None = None, limit: int = 5000) -> list[bytes]:
    """Return one request body per row, for the first ``limit`` rows of a Parquet file.

    Each feature (all columns when None) is a tensor of shape [1]: BOOL, INT64, FP64, or BYTES for everything else (times
    in ISO 8601); a missing value is null. UserError when the file cannot be read, lacks a feature, or has no row.
    """
    table = _table(rows, features).slice(0, limit)
    columns = [_column(name, table.column(name)) for name in table.column_names]
    if not table.num_rows:
        raise UserError(
            f"{rows.name} has no rows to send", remedy="Give a file with at least one row.", where=str(rows)
        )
    return [
        json.dumps(
            {"inputs": [head | {"data": [values[index]]} for head, values in columns]}, separators=(",", ":")
        ).encode()
        for index in range(table.num_rows)
    ]


def _table(rows: Path, features: Sequence[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(rows).names
        if lacking := [name for name in features or () if name not in present]:
            raise UserError(
                f"{rows.name} lacks the column {lacking[0]}",
                expected=f"the features {', '.join(features or ())}",
                found=f"the columns {', '.join(present)}",
                remedy="Replay rows of the same shape as the training rows.",
                where=str(rows),
            )
        return pq.read_table(rows, columns=None if features is None else list(features))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{rows.name} cannot be read as Parquet",
            expected="a Parquet file of rows to send",
            found=str(error),
            remedy="Check the path, or write the file anew.",
            where=str(rows),
        ) from error


def _column(name: str, column: pa.ChunkedArray) -> tuple[dict[str, Any], list[Any]]:
    datatype, convert = _form(column.type)
    values = [None if value is None else convert(value) for value in column.to_pylist()]
    return {"name": name, "shape": [1], "datatype": datatype}, values


def _form(kind: pa.DataType) -> tuple[str, Callable[[Any], Any]]:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _form(kind.value_type)
    if pa.types.is_boolean(kind):
        return "BOOL", bool
    if pa.types.is_integer(kind):
        return "INT64", int
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "FP64", _number
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        return "BYTES", lambda value: value.isoformat()
    return "BYTES", str


def _number(value: float | Decimal) -> float | None:
    number = float(value)
    # JSON has neither NaN nor infinity; a missing number is what both mean to a model.
    return number if number - number == 0 else None
