"""Events to fold: built by hand, and every history that hypothesis can think of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mlops.ledger.events import (
    Event,
    HoldoutUsed,
    Noted,
    Payload,
    Promoted,
    Registered,
    Retired,
    RolledBack,
    RolloutStarted,
    WeightSet,
)
from mlops.ledger.state import GENESIS, State, fold


def release(name: str) -> dict[str, Any]:
    return {"digest": name, "model": "m", "version": "1"}


def event(sequence: int, payload: Payload) -> Event:
    return Event(
        sequence=sequence,
        id=f"id-{sequence}",
        at=f"2030-01-01T00:00:{sequence % 60:02d}.000000+00:00",
        actor="ada",
        reason="because",
        build="",
        commit="",
        previous=GENESIS,
        kind=payload.kind,
        data=payload.as_record(),
        hash=f"{sequence:064x}",
    )


def after(*payloads: Payload, state: State | None = None) -> State:
    """Fold the payloads as the events 1, 2, 3 ..."""
    state = state or State()
    return fold(state, [event(number, each) for number, each in enumerate(payloads, state.sequence + 1)])


def started(rollout: str, name: str, lane: str, **settings: Any) -> RolloutStarted:
    return RolloutStarted(
        rollout=rollout, release=release(name), lane=lane, strategy="canary", settings=settings
    )


def promoted(rollout: str) -> Promoted:
    return Promoted(rollout=rollout, verdict="PROMOTE")


def back(rollout: str, name: str, to: str) -> RolledBack:
    return RolledBack(rollout=rollout, release=name, to=to, cause="person")


lanes = st.sampled_from(["blue", "green", "red"])
rollouts = st.sampled_from(["r1", "r2", "r3"])
digests = st.sampled_from(["A", "B", "C"])
shares = st.floats(0, 1, allow_nan=False)
numbers = st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False), max_size=2)

payloads: st.SearchStrategy[Payload] = st.one_of(
    st.builds(Registered, release=digests.map(release)),
    st.builds(
        HoldoutUsed,
        candidate=digests,
        holdout=digests,
        alpha=shares,
        verdict=st.text(max_size=3),
        numbers=numbers,
    ),
    st.builds(
        RolloutStarted,
        rollout=rollouts,
        release=digests.map(release),
        lane=lanes,
        strategy=st.just("canary"),
        settings=st.fixed_dictionaries(
            {}, optional={"replicas": st.integers(1, 9), "rollback_window": st.integers(0, 99)}
        ),
    ),
    st.builds(
        WeightSet,
        rollout=rollouts,
        step=st.integers(0, 3),
        weight=shares,
        verdict=st.just("PROMOTE"),
        evidence=numbers,
    ),
    st.builds(Promoted, rollout=rollouts, verdict=st.just("PROMOTE"), evidence=numbers),
    st.builds(
        RolledBack,
        rollout=st.one_of(st.just(""), rollouts),
        release=digests,
        to=st.one_of(st.just(""), digests),
        cause=st.just("judge"),
    ),
    st.builds(Retired, lane=lanes, release=digests),
    st.builds(Noted, subject=st.text(max_size=5), numbers=numbers),
)
histories = st.lists(payloads, max_size=25).map(
    lambda chosen: [event(number, each) for number, each in enumerate(chosen, 1)]
)
