"""One way to show and keep what was measured: a table on the terminal and `build/bench/<name>.json`."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parents[1] / "build" / "bench"
_HOLDS = {"<=": operator.le, ">=": operator.ge, "": lambda _value, _bar: True}


@dataclass(frozen=True)
class Figure:
    """A measured value and what was asked of it. ``sense`` is `<=` or `>=`; empty where nothing was asked."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    sense: Literal["<=", ">=", ""] = ""

    @property
    def holds(self) -> bool:
        """Whether the value is as asked."""
        return self.bar is None or bool(_HOLDS[self.sense](self.value, self.bar))

    def as_record(self) -> dict[str, object]:
        """Return the JSON form."""
        return {**asdict(self), "holds": self.holds}


def publish(name: str, figures: Sequence[Figure]) -> None:
    """Print the table and write the file; figures that fall short stay in it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps([each.as_record() for each in figures], indent=1) + "\n")
    width = max(len(each.name) for each in figures)
    for each in figures:
        bar = "" if each.bar is None else f"{each.sense} {each.bar:g}"
        mark = "" if each.bar is None else ("ok" if each.holds else "FALLS SHORT")
        print(f"{each.name:<{width}}  {each.value:>12.4g} {each.unit:<10} {bar:<12} {mark}")
