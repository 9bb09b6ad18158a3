"""The way back: one event and one split. Nothing is built, downloaded or judged, nothing heavy imported.

Who asks twice wants the same thing twice: after a rollback, of whomever and however it came about, a further one changes
nothing. To go on from there, forward again or further back, has to be asked for in so many words (``again``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlops.errors import InfrastructureError, UserError
from mlops.ledger import Ledger
from mlops.ledger.events import Event, Payload, RolledBack
from mlops.ledger.state import Placement, State
from mlops.platforms.port import Deployment, Outdated, Platform
from mlops.release import Release
from mlops.rollout.beginning import returning
from mlops.rollout.outcome import Outcome, Progress, named
from mlops.rollout.past import Past, last_decision
from mlops.rollout.placing import answers, divide, in_force, shares
from mlops.rollout.strategies.returning import Returning
from mlops.telemetry import crossing

_POLL_SECONDS = 0.2
_RACES = 8


class _Moved(Exception):  # noqa: N818 - says the fact
    """What was to be done was chosen for a state that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """Takes the running candidate, else the served release, out of traffic."""

    ledger: Ledger
    platform: Platform
    prefix: str
    pace: Callable[[], float]
    """Seconds since any fixed moment; never goes back."""
    sleep: Callable[[float], None]
    start_seconds: float
    follow: Callable[[str], Outcome]
    """Advances until the rollout with this id has ended."""

    def go(self, reason: str, by: str, *, again: bool = False) -> Outcome:
        """Go it; see :meth:`mlops.rollout.engine.Engine.rollback`."""
        leaving: str | None = None
        for _ in range(_RACES):
            state = self.ledger.state()
            last = self._last_rollback(state)
            if last is not None and not (again and self._carried_out(state)):
                return self._already(state, last)
            leaving = leaving or _leaving(state)
            try:
                return self._gone(state, leaving, reason, by, after_rollback=last is not None)
            except _Moved:
                continue  # look at what is true now
        raise InfrastructureError(
            f"{self.ledger.model} in {self.ledger.environment} changes faster than it can be rolled back",
            remedy=f"see who else is at it: mlops history {self.ledger.model}",
        )

    def _gone(self, state: State, leaving: str, reason: str, by: str, *, after_rollback: bool) -> Outcome:
        previous = None
        if state.rollout is None:
            previous = self._previous(state, after_rollback=after_rollback)
            if _is_warm(state, previous):
                self._make_ready(previous)
        state, decided = self.ledger.decide(
            partial(self._decision, read=state, leaving=leaving, previous=previous, reason=reason, by=by)
        )
        if decided is not None:
            crossing(f"rollout.after:{decided.kind}")
        return self._carry_out(state, decided, leaving)

    def _decision(
        self, state: State, *, read: State, leaving: str, previous: Placement | None, reason: str, by: str
    ) -> tuple[Payload, str] | None:
        """Return the event; none when, since it was asked for, somebody else has seen to it."""
        rollout, serving = state.rollout, state.serving
        if rollout is not None:
            if rollout.strategy == Returning.name or rollout.candidate.digest != leaving:
                return None
            back_to = serving.digest if serving else ""
            return _rolled_back(rollout.id, leaving, back_to, by), reason
        if serving is None or serving.digest != leaving:
            return None
        if previous is None or state.sequence != read.sequence:
            raise _Moved
        if _is_warm(state, previous):
            return _rolled_back("", leaving, previous.digest, by), reason
        return returning(state, previous, self.prefix, self.start_seconds), reason

    def _carry_out(self, state: State, decided: Event | None, leaving: str) -> Outcome:
        if state.rollout is not None and state.rollout.strategy == Returning.name:
            return self._followed(state.rollout.id)
        if state.rollout is not None or (state.serving is not None and state.serving.digest == leaving):
            raise UserError(
                "something else was decided in the same moment, so nothing was rolled back",
                remedy="look at what is going on (mlops status), and ask again",
            )
        self._divide(state)
        if decided is None:
            return _done(state, "Somebody else has just rolled it back.")
        return _done(state, self._sentence(state))

    def _followed(self, rollout: str) -> Outcome:
        outcome = self.follow(rollout)
        if outcome.exit_code:
            raise InfrastructureError(
                "the release before could not be started again, so everything is as it was",
                found=outcome.sentence,
                remedy="roll a release out that can be started: mlops run",
            )
        return outcome

    def _divide(self, state: State) -> None:
        """Move traffic to what the state says, unless somebody has decided and done something newer."""
        try:
            divide(self.platform, shares(state, {}), state.sequence)
        except Outdated:
            if self.ledger.state().sequence == state.sequence:
                raise

    def _last_rollback(self, state: State) -> Event | None:
        """Return the rollback that nothing was decided after; None when there is none."""
        if state.rollout is not None:
            return None
        last = last_decision(self.ledger, state)
        return last if last is not None and isinstance(last.payload, RolledBack) else None

    def _carried_out(self, state: State) -> bool:
        """Whether traffic follows what was decided last; a process may have been killed before it did."""
        split, wanted = self.platform.current(), shares(state, {})
        return split is None or not wanted or in_force(split, wanted)

    def _already(self, state: State, last: Event) -> Outcome:
        """Finish what was decided, and say what would be needed to change it."""
        carried_out = self._carried_out(state)
        if state.serving is not None:
            self._make_ready(state.serving)
        self._divide(state)
        if not carried_out:
            return _done(state, f"The rollback of {last.at} was decided and not carried out; now it is.")
        if state.serving is None:
            return _done(state, f"Already back: it was taken back at {last.at}, and nothing serves.")
        told = f"Already back: {named(state.serving.release)} serves"
        try:
            previous = self._previous(state, after_rollback=True)
        except UserError:
            return _done(state, f"{told}.")
        forward = last.data["release"] == previous.digest
        way = "return to" if forward else "go further back, to"
        return _done(state, f"{told}; to {way} {named(previous.release)}: {self._again}")

    @property
    def _again(self) -> str:
        return f"mlops rollback {self.ledger.model} --again"

    def _previous(self, state: State, *, after_rollback: bool) -> Placement:
        """Return the release to go to; UserError when there is none.

        After a rollback of what served that is the release it came from. Else it is the one that served
        before and was not taken back.
        """
        if not after_rollback and state.warm is not None:
            return state.warm
        past = Past.of(self.ledger.events())
        undone = past.undone if after_rollback else None
        if undone is not None and _is_warm(state, undone):
            return state.warm or undone
        previous = undone or past.before(state.serving)
        if previous is None:
            raise _nowhere(state)
        return previous

    def _make_ready(self, placement: Placement) -> None:
        """Start the release again if its servers have died; at most ``start_seconds``."""
        began = self.pace()
        while not answers(readiness := self.platform.ready(placement.lane), placement):
            if self.pace() - began > self.start_seconds:
                raise InfrastructureError(
                    f"{named(placement.release)} does not start again, so no traffic was moved",
                    found=readiness.detail or str(readiness.phase),
                    remedy="read the log of its server; roll a release out that starts: mlops run",
                )
            release = Release.from_record(placement.release)
            self.platform.deploy(
                Deployment(placement.lane, release, placement.replicas, sequence=self.ledger.state().sequence)
            )
            self.sleep(_POLL_SECONDS)

    def _sentence(self, state: State) -> str:
        if state.serving is None:
            return "The candidate is out of traffic; there is no release before it, so nothing serves now."
        now = f"{named(state.serving.release)} has all of the traffic."
        if state.warm is None:
            return now
        return f"{now} {named(state.warm.release)} stays warm; to return to it: {self._again}"


def _is_warm(state: State, placement: Placement) -> bool:
    return state.warm is not None and state.warm.digest == placement.digest


def _leaving(state: State) -> str:
    """Return the digest of the release that is to lose its traffic; UserError when there is none."""
    if state.rollout is not None and state.rollout.strategy != Returning.name:
        return state.rollout.candidate.digest
    if state.serving is None:
        raise _nowhere(state)
    return state.serving.digest


def _rolled_back(rollout: str, leaving: str, to: str, by: str) -> RolledBack:
    return RolledBack(rollout=rollout, release=leaving, to=to, cause="person", evidence={"by": by})


def _done(state: State, sentence: str) -> Outcome:
    release = state.serving.release if state.serving else {}
    return Outcome(
        progress=Progress.ROLLED_BACK, sentence=sentence, release=release, weight=1.0, cause="person"
    )


def _nowhere(state: State) -> UserError:
    served = named(state.serving.release) if state.serving else "nothing"
    return UserError(
        "there is no release to go back to",
        expected="a release that served before",
        found=f"{served} serves, and no other one did that was not taken back",
        remedy="roll another release out: mlops run",
    )
