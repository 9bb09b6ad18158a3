"""``evaluate``: is the candidate good enough, at least as good as the champion, and does it behave."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.canonical import digest_json
from mlops.decide.metrics import METRICS, evaluate
from mlops.errors import MlopsError, UserError
from mlops.pipeline.results import Answer, Check, StageResult, status_of
from mlops.pipeline.stage import Context, Forever, Validity
from mlops.serving.launch import Launcher, ScoreJob
from mlops.stages import answers, comparison
from mlops.stages.behaviours import Behaviours, sample_of
from mlops.stages.champions import Champion, champion_of, golden_of, reproduction, score_champion
from mlops.stages.comparison import Contest, Outcome
from mlops.telemetry import crossing

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.decide.metrics import Truth
    from mlops.stages.rows import Split

EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True, slots=True)
class _Holdout:
    """The rows that decide, with the classes that anybody knows of (None for a regression)."""

    table: pa.Table
    truth: Truth
    train_truth: Truth
    labels: tuple[str, ...] | None


class Evaluate:
    """Scores candidate and champion on the same rows, each in its own Python, and lets the gate decide."""

    name = "evaluate"
    help = "Compare the candidate with the champion on the holdout, and check how it behaves."
    reads = ("validate", "train", "package")

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of the package, the holdout, the champion, and what the contract says of the
        metric."""
        contract = context.contract
        return {
            "package": str(context.fact("package", "package")),
            "holdout": str(context.fact("validate", "holdout_digest")),
            "champion": champion_of(context),
            "contract": digest_json(
                {
                    "metric": contract.metric.model_dump(mode="json"),
                    "target": contract.target,
                    "kind": contract.kind,
                }
            ),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Forever: the same package, champion and rows give the same numbers, and cost the holdout nothing
        more."""
        return Forever()

    def run(self, context: Context) -> StageResult:
        """Score, compare, check the behaviour; UserError when the candidate cannot predict the holdout at
        all."""
        from mlops.stages.rows import split_of

        work = context.profile.home / "work" / context.contract.model / "evaluate"
        shutil.rmtree(work, ignore_errors=True)
        rows, package = split_of(context), champion_of(context)
        moved = work / "candidate" / "moved.parquet"
        extra = [ScoreJob(golden_of(context, package), moved, None, work / "moved.error")] if package else []
        candidate, behaviour = self._candidate(context, rows, work / "candidate", extra)
        champion = score_champion(context, package, rows, work / "champion", moved) if package else None
        result = self._result(context, rows, (candidate, champion), behaviour)
        shutil.rmtree(work, ignore_errors=True)
        return result

    def _candidate(
        self, context: Context, rows: Split, work: Path, extra: Sequence[ScoreJob]
    ) -> tuple[pa.Table, tuple[Check, ...]]:
        """Score the holdout and everything that the checks ask for, in one process."""
        from mlops.tables.files import read_table

        package = context.artifact("package", "package")
        holdout = read_table(rows.holdout)
        sample, positions = sample_of(holdout, context.fact("package", "features"))
        golden = (package / "golden.parquet", package / "golden-predictions.parquet")
        behaviours = Behaviours(work / "behaviours", sample, positions, *golden)
        whole = ScoreJob(rows.holdout, work / "holdout.parquet")
        context.say(f"scoring {holdout.num_rows:,} rows with the candidate", None)
        launcher = Launcher(context.store, context.environments, context.profile.home)
        launcher.score(package, [whole, *behaviours.jobs(), *extra], work)
        scores = answers.read_answers(whole.output)
        return scores, behaviours.checks(scores)

    def _result(
        self,
        context: Context,
        rows: Split,
        scores: tuple[pa.Table, Champion | None],
        behaviour: tuple[Check, ...],
    ) -> StageResult:
        candidate, champion = scores
        finite = _finite(candidate, "candidate")
        outcome = Outcome((), None)
        extra: tuple[Check, ...] = ()
        if finite.answer is Answer.PASSED:
            holdout = _holdout(context, rows, champion)
            outcome, value = self._decided(context, holdout, candidate, champion)
            _write_predictions(context, holdout, candidate, champion)
            extra = (_value(context, value),) if math.isfinite(value) else ()
        checks = (finite, *extra, *outcome.checks, *behaviour, *reproduction(context, champion))
        metrics = {
            **comparison.as_metrics(outcome),
            **{f"holdout_{each.name}": float(each.measured or 0) for each in extra},
        }
        return self._written(context, checks, outcome, metrics, champion)

    def _decided(
        self, context: Context, holdout: _Holdout, candidate: pa.Table, champion: Champion | None
    ) -> tuple[Outcome, float]:
        contest, contract = _contest(context, holdout, candidate, champion), context.contract
        if champion is not None and champion.scores is None:
            return Outcome((champion.unusable(),), None), _own(contest)
        terms = {
            "candidate": str(context.fact("package", "package")),
            "holdout": context.fact("validate", "holdout_digest"),
        }
        context.say(f"comparing by {contract.metric.name}", None)
        outcomes: list[Outcome] = []

        def decision(state: Any) -> Any:  # noqa: ANN401 - the ledger's own types
            outcomes.append(comparison.decide(contest, state, **terms))
            return comparison.payload(outcomes[-1], state)

        try:
            context.build_ledger.decide(decision)
        except ValueError as error:
            raise _incomparable(contract.metric.name, error) from error
        crossing("evaluate.after-use")
        return outcomes[-1], _own(contest)

    def _written(
        self,
        context: Context,
        checks: tuple[Check, ...],
        outcome: Outcome,
        metrics: Mapping[str, float],
        champion: Champion | None,
    ) -> StageResult:
        status = status_of(checks)
        overall = None if outcome.overall is None else outcome.overall.as_record()
        record = {
            "comparison": overall,
            "metrics": dict(metrics),
            "champion": champion.package if champion else None,
        }
        (context.output / EVALUATION).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        _track(context, metrics, checks)
        files = {"evaluation": EVALUATION, "predictions": PREDICTIONS}
        return StageResult(
            stage=self.name,
            status=status,
            summary=_summary(checks),
            checks=checks,
            metrics=metrics,
            artifacts={name: file for name, file in files.items() if (context.output / file).exists()},
            facts={
                "verdict": None if overall is None else overall["verdict"],
                "metric": context.contract.metric.name,
                "value": metrics.get(f"holdout_{context.contract.metric.name}"),
                "comparison": overall,
                "champion": record["champion"],
            },
        )


def _holdout(context: Context, rows: Split, champion: Champion | None) -> _Holdout:
    import numpy as np

    from mlops.tables.files import read_table

    contract = context.contract
    table = read_table(rows.holdout)
    target = table.column(contract.target)
    train = read_table(rows.train, [contract.target]).column(contract.target).drop_null()
    if target.null_count:
        raise UserError(
            f"{target.null_count} holdout rows have no `{contract.target}`",
            expected="the truth in every row of the holdout",
            found=f"{target.null_count} of {table.num_rows} missing",
            remedy="leave out rows whose label has not arrived yet",
            where=str(rows.holdout),
        )
    if contract.kind == "regression":
        return _Holdout(table, np.asarray(target, np.float64), np.asarray(train, np.float64), None)
    truth, known = target.to_pylist(), train.to_pylist()
    classes = [
        context.fact("package", "classes") or (),
        (champion.facts.get("classes") or ()) if champion else (),
    ]
    labels = answers.labels_of(truth, known, *classes)
    return _Holdout(table, answers.codes(truth, labels), answers.codes(known, labels), labels)


def _contest(context: Context, holdout: _Holdout, candidate: pa.Table, champion: Champion | None) -> Contest:
    from mlops.tables.files import frame_of

    contract = context.contract
    facts = {"classes": context.fact("package", "classes")}
    theirs = None
    if champion is not None and champion.scores is not None:
        theirs = answers.scored(champion.scores, champion.facts, holdout.labels)
    columns = list(dict.fromkeys(each.column for each in contract.metric.slices))
    return Contest(
        metric=contract.metric,
        truth=holdout.truth,
        train_truth=holdout.train_truth,
        candidate=answers.scored(candidate, facts, holdout.labels),
        champion=theirs,
        rows=frame_of(holdout.table.select(columns)),
        same=champion is not None and champion.package == context.fact("package", "package"),
    )


def _own(contest: Contest) -> float:
    try:
        return evaluate(METRICS[contest.metric.name], contest.truth, contest.candidate)
    except ValueError as error:
        raise _incomparable(contest.metric.name, error) from error


def _incomparable(metric: str, error: ValueError) -> UserError:
    return UserError(
        f"{metric} cannot be computed from what the models answer",
        expected=f"predictions that {metric} is made of",
        found=str(error),
        remedy="let the model return class probabilities (predict_proba), or choose another metric",
        where="metric",
    )


def _finite(table: pa.Table, who: str) -> Check:
    wrong = answers.not_finite(table)
    return Check(
        name="finite predictions",
        answer=Answer.FAILED if wrong else Answer.PASSED,
        message=f"{wrong} of {table.num_rows:,} predictions of the {who} are missing, NaN or infinite"
        if wrong
        else f"all {table.num_rows:,} predictions of the {who} are numbers or classes",
        measured=wrong,
        threshold=0,
        remedy="look for rows that the pipeline does not impute or scale" if wrong else "",
    )


def _value(context: Context, value: float) -> Check:
    metric = context.contract.metric.name
    return Check(
        name=metric,
        answer=Answer.PASSED,
        message=f"{metric} {value:.4f} on the holdout",
        gate=False,
        measured=value,
    )


def _write_predictions(
    context: Context, holdout: _Holdout, candidate: pa.Table, champion: Champion | None
) -> None:
    """Write one row per holdout row: its id, the truth, and both models' answers."""
    from pyarrow import parquet

    contract = context.contract
    kept = [name for name in (contract.data.id, contract.data.time, contract.target) if name is not None]
    table = holdout.table.select(list(dict.fromkeys(kept)))
    sides = {"candidate": candidate, "champion": champion.scores if champion else None}
    for side, scores in sides.items():
        for name in [] if scores is None else scores.column_names:
            table = table.append_column(f"{side}_{name}", scores.column(name))
    parquet.write_table(table, context.output / PREDICTIONS)


def _track(context: Context, metrics: Mapping[str, float], checks: tuple[Check, ...]) -> None:
    """Add the numbers to the tracking run; a tracking server that is down must not undo an evaluation."""
    run_id = context.upstream["train"].facts.get("run_id") if "train" in context.upstream else None
    if not run_id:
        return
    try:
        context.tracker.log(str(run_id), metrics=metrics, tags={"mlops.evaluate": str(status_of(checks))})
    except MlopsError as error:
        context.say(f"the numbers are not in the tracking run: {error.headline}", None)


def _summary(checks: tuple[Check, ...]) -> str:
    stopped = [
        check for check in checks if check.gate and check.answer not in {Answer.PASSED, Answer.SKIPPED}
    ]
    if stopped:
        return f"{stopped[0].name}: {stopped[0].message}"
    shown = [
        check.message for check in checks if check.name in {"champion", "floor", "better than a constant"}
    ]
    return "; ".join(shown) or "every check passed"
