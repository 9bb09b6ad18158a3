"""The rows that every stage uses: the training rows, and the holdout that training never sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.canonical import digest_file
from mlops.errors import UserError
from mlops.tables.files import frame_of, has_column, is_parquet, present, read_table, write_parquet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops.contract.model import Contract
    from mlops.pipeline.stage import Context

TRAIN_FILE = "train.parquet"
HOLDOUT_FILE = "holdout.parquet"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file."""

    frame: pd.DataFrame
    path: Path
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Training rows and holdout, as Parquet files (absolute paths)."""

    train: Path
    holdout: Path
    train_digest: str
    """SHA-256 of the file ``train``."""
    holdout_digest: str
    """SHA-256 of the file ``holdout``."""
    rule: str
    """How the holdout came about, in words."""


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Rows:
    """Return the rows of a Parquet or CSV file; UserError when it is absent, broken or lacks a column."""
    return Rows(frame_of(read_table(path, columns)), path, digest_file(path))


def features_of(contract: Contract, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the feature columns, in the order of the file: all but target, id and ignored ones."""
    data = contract.data
    return tuple(name for name in columns if name not in {contract.target, data.id, *data.ignore})


def split(contract: Contract, workspace: Path, into: Path) -> Split:
    """Return training rows and holdout; what is not a Parquet file of the repo yet is written below ``into``.

    Without a holdout file, the last ``holdout_fraction`` of the rows by ``time`` is held out; else rows (or,
    with ``entity``, whole entities) are chosen by a hash of their content, so that the choice stays the same
    when rows are added or reordered, and equal rows are never on both sides. UserError when one side would
    have no row.
    """
    into.mkdir(parents=True, exist_ok=True)
    if contract.data.holdout is not None:
        return _given(workspace / contract.data.train, workspace / contract.data.holdout, into)
    table = read_table(workspace / contract.data.train)
    held, rule = _held_out(table, contract, workspace / contract.data.train)
    return _files(
        _written(table, ~held, into / TRAIN_FILE), _written(table, held, into / HOLDOUT_FILE), rule=rule
    )


def split_of(context: Context) -> Split:
    """Return the split that ``validate`` has checked: its files, or those of the repo that it points to."""
    paths = {name: _path_of(context, name) for name in ("train", "holdout")}
    return Split(
        **paths,
        train_digest=context.fact("validate", "train_digest"),
        holdout_digest=context.fact("validate", "holdout_digest"),
        rule=context.fact("validate", "split"),
    )


def _path_of(context: Context, name: str) -> Path:
    if name in context.upstream["validate"].artifacts:
        return context.artifact("validate", name)
    return context.workspace / str(context.fact("validate", name))


def _files(train: Path, holdout: Path, *, rule: str) -> Split:
    return Split(
        train=train,
        holdout=holdout,
        train_digest=digest_file(train),
        holdout_digest=digest_file(holdout),
        rule=rule,
    )


def _written(table: pa.Table, mask: NDArray[np.bool_], path: Path) -> Path:
    import pyarrow as pa

    return write_parquet(table.filter(pa.array(mask)), path)


def _given(train: Path, holdout: Path, into: Path) -> Split:
    rule = f"the file {holdout.name}"
    if is_parquet(train) and is_parquet(holdout):
        for path in (train, holdout):
            present(path)
        return _files(train, holdout, rule=rule)
    left, right = read_table(train), read_table(holdout)
    left, right = _alike(left, right), _alike(right, left)
    return _files(
        train if is_parquet(train) else write_parquet(left, into / TRAIN_FILE),
        holdout if is_parquet(holdout) else write_parquet(right, into / HOLDOUT_FILE),
        rule=rule,
    )


def _alike(table: pa.Table, other: pa.Table) -> pa.Table:
    """Give columns the types of the other file where only the values that happen to be there differ."""
    import pyarrow as pa

    fields = [field.with_type(_type_alike(field, other.schema)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _type_alike(field: pa.Field, other: pa.Schema) -> pa.DataType:
    import pyarrow as pa

    if field.name not in other.names:
        return field.type
    theirs = other.field(field.name).type
    if pa.types.is_null(field.type) or (pa.types.is_integer(field.type) and pa.types.is_floating(theirs)):
        return theirs
    return field.type


def _held_out(table: pa.Table, contract: Contract, path: Path) -> tuple[NDArray[np.bool_], str]:
    data = contract.data
    percent = f"{100 * data.holdout_fraction:g} %"
    if data.time is not None:
        has_column(path, table.column_names, data.time, "data.time")
        times = moments(frame_of(table.select([data.time]))[data.time], path)
        mask = _latest(times, data.holdout_fraction)
        return _both_sides(mask, path, data.time), f"the last {percent} by `{data.time}`"
    if data.entity is not None:
        has_column(path, table.column_names, data.entity, "data.entity")
        mask = _by_hash(table.select([data.entity]), data.holdout_fraction)
        return _both_sides(mask, path, data.entity), f"{percent} of `{data.entity}`, chosen by hash"
    content = table.drop_columns([data.id]) if data.id in table.column_names else table
    mask = _by_hash(content, data.holdout_fraction)
    return _both_sides(mask, path, "the content of the row"), f"{percent} of the rows, chosen by hash"


def _both_sides(mask: NDArray[np.bool_], path: Path, by: str) -> NDArray[np.bool_]:
    if 0 < mask.sum() < len(mask):
        return mask
    raise UserError(
        f"{path.name}: no holdout can be chosen by {by}",
        expected="rows that differ, on both sides",
        found=f"{len(mask)} rows that are too alike, or too few",
        remedy="give a file of its own: `data.holdout` in mlops.yaml",
        where=str(path),
    )


def _latest(times: NDArray[Any], fraction: float) -> NDArray[np.bool_]:
    """Mark the last rows; rows of one time stay together, at the border closest to the fraction."""
    import numpy as np

    distinct, counts = np.unique(times, return_counts=True)
    held = counts[::-1].cumsum()[::-1] / len(times)
    border = distinct[1:][np.abs(held[1:] - fraction).argmin()] if len(distinct) > 1 else distinct[0]
    mask: NDArray[np.bool_] = times >= border
    return mask


def _by_hash(table: pa.Table, fraction: float) -> NDArray[np.bool_]:
    import numpy as np

    # The upper 53 bits make an even number in [0, 1).
    mask: NDArray[np.bool_] = (row_hashes(frame_of(table)) >> np.uint64(11)) * 2.0**-53 < fraction
    return mask


def row_hashes(frame: pd.DataFrame) -> NDArray[np.uint64]:
    """Return a 64-bit hash per row that depends on the values only, the same in every process."""
    import numpy as np
    from pandas.util import hash_pandas_object

    hashes = hash_pandas_object(frame, index=False).to_numpy(np.uint64)
    # Finaliser of splitmix64 (Steele, Lea, Flood 2014): pandas' hash of a single number is not well mixed.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes = np.bitwise_xor(hashes, hashes >> np.uint64(shift)) * np.uint64(factor)
    mixed: NDArray[np.uint64] = np.bitwise_xor(hashes, hashes >> np.uint64(31))
    return mixed


def moments(column: pd.Series[Any], path: Path) -> NDArray[Any]:
    """Return the times as numbers that sort (dates: nanoseconds, in UTC); UserError when a row has none."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    times = column
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        times = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True).astype(
            "datetime64[ns, UTC]"
        )
    if (missing := times.isna()).any():
        rows = missing.to_numpy().nonzero()[0]
        raise UserError(
            f"{path.name}: {len(rows)} rows have no time in `{column.name}`",
            expected="a number, a timestamp, or text such as 2024-01-31T08:00:00, in every row",
            found="; ".join(_shown_rows(column, rows[:5])),
            remedy="fill these rows or drop them",
            where=str(path),
        )
    values: NDArray[Any] = times.astype("int64").to_numpy() if times is not column else times.to_numpy()
    return values


def _shown_rows(column: pd.Series[Any], rows: NDArray[np.intp]) -> Iterator[str]:
    for row in rows:
        yield f"row {row + 1}: {column.iloc[row]!r}"
