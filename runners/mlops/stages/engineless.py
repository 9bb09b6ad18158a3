"""What ``build`` and ``scan`` are in a profile without a container engine: visible, and honest about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.stage import Context, Never, Validity


class Engineless:
    """A stage that needs a container engine; it keeps its place in the plan and says what is missing.

    A profile that requires the stage refuses the release: nothing is promoted unbuilt or unscanned there.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    without: ClassVar[str]
    """What the release is like without the stage."""

    def inputs(self, context: Context) -> Mapping[str, str]:  # noqa: ARG002 - the port's signature
        """Return nothing: a skipped stage reads nothing."""
        return {}

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Never: there may be an engine tomorrow."""
        return Never()

    def run(self, context: Context) -> StageResult:
        """Report that there is no container engine."""
        context.say("no container engine in this profile", None)
        return StageResult(
            stage=self.name,
            status=Status.SKIPPED,
            summary=f"no container engine in this profile: {self.without}",
        )
