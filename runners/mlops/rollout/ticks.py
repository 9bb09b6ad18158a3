"""The ticks of a running rollout: what was seen, what it meant; each starts from the one before.

A tick is a create-only object ``rollouts/<id>/ticks/<number, 8 digits>.json``, so that of several processes
that look at once exactly one goes on, and nothing is held in memory. Ticks are working notes, not the
record: the ledger has the decisions, and what it keeps of the ticks is the series in the last event. Only
the newest ones are kept; none after the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import uuid4

from mlops.canonical import canonical_json
from mlops.platforms.port import Observation
from mlops.store import Store

SERIES_POINTS = 200
"""Points of the evidence series that are kept; when there are more, every second one goes."""
_KEPT = 16


@dataclass(frozen=True, slots=True)
class Counted:
    """What one lane has answered since the rollout's first look at it."""

    requests: int = 0
    errors: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One look. ``number`` 0 stands for "nothing seen yet" and is never stored."""

    number: int = 0
    at: float = 0.0
    """Seconds since 1970, by the clock of who looked."""
    step: int = -1
    weight: float = 0.0
    """The candidate's share when this look was taken, before what was decided on it."""
    seen: Mapping[str, Observation] = field(default_factory=dict)
    """Per lane, the cumulative counts that the next tick subtracts."""
    counted: Mapping[str, Counted] = field(default_factory=dict)
    """Per lane, the sum of what was subtracted."""
    judge: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """State of the judge per metric."""
    here: int = 0
    """The candidate's requests that were counted at the share now in force."""
    verdict: str = "HOLD"
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    forecast_requests: int | None = None
    """Requests of the candidate that the next verdict needs if rates stay as they are."""
    blind: str = ""
    """Why nothing could be counted; empty when it could."""
    notes: tuple[str, ...] = ()
    """What was out of the ordinary: a source that began anew, a lane that had to be repaired."""
    unready_since: float | None = None
    """Since when the candidate has not been ready; None when it is."""
    restarts: int = 0
    """How often the candidate failed after it had users."""
    series: tuple[tuple[float, ...], ...] = ()
    """Thinned history, one row per kept tick; columns are named by :data:`COLUMNS`."""
    writer: str = ""
    """Unique per written tick: tells one's own from another's when an answer was lost on the way."""

    @property
    def begun(self) -> bool:
        """Whether there was a look at all."""
        return self.number > 0

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tick:
        """Rebuild from the JSON form."""
        return cls(
            **{
                **record,
                # Counts without refused requests are of an earlier version: nothing can be subtracted from
                # them, so the next look sets the baseline again.
                "seen": {
                    lane: _observation(each) for lane, each in record["seen"].items() if "refused" in each
                },
                "counted": {lane: Counted(**each) for lane, each in record["counted"].items()},
                "notes": tuple(record["notes"]),
                "series": tuple(tuple(row) for row in record["series"]),
            }
        )


COLUMNS = (
    "seconds",
    "weight",
    "candidate_requests",
    "candidate_errors",
    "stable_requests",
    "stable_errors",
    "for_it",
    "against_it",
)


def thinned(series: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Return at most ``SERIES_POINTS`` rows: every second one of the older when there are more."""
    return series if len(series) <= SERIES_POINTS else (*series[:-1:2], series[-1])


def _observation(record: Mapping[str, Any]) -> Observation:
    return Observation(
        **{
            **record,
            "latency_seconds": tuple(record["latency_seconds"]),
            "latency_counts": tuple(record["latency_counts"]),
        }
    )


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of one rollout in a store."""

    store: Store
    rollout: str

    def latest(self) -> Tick:
        """Return the newest tick, or an empty one."""
        paths = self.store.list(self._folder)
        data = self.store.get(paths[-1]) if paths else None
        return Tick.from_record(json.loads(data)) if data else Tick()

    def write(self, tick: Tick) -> bool:
        """Write the tick after the one it started from; False when another process was first."""
        own = canonical_json(replace(tick, writer=uuid4().hex).as_record())
        path = self._path(tick.number)
        if not self.store.create(path, own) and self.store.get(path) != own:
            return False
        if tick.number > _KEPT:
            self.store.delete(self._path(tick.number - _KEPT))
        return True

    def sweep(self) -> None:
        """Delete them all; the rollout has ended."""
        for path in self.store.list(self._folder):
            self.store.delete(path)

    @staticmethod
    def sweep_leftovers(store: Store, prefix: str, but: str) -> None:
        """Delete the ticks of ended rollouts whose last process was killed before it could."""
        for path in store.list("rollouts/"):
            rollout = path.split("/")[1]
            if rollout.startswith(prefix) and rollout != but:
                store.delete(path)

    @property
    def _folder(self) -> str:
        return f"rollouts/{self.rollout}/ticks/"

    def _path(self, number: int) -> str:
        return f"{self._folder}{number:08d}.json"
