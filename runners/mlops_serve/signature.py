"""The inputs that a model declares: MLflow's signature as plain records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCALARS = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")


@dataclass(frozen=True)
class Column:
    """One input of a model: a named column, or a tensor (``type`` is ``tensor``).

    ``required`` follows MLflow: an optional column may be left out, and may hold missing values whatever its type.
    """

    name: str
    type: str
    required: bool = True
    dtype: str = ""
    """NumPy type of a tensor's elements."""
    shape: tuple[int, ...] = ()
    """Shape of a tensor; -1 for an axis of any length, the first axis being the rows."""

    @property
    def is_tensor(self) -> bool:
        """Say whether this is a tensor and not a column."""
        return self.type == "tensor"

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        record: dict[str, Any] = {"name": self.name, "type": self.type, "required": self.required}
        if self.is_tensor:
            record.update(dtype=self.dtype, shape=list(self.shape))
        return record


def columns_of(entries: str | Sequence[Mapping[str, Any]] | None) -> tuple[Column, ...]:
    """Read a list of columns, in MLflow's form (or its JSON text) or in that of :meth:`Column.as_record`.

    A type that is neither scalar nor tensor (array, object, map, category) becomes ``any``: passed on as it comes.
    """
    if isinstance(entries, str):
        return columns_of(json.loads(entries))
    return tuple(_column(entry, index) for index, entry in enumerate(entries or ()))


def _column(entry: Mapping[str, Any], index: int) -> Column:
    kind = str(entry["type"])
    tensor: Mapping[str, Any] | None = entry.get("tensor-spec") or (entry if kind == "tensor" else None)
    if tensor is not None:
        return Column(
            name=str(entry.get("name") or ""),
            type="tensor",
            dtype=str(tensor["dtype"]),
            shape=tuple(tensor["shape"]),
        )
    return Column(
        name=str(entry.get("name", index)),
        type=kind if kind in SCALARS else "any",
        required=bool(entry.get("required", not entry.get("optional", False))),
    )
