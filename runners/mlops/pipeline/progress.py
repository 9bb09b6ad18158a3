"""The port by which a run tells what it is doing, and the two reporters that need no terminal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from mlops.pipeline.results import Answer, StageResult, Status
from mlops.telemetry import mask

if TYPE_CHECKING:
    from mlops.pipeline.run import RunResult
    from mlops.rollout.outcome import Outcome

WORDS = {
    Status.PASSED: "passed",
    Status.FAILED: "FAILED",
    Status.INCONCLUSIVE: "COULD NOT TELL",
    Status.REQUESTED: "requested",
    Status.SKIPPED: "skipped",
    Status.CACHED: "cached",
}


@dataclass(frozen=True, slots=True)
class Announced:
    """A stage that is going to be run, as reporters show it."""

    name: str
    help: str


class Reporter(Protocol):
    """Shows a run to somebody. Used as a context manager around the run; no method may raise or block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run_started(self, model: str, stages: Sequence[Announced]) -> None:
        """The run has begun; these stages may follow."""

    def stage_started(self, stage: str) -> None:
        """A stage is being looked up or computed."""

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        """Something is going on, ``share`` of it done where that is known; ``stage`` is empty outside the
        stages."""

    def looked(self, stage: str, outcome: Outcome) -> None:
        """A running rollout was looked at."""

    def stage_ended(self, result: StageResult) -> None:
        """A stage has a result."""

    def run_ended(self, result: RunResult) -> None:
        """The run is over and written down."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run_started(self, model: str, stages: Sequence[Announced]) -> None:
        """Show nothing."""

    def stage_started(self, stage: str) -> None:
        """Show nothing."""

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        """Show nothing."""

    def looked(self, stage: str, outcome: Outcome) -> None:
        """Show nothing."""

    def stage_ended(self, result: StageResult) -> None:
        """Show nothing."""

    def run_ended(self, result: RunResult) -> None:
        """Show nothing."""


class _Stream(Silent):
    """Writes masked lines to a stream and falls silent when nobody reads it any more (``mlops run |
    head``)."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._broken = False

    def _write(self, line: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._broken = True


class PlainReporter(_Stream):
    """One line per event, with time and stage, for the log of a build; progress of a stage at most every
    few seconds.

    Args:
        stream: where the lines go.
        every_seconds: the shortest time between two progress lines of a stage; the first comes at once.
    """

    def __init__(
        self, stream: TextIO, *, every_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream, clock=clock)
        self._every_seconds = every_seconds
        self._quiet_until = float("-inf")

    def run_started(self, model: str, stages: Sequence[Announced]) -> None:
        """Write the model and the names of the stages."""
        self._line("", f"{model}: {' '.join(stage.name for stage in stages)}")

    def stage_started(self, stage: str) -> None:
        """Write that the stage has begun; its first sentence may follow at once."""
        self._quiet_until = float("-inf")
        self._line(stage, "begins")

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        """Write the sentence, unless another came just before."""
        done = "" if share is None else f" ({share:.0%})"
        self._seldom(stage, sentence + done)

    def looked(self, stage: str, outcome: Outcome) -> None:
        """Write the share of traffic and the sentence, unless another look came just before."""
        self._seldom(stage, f"{outcome.weight:.0%} of the traffic: {outcome.sentence}")

    def stage_ended(self, result: StageResult) -> None:
        """Write the answer, then each check that does not pass, with what to do."""
        self._line(result.stage, f"{WORDS[result.status]} in {result.seconds:.1f} s: {result.summary}")
        for check in result.checks:
            if check.answer in (Answer.FAILED, Answer.INCONCLUSIVE):
                kind = "gate" if check.gate else "note"
                self._line(result.stage, f"  {kind} {check.name}: {check.message}")
                if check.remedy:
                    self._line(result.stage, f"    do: {check.remedy}")

    def run_ended(self, result: RunResult) -> None:
        """Write the verdict, and the error with its remedy when there is one."""
        self._line("", f"{result.sentence} ({result.seconds:.1f} s)")
        for name in ("expected", "found", "remedy", "where"):
            if result.error and result.error.get(name):
                self._line("", f"  {name}: {result.error[name]}")

    def _seldom(self, stage: str, text: str) -> None:
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + self._every_seconds
            self._line(stage, text)

    def _line(self, stage: str, text: str) -> None:
        moment = datetime.now(UTC).strftime("%H:%M:%SZ")
        flat = " ".join(mask(text).split()) if not text.startswith("  ") else mask(text).rstrip()
        self._write(f"{moment} {stage or 'mlops':<9} {flat}")


class JsonReporter(_Stream):
    """One JSON object a line and event (``mlops run --json``), for other programs; the last one is the
    whole run."""

    def run_started(self, model: str, stages: Sequence[Announced]) -> None:
        """Write ``run-started`` with the names of the stages."""
        self._event("run-started", model=model, stages=[stage.name for stage in stages])

    def stage_started(self, stage: str) -> None:
        """Write ``stage-started``."""
        self._event("stage-started", stage=stage)

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        """Write ``progress``."""
        self._event("progress", stage=stage, message=sentence, share=share)

    def looked(self, stage: str, outcome: Outcome) -> None:
        """Write ``rollout`` with the candidate's weight and the verdict so far."""
        self._event(
            "rollout",
            stage=stage,
            message=outcome.sentence,
            weight=outcome.weight,
            verdict=outcome.verdict,
            progress=str(outcome.progress),
        )

    def stage_ended(self, result: StageResult) -> None:
        """Write ``stage-ended`` with the whole result."""
        self._event("stage-ended", stage=result.stage, result=result.as_record())

    def run_ended(self, result: RunResult) -> None:
        """Write ``run-ended`` with the whole run."""
        self._event("run-ended", result=result.as_record())

    def _event(self, event: str, **fields: object) -> None:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(mask(json.dumps({"event": event, "at": moment, **fields}, ensure_ascii=False)))


def reporter_for(stream: TextIO, *, as_json: bool = False) -> Reporter:
    """Choose: JSON lines when asked for, a living list on a terminal, plain lines in a build's log or a
    pipe."""
    if as_json:
        return JsonReporter(stream)
    living = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")
    if not living:
        return PlainReporter(stream)
    from mlops.pipeline.live import LiveReporter

    return LiveReporter(stream)
