"""Find a stage, a strategy or a platform by its name among the entry points of every installed package.

A company adds its own from another package: one line under ``[project.entry-points."mlops.stages"]``,
nothing here changes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mlops.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STAGES = "mlops.stages"
STRATEGIES = "mlops.strategies"
PLATFORMS = "mlops.platforms"
_ONE_OF = {STAGES: "stage", STRATEGIES: "strategy", PLATFORMS: "platform"}


def names(group: str) -> tuple[str, ...]:
    """Return the names of a group, sorted; nothing is imported."""
    return tuple(sorted(_found(group)))


def load(group: str, name: str, *, where: str = "") -> Any:  # noqa: ANN401 - each group has its own port
    """Import what is registered under the name; UserError with the nearest known name when nothing is.

    ``where`` says where the name was written (``mlops.yaml: rollout.strategy``).
    """
    found = _found(group)
    if name not in found:
        raise unknown(_ONE_OF[group], name, found, where=where)
    return _imported(group, found[name])


def load_all(group: str) -> dict[str, Any]:
    """Import everything of a group, by name."""
    return {name: _imported(group, entry) for name, entry in sorted(_found(group).items())}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that the given one was most likely meant to be; empty when none is close."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return close[0] if close else ""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """Return the error for a name that nobody knows: all known names, and the nearest one as remedy."""
    choices = sorted(known)
    meant = nearest(name, choices)
    return UserError(
        f"there is no {kind} named {name!r}",
        expected=f"one of: {', '.join(choices)}" if choices else f"an installed {kind}",
        found=name,
        remedy=f"did you mean {meant!r}?"
        if meant
        else f"choose one of the known names, or install the package of {name!r}",
        where=where,
    )


def _found(group: str) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        former = found.setdefault(entry.name, entry)
        if former.value != entry.value:
            raise UserError(
                f"two packages register {entry.name!r} in {group}",
                expected="one package per name",
                found=f"{_origin(former)} and {_origin(entry)}",
                remedy="uninstall one of them, or give it another name",
            )
    return found


def _imported(group: str, entry: EntryPoint) -> Any:  # noqa: ANN401
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{entry.name!r} of {group} cannot be loaded: {error}",
            expected=f"an importable {entry.value}",
            found=f"{type(error).__name__} from {_origin(entry)}",
            remedy="install that package again, with what it needs",
            where=entry.value,
        ) from error


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unnamed package"
    return f"{package} ({entry.value})"
