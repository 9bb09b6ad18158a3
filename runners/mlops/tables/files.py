"""Read the data files of a model repo: Parquet or CSV, or a clear word on what is wrong with the file.

A CSV is read as ``pandas.read_csv`` would: dates stay text, the usual marks of missing values are missing.
What is different: a row with too few or too many values is an error, never silently filled or dropped.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from mlops.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz")
_SHOWN_ROWS = 5


def is_parquet(path: Path) -> bool:
    """Say whether the name is that of a Parquet file."""
    return path.name.lower().endswith(_PARQUET)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the file's rows as an Arrow table; UserError when it is absent, empty, broken or not a table."""
    present(path)
    table = _parquet(path) if is_parquet(path) else _csv(path)
    _named(path, table.column_names)
    if table.num_rows == 0:
        raise _wrong(path, "the file has no rows", "at least one row", "only the names of columns")
    if columns is not None:
        for column in columns:
            has_column(path, table.column_names, column)
        table = table.select(list(columns))
    return table


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return the table as pandas sees it: dates as ``datetime64``, the index a plain count."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    return frame


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Write the table to a Parquet file; equal tables give equal bytes."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", compression_level=1)
    return path


def has_column(path: Path, known: Sequence[str], column: str, role: str = "") -> None:
    """Raise UserError, with the nearest name, when the file has no such column."""
    if column in known:
        return
    meant = next(iter(get_close_matches(column, known, n=1)), "")
    shown = ", ".join(f"`{name}`" for name in known[:40]) + (" ..." if len(known) > 40 else "")
    raise UserError(
        f"{path.name} has no column `{column}`",
        expected=f"the column `{column}`" + (f", which mlops.yaml names as `{role}`" if role else ""),
        found=f"the columns {shown}",
        remedy=f"did you mean `{meant}`? Correct mlops.yaml"
        if meant
        else "correct mlops.yaml, or add the column",
        where=str(path),
    )


def _wrong(path: Path, headline: str, expected: str, found: str, remedy: str = "") -> UserError:
    return UserError(
        f"{path.name}: {headline}",
        expected=expected,
        found=found,
        remedy=remedy or f"correct {path} and run again",
        where=str(path),
    )


def present(path: Path) -> None:
    """Raise UserError unless the path is that of a file with something in it, of a kind that is read."""
    if not path.name.lower().endswith((*_PARQUET, *_CSV)):
        raise _wrong(
            path, "not a kind of file that is read", ", ".join((*_PARQUET, *_CSV)), path.suffix or "no suffix"
        )
    if path.is_dir():
        raise _wrong(path, "a folder, not a file", "one Parquet or CSV file", "a folder")
    if not path.exists():
        remedy = "correct the path in mlops.yaml, or fetch the data"
        raise _wrong(path, "no such file", "a Parquet or CSV file", "nothing", remedy)
    if path.stat().st_size == 0:
        raise _wrong(path, "the file is empty", "rows", "0 bytes")


def _parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # partitioning=None: `year=2024` in a folder's name is not a column
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _wrong(path, "not a readable Parquet file", "Parquet", _first_line(error)) from error
    # A saved pandas index is no column of the data.
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    return table.drop_columns(index).replace_schema_metadata(None)


def _csv(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        table = _parsed_csv(path, [])
        # Re-read rather than cast back: only the file knows how a date was written.
        dated = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
        # Text that is not UTF-8 comes as bytes; asked for as text, it is an error.
        coded = [field.name for field in table.schema if pa.types.is_binary(field.type)]
        return _parsed_csv(path, [*dated, *coded]) if dated or coded else table
    except (pa.ArrowInvalid, OSError) as error:
        _diagnose(path, error)


def _parsed_csv(path: Path, as_text: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            strings_can_be_null=True, column_types={name: pa.string() for name in as_text}
        ),
    )


def _named(path: Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise _wrong(
            path,
            f"the column `{twice[0]}` is there twice",
            "a name per column",
            f"{', '.join(twice)} repeated",
        )
    if "" in names:
        number = list(names).index("") + 1
        remedy = "write the file without the index: to_csv(..., index=False)"
        raise _wrong(
            path, f"column {number} has no name", "a name per column", "probably a saved index", remedy
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in names[0])
        raise _wrong(path, "one column only", "columns separated by commas", f"{mark!r} in the first line")


def _diagnose(path: Path, cause: Exception) -> NoReturn:
    """Find the rows that do not fit (slowly, but only ever for a broken file) and raise."""
    try:
        width, rows, broken = _broken_rows(path)
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise _wrong(path, "not UTF-8 text", "UTF-8", found, f"save {path} as UTF-8 and run again") from cause
    except (csv.Error, OSError) as error:
        raise _wrong(path, "not a readable CSV file", "comma-separated values", str(error)) from cause
    if not broken:
        raise _wrong(path, "not a readable CSV file", "comma-separated values", _first_line(cause)) from cause
    lines = ", ".join(f"line {line} has {count}" for line, count in broken[:_SHOWN_ROWS])
    more = f", and {len(broken) - _SHOWN_ROWS} more" if len(broken) > _SHOWN_ROWS else ""
    raise _wrong(
        path,
        f"{len(broken)} of {rows} rows are broken",
        f"{width} values in each row, as in the first line",
        lines + more,
        f"correct these lines of {path} and run again",
    ) from cause


def _broken_rows(path: Path) -> tuple[int, int, list[tuple[int, int]]]:
    """Return the number of columns, of rows, and (line, number of values) of each row that does not fit."""
    with _opened(path) as stream:
        reader = csv.reader(stream)
        width = len(next(reader, []))
        rows, broken, start = 0, [], reader.line_num + 1
        for row in reader:
            if row:
                rows += 1
                if len(row) != width:
                    broken.append((start, len(row)))
            start = reader.line_num + 1
    return width, rows, broken


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file, ExitStack() as stack:
        raw = stack.enter_context(gzip.open(file)) if path.name.lower().endswith(".gz") else file
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
