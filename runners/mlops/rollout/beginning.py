"""Decides how a rollout begins; pure, so that it can be asked again when somebody else was first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops.errors import UserError
from mlops.ledger.events import Payload, RolledBack, RolloutStarted
from mlops.ledger.state import Placement, RolloutState, State
from mlops.platforms.port import LANES
from mlops.release import Release
from mlops.rollout.outcome import named
from mlops.rollout.strategies.returning import Returning


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What is asked for: this release, in this way."""

    release: Release
    settings: Mapping[str, Any]
    reason: str
    supersede: bool
    prefix: str
    """Of the rollout's id; the number of its first event follows, which nobody else can have."""

    def __call__(self, state: State) -> tuple[Payload, str] | None:
        """Return the next event; none when it serves, or is being rolled out, already."""
        running = state.rollout
        if running is not None and running.candidate.digest == self.release.digest:
            return None
        if running is not None and not self.supersede:
            raise _busy(running)
        if running is not None:
            return _superseded(state, running), f"superseded by {named(self.release.as_record())}"
        if state.serving is not None and state.serving.digest == self.release.digest:
            return None
        return self._started(state), self.reason

    def _started(self, state: State) -> RolloutStarted:
        return RolloutStarted(
            rollout=rollout_id(self.prefix, state),
            release=self.release.as_record(),
            lane=free_lane(state),
            strategy=str(self.settings["strategy"]),
            settings=dict(self.settings),
        )


def returning(state: State, previous: Placement, prefix: str, start_seconds: float) -> RolloutStarted:
    """Return the event that starts a release again that served before."""
    return RolloutStarted(
        rollout=rollout_id(prefix, state),
        release=previous.release,
        lane=free_lane(state),
        strategy=Returning.name,
        settings={
            "strategy": Returning.name,
            "deadline": start_seconds,
            "rollback_window": previous.window_seconds,
            "replicas": previous.replicas,
        },
    )


def rollout_id(prefix: str, state: State) -> str:
    """Return the id of the rollout whose first event follows the state."""
    return f"{prefix}{state.sequence + 1:06d}"


def free_lane(state: State) -> str:
    """Return the lane that does not serve."""
    return next(lane for lane in LANES if state.serving is None or lane != state.serving.lane)


def _superseded(state: State, running: RolloutState) -> RolledBack:
    return RolledBack(
        rollout=running.id,
        release=running.candidate.digest,
        to=state.serving.digest if state.serving else "",
        cause="person",
    )


def _busy(running: RolloutState) -> UserError:
    model = running.candidate.release["model"]
    return UserError(
        f"{named(running.candidate.release)} is being rolled out at {running.weight:.0%}",
        expected="no running rollout",
        found=f"rollout {running.id}, begun at {running.started}",
        remedy=f"wait for it (`mlops rollout watch {model}`) or take it back (`mlops rollback {model}`); then run again",
    )
