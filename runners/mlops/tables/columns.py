"""What the columns of a table hold: kind, range, missing values; and a pandera schema to start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_FEW = 12
"""A column with no more distinct values than this is shown by its values."""


class Kind(StrEnum):
    """What a column holds, in words."""

    WHOLE = "whole number"
    NUMBER = "number"
    TEXT = "text"
    SWITCH = "true or false"
    TIME = "time"
    NOTHING = "nothing"
    OTHER = "something else"

    def fits(self, other: Kind) -> bool:
        """Say whether both can be the same column in two files."""
        numbers = {Kind.WHOLE, Kind.NUMBER}
        return self is other or Kind.NOTHING in {self, other} or {self, other} <= numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as it was found; JSON-serialisable by :meth:`as_record`."""

    name: str
    kind: Kind
    type: str
    """The Arrow type."""
    rows: int
    missing: int
    """Rows without a value: null or NaN."""
    lowest: float | int | str | None = None
    highest: float | int | str | None = None
    distinct: int | None = None
    """Number of distinct values; not counted for numbers with a fraction."""
    values: tuple[str, ...] = ()
    """All distinct values of a text column that has few of them."""

    @property
    def missing_share(self) -> float:
        """Share of the rows without a value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def summary(self) -> str:
        """The range or the values, for a person."""
        if self.values:
            return ", ".join(self.values)
        if self.kind is Kind.TEXT:
            return f"{self.distinct} values"
        return "" if self.lowest is None else f"{_short(self.lowest)} to {_short(self.highest)}"

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "kind": str(self.kind), "values": list(self.values)}


def kind_of(type_: pa.DataType) -> Kind:
    """Return the kind of an Arrow type."""
    from pyarrow import types

    if types.is_dictionary(type_):
        return kind_of(type_.value_type)
    tests = (
        (types.is_integer, Kind.WHOLE),
        (types.is_floating, Kind.NUMBER),
        (types.is_decimal, Kind.NUMBER),
        (types.is_boolean, Kind.SWITCH),
        (types.is_string, Kind.TEXT),
        (types.is_large_string, Kind.TEXT),
        (types.is_string_view, Kind.TEXT),
        (types.is_timestamp, Kind.TIME),
        (types.is_date, Kind.TIME),
        (types.is_null, Kind.NOTHING),
    )
    return next((kind for test, kind in tests if test(type_)), Kind.OTHER)


def describe(table: pa.Table) -> tuple[Column, ...]:
    """Return what each column holds."""
    return tuple(
        _column(field.name, table.column(index), field.type) for index, field in enumerate(table.schema)
    )


def _column(name: str, values: pa.ChunkedArray, type_: pa.DataType) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = kind_of(type_)
    if pa.types.is_dictionary(type_):
        values = values.cast(type_.value_type)
    if pa.types.is_floating(type_):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, type_), values)
    column = Column(name=name, kind=kind, type=str(type_), rows=len(values), missing=values.null_count)
    if kind in {Kind.OTHER, Kind.NOTHING} or column.missing == column.rows:
        return column
    return _ranged(column, values)


def _ranged(column: Column, values: pa.ChunkedArray) -> Column:
    from dataclasses import replace

    import pyarrow.compute as pc

    if column.kind in {Kind.WHOLE, Kind.TEXT, Kind.SWITCH}:
        column = replace(column, distinct=pc.count_distinct(values).as_py())
    if column.kind in {Kind.TEXT, Kind.SWITCH}:
        few = (column.distinct or 0) <= _FEW
        kept = sorted(str(value) for value in pc.unique(values.drop_null()).to_pylist()) if few else []
        return replace(column, values=tuple(kept))
    ends = pc.min_max(values)
    return replace(column, lowest=_json(ends["min"].as_py()), highest=_json(ends["max"].as_py()))


def _json(value: object) -> float | int | str:
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_PANDERA_TYPES = {
    Kind.WHOLE: "int",
    Kind.NUMBER: "float",
    Kind.TEXT: "str",
    Kind.SWITCH: "bool",
    Kind.TIME: '"datetime64[ns]"',
}


def pandera_code(columns: Sequence[Column]) -> str:
    """Return a ``schema.py`` that accepts what was found: a start, with ranges for a person to adjust."""
    lines = [
        "import pandera.pandas as pa",
        "",
        "schema = pa.DataFrameSchema(",
        "    {",
        *(f"        {column.name!r}: {_pandera_column(column)}," for column in columns),
        "    },",
        "    coerce=True,",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _pandera_column(column: Column) -> str:
    # A whole number with gaps is read as a number with a fraction.
    kind = Kind.NUMBER if column.kind is Kind.WHOLE and column.missing else column.kind
    arguments = [_PANDERA_TYPES.get(kind, "None")]
    if kind in {Kind.WHOLE, Kind.NUMBER} and column.lowest is not None:
        arguments.append(f"pa.Check.in_range({_literal(column.lowest)}, {_literal(column.highest)})")
    elif kind is Kind.TEXT and column.values:
        arguments.append(f"pa.Check.isin({list(column.values)!r})")
    if column.missing:
        arguments.append("nullable=True")
    return f"pa.Column({', '.join(arguments)})"


def _literal(value: object) -> str:
    return f'float("{value}")' if isinstance(value, str) else repr(value)
