"""Reads a ledger to people: its releases, its decisions in order, and how well deliveries go. Folds over events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from mlops.ledger.events import (
    Event,
    HoldoutUsed,
    Noted,
    Promoted,
    Registered,
    Retired,
    RolledBack,
    RolloutStarted,
    WeightSet,
)
from mlops.ledger.state import State, fold
from mlops.rollout.outcome import named
from mlops.rollout.strategies.returning import Returning
from mlops.rollout.times import seconds_of

_CAUSES = {
    "judge": "by the judge",
    "person": "by a person",
    "deadline": "at the deadline, undecided",
    "deployment": "because it did not start",
}


@dataclass(slots=True)
class ReleaseLine:
    """What became of one release so far."""

    version: str
    digest: str
    commit: str
    fate: str
    since: str
    """UTC time of the event that brought it there."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision in a sentence."""

    sequence: int
    at: str
    actor: str
    sentence: str
    reason: str
    build: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How well deliveries go, after the DORA measures; None where nothing has happened yet that could be measured."""

    rollouts: int
    """Rollouts that have ended; ways back to a former release are not counted."""
    success: float | None
    """Share of them that ended promoted."""
    deploy_seconds: float | None
    """Median from the beginning of a rollout to its promotion."""
    change_failure_rate: float | None
    """Of the releases that users met, the share that was taken back, whether before or after its promotion."""
    rollback_seconds: float | None
    """Median time that users met a release that was then taken back: from its first share to its last."""


@dataclass(slots=True)
class _Trial:
    """One rollout, as far as the delivery measures need it."""

    release: str
    started: float
    met_users: float | None = None
    promoted: float | None = None
    taken_back: float | None = None


@dataclass(slots=True)
class History:
    """Everything that one ledger tells."""

    releases: dict[str, ReleaseLine] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    trials: list[_Trial] = field(default_factory=list)
    state: State = field(default_factory=State)

    @property
    def delivery(self) -> Delivery:
        """Return the delivery measures."""
        ended = [each for each in self.trials if each.promoted or each.taken_back]
        met = [each for each in ended if each.met_users]
        back = [each.taken_back - each.met_users for each in met if each.taken_back and each.met_users]
        deployed = [each.promoted - each.started for each in ended if each.promoted]
        return Delivery(
            rollouts=len(ended),
            success=_share(len(deployed), len(ended)),
            deploy_seconds=median(deployed) if deployed else None,
            change_failure_rate=_share(len(back), len(met)),
            rollback_seconds=median(back) if back else None,
        )

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "releases": [asdict(each) for each in self.releases.values()],
            "timeline": [asdict(each) for each in self.moments],
            "delivery": asdict(self.delivery),
        }

    def as_text(self) -> str:
        """Return it for a terminal."""
        if not self.moments:
            return "Nothing has been decided yet."
        releases = [
            f"  version {each.version:<4} {each.digest[:12]}  {each.fate} ({_minute(each.since)})"
            for each in self.releases.values()
        ]
        moments = [
            f"  {_minute(each.at)}  {each.actor}: {each.sentence}"
            + (f"\n      {each.reason}" if each.reason else "")
            for each in self.moments
        ]
        return "\n".join(
            ["Releases", *releases, "Decisions (UTC)", *moments, "Delivery", *_lines(self.delivery)]
        )


def history_of(events: Iterable[Event]) -> History:
    """Fold the events of one ledger, in order."""
    history = History()
    for event in events:
        before, history.state = history.state, fold(history.state, [event])
        sentence = _told(event, before, history)
        history.moments.append(
            Moment(event.sequence, event.at, event.actor, sentence, event.reason, event.build)
        )
    return history


def _told(event: Event, before: State, history: History) -> str:
    """Return the event as a sentence, and enter it into the releases and trials."""
    match event.payload:
        case Registered(release=release):
            _enter(history, release, "registered", event)
            sentence = f"{named(release)} is registered"
        case RolloutStarted() as started:
            sentence = _started(started, event, history)
        case WeightSet(weight=weight):
            _now(history).met_users = _now(history).met_users or seconds_of(event.at)
            sentence = f"{_candidate(before)} gets {weight:.0%} of the traffic"
        case Promoted():
            sentence = _promoted(event, before, history)
        case RolledBack() as back:
            sentence = _rolled_back(back, event, before, history)
        case Retired(lane=lane, release=digest):
            sentence = f"{_version(history, digest)} leaves lane {lane}"
        case HoldoutUsed(candidate=candidate, verdict=verdict):
            sentence = f"candidate {candidate[:12]} was compared on the holdout: {verdict}"
        case Noted(subject=subject):
            sentence = subject
        case _:
            sentence = f"{event.kind} (unknown to this version)"
    return sentence


def _started(started: RolloutStarted, event: Event, history: History) -> str:
    if started.strategy == Returning.name:
        return f"{named(started.release)} is started again, to return to it"
    history.trials.append(_Trial(str(started.release["digest"]), seconds_of(event.at)))
    _enter(history, started.release, "being rolled out", event)
    return f"the rollout of {named(started.release)} begins ({started.strategy}, lane {started.lane})"


def _promoted(event: Event, before: State, history: History) -> str:
    now = _now(history)
    now.promoted = seconds_of(event.at)
    now.met_users = now.met_users or now.promoted
    if before.serving is not None:
        _enter(history, before.serving.release, "served before", event)
    if history.state.serving is not None:
        _enter(history, history.state.serving.release, "serves", event)
    return f"{_candidate(before)} is promoted and serves"


def _rolled_back(back: RolledBack, event: Event, before: State, history: History) -> str:
    for trial in reversed(history.trials):
        if trial.release == back.release:
            trial.taken_back = trial.taken_back or seconds_of(event.at)
            break
    leaving = _version(history, back.release)
    if back.release in history.releases:
        _enter(
            history,
            history.releases[back.release],
            f"taken back {_CAUSES.get(back.cause, back.cause)}",
            event,
        )
    serving = history.state.serving
    if serving is None:
        return f"{leaving} is taken back; nothing serves"
    _enter(history, serving.release, "serves", event)
    again = "again" if before.serving is None or before.serving.digest != serving.digest else "on"
    return f"{leaving} is taken back {_CAUSES.get(back.cause, back.cause)}; {named(serving.release)} serves {again}"


def _enter(history: History, release: Mapping[str, Any] | ReleaseLine, fate: str, event: Event) -> None:
    if isinstance(release, ReleaseLine):
        release.fate, release.since = fate, event.at
        return
    digest = str(release["digest"])
    known = history.releases.get(digest)
    if known is not None and known.fate == fate:
        return
    history.releases[digest] = ReleaseLine(
        str(release["version"]), digest, str(release.get("commit", "")), fate, event.at
    )


def _now(history: History) -> _Trial:
    """Return the trial that is running; a first one is made up where the ledger begins in the middle."""
    if not history.trials:
        history.trials.append(_Trial("", 0.0))
    return history.trials[-1]


def _candidate(state: State) -> str:
    return named(state.rollout.candidate.release) if state.rollout else "a candidate"


def _version(history: History, digest: str) -> str:
    known = history.releases.get(digest)
    return f"version {known.version} ({digest[:12]})" if known else f"release {digest[:12]}"


def _lines(delivery: Delivery) -> list[str]:
    told = [
        ("rollouts ended", str(delivery.rollouts)),
        ("promoted", _percent(delivery.success)),
        ("time to deploy", _seconds(delivery.deploy_seconds)),
        ("change failure rate", _percent(delivery.change_failure_rate)),
        ("users met a bad one for", _seconds(delivery.rollback_seconds)),
    ]
    return [f"  {name:<24} {value}" for name, value in told]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


def _minute(at: str) -> str:
    return at[:19].replace("T", " ")
