"""State is a fold over the events: a pure function, the only reading of what is deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlops.ledger.events import (
    Event,
    HoldoutUsed,
    Promoted,
    Registered,
    Retired,
    RolledBack,
    RolloutStarted,
    WeightSet,
)

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Placement:
    """A release in a lane, since when."""

    release: Mapping[str, Any]
    lane: str
    since: str
    replicas: int = 1
    window_seconds: float = 86400.0
    """How long it stays warm once it is no longer served."""

    def __post_init__(self) -> None:
        if "digest" not in self.release:
            raise ValueError("a release without its digest cannot be placed")

    @property
    def digest(self) -> str:
        """Digest of the release."""
        return str(self.release["digest"])


@dataclass(frozen=True, slots=True)
class RolloutState:
    """A rollout that has begun and not ended."""

    id: str
    candidate: Placement
    strategy: str
    settings: Mapping[str, Any]
    started: str
    step: int = -1
    """Index of the step in force; -1 until the candidate has had its first share."""
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """All that one ledger says: what serves, what is warm, what moves, and the counts that decisions need."""

    sequence: int = 0
    """Sequence number of the last event; 0 for an empty ledger (the first event is number 1)."""
    head: str = GENESIS
    serving: Placement | None = None
    warm: Placement | None = None
    """The release that a rollback returns to at once."""
    rollout: RolloutState | None = None
    draining: tuple[Placement, ...] = ()
    """Lanes out of traffic that must still be emptied."""
    releases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Every registered release by digest, in order of registration."""
    holdouts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Per holdout digest: alpha spent per candidate."""

    def weights(self) -> dict[str, float]:
        """Return the share of each lane that takes part in traffic, as the ledger wants it."""
        if self.rollout is None:
            return {self.serving.lane: 1.0} if self.serving else {}
        shares = {self.rollout.candidate.lane: self.rollout.weight}
        if self.serving is not None:
            shares[self.serving.lane] = 1.0 - self.rollout.weight
        return shares

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form, for snapshots."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> State:
        """Rebuild from a snapshot."""
        fields = dict(record)
        for name in ("serving", "warm"):
            fields[name] = Placement(**fields[name]) if fields[name] else None
        if fields["rollout"]:
            rollout = dict(fields["rollout"])
            fields["rollout"] = RolloutState(**{**rollout, "candidate": Placement(**rollout["candidate"])})
        fields["draining"] = tuple(Placement(**each) for each in fields["draining"])
        return cls(**fields)


def fold(state: State, events: Iterable[Event]) -> State:
    """Apply the events in order."""
    for event in events:
        payload = event.payload
        apply = _APPLY.get(type(payload))
        if apply is not None:
            state = apply(payload, state, event)
        state = replace(state, sequence=event.sequence, head=event.hash)
    return state


def _registered(payload: Registered, state: State, event: Event) -> State:  # noqa: ARG001
    return replace(state, releases={**state.releases, str(payload.release["digest"]): payload.release})


def _holdout_used(payload: HoldoutUsed, state: State, event: Event) -> State:  # noqa: ARG001
    spent = {**state.holdouts.get(payload.holdout, {}), payload.candidate: payload.alpha}
    return replace(state, holdouts={**state.holdouts, payload.holdout: spent})


def _rollout_started(payload: RolloutStarted, state: State, event: Event) -> State:
    if state.serving is not None and state.serving.lane == payload.lane:
        # It would deploy over what serves: such a rollout never begins, its later events belong to none.
        return state
    candidate = Placement(
        release=payload.release,
        lane=payload.lane,
        since=event.at,
        replicas=int(payload.settings.get("replicas", 1)),
        window_seconds=float(payload.settings.get("rollback_window", 86400)),
    )
    if state.rollout is not None:
        state = _abandoned(state, state.rollout, event)
    # The candidate takes the lane of whatever was warm or draining there: its tenant gives way.
    return replace(
        state,
        warm=None if state.warm is not None and state.warm.lane == payload.lane else state.warm,
        draining=tuple(each for each in state.draining if each.lane != payload.lane),
        rollout=RolloutState(
            id=payload.rollout,
            candidate=candidate,
            strategy=payload.strategy,
            settings=payload.settings,
            started=event.at,
        ),
    )


def _abandoned(state: State, rollout: RolloutState, event: Event) -> State:
    """End the rollout; its candidate's lane must be emptied."""
    leaving = replace(rollout.candidate, since=event.at)
    return replace(state, rollout=None, draining=(*state.draining, leaving))


def _taken_over(state: State, rollout: RolloutState, event: Event) -> State:
    """End the rollout; its candidate serves, what served stays warm."""
    warm = None if state.serving is None else replace(state.serving, since=event.at)
    # One release stays warm; with more than two lanes an older one still occupies another.
    older = () if state.warm is None else (replace(state.warm, since=event.at),)
    return replace(
        state,
        serving=replace(rollout.candidate, since=event.at),
        warm=warm,
        rollout=None,
        draining=(*state.draining, *older),
    )


def _weight_set(payload: WeightSet, state: State, event: Event) -> State:  # noqa: ARG001
    if state.rollout is None or state.rollout.id != payload.rollout:
        return state
    return replace(state, rollout=replace(state.rollout, step=payload.step, weight=payload.weight))


def _promoted(payload: Promoted, state: State, event: Event) -> State:
    rollout = state.rollout
    if rollout is None or rollout.id != payload.rollout:
        return state
    return _taken_over(state, rollout, event)


def _rolled_back(payload: RolledBack, state: State, event: Event) -> State:
    rollout = state.rollout
    if payload.rollout:
        if rollout is None or rollout.id != payload.rollout:
            return state
        # The way back to a release that is no longer warm (mlops.rollout.way_back): it was started again as a
        # candidate, and this event gives it the traffic.
        candidate = rollout.candidate.digest
        returned = payload.to == candidate != payload.release
        return (_taken_over if returned else _abandoned)(state, rollout, event)
    if state.warm is None or state.serving is None or state.warm.digest != payload.to:
        return state
    # The release that was taken out stays warm: a rollback can itself be undone.
    return replace(
        state,
        serving=replace(state.warm, since=event.at),
        warm=replace(state.serving, since=event.at),
    )


def _retired(payload: Retired, state: State, event: Event) -> State:  # noqa: ARG001
    def stays(placement: Placement) -> bool:
        return placement.lane != payload.lane or placement.digest != payload.release

    return replace(
        state,
        warm=state.warm if state.warm is not None and stays(state.warm) else None,
        draining=tuple(each for each in state.draining if stays(each)),
    )


# Kinds that are not here, known or not, change no state.
_APPLY: Mapping[type, Callable[[Any, State, Event], State]] = {
    Registered: _registered,
    HoldoutUsed: _holdout_used,
    RolloutStarted: _rollout_started,
    WeightSet: _weight_set,
    Promoted: _promoted,
    RolledBack: _rolled_back,
    Retired: _retired,
}
