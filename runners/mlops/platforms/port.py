"""The port of a rollout platform: where releases run and how traffic is split between them.

A *lane* is the physical place of a deployment (``blue`` or ``green``); a *slot* is the role that a lane plays at the
moment (``stable`` or ``candidate``). The ledger maps one to the other, so promotion and rollback never move a process.
Every method is idempotent: the engine calls it again after a crash, with what the ledger says.

Whoever was slow may still act on a ledger that others have moved on since. So each change carries the sequence number of
the event that it follows from, and a platform, under its lock, raises :class:`Outdated` for a lower one than it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mlops.errors import InfrastructureError
from mlops.release import Release

LANES = ("blue", "green")


class Outdated(InfrastructureError):  # noqa: N818 - says the fact
    """A change was decided on an older sequence than the platform has seen; nothing was done."""


def outdated(asked: int, seen: int) -> Outdated:
    """Return the error for a change of an older sequence."""
    return Outdated(
        "a newer decision is in force, so an older one was not carried out",
        expected=f"a decision of event {seen} of the ledger or a later one",
        found=f"event {asked}",
        remedy="run the command again; if the ledger was begun anew, run `mlops stop` once before",
    )


class Phase(StrEnum):
    """How far a lane has come."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a lane says of itself; ``detail`` explains FAILED in a sentence with the last lines of its log."""

    phase: Phase
    release: str = ""
    """Digest of the release that the lane runs; empty when absent."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What should run in a lane."""

    lane: str
    release: Release
    replicas: int = 1
    warm: bool = False
    """True when the lane only waits for a rollback (it keeps its replicas)."""
    sequence: int = field(default=0, compare=False)
    """Number of the last event that this follows from."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Cumulative counts of one lane since its epoch began; never rates.

    ``latency_seconds`` are the upper bounds of the histogram buckets, ascending; ``latency_counts`` has the *cumulative*
    number of answers at most that slow (same length). Answers slower than the last bound are ``requests`` minus the last count.
    """

    lane: str
    release: str
    epoch: str
    """A new value whenever the source began to count from zero again."""
    at: float
    """The source's own time, seconds since 1970."""
    requests: int
    errors: int
    latency_seconds: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()
    refused: int = 0
    """Answers 4xx: the server says that the request is wrong. Part of ``requests``, never of ``errors``."""


@dataclass(frozen=True, slots=True)
class Split:
    """The traffic split in force: share per lane in [0, 1], summing to 1, and the lane that gets a copy of each request."""

    weights: Mapping[str, float] = field(default_factory=dict)
    mirror: str | None = None
    sequence: int = field(default=0, compare=False)
    """Number of the last event that this follows from; of a split in force, the highest that the platform has seen."""


class Platform(Protocol):
    """What a platform must do; one module and one line of the contract suite each."""

    def check(self) -> None:
        """Raise UserError when the address that users call cannot be served from; change nothing.

        Asked before a rollout begins, when a refusal still costs nothing.
        """

    def deploy(self, deployment: Deployment) -> None:
        """Start the release in its lane and return at once; a lane that already runs it is left alone."""

    def ready(self, lane: str) -> Readiness:
        """Say how far the lane has come; READY only when the proxy, too, can reach it."""

    def split(self, split: Split) -> None:
        """Send each lane its share, atomically; return once the proxy has it."""

    def current(self) -> Split | None:
        """Return the split in force, or None when there is no proxy (or a dead one)."""

    def observe(self) -> tuple[Observation, ...]:
        """Return the counts per lane; an unreachable source raises InfrastructureError, never zeros."""

    def remove(self, lane: str, sequence: int = 0) -> None:
        """Drain the lane and end it; a lane that is absent is left alone. ``sequence`` as in :class:`Split`."""

    def endpoint(self) -> str:
        """Return the address that users call."""

    def stop(self) -> None:
        """End every process of this platform for the model (proxy and lanes), and forget the sequence it has seen."""
