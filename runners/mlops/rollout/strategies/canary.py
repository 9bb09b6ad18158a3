"""Canary: a small share first, more as the evidence comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlops.decide.verdicts import Verdict
from mlops.rollout.strategies.port import Action, climb


class Canary:
    """Shares from the contract's ``steps``; candidate and stable are compared on the same traffic.

    Without a stable release there is nobody to protect and nothing to compare with: the candidate gets
    everything and the absolute objective decides.
    """

    name: ClassVar[str] = "canary"
    help: ClassVar[str] = (
        "A small share first (10 %, 50 %), each step on evidence against the stable release."
    )
    relative: ClassVar[bool] = True

    def next(self, settings: Mapping[str, Any], step: int, verdict: Verdict, has_stable: bool) -> Action:
        """Give the first share at once, then one step for each PROMOTE."""
        return climb(self.shares(settings, has_stable), step, verdict)

    def shares(self, settings: Mapping[str, Any], has_stable: bool) -> tuple[float, ...]:
        """Return the steps as shares in (0, 1]."""
        return tuple(step / 100 for step in settings["steps"]) if has_stable else (1.0,)
