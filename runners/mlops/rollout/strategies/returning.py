"""Returning: the way back to a release that served before and is no longer warm.

Not an entry point: a contract cannot ask for it. :meth:`mlops.rollout.engine.Engine.rollback` uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlops.decide.verdicts import Verdict
from mlops.rollout.strategies.port import Action, Promote


class Returning:
    """Take over as soon as it is ready: it has proved itself, and a rollback waits for no evidence."""

    name: ClassVar[str] = "return"
    help: ClassVar[str] = "Back to a release that served before, as soon as its servers run again."
    relative: ClassVar[bool] = False

    def next(self, settings: Mapping[str, Any], step: int, verdict: Verdict, has_stable: bool) -> Action:  # noqa: ARG002
        """Promote."""
        return Promote()

    def shares(self, settings: Mapping[str, Any], has_stable: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Return the one share."""
        return (1.0,)
