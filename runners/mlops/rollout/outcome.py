"""What one look at a rollout came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlops.errors import CouldNotTell, GateFailed, InfrastructureError
from mlops.ledger.events import Event, Promoted, RolledBack
from mlops.ledger.state import RolloutState, State


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
    release: Mapping[str, Any] = field(default_factory=dict)
    """The release that this is about, as the ledger has it."""
    verdict: str = "HOLD"
    weight: float = 0.0
    """The candidate's share of the users in [0, 1]."""
    requests: int = 0
    """Requests that the candidate has answered."""
    errors: int = 0
    for_it: float = 0.0
    """Part in [0, 1] of the evidence that the next share needs, on the log scale."""
    against_it: float = 0.0
    """Part in [0, 1] of the evidence that a rollback needs."""
    forecast_seconds: float | None = None
    """Time to the next verdict if things go on as they do; None when that cannot be said."""
    cause: str = ""
    """Why it was rolled back: ``judge``, ``person``, ``deadline`` or ``deployment``."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind it; an end has a ``series`` of at most 200 points for a plot."""
    exit_code: int = 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.progress in ENDS or self.progress is Progress.IDLE


def named(release: Mapping[str, Any]) -> str:
    """Return a release's name for people: its version and the beginning of its digest."""
    return f"version {release['version']} ({str(release['digest'])[:12]})"


def ending(event: Event, candidate: Mapping[str, Any]) -> Outcome:
    """Return what a rollout of the candidate came to, from the event that ended it."""
    payload = event.payload
    if isinstance(payload, Promoted):
        return Outcome(
            progress=Progress.PROMOTED,
            sentence=f"{named(candidate)} serves now. {event.reason}",
            rollout=payload.rollout,
            release=candidate,
            verdict=payload.verdict,
            weight=1.0,
            evidence=payload.evidence,
            **_counts(payload.evidence),
        )
    if isinstance(payload, RolledBack):
        return _returned(payload, event.reason, candidate)
    raise ValueError(f"{event.kind} does not end a rollout")


def _returned(payload: RolledBack, reason: str, candidate: Mapping[str, Any]) -> Outcome:
    again = payload.to == candidate["digest"]
    undecided = payload.cause == "deadline"
    return Outcome(
        progress=Progress.UNDECIDED if undecided else Progress.ROLLED_BACK,
        sentence=f"{named(candidate)} {'serves again' if again else 'was taken back'}. {reason}",
        rollout=payload.rollout,
        release=candidate,
        verdict="ROLLBACK" if payload.cause == "judge" else "HOLD",
        weight=1.0 if again else 0.0,
        cause=payload.cause,
        evidence=payload.evidence,
        exit_code=0 if again else _EXIT_CODES[payload.cause],
        **_counts(payload.evidence),
    )


def resting(state: State, trouble: Iterable[str]) -> Outcome:
    """Return the outcome while no rollout is running."""
    if state.serving is None:
        return Outcome(progress=Progress.IDLE, sentence="Nothing serves, and no rollout is running.")
    sentence = "; ".join([f"{named(state.serving.release)} serves", *trouble])
    return Outcome(progress=Progress.IDLE, sentence=f"{sentence}.", release=state.serving.release, weight=1.0)


def given_up(rollout: str, release: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a rollout that another one has taken the place of without a word."""
    return Outcome(
        progress=Progress.UNDECIDED,
        sentence=f"Rollout {rollout} runs no more, and the ledger does not say how it ended.",
        rollout=rollout,
        release=release,
        exit_code=CouldNotTell.exit_code,
    )


def unreachable(running: RolloutState | None, error: InfrastructureError) -> Outcome:
    """Return the outcome of a look that failed; it says nothing about the rollout."""
    return Outcome(
        progress=Progress.RUNNING,
        sentence=f"Nothing is decided: {error.headline}.",
        rollout=running.id if running else "",
        release=running.candidate.release if running else {},
        weight=running.weight if running else 0.0,
    )


_EXIT_CODES = {
    "judge": GateFailed.exit_code,
    "deployment": GateFailed.exit_code,
    "person": GateFailed.exit_code,
    "deadline": CouldNotTell.exit_code,
}
"""By cause, for whoever waits for the rollout; to the person who asked for it, a rollback is a success."""


def _counts(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: evidence[name] for name in ("requests", "errors", "for_it", "against_it") if name in evidence
    }
