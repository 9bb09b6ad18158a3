"""The port of rollouts: what stages and commands may ask for, and the answer they get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from mlops.release import Release


class Progress(StrEnum):
    """How far a rollout has come; the last three are ends."""

    IDLE = "idle"
    """No rollout is running."""
    STARTING = "starting"
    """The candidate is not ready yet and has no users."""
    RUNNING = "running"
    """The candidate answers a share of the users."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    UNDECIDED = "could not tell"
    """The deadline came first; the candidate was taken back, because it is never promoted on a guess."""


ENDS = frozenset({Progress.PROMOTED, Progress.ROLLED_BACK, Progress.UNDECIDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one look at a rollout came to."""

    progress: Progress
    sentence: str
    """For a person: what is going on and why."""
    rollout: str = ""
    release: str = ""
    """Digest of the release that this is about."""
    verdict: str = "HOLD"
    weight: float = 0.0
    """The candidate's share of the users in [0, 1]."""
    cause: str = ""
    """Why it was rolled back: ``judge``, ``person``, ``deadline`` or ``deployment``."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind it; ``series`` holds up to 200 points for a plot."""
    forecast_seconds: float | None = None
    """Time to the next decision if things go on as they do; None when that cannot be said."""
    exit_code: int = 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.progress in ENDS or self.progress is Progress.IDLE


class Rollouts(Protocol):
    """One model's rollouts in one environment; safe to be called by several processes at once."""

    def begin(
        self, release: Release, settings: Mapping[str, Any], reason: str, *, supersede: bool = False
    ) -> str:
        """Begin to move the environment to the release; return the rollout's id, empty when it serves already."""

    def advance(self) -> Outcome:
        """Take one step: read the ledger, make the platform equal to it, observe, judge, act, append."""

    def rollback(self, reason: str, actor: str = "") -> Outcome:
        """Take the running candidate, else the served release, out of traffic: one event and one split."""

    def watch(
        self, on_tick: Callable[[Outcome], None] | None = None, tick_seconds: float = 1.0
    ) -> Outcome:
        """Advance until the running rollout has ended, whoever ends it."""

    def endpoint(self) -> str:
        """Return the address that users call."""
