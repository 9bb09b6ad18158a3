"""Rolling: equal steps, as replicas are replaced one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlops.decide.verdicts import Verdict
from mlops.rollout.strategies.port import Action, climb


class Rolling:
    """As many equal shares as there are steps, or replicas if more; the absolute objective decides."""

    name: ClassVar[str] = "rolling"
    help: ClassVar[str] = "Equal steps; each asks only that the candidate keeps the objective."
    relative: ClassVar[bool] = False

    def next(self, settings: Mapping[str, Any], step: int, verdict: Verdict, has_stable: bool) -> Action:
        """Give the first share at once, then one step for each PROMOTE."""
        return climb(self.shares(settings, has_stable), step, verdict)

    def shares(self, settings: Mapping[str, Any], has_stable: bool) -> tuple[float, ...]:
        """Return 1/n, 2/n ... 1."""
        count = max(len(settings["steps"]), int(settings.get("replicas", 1))) if has_stable else 1
        return tuple(index / count for index in range(1, count + 1))
