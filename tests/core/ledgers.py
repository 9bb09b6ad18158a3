"""What the ledger's tests append, and where it is."""

from __future__ import annotations

from collections.abc import Callable

from mlops.ledger import Ledger
from mlops.ledger.events import Noted

Make = Callable[..., Ledger]
"""The fixture ``make``: opens the ledger of flight-delay in production."""


def note(subject: str = "something") -> Noted:
    """Return an event that changes no state."""
    return Noted(subject=subject, numbers={"n": 1})


def fill(ledger: Ledger, count: int) -> None:
    """Append some events."""
    for number in range(count):
        ledger.decide(lambda _, number=number: (note(f"event {number}"), "to fill it"))


def path(sequence: int) -> str:
    """Return the path of an event's file."""
    return f"ledger/flight-delay/production/{sequence:010d}.json"
