"""What can be recorded in a ledger: one frozen record per kind of event.

A payload says *what was decided and on which numbers*; who, when, why and from which build is in the envelope
(:class:`Event`), written by :class:`mlops.ledger.Ledger`. Unknown kinds are kept and skipped by the fold, so
an older reader can follow a newer writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Base of all payloads; ``kind`` is the word in the file."""

    kind: ClassVar[str] = ""

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form without the kind."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(Payload):
    """A release came into being: a version in the registry with its package, contract and evidence."""

    kind: ClassVar[str] = "registered"
    release: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutUsed(Payload):
    """A candidate was compared on a holdout; each distinct pair spends part of the gate's error rate."""

    kind: ClassVar[str] = "holdout-used"
    candidate: str
    """Digest of the candidate's package."""
    holdout: str
    """Digest of the holdout's rows."""
    alpha: float
    """The error rate spent on this comparison."""
    verdict: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted(Payload):
    """Intent to move the environment to a release; the ticks that follow deploy it into ``lane``."""

    kind: ClassVar[str] = "rollout-started"
    rollout: str
    """Unique id of the rollout."""
    release: Mapping[str, Any]
    lane: str
    strategy: str
    settings: Mapping[str, Any]
    """The contract's rollout section: steps, alpha, beta, objective, deadline, rollback_window, replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSet(Payload):
    """The candidate's share of traffic, decided on ``evidence``; each tick makes the platform equal to it."""

    kind: ClassVar[str] = "weight-set"
    rollout: str
    step: int
    """Index of the strategy's step that is now in force."""
    weight: float
    """Share in [0, 1]."""
    verdict: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Payload):
    """The candidate is now what the environment serves; the former release stays warm for its window."""

    kind: ClassVar[str] = "promoted"
    rollout: str
    verdict: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Payload):
    """Traffic goes back: from a running rollout's candidate, or from the served release to the one before.

    ``rollout`` is empty when no rollout was running. ``to`` is the digest of the release that serves from now
    on (empty when there was none before).
    """

    kind: ClassVar[str] = "rolled-back"
    rollout: str
    release: str
    """Digest of the release that is taken out of traffic."""
    to: str
    cause: str
    """``judge``, ``person``, ``deadline`` or ``deployment`` (the candidate never became ready)."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired(Payload):
    """A warm release's window is over; its lane is emptied by the ticks that follow."""

    kind: ClassVar[str] = "retired"
    lane: str
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Payload):
    """Something worth keeping that changes no state: a repair, a refusal, a person's remark."""

    kind: ClassVar[str] = "noted"
    subject: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, type[Payload]] = {
    payload.kind: payload
    for payload in (Registered, HoldoutUsed, RolloutStarted, WeightSet, Promoted, RolledBack, Retired, Noted)
}


def payload_of(kind: str, record: Mapping[str, Any]) -> Payload | None:
    """Rebuild a payload; None for a kind that this version does not know. Fields added later are ignored."""
    known = KINDS.get(kind)
    if known is None:
        return None
    names = {each.name for each in fields(known)}
    return known(**{name: value for name, value in record.items() if name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A payload in its envelope, as it stands at one sequence number of one ledger."""

    sequence: int
    id: str
    """Unique; tells one's own event from another's after a retried write."""
    at: str
    """UTC, ISO 8601 with microseconds."""
    actor: str
    reason: str
    build: str
    """URL of the build, empty on a laptop."""
    commit: str
    previous: str
    """SHA-256 of the predecessor's file content; 64 zeros for the first."""
    kind: str
    data: Mapping[str, Any]
    hash: str = ""
    """SHA-256 of this event's file content (not part of the content)."""

    @property
    def payload(self) -> Payload | None:
        """The typed payload, None for an unknown kind."""
        return payload_of(self.kind, self.data)
