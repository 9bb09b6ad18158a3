"""Turn the series of a rollout into the lines of a small picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 640
HEIGHT = 160
_NEEDED = ("seconds", "weight", "for_it", "against_it")


@dataclass(frozen=True, slots=True)
class Plot:
    """Three lines over time, each from 0 to 1, as SVG points in a box of ``WIDTH`` x ``HEIGHT``."""

    seconds: float
    """What the right border stands for."""
    weight: str
    for_it: str
    against_it: str
    requests: int
    errors: int


def plot_of(series: Mapping[str, Any]) -> Plot | None:
    """Return the picture of a series ``{columns: [...], rows: [[...], ...]}``; None when it is not one of a
    rollout."""
    columns, rows = series.get("columns"), series.get("rows")
    if not isinstance(columns, list | tuple) or not isinstance(rows, list | tuple):
        return None
    if not set(_NEEDED) <= set(columns) or len(rows) < 2:
        return None
    values = {name: [float(row[at]) for row in rows] for at, name in enumerate(columns)}
    times = values["seconds"]
    end = max(times) or 1.0
    return Plot(
        seconds=end,
        requests=int(values.get("candidate_requests", [0])[-1]),
        errors=int(values.get("candidate_errors", [0])[-1]),
        weight=_steps(times, values["weight"], end),
        for_it=_points(times, values["for_it"], end),
        against_it=_points(times, values["against_it"], end),
    )


def _points(times: Sequence[float], shares: Sequence[float], end: float) -> str:
    return " ".join(_point(time, share, end) for time, share in zip(times, shares, strict=True))


def _steps(times: Sequence[float], shares: Sequence[float], end: float) -> str:
    """Weights jump: each value holds until the next one."""
    until = (*times[1:], times[-1])
    return " ".join(
        f"{_point(time, share, end)} {_point(later, share, end)}"
        for time, later, share in zip(times, until, shares, strict=True)
    )


def _point(time: float, share: float, end: float) -> str:
    return f"{WIDTH * time / end:.1f},{HEIGHT * (1 - min(max(share, 0.0), 1.0)):.1f}"
