"""One run of the pipeline: what is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.pipeline.results import StageResult, Status

if TYPE_CHECKING:
    from mlops.store import Store

_EXIT_CODES = {Status.FAILED: 1, Status.INCONCLUSIVE: 5}
_ORDER = (Status.FAILED, Status.INCONCLUSIVE, Status.REQUESTED)
GOES_ON = frozenset({Status.PASSED, Status.SKIPPED, Status.CACHED})
"""The answers after which the next stage runs."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stages to run: those named in ``only``, or those from ``since`` on; all of them when both are
    empty.

    The stages before a selected one are not run: their results come from the cache, and are absent when it
    has none.
    """

    only: tuple[str, ...] = ()
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run, for which model, and how long to wait for another run of the same model."""

    model: str
    workspace: Path
    store: Store
    required_stages: tuple[str, ...] = ()
    """The profile's: a release is refused unless each of them has passed."""
    selection: Selection = Selection()
    fresh: bool = False
    """Compute the selected stages again, and let the new results replace the kept ones."""
    lease_seconds: float = 30.0
    wait_seconds: float = 600.0
    commit: str = ""
    environment: str = ""
    """The environment that the run releases to, for the report."""
    debug: bool = False
    """Show the traceback of a defect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended. It is written to ``.mlops/run.json`` as it is."""

    model: str
    run: str
    """Unique id of the run; also the trace id of its log."""
    status: Status
    sentence: str
    """The verdict for a person."""
    exit_code: int
    started: str
    """UTC, ISO 8601."""
    seconds: float
    stages: tuple[StageResult, ...] = ()
    """Every stage that has a result, in order; of an unselected one this is what the cache had."""
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Why each other stage has none."""
    saved_seconds: Mapping[str, float] = field(default_factory=dict)
    """What each cached stage took when it was computed."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Digest of the kept output folder of each passed stage."""
    already_serving: bool = False
    error: Mapping[str, str | int] | None = None
    """The fields of ``error.json`` when there is one."""
    commit: str = ""
    environment: str = ""
    runner: str = ""
    """Version of this program."""

    def result(self, stage: str) -> StageResult | None:
        """Return the result of a stage; None when it has none."""
        return next((each for each in self.stages if each.stage == stage), None)

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "run": self.run,
            "status": self.status.value,
            "sentence": self.sentence,
            "exit_code": self.exit_code,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "commit": self.commit,
            "environment": self.environment,
            "runner": self.runner,
            "already_serving": self.already_serving,
            "error": dict(self.error) if self.error else None,
            "stages": [
                {
                    **each.as_record(),
                    "output": self.outputs.get(each.stage, ""),
                    "saved_seconds": round(self.saved_seconds.get(each.stage, 0.0), 3),
                }
                for each in self.stages
            ],
            "not_run": dict(self.not_run),
        }


def status_of_run(statuses: Iterable[Status]) -> Status:
    """Fold: failed beats could-not-tell beats requested beats passed; cached and skipped count as passed."""
    found = set(statuses)
    return next((status for status in _ORDER if status in found), Status.PASSED)


def exit_code_of(status: Status) -> int:
    """Return 1 for a failed gate, 5 for could-not-tell, else 0."""
    return _EXIT_CODES.get(status, 0)
