"""The way back: one event and one split. Nothing is built, downloaded or judged, nothing heavy imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlops.errors import InfrastructureError, UserError
from mlops.ledger import Ledger
from mlops.ledger.events import Event, Payload, Promoted, RolledBack, RolloutStarted, WeightSet
from mlops.ledger.state import Placement, State, fold
from mlops.platforms.port import Deployment, Platform
from mlops.release import Release
from mlops.rollout.beginning import returning
from mlops.rollout.outcome import Outcome, Progress, named
from mlops.rollout.placing import answers, divide, in_force, shares
from mlops.rollout.strategies.returning import Returning
from mlops.telemetry import crossing

_POLL_SECONDS = 0.2
_DECIDING = (RolloutStarted, WeightSet, Promoted, RolledBack)


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """Takes the running candidate, else the served release, out of traffic."""

    ledger: Ledger
    platform: Platform
    prefix: str
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    start_seconds: float
    follow: Callable[[], Outcome]
    """Advances until the running rollout has ended."""

    def go(self, reason: str, by: str) -> Outcome:
        """Go it; see :meth:`mlops.rollout.engine.Engine.rollback`."""
        state = self.ledger.state()
        if event := self._unfinished(state):
            divide(self.platform, shares(state, {}))
            return _done(state, f"The rollback of {event.at} was decided and not carried out; now it is.")
        leaving = _leaving(state)
        previous = None
        if state.rollout is None and state.warm is not None:
            self._make_ready(state.warm)
        elif state.rollout is None:
            previous = self._served_before(state)
        state, decided = self.ledger.decide(
            partial(self._decision, leaving=leaving, previous=previous, reason=reason, by=by)
        )
        if decided is not None:
            crossing(f"rollout.after:{decided.kind}")
        return self._carry_out(state, decided, leaving)

    def _decision(
        self, state: State, *, leaving: str, previous: Placement | None, reason: str, by: str
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
        if state.warm is not None:
            return _rolled_back("", leaving, state.warm.digest, by), reason
        if previous is None:
            raise _nowhere(state)
        return returning(state, previous, self.prefix, self.start_seconds), reason

    def _carry_out(self, state: State, decided: Event | None, leaving: str) -> Outcome:
        if state.rollout is not None and state.rollout.strategy == Returning.name:
            return self._followed()
        if state.rollout is not None or (state.serving is not None and state.serving.digest == leaving):
            raise UserError(
                "something else was decided in the same moment, so nothing was rolled back",
                remedy="look at what is going on (mlops status), and ask again",
            )
        divide(self.platform, shares(state, {}))
        if decided is None:
            return _done(state, "Somebody else has just rolled it back.")
        return _done(state, _sentence(state))

    def _followed(self) -> Outcome:
        outcome = self.follow()
        if outcome.exit_code:
            raise InfrastructureError(
                "the release before could not be started again, so everything is as it was",
                found=outcome.sentence,
                remedy="roll a release out that can be started: mlops run",
            )
        return outcome

    def _unfinished(self, state: State) -> Event | None:
        """Return the last rollback if traffic does not follow it yet: its process was killed."""
        split = self.platform.current()
        if state.rollout is not None or split is None or in_force(split, shares(state, {})):
            return None
        last: Event | None = None
        for event in self.ledger.events(max(1, state.sequence - 8)):
            last = event if isinstance(event.payload, _DECIDING) else last
        return last if last is not None and isinstance(last.payload, RolledBack) else None

    def _make_ready(self, warm: Placement) -> None:
        """Start the warm release again if its servers have died; at most ``start_seconds``."""
        began = self.clock()
        while not answers(readiness := self.platform.ready(warm.lane), warm):
            if self.clock() - began > self.start_seconds:
                raise InfrastructureError(
                    f"{named(warm.release)} does not start again, so nothing was rolled back",
                    found=readiness.detail or str(readiness.phase),
                    remedy="read the log of its server; roll a release out that starts: mlops run",
                )
            release = Release.from_record(warm.release)
            self.platform.deploy(Deployment(lane=warm.lane, release=release, replicas=warm.replicas))
            self.sleep(_POLL_SECONDS)

    def _served_before(self, state: State) -> Placement:
        """Return the release that served last before the present one, from the ledger's whole history."""
        served: list[Placement] = []
        past = State()
        for event in self.ledger.events():
            past = fold(past, [event])
            if past.serving is not None and (not served or served[-1].digest != past.serving.digest):
                served.append(past.serving)
        present = state.serving.digest if state.serving else ""
        others = [each for each in served if each.digest != present]
        if not others:
            raise _nowhere(state)
        return others[-1]


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


def _sentence(state: State) -> str:
    if state.serving is None:
        return "The candidate is out of traffic; there is no release before it, so nothing serves now."
    now = f"{named(state.serving.release)} has all of the traffic."
    if state.warm is None:
        return now
    return f"{now} {named(state.warm.release)} stays warm: a second rollback returns to it."


def _nowhere(state: State) -> UserError:
    served = named(state.serving.release) if state.serving else "nothing"
    return UserError(
        "there is no release to go back to",
        expected="a release that served before",
        found=f"{served} serves, and no other one ever did",
        remedy="roll another release out: mlops run",
    )
