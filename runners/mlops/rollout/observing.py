"""Binds the judge to a platform: cumulative counts become intervals, intervals become evidence, evidence a
verdict.

Pure: what was seen before and what is seen now go in, the next tick comes out. The judge itself is
:mod:`mlops.decide.canary`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log
from typing import Any

from mlops.decide.canary import Interval, Settings, Verdict, judge, update
from mlops.decide.canary import State as Evidence
from mlops.errors import InfrastructureError
from mlops.platforms.port import Observation, Platform
from mlops.rollout.ticks import Counted, Tick

WARM_UP_REQUESTS = 100
"""First requests of a lane that do not count for latency: caches fill, connections open."""

SHARE_REQUESTS = 100
"""Requests that a share must have been tried with before the next one is given."""


class Blind(Exception):  # noqa: N818 - a state of the observer, not an error of the program
    """Nothing can be counted now; the message says why. It means HOLD."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one lane answered between two looks; ``slow`` is None without a histogram that can tell."""

    requests: int = 0
    errors: int = 0
    slow: int | None = None
    note: str = ""
    refused: int = 0


def settings_of(rollout: Mapping[str, Any]) -> Settings:
    """Return the judge's constants from the contract's rollout section."""
    return Settings(
        alpha=float(rollout["alpha"]),
        beta=float(rollout["beta"]),
        objective_error_rate=float(rollout["objective"]["error_rate"]),
    )


def observations(platform: Platform) -> dict[str, Observation]:
    """Ask the platform for its counts; raises Blind when it cannot say."""
    try:
        return {each.lane: each for each in platform.observe()}
    except InfrastructureError as error:
        raise Blind(f"the counts cannot be read: {error.headline}") from error


def baseline(tick: Tick, seen: Mapping[str, Observation], stable: str | None) -> Tick:
    """Return the tick with the counts that later ones subtract; raises Blind without stable's."""
    _check(seen, [stable] if stable else [])
    return replace(tick, seen=dict(seen), sentence="The candidate is ready.")


def counted(
    earlier: Tick,
    tick: Tick,
    seen: Mapping[str, Observation],
    sides: Sequence[str],
    settings: Mapping[str, Any],
) -> Tick:
    """Return ``tick`` with what happened since ``earlier`` added to the evidence.

    ``sides`` are the candidate's lane and, where the two are compared, stable's. When a side is missing, or
    a count makes no sense, Blind is raised and the baseline stays: the next complete look then covers the
    whole time.
    """
    _check(seen, sides)
    objective_seconds = float(settings["objective"]["latency_ms"]) / 1000
    differences = {lane: difference(earlier.seen.get(lane), seen[lane], objective_seconds) for lane in sides}
    candidate = differences[sides[0]].requests
    same_share = earlier.begun and earlier.weight == tick.weight
    return replace(
        tick,
        seen={lane: seen[lane] for lane in sides},
        counted={lane: _sum(earlier.counted.get(lane, Counted()), differences[lane]) for lane in sides},
        here=earlier.here + candidate if same_share else 0,
        judge=_judged(earlier, differences, tick.weight if same_share else None, settings_of(settings)),
        notes=(*tick.notes, *(f"{lane}: {each.note}" for lane, each in differences.items() if each.note)),
    )


def judged(tick: Tick, settings: Mapping[str, Any], *, grant: float, first: bool) -> Tick:
    """Return the tick with the judge's verdict on giving the candidate the share ``grant``.

    A share must have been tried before the next one is given, however strong the evidence from smaller ones
    is: some faults only show under load. So PROMOTE waits for ``SHARE_REQUESTS`` requests at the share in
    force.
    """
    states = {metric: Evidence.from_record(record) for metric, record in tick.judge.items()}
    judgement = judge(states, settings_of(settings), grant=grant, first=first)
    near = judgement.forecast
    tick = replace(
        tick,
        verdict=str(judgement.verdict),
        sentence=judgement.message,
        evidence=judgement.evidence,
        forecast_requests=_nearer(near.promotion, near.rollback) if near else None,
    )
    if judgement.verdict is Verdict.PROMOTE and tick.here < SHARE_REQUESTS:
        return replace(
            tick, verdict=str(Verdict.HOLD), sentence="Good so far; the present share has only begun."
        )
    if judgement.verdict is Verdict.HOLD and tick.here and _is_warming_up(states):
        sentence = f"The candidate warms up: its first {WARM_UP_REQUESTS} requests do not count for latency."
        return replace(tick, sentence=sentence)
    return tick


def _nearer(*requests: int | None) -> int | None:
    return min((each for each in requests if each is not None), default=None)


def _is_warming_up(states: Mapping[str, Evidence]) -> bool:
    return any(state.n_candidate == 0 for state in states.values())


def progress(evidence: Mapping[str, Any]) -> tuple[float, float]:
    """Return the parts in [0, 1] of the evidence for and against it that are there, on the log scale."""
    if not evidence:
        return 0.0, 0.0
    good = min(each["good"] for each in evidence["metrics"].values())
    return _part(good, evidence["good_needed"]), _part(evidence["against"], evidence["against_needed"])


def _part(value: float, needed: float) -> float:
    return min(1.0, max(0.0, log(value) / log(needed))) if value > 0 else 0.0


def difference(before: Observation | None, now: Observation, objective_seconds: float) -> Difference:
    """Subtract two looks at one lane.

    A lane not seen before only sets the baseline. A new epoch began at zero, so all of it is new
    (what the old epoch counted after the last look is lost). Counts that went backwards without saying so
    are treated as a new epoch.
    """
    if before is None or before.release != now.release:
        return Difference(slow=None if _slow(now, objective_seconds) is None else 0)
    slow = _slow(now, objective_seconds)
    if before.epoch != now.epoch:
        return Difference(now.requests, now.errors, slow, "the counts began anew", now.refused)
    slow_before = _slow(before, objective_seconds)
    requests, errors, refused = (
        now.requests - before.requests,
        now.errors - before.errors,
        now.refused - before.refused,
    )
    slower = (slow or 0) - (slow_before or 0)
    if min(requests, errors, refused, slower) < 0 or errors + refused > requests:
        note = "the counts went backwards, taken as begun anew"
        return Difference(now.requests, now.errors, slow, note, now.refused)
    return Difference(
        requests,
        errors,
        None if slow is None or slow_before is None else min(slower, requests),
        refused=refused,
    )


def _judged(
    earlier: Tick, sides: Mapping[str, Difference], share: float | None, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Return the evidence per metric with this interval added.

    ``share`` is None when it was not the same all the time: between a look and the split that follows it
    traffic still has the old shares, and that interval must not count as a wrong split. Refused requests
    say something only in comparison: how often callers are mistaken nobody knows.
    """
    requests = [each.requests for each in sides.values()]
    events = {"errors": [each.errors for each in sides.values()]}
    if len(requests) > 1:
        events["refused"] = [each.refused for each in sides.values()]
    slow = [each.slow for each in sides.values() if each.slow is not None]
    if len(slow) == len(requests):
        warm = all(earlier.counted.get(lane, Counted()).requests >= WARM_UP_REQUESTS for lane in sides)
        events["latency"] = slow if warm else []
    states = {metric: _evidence(earlier, metric) for metric in sorted(events.keys() | earlier.judge.keys())}
    for metric, counts in events.items():
        if counts:
            states[metric] = update(states[metric], _interval(requests, counts, share), settings)
    return {metric: state.as_record() for metric, state in states.items()}


def _evidence(earlier: Tick, metric: str) -> Evidence:
    record = earlier.judge.get(metric)
    return Evidence.from_record(record) if record else Evidence(metric=metric)


def _interval(requests: Sequence[int], events: Sequence[int], share: float | None) -> Interval:
    if len(requests) == 1:
        return Interval(requests[0], events[0])
    return Interval(requests[0], events[0], requests[1], events[1], share=share)


def _slow(observation: Observation, objective_seconds: float) -> int | None:
    """Return the requests slower than the first bound at or above the objective; None without one."""
    index = bisect_left(observation.latency_seconds, objective_seconds)
    if index >= len(observation.latency_seconds):
        return None
    return max(0, observation.requests - observation.latency_counts[index])


def _check(seen: Mapping[str, Observation], sides: Sequence[str]) -> None:
    missing = [lane for lane in sides if lane not in seen]
    if missing:
        raise Blind(f"there are no counts for {' and '.join(missing)}")
    senseless = [lane for lane in sides if not _makes_sense(seen[lane])]
    if senseless:
        raise Blind(f"the counts for {' and '.join(senseless)} make no sense")


def _makes_sense(observation: Observation) -> bool:
    counts = (observation.requests, observation.errors, observation.refused, *observation.latency_counts)
    return (
        all(isfinite(each) and each >= 0 and each == int(each) for each in counts)
        and observation.errors + observation.refused <= observation.requests
        and len(observation.latency_counts) == len(observation.latency_seconds)
    )


def _sum(counted: Counted, new: Difference) -> Counted:
    return Counted(
        counted.requests + new.requests, counted.errors + new.errors, counted.refused + new.refused
    )
