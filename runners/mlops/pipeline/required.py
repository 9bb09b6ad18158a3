"""Refuse a release while a stage that the profile requires has not passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops.pipeline.results import Answer, Check, StageResult, Status

RELEASING = "rollout"
"""The stage that moves an environment to a release."""


def refusal(
    required: Sequence[str], results: Mapping[str, StageResult], not_run: Mapping[str, str]
) -> StageResult | None:
    """Return the releasing stage's failed result, one check per missing stage; None when all required ones
    have passed."""
    missing = [name for name in required if name != RELEASING and not _has_passed(results.get(name))]
    if not missing:
        return None
    return StageResult(
        stage=RELEASING,
        status=Status.FAILED,
        summary=f"refused: {', '.join(missing)} must pass before a release",
        checks=tuple(_check(name, results.get(name), not_run.get(name, "no result")) for name in missing),
    )


def _has_passed(result: StageResult | None) -> bool:
    return result is not None and result.status in (Status.PASSED, Status.CACHED)


def _check(name: str, result: StageResult | None, otherwise: str) -> Check:
    found = f"{result.status}: {result.summary}" if result else otherwise
    return Check(
        name=f"requires {name}",
        answer=Answer.FAILED,
        message=f"the profile requires {name}, which has not passed ({found})",
        measured=found,
        threshold="passed",
        remedy=f"run it first: mlops run --from {name}",
    )
