"""Takes one look at a running rollout: the next tick, with its evidence and its sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mlops.ledger.state import RolloutState, State
from mlops.platforms.port import Phase, Platform
from mlops.rollout.observing import Blind, baseline, counted, judged, observations, progress
from mlops.rollout.outcome import Outcome, Progress
from mlops.rollout.placing import Placed
from mlops.rollout.strategies.finding import strategy_named
from mlops.rollout.strategies.port import granted
from mlops.rollout.strategies.returning import Returning
from mlops.rollout.ticks import COLUMNS, Counted, Tick, thinned
from mlops.rollout.times import seconds_of

_RATE_POINTS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the ledger's state, the platform as it stands, and the tick before."""

    state: State
    rollout: RolloutState
    placed: Placed
    earlier: Tick
    now: float

    def tick(self, platform: Platform) -> Tick:
        """Return the next tick: HOLD, with the reason, while there is nothing to judge."""
        tick = self._unjudged()
        if tick.unready_since is not None:
            return replace(tick, sentence=self._waiting(tick))
        if self.rollout.strategy == Returning.name:
            return replace(tick, sentence="The release before is ready again.")
        try:
            tick = self._judged(tick, platform)
        except Blind as reason:
            tick = replace(tick, blind=str(reason), sentence=f"Nothing is decided: {reason}.")
        return replace(tick, series=thinned((*self.earlier.series, self._row(tick))))

    def _unjudged(self) -> Tick:
        candidate = self.rollout.candidate
        ready = self.placed.is_ready(candidate)
        failed = self.rollout.step >= 0 and self.placed.ready[candidate.lane].phase is Phase.FAILED
        return replace(
            self.earlier,
            number=self.earlier.number + 1,
            at=self.now,
            step=self.rollout.step,
            weight=self.rollout.weight if ready else 0.0,
            verdict="HOLD",
            blind="",
            notes=self.placed.trouble,
            unready_since=None if ready else _first(self.earlier.unready_since, self.now),
            restarts=self.earlier.restarts + failed,
        )

    def _judged(self, tick: Tick, platform: Platform) -> Tick:
        strategy = strategy_named(self.rollout.strategy)
        serving, settings = self.state.serving, self.rollout.settings
        if self.rollout.step < 0:
            # Without anybody who serves there is no traffic yet, and perhaps no proxy that could be asked.
            seen = observations(platform) if serving else {}
            return baseline(tick, seen, serving.lane if serving else None)
        compared = strategy.relative and serving is not None
        sides = [self.rollout.candidate.lane]
        if compared and serving is not None:
            sides.append(serving.lane)
        tick = counted(self.earlier, tick, observations(platform), sides, settings)
        shares = strategy.shares(settings, serving is not None)
        return judged(tick, settings, grant=granted(shares, self.rollout.step), first=not compared)

    def _waiting(self, tick: Tick) -> str:
        readiness = self.placed.ready[self.rollout.candidate.lane]
        waited = self.now - (tick.unready_since or self.now)
        what = "failed and is started again" if readiness.phase is Phase.FAILED else "starts"
        return "; ".join([f"The candidate {what} ({waited:.0f} s)", *self.placed.trouble]) + "."

    def _row(self, tick: Tick) -> tuple[float, ...]:
        serving = self.state.serving
        candidate = tick.counted.get(self.rollout.candidate.lane, Counted())
        stable = tick.counted.get(serving.lane, Counted()) if serving else Counted()
        for_it, against_it = progress(tick.evidence)
        return (
            round(self.now - seconds_of(self.rollout.started), 1),
            tick.weight,
            candidate.requests,
            candidate.errors,
            stable.requests,
            stable.errors,
            round(for_it, 4),
            round(against_it, 4),
        )


def report(rollout: RolloutState, tick: Tick, sentence: str = "") -> Outcome:
    """Return where a rollout stands after a tick."""
    counted_ = tick.counted.get(rollout.candidate.lane, Counted())
    for_it, against_it = progress(tick.evidence)
    starting = rollout.step < 0 or tick.unready_since is not None
    return Outcome(
        progress=Progress.STARTING if starting else Progress.RUNNING,
        sentence=sentence or tick.sentence,
        rollout=rollout.id,
        release=rollout.candidate.release,
        verdict=tick.verdict,
        weight=rollout.weight,
        requests=counted_.requests,
        errors=counted_.errors,
        for_it=for_it,
        against_it=against_it,
        forecast_seconds=forecast_seconds(tick),
        evidence=tick.evidence,
    )


def final_evidence(rollout: RolloutState, tick: Tick) -> dict[str, Any]:
    """Return what the ledger keeps of the ticks: the last evidence, and a series that can be plotted."""
    for_it, against_it = progress(tick.evidence)
    lanes = {rollout.candidate.lane: "candidate"}
    own = tick.counted.get(rollout.candidate.lane, Counted())
    return {
        **tick.evidence,
        "requests": own.requests,
        "errors": own.errors,
        "refused": own.refused,
        "for_it": for_it,
        "against_it": against_it,
        "counted": {lanes.get(lane, "stable"): asdict(each) for lane, each in tick.counted.items()},
        "ticks": tick.number,
        "notes": list(tick.notes),
        "series": {"columns": list(COLUMNS), "rows": [list(row) for row in tick.series]},
    }


def forecast_seconds(tick: Tick) -> float | None:
    """Return the time to the next verdict at the candidate's present rate of requests."""
    rows = [row for row in tick.series[-_RATE_POINTS:] if row[1] == tick.weight]
    if tick.forecast_requests is None or len(rows) < 2:
        return None
    seconds, requests = rows[-1][0] - rows[0][0], rows[-1][2] - rows[0][2]
    return tick.forecast_requests * seconds / requests if seconds > 0 and requests > 0 else None


def _first(earlier: float | None, now: float) -> float:
    return now if earlier is None else earlier
