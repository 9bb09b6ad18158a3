"""Makes the platform equal to the ledger: the right release in each lane, the right share for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isclose

from mlops.errors import InfrastructureError, MlopsError, UserError
from mlops.ledger.state import Placement, State
from mlops.platforms.port import LANES, Deployment, Phase, Platform, Readiness, Split
from mlops.release import Release
from mlops.signing import SignatureError
from mlops.telemetry import crossing

_SAME_SHARE = 1e-3  # proxies keep shares as integers out of some thousands


@dataclass(frozen=True, slots=True)
class Placed:
    """How the lanes stand after they were made equal to the ledger, and what did not work."""

    ready: Mapping[str, Readiness]
    trouble: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Of that, by lane, why its release cannot be deployed at all: asking again would not help."""

    def is_ready(self, placement: Placement | None) -> bool:
        """Whether the lane runs this release and the proxy can reach it."""
        return placement is not None and answers(self.ready[placement.lane], placement)


def answers(readiness: Readiness, placement: Placement) -> bool:
    """Whether the lane runs this release and is ready."""
    return readiness.phase is Phase.READY and readiness.release == placement.digest


def residents(state: State) -> dict[str, Placement]:
    """Return what the ledger wants to run in each lane, the most important first."""
    candidate = state.rollout.candidate if state.rollout else None
    wanted = (state.serving, candidate, state.warm)
    return {each.lane: each for each in wanted if each is not None}


def shares(state: State, ready: Mapping[str, Readiness]) -> dict[str, float]:
    """Return the share of each lane with traffic.

    It is the ledger's word, except while a candidate that had users is not ready: then the stable release
    answers for it.
    """
    rollout, serving = state.rollout, state.serving
    if rollout and serving and not answers(ready[rollout.candidate.lane], rollout.candidate):
        return {serving.lane: 1.0}
    return {lane: share for lane, share in state.weights().items() if share > 0}


def place(platform: Platform, state: State) -> Placed:
    """Bring the platform to what the ledger says; whatever fails is told, and tried again by the next call.

    The order protects users: what serves is started, and traffic moves; then the others are started, which
    may take long or fail; then what nobody wants is emptied.
    """
    wanted = residents(state)
    before = {lane: platform.ready(lane) for lane in LANES}
    strangers = [lane for lane in LANES if _is_stranger(before[lane], wanted.get(lane))]
    settled = [each for each in wanted.values() if each.lane not in strangers]
    first = _deploy(platform, state, settled[:1])
    ready = {lane: platform.ready(lane) for lane in LANES}
    moved = _failures(partial(divide, platform, shares(state, ready), state.sequence))
    others = _deploy(platform, state, settled[1:])
    left = _failures(*(partial(platform.remove, lane, state.sequence) for lane in strangers))
    late = _deploy(platform, state, [each for each in wanted.values() if each.lane in strangers])
    after = {
        lane: each if each.phase is Phase.READY and lane not in strangers else platform.ready(lane)
        for lane, each in ready.items()
    }
    if shares(state, after) != shares(state, ready):
        left += _failures(partial(divide, platform, shares(state, after), state.sequence))
    return Placed(
        ready={lane: _first_word(before[lane], after[lane]) for lane in LANES},
        trouble=tuple(dict.fromkeys((*first[0], *moved, *others[0], *left, *late[0]))),
        refused={**first[1], **others[1], **late[1]},
    )


def divide(platform: Platform, wanted: Mapping[str, float], sequence: int) -> None:
    """Send each lane its share, unless that is so already and the platform knows of the event that it follows.

    Nobody to send to leaves the proxy as it is. Raises Outdated when a later event was followed already.
    """
    split = platform.current()
    if not wanted or (split is not None and split.sequence >= sequence and in_force(split, wanted)):
        return
    crossing("rollout.before-split")
    platform.split(Split(weights=dict(wanted), sequence=sequence))
    crossing("rollout.after-split")


def in_force(split: Split | None, wanted: Mapping[str, float]) -> bool:
    """Whether the split gives each lane its share."""
    return split is not None and all(
        isclose(split.weights.get(lane, 0.0), wanted.get(lane, 0.0), abs_tol=_SAME_SHARE)
        for lane in {*split.weights, *wanted}
    )


def _is_stranger(readiness: Readiness, tenant: Placement | None) -> bool:
    return readiness.phase is not Phase.ABSENT and (tenant is None or readiness.release != tenant.digest)


def _first_word(before: Readiness, after: Readiness) -> Readiness:
    """Keep the news that a lane had failed, although it has been started again since."""
    failed = (
        before.phase is Phase.FAILED and before.release == after.release and after.phase is not Phase.READY
    )
    return before if failed else after


def _deploy(
    platform: Platform, state: State, placements: Iterable[Placement]
) -> tuple[list[str], dict[str, str]]:
    """Return what did not work, and by lane what was refused."""
    trouble: list[str] = []
    refused: dict[str, str] = {}
    for each in placements:
        error = _attempt(partial(platform.deploy, _deployment(state, each)))
        if error is not None:
            trouble.append(_told(error))
        if error is not None and not isinstance(error, InfrastructureError):
            refused[each.lane] = _told(error)
        crossing("rollout.after-deploy")
    return trouble, refused


def _deployment(state: State, placement: Placement) -> Deployment:
    return Deployment(
        lane=placement.lane,
        release=Release.from_record(placement.release),
        replicas=placement.replicas,
        warm=placement == state.warm,
        sequence=state.sequence,
    )


def _failures(*acts: Callable[[], None]) -> list[str]:
    """Return a sentence for each that did not work."""
    return [_told(error) for error in map(_attempt, acts) if error is not None]


def _attempt(act: Callable[[], None]) -> MlopsError | None:
    """Return what stood in the way; an interruption does not, and a defect of ours must show."""
    try:
        act()
    except (InfrastructureError, UserError, SignatureError) as error:
        return error
    return None


def _told(error: MlopsError) -> str:
    """Return a sentence; of what only a person can put right also the details."""
    if isinstance(error, InfrastructureError) or not error.found:
        return error.headline
    return f"{error.headline} ({error.found})"
