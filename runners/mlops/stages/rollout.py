"""``rollout``: the registered release goes to its users step by step, on evidence, and back by itself when it is worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.errors import GateFailed, Interrupted
from mlops.pipeline.results import Answer, Check, StageResult, status_of
from mlops.pipeline.stage import Context, Never, Validity
from mlops.release import Release
from mlops.rollout.outcome import Outcome, Progress, named
from mlops.rollout.past import Past
from mlops.stages.replayed import Replay, insisting, replayed

EVIDENCE = "rollout.json"

_ANSWERS = {
    Progress.PROMOTED: Answer.PASSED,
    Progress.ROLLED_BACK: Answer.FAILED,
    Progress.UNDECIDED: Answer.INCONCLUSIVE,
}


class Rollout:
    """Begins the rollout and watches it to its end; one that runs already is joined."""

    name = "rollout"
    help = "Move the environment to the release: a small share first, more on evidence, back by itself."

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return the release; the result is never reused."""
        return {"release": str(context.fact("register", "release")["digest"])}

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Never: what serves is asked each time."""
        return Never()

    def run(self, context: Context) -> StageResult:
        """Roll out; raises UserError when another release is being rolled out.

        Interrupted leaves the rollout where it is: the ledger has all of it, and whoever comes next goes on.
        """
        release = Release.from_record(context.fact("register", "release"))
        _refuse_rejected(context, release)
        settings = context.contract.rollout.model_dump(mode="json")
        rollout = context.engine.begin(release, settings, f"{named(release.as_record())} passed all stages")
        if not rollout:
            outcome = Outcome(
                progress=Progress.IDLE,
                sentence=f"{named(release.as_record())} serves already",
                release=release.as_record(),
                weight=1.0,
            )
            return _result(context, outcome, {}, Answer.PASSED)
        with replayed(context) as replay:
            outcome = _watched(context, release, rollout, replay)
            traffic = replay.as_record() if replay else {}
        return _result(context, outcome, traffic, _ANSWERS[outcome.progress])


def _refuse_rejected(context: Context, release: Release) -> None:
    """Refuse what was judged already: trying until it passes would void the judge's error rate.

    A rerun by a timer must not bring back what a person has taken back, either.
    """
    event = Past.of(context.environment_ledger.events()).rejected.get(release.digest)
    if event is None or context.again:
        return
    raise GateFailed(
        f"{named(release.as_record())} was taken back before, and nothing of it has changed",
        expected="a release that neither the judge nor a person has taken back",
        found=f"{event.at[:19]} UTC, {event.actor}: {event.reason}",
        remedy="Change the model and run again; `mlops run --again` tries this very release once more.",
        where="rollout",
    )


def _watched(context: Context, release: Release, rollout: str, replay: Replay | None) -> Outcome:
    try:
        show = insisting(replay, context.show)
        return context.engine.watch(show, context.profile.tick_seconds, rollout=rollout)
    except Interrupted as stop:
        model = context.contract.model
        raise Interrupted(
            f"Nobody watches the rollout of {named(release.as_record())} any more; it stays where it is",
            found=stop.headline,
            remedy=f"Run the same command again to go on, or: mlops rollout watch {model}, mlops rollback {model}",
            where="rollout",
        ) from stop


def _result(context: Context, outcome: Outcome, traffic: Mapping[str, Any], answer: Answer) -> StageResult:
    check = _check(outcome, answer, context.contract.model)
    return StageResult(
        stage=Rollout.name,
        status=status_of((check,)),
        summary=outcome.sentence,
        checks=(check,),
        metrics=_metrics(outcome, traffic),
        artifacts={"evidence": _kept(context.output / EVIDENCE, outcome, traffic)},
        facts={
            "rollout": outcome.rollout,
            "progress": str(outcome.progress),
            "release": dict(outcome.release),
            "endpoint": context.engine.endpoint(),
        },
    )


def _check(outcome: Outcome, answer: Answer, model: str) -> Check:
    needed = outcome.evidence.get("good_needed" if answer is Answer.PASSED else "against_needed")
    return Check(
        name=Rollout.name,
        answer=answer,
        message=outcome.sentence,
        measured=_evidence(outcome),
        threshold=needed,
        unit="times as likely" if needed else "",
        remedy=_REMEDIES.get(outcome.cause, "").format(model=model),
        evidence=outcome.evidence,
    )


_REMEDIES = {
    "judge": "The release before serves on. See what the candidate answers differently: mlops history {model}",
    "deployment": "Read the log of its server, quoted above; the package may not start outside of the tests.",
    "deadline": "Give it more traffic, more time (rollout.deadline), or a strategy that asks for less evidence.",
    "person": "Ask whoever took it back: mlops history {model}",
}


def _evidence(outcome: Outcome) -> float | None:
    """Return the number that decided: the least evidence for it, or all of that against it."""
    metrics = outcome.evidence.get("metrics")
    if not metrics:
        return None
    if outcome.progress is Progress.PROMOTED:
        return float(min(each["good"] for each in metrics.values()))
    return float(outcome.evidence["against"])


def _metrics(outcome: Outcome, traffic: Mapping[str, Any]) -> dict[str, float]:
    numbers: dict[str, Any] = {"candidate_requests": outcome.requests, "candidate_errors": outcome.errors}
    for name in ("sent", "failed", "p50_ms", "p99_ms"):
        numbers[f"traffic_{name}"] = traffic.get(name)
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _kept(path: Path, outcome: Outcome, traffic: Mapping[str, Any]) -> str:
    record = {"progress": outcome.progress, "evidence": dict(outcome.evidence), "traffic": dict(traffic)}
    path.write_text(json.dumps(record, indent=1))
    return path.name
