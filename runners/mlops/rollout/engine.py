"""The engine of rollouts: read the ledger, make the platform equal to it, observe, judge, act, append.

It holds nothing in memory and may be killed at any instant: an event is an intent, every call makes the
platform equal to the intents, and what was seen is in the ticks (:mod:`mlops.rollout.ticks`). Several may
call it at once: of those who decide on the same state the ledger lets one win, and the others look again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from mlops.decide.verdicts import Verdict
from mlops.errors import InfrastructureError, UserError
from mlops.ledger import Conflict, Ledger
from mlops.ledger.events import Event, Payload, Promoted, Retired, RolledBack, RolloutStarted, WeightSet
from mlops.ledger.state import RolloutState, State, fold
from mlops.platforms.port import Outdated, Phase, Platform
from mlops.release import Release
from mlops.rollout.beginning import Beginning
from mlops.rollout.looking import Look, final_evidence, report
from mlops.rollout.outcome import Outcome, ending, given_up, named, resting, unreachable
from mlops.rollout.placing import Placed, divide, place, shares
from mlops.rollout.strategies.finding import strategy_named
from mlops.rollout.strategies.port import Action, Hold, Promote, Raise, Rollback
from mlops.rollout.strategies.returning import Returning
from mlops.rollout.ticks import Tick, Ticks
from mlops.rollout.times import seconds_of
from mlops.rollout.way_back import WayBack
from mlops.store import Store
from mlops.telemetry import crossing

START_SECONDS = 300.0
"""Seconds within which a candidate must be ready: its environment may have to be installed first."""
RESTARTS = 3
"""How often a candidate that had users may fail and be started again."""
_RACES = 8
_FAILURES = 10


class Engine:
    """One model's rollouts in one environment; safe to be called by several processes at once.

    Args:
        ledger: what was decided; the only source of truth.
        platform: where releases run.
        store: keeps the ticks.
        clock: seconds since 1970.
        sleep: waits between two looks.
        pace: seconds since any fixed moment; unlike ``clock`` it never goes back.
        start_seconds: time within which a candidate must be ready.
    """

    def __init__(
        self,
        ledger: Ledger,
        platform: Platform,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        pace: Callable[[], float] = time.monotonic,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._platform = platform
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._pace = pace
        self._start_seconds = start_seconds

    def endpoint(self) -> str:
        """Return the address that users call."""
        return self._platform.endpoint()

    def begin(
        self, release: Release, settings: Mapping[str, Any], reason: str, *, supersede: bool = False
    ) -> str:
        """Begin to move the environment to the release and return the rollout's id; the ticks do the rest.

        A release that serves already needs no rollout (the id is empty); one that is being rolled out keeps
        its rollout. Raises UserError when another release is being rolled out, unless it may be superseded:
        then that one is rolled back first; and, before anything is decided, when users could not be served.
        """
        strategy_named(str(settings["strategy"]))
        beginning = Beginning(
            release=release, settings=settings, reason=reason, supersede=supersede, prefix=self._prefix
        )

        def decision(state: State) -> tuple[Payload, str] | None:
            decided = beginning(state)
            if decided is not None:
                self._platform.check()
            return decided

        while True:
            state, event = self._ledger.decide(decision)
            if event is None:
                return state.rollout.id if state.rollout else ""
            crossing(f"rollout.after:{event.kind}")
            if state.rollout is not None:
                Ticks.sweep_leftovers(self._store, self._prefix, but=state.rollout.id)
                return state.rollout.id
            with suppress(Outdated):  # somebody else has decided since, and traffic follows that
                divide(self._platform, shares(state, {}), state.sequence)

    def advance(self) -> Outcome:
        """Take one step and say where things stand; calling it once too often changes nothing."""
        for _ in range(_RACES):
            try:
                return self._step()
            except (Conflict, Outdated):
                continue  # somebody else has decided: look at what is true now
        raise InfrastructureError(
            f"{self._ledger.model} in {self._ledger.environment} changes faster than it can be read",
            remedy=f"see who else is at it: mlops history {self._ledger.model}",
        )

    def watch(
        self,
        on_tick: Callable[[Outcome], None] | None = None,
        tick_seconds: float = 1.0,
        *,
        rollout: str = "",
    ) -> Outcome:
        """Advance until the rollout has ended, whoever ends it; return how.

        ``rollout`` is what :meth:`begin` returned; it may have ended before. Empty stands for the one that is
        running, and the outcome is IDLE when none is.

        Failures of the platform or the store are told to ``on_tick`` and outlasted; raises
        InfrastructureError after ten in a row.
        """
        running = self._ledger.state().rollout
        rollout = rollout or (running.id if running else "")
        failures = 0
        while True:
            began = self._pace()
            try:
                outcome = self._followed(rollout)
                failures = 0
            except InfrastructureError as error:
                failures += 1
                if failures >= _FAILURES:
                    raise
                outcome = unreachable(running, error)
            if on_tick is not None:
                on_tick(outcome)
            if outcome.ended:
                self._tidy()
                return outcome
            self._sleep(min(tick_seconds, max(0.0, tick_seconds - (self._pace() - began))))

    def rollback(self, reason: str, actor: str = "", *, again: bool = False) -> Outcome:
        """Take the running candidate, else the served release, out of traffic: one event and one split.

        With the previous release no longer warm its servers are started again first. Raises UserError when
        there is nothing to go back to. Asked for again it changes nothing, and finishes what was left half
        done. Only with ``again`` it returns to the release that the last rollback came from; when that one
        took back a candidate, which never served, it goes back by one more release.
        """
        return self._way_back().go(reason, actor or self._ledger.author.actor, again=again)

    def _way_back(self) -> WayBack:
        return WayBack(
            ledger=self._ledger,
            platform=self._platform,
            prefix=self._prefix,
            pace=self._pace,
            sleep=self._sleep,
            start_seconds=self._start_seconds,
            follow=lambda rollout: self.watch(rollout=rollout),
        )

    @property
    def _prefix(self) -> str:
        """Begin the id of each rollout; the number of its first event follows."""
        return f"{self._ledger.model}.{self._ledger.environment}."

    def _step(self) -> Outcome:
        state = self._retired(self._ledger.state())
        placed = place(self._platform, state)
        self._refuse_if_moved(state)
        if state.rollout is None:
            return resting(self._emptied(state, placed), placed.trouble)
        ticks = Ticks(self._store, state.rollout.id)
        tick = Look(state, state.rollout, placed, ticks.latest(), self._clock()).tick(self._platform)
        if not ticks.write(tick):
            return report(state.rollout, ticks.latest())
        crossing("rollout.after-tick")
        return self._act(state, state.rollout, tick, placed)

    def _refuse_if_moved(self, state: State) -> None:
        """Raise Conflict when the state is over: what was done for it meanwhile is no answer to anybody."""
        now = self._ledger.state().sequence
        if now != state.sequence:
            raise Conflict(
                "the ledger has moved on",
                expected=f"event {state.sequence} to be the last",
                found=f"event {now}",
                remedy="look again at what is true now",
            )

    def _act(self, state: State, rollout: RolloutState, tick: Tick, placed: Placed) -> Outcome:
        take_back = partial(_taken_back, state, rollout, tick)
        if why := self._undeployable(rollout, tick, placed):
            return self._end(state, rollout, take_back("deployment"), why)
        match _action(state, rollout, tick):
            case Raise(step=step, weight=weight):
                self._raise(state, tick, placed, step, weight)
                raised = replace(rollout, step=step, weight=weight)
                return report(raised, tick, f"{tick.sentence} It now gets {weight:.0%} of the traffic.")
            case Promote():
                return self._end(state, rollout, _promoted(state, rollout, tick), tick.sentence)
            case Rollback():
                return self._end(state, rollout, take_back("judge"), tick.sentence)
        age = self._clock() - seconds_of(rollout.started)
        never_ready = rollout.step < 0 and tick.unready_since is not None
        if never_ready or age < float(rollout.settings["deadline"]):
            return report(rollout, tick)
        return self._end(
            state, rollout, take_back("deadline"), f"Undecided after {age:.0f} s. {tick.sentence}"
        )

    def _raise(self, state: State, tick: Tick, placed: Placed, step: int, weight: float) -> None:
        """Give the candidate a larger share."""
        rollout = state.rollout.id if state.rollout else ""
        payload = WeightSet(
            rollout=rollout, step=step, weight=weight, verdict=tick.verdict, evidence=tick.evidence
        )
        after = self._append(state, payload, tick.sentence)[0]
        self._divide(shares(after, placed.ready), after.sequence)

    def _end(self, state: State, rollout: RolloutState, payload: Payload, reason: str) -> Outcome:
        after, event = self._append(state, payload, reason)
        self._divide(shares(after, {}), after.sequence)
        Ticks(self._store, rollout.id).sweep()
        return ending(event, rollout.candidate.release)

    def _divide(self, wanted: Mapping[str, float], sequence: int) -> None:
        """Send each lane its share. What is decided stands: a refusal is outlasted like any failure of the platform."""
        try:
            divide(self._platform, wanted, sequence)
        except UserError as error:
            raise InfrastructureError(
                error.headline,
                expected=error.expected,
                found=error.found,
                remedy=error.remedy,
                where=error.where,
            ) from error

    def _append(self, state: State, payload: Payload, reason: str) -> tuple[State, Event]:
        event = self._ledger.append(payload, reason=reason, expect=state.sequence)
        crossing(f"rollout.after:{event.kind}")
        return fold(state, [event]), event

    def _undeployable(self, rollout: RolloutState, tick: Tick, placed: Placed) -> str:
        """Return why the candidate cannot be deployed, empty while there is hope."""
        if tick.unready_since is None:
            return ""
        if why := placed.refused.get(rollout.candidate.lane):
            return f"it cannot be deployed: {why}"
        readiness = placed.ready[rollout.candidate.lane]
        detail = "; ".join(filter(None, [readiness.detail, *placed.trouble]))
        if readiness.phase is Phase.FAILED and (rollout.step < 0 or tick.restarts > RESTARTS):
            return f"its server does not start: {detail}"
        waited = tick.at - tick.unready_since
        return f"it was not ready after {waited:.0f} s. {detail}" if waited > self._start_seconds else ""

    def _retired(self, state: State) -> State:
        """Return the state after the warm release's window, if that is over."""
        warm = state.warm
        if warm is None or self._clock() - seconds_of(warm.since) < warm.window_seconds:
            return state
        why = f"{named(warm.release)} was kept warm for {warm.window_seconds:.0f} s"
        return self._append(state, Retired(lane=warm.lane, release=warm.digest), why)[0]

    def _emptied(self, state: State, placed: Placed) -> State:
        """Return the state without the draining lanes that are empty by now."""
        for each in state.draining:
            tenant = placed.ready[each.lane]
            if tenant.phase is Phase.ABSENT or tenant.release != each.digest:
                payload = Retired(lane=each.lane, release=each.digest)
                state = self._append(state, payload, f"{named(each.release)} has left its lane")[0]
        return state

    def _tidy(self) -> None:
        """Empty the lane that was left; if that fails, the next call does it."""
        with suppress(InfrastructureError):
            self.advance()

    def _followed(self, rollout: str) -> Outcome:
        """Advance once; when the rollout was ended by somebody else, find out how."""
        outcome = self.advance()
        if not rollout or outcome.rollout == rollout:
            return outcome
        release: Mapping[str, Any] = {}
        for event in self._ledger.events():
            if event.data.get("rollout") != rollout:
                continue
            release = event.data["release"] if event.kind == RolloutStarted.kind else release
            if event.kind in _ENDS:
                return ending(event, release)
        return given_up(rollout, release)


_ENDS = frozenset({Promoted.kind, RolledBack.kind})


def _action(state: State, rollout: RolloutState, tick: Tick) -> Action:
    if tick.unready_since is not None or tick.blind:
        return Hold()
    strategy = strategy_named(rollout.strategy)
    return strategy.next(rollout.settings, rollout.step, Verdict(tick.verdict), state.serving is not None)


def _promoted(state: State, rollout: RolloutState, tick: Tick) -> Payload:
    """Return the event by which the candidate serves: for one that served before it is a rollback."""
    if rollout.strategy == Returning.name:
        leaving = state.serving.digest if state.serving else ""
        return RolledBack(rollout=rollout.id, release=leaving, to=rollout.candidate.digest, cause="person")
    return Promoted(rollout=rollout.id, verdict=tick.verdict, evidence=final_evidence(rollout, tick))


def _taken_back(state: State, rollout: RolloutState, tick: Tick, cause: str) -> RolledBack:
    return RolledBack(
        rollout=rollout.id,
        release=rollout.candidate.digest,
        to=state.serving.digest if state.serving else "",
        cause=cause,
        evidence=final_evidence(rollout, tick),
    )
