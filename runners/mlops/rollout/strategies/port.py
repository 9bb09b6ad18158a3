"""The port of a strategy: a pure function from what is known to what should happen next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from mlops.decide.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave everything as it is."""


@dataclass(frozen=True, slots=True)
class Raise:
    """Give the candidate a larger share; ``step`` is the index that is then in force."""

    step: int
    weight: float
    """Share in (0, 1]."""


@dataclass(frozen=True, slots=True)
class Promote:
    """The candidate serves from now on, with all of the traffic."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """The candidate loses all of its traffic."""


Action = Hold | Raise | Promote | Rollback


class Strategy(Protocol):
    """Asked only while the candidate is ready; holds nothing between two questions."""

    name: ClassVar[str]
    help: ClassVar[str]
    relative: ClassVar[bool]
    """Whether candidate and stable are compared; else the absolute objective alone decides."""

    def next(self, settings: Mapping[str, Any], step: int, verdict: Verdict, has_stable: bool) -> Action:
        """Say what follows; ``step`` is -1 until the candidate has had its first share."""

    def shares(self, settings: Mapping[str, Any], has_stable: bool) -> tuple[float, ...]:
        """Return the candidate's shares in (0, 1], ascending."""


def granted(shares: Sequence[float], step: int) -> float:
    """Return the share that the next PROMOTE gives: what the judge's evidence has to be enough for."""
    return shares[step + 1] if step + 1 < len(shares) else 1.0


def climb(shares: Sequence[float], step: int, verdict: Verdict) -> Action:
    """Walk up the shares, one step for each PROMOTE.

    The first share is given as soon as the candidate is ready: evidence needs traffic. A last share of 1 is
    the promotion itself, so with (0.1, 0.5, 1.0) there are two decisions: from 10 to 50 %, and from 50 % to
    promoted.
    """
    if verdict is Verdict.ROLLBACK:
        return Rollback() if step >= 0 else Hold()
    if step < 0:
        return Raise(0, shares[0])
    if verdict is not Verdict.PROMOTE:
        return Hold()
    following = step + 1
    if following >= len(shares) or shares[following] >= 1:
        return Promote()
    return Raise(following, shares[following])
