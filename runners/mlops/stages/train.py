"""``train``: make a candidate. Any training runs in the model's Python, without the holdout."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping

from mlops.canonical import digest_json
from mlops.errors import UserError
from mlops.pipeline.results import Answer, Check, StageResult, status_of
from mlops.pipeline.stage import Context, Forever, Validity
from mlops.stages.repo import Repo, data_digest
from mlops.stages.training import Tracked, prepare
from mlops.tracking.port import LoggedModel


class Train:
    """Trains once per code, rows, lock and parameters; the run, and what went into it, is tracked."""

    name = "train"
    help = "Train a candidate in the model's own Python, without the holdout, and track the run."
    reads: tuple[str, ...] = ()

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of the code, the training rows, the lock, and what the contract says of training."""
        contract = context.contract
        environment = contract.environment
        locked = context.environments.resolve(context.workspace, environment.python, environment.lock)
        return {
            "code": Repo(context.workspace).digest(contract),
            "rows": data_digest(contract, context.workspace),
            "environment": locked.digest,
            "contract": digest_json(
                {
                    "model": contract.model,
                    "target": contract.target,
                    "data": contract.data.train,
                    "train": contract.train.model_dump(exclude={"timeout"}),
                }
            ),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Forever: the first training of these inputs counts; ``--fresh`` trains again."""
        return Forever()

    def run(self, context: Context) -> StageResult:
        """Train, track, and find the model that the training logged.

        UserError when the command fails, takes too long, or logs no model (or several, and the contract names
        none); a metric that is not a number fails a gate.
        """
        training = prepare(context)
        with Tracked(context, training) as tracked:
            seconds = tracked.train()
            model = chosen(context.contract.train.model, context.tracker.logged_models(tracked.run_id))
            metrics = context.tracker.run_metrics(tracked.run_id)
        shutil.rmtree(training.work, ignore_errors=True)
        checks = (_finite(metrics),)
        return StageResult(
            stage=self.name,
            status=status_of(checks),
            summary=f"trained {_kind(model)} in {seconds:.0f} s, run {tracked.run_id[:8]}",
            checks=checks,
            metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
            artifacts={"log": "train.log"},
            facts={
                "run_id": tracked.run_id,
                "model_name": model.name,
                "model_uri": model.uri,
                "flavors": list(model.flavors),
                **training.facts(),
            },
        )


def chosen(wanted: str | None, models: tuple[LoggedModel, ...]) -> LoggedModel:
    """Return the model that the contract names, or the only one; UserError that lists what there is."""
    names = ", ".join(sorted(model.name for model in models))
    if not models:
        raise UserError(
            "The training logged no model",
            expected="a model in the run that the training was given",
            found="a run without one",
            remedy='End the training with mlflow.<flavour>.log_model(model, name="model"), for instance '
            "mlflow.sklearn.log_model, inside `with mlflow.start_run():`.",
        )
    if wanted is None and len(models) > 1:
        raise UserError(
            f"The training logged {len(models)} models, and the contract does not say which one counts",
            expected="one model, or `train.model` in mlops.yaml",
            found=names,
            remedy=f"Write `model: {models[-1].name}` (or another one) below `train` in mlops.yaml.",
        )
    named = [model for model in models if wanted in {None, model.name}]
    if not named:
        raise UserError(
            f"The training logged no model named {wanted!r}",
            expected=f"`train.model: {wanted}`",
            found=names,
            remedy="Correct `train.model` in mlops.yaml, or the name in log_model.",
        )
    return named[0]


def _kind(model: LoggedModel) -> str:
    flavors = [name for name in model.flavors if name != "python_function"] or list(model.flavors)
    return "/".join(flavors) or model.name


def _finite(metrics: Mapping[str, float]) -> Check:
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if not metrics:
        return Check(
            name="metrics are numbers",
            answer=Answer.SKIPPED,
            message="the training logged no metrics",
            remedy="Log what the training measured with mlflow.log_metric.",
        )
    return Check(
        name="metrics are numbers",
        answer=Answer.FAILED if bad else Answer.PASSED,
        message=f"{', '.join(bad)}: not a finite number" if bad else f"all {len(metrics)} metrics are finite",
        measured=len(bad),
        threshold=0,
        remedy="A diverged training or an empty split gives NaN: look at the log." if bad else "",
        evidence={"not_finite": bad},
    )
