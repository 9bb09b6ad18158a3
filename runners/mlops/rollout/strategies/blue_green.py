"""Blue-green: warm the candidate, switch everybody at once, keep the other for an instant return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlops.decide.verdicts import Verdict
from mlops.rollout.strategies.port import Action, climb


class BlueGreen:
    """All of the traffic as soon as the candidate is ready; judged afterwards on the absolute objective.

    Nobody is left on the former release to compare with. Until the verdict it keeps its replicas without
    traffic, so that ROLLBACK (or a person) returns to it with one split; PROMOTE makes it the warm release.
    """

    name: ClassVar[str] = "blue-green"
    help: ClassVar[str] = (
        "Everybody at once when the candidate is ready; back at once when it misses the objective."
    )
    relative: ClassVar[bool] = False

    def next(self, settings: Mapping[str, Any], step: int, verdict: Verdict, has_stable: bool) -> Action:
        """Switch, then wait for the verdict."""
        return climb(self.shares(settings, has_stable), step, verdict)

    def shares(self, settings: Mapping[str, Any], has_stable: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Return the one share."""
        return (1.0,)
