"""What a stage returns: checks, metrics, artifacts and one of six answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """The answers a stage can give; only PASSED, SKIPPED and CACHED let the plan go on.

    Only passed results are kept in the cache, so CACHED means: passed before, with the same inputs.
    """

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    REQUESTED = "requested"
    SKIPPED = "skipped"
    CACHED = "cached"


class Answer(StrEnum):
    """The three answers of a check (and ``skipped``, for what does not apply)."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a stage measured, with its threshold, its evidence and its answer.

    A check with ``gate=True`` can stop the pipeline; any other one only informs.
    """

    name: str
    answer: Answer
    message: str
    """One sentence for a person: what was measured, against what."""
    gate: bool = True
    measured: float | int | str | None = None
    threshold: float | int | str | None = None
    unit: str = ""
    remedy: str = ""
    """What to do when the answer is not ``passed``."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """JSON-serialisable numbers behind the answer; never NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """The outcome of a stage. ``artifacts`` maps a name to a path relative to the stage's output folder."""

    stage: str
    status: Status
    summary: str
    """One sentence for a person."""
    checks: tuple[Check, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What later stages read (ids, digests, addresses); JSON-serialisable."""
    seconds: float = 0.0
    key: str = ""
    """The cache key of the inputs; empty when the stage is never cached."""

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        record = asdict(self)
        record["checks"] = [{**asdict(check), "evidence": dict(check.evidence)} for check in self.checks]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StageResult:
        """Rebuild from the JSON form."""
        fields = dict(record)
        fields["status"] = Status(fields["status"])
        fields["checks"] = tuple(
            Check(**{**check, "answer": Answer(check["answer"])}) for check in fields["checks"]
        )
        return cls(**fields)


def status_of(checks: tuple[Check, ...]) -> Status:
    """Fold gates into one status: any failed gate fails; else any inconclusive gate could not tell; else passed."""
    answers = {check.answer for check in checks if check.gate}
    if Answer.FAILED in answers:
        return Status.FAILED
    if Answer.INCONCLUSIVE in answers:
        return Status.INCONCLUSIVE
    return Status.PASSED
