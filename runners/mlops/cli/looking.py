"""How a state of the ledger reads to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops.errors import UserError

if TYPE_CHECKING:
    from mlops.ledger.state import State
    from mlops.wiring import House


def named(release: Mapping[str, Any]) -> str:
    """Return a release's name for people."""
    return f"{release['model']} version {release['version']} ({str(release['digest'])[:12]})"


def ago(at: str, now: datetime | None = None) -> str:
    """Return how long ago a UTC time of the ledger was, in its largest unit."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def serving_line(state: State) -> str:
    """Say what serves and since when."""
    if state.serving is None:
        return "nothing yet"
    return f"{named(state.serving.release)}, {ago(state.serving.since)}"


def known_model(house: House, model: str, environment: str | None = None) -> str:
    """Return the model's name if it has a ledger in the environment; UserError with the nearest known one otherwise."""
    from mlops.ledger import models

    environment = environment or house.profile.environment
    known = sorted({name for name, place in models(house.store) if place == environment})
    if model in known:
        return model
    if known:
        raise not_recorded("model", model, known, where=f"ledger of {environment}")
    raise UserError(
        f"no model has been released to {environment} yet",
        expected=f"a ledger of {model}",
        found="an empty store",
        remedy="run `mlops run` in a model repo first",
        where=house.profile.store_url,
    )


def not_recorded(kind: str, name: str, known: Iterable[str], *, where: str) -> UserError:
    """Return the error for a name that a ledger does not have: all that it has, and the nearest."""
    from mlops.plugins import nearest

    choices = list(known)
    near = nearest(name, choices)
    return UserError(
        f"there is no {kind} {name!r}",
        expected=f"one of: {', '.join(choices)}",
        found=name,
        remedy=f"did you mean {near!r}?" if near else "choose one of them; `mlops status` shows what serves",
        where=where,
    )
