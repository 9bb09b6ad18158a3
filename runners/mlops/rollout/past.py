"""Looks back in a ledger: what was decided last, what served, and what was taken back. Folds over events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlops.ledger import Ledger
from mlops.ledger.events import Event, Promoted, RolledBack, RolloutStarted, WeightSet
from mlops.ledger.state import Placement, State, fold

DECIDING = (RolloutStarted, WeightSet, Promoted, RolledBack)
"""Events that say who gets traffic."""
_NEAR = 8


def last_decision(ledger: Ledger, state: State) -> Event | None:
    """Return the last event on traffic; the whole ledger is read only if it is not among the newest."""
    for start in (max(1, state.sequence - _NEAR), 1):
        deciding = [event for event in ledger.events(start) if isinstance(event.payload, DECIDING)]
        if deciding:
            return deciding[-1]
    return None


@dataclass(slots=True)
class Past:
    """What one ledger tells of the releases that served."""

    state: State = field(default_factory=State)
    served: list[Placement] = field(default_factory=list)
    """Every release that served, in order, once for each time."""
    taken_back: set[str] = field(default_factory=set)
    """Digests of the releases whose last fate was to be taken back."""
    rejected: dict[str, Event] = field(default_factory=dict)
    """Those of them that the judge or a person took back, each with the event: not a matter of another try."""
    undone: Placement | None = None
    """What served until the last decision, if that was a rollback of it."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Past:
        """Fold the events of one ledger, in order."""
        past = cls()
        for event in events:
            past._add(event)
        return past

    def before(self, serving: Placement | None) -> Placement | None:
        """Return the release that served last before this one and was not taken back; None when there is none."""
        present = serving.digest if serving else ""
        others = (each for each in reversed(self.served) if each.digest != present)
        return next((each for each in others if each.digest not in self.taken_back), None)

    def _add(self, event: Event) -> None:
        before, self.state = self.state.serving, fold(self.state, [event])
        now = self.state.serving
        if isinstance(event.payload, DECIDING):
            self.undone = None
        if isinstance(event.payload, RolledBack):
            self.taken_back.add(event.payload.release)
            if event.payload.cause in {"judge", "person"}:
                self.rejected[event.payload.release] = event
        if now is None or (before is not None and before.digest == now.digest):
            return
        self.served.append(now)
        self.taken_back.discard(now.digest)
        self.rejected.pop(now.digest, None)
        if isinstance(event.payload, RolledBack):
            self.undone = before
