"""``package``: the model with its locked environment, signature and golden predictions, as one folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.canonical import digest_json
from mlops.environments.port import Installed
from mlops.pipeline.results import Answer, Check, StageResult, status_of
from mlops.pipeline.stage import Context, Forever, Validity
from mlops.release import Release
from mlops.stages import packaging
from mlops.stages.packaging import Described
from mlops.stages.repo import rows_digest

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "package"


class Package:
    """Makes of a logged model what every later stage and every server runs, named by the digest of it all."""

    name = "package"
    help = "Package the model with its locked environment, signature and golden predictions."
    reads = ("train",)

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of the model, the contract's serving part, and the rows for the golden ones."""
        data = context.contract.data
        source = context.workspace / (data.holdout or data.train)
        return {
            "model": digest_json([context.fact("train", "run_id"), context.fact("train", "model_uri")]),
            "contract": contract_digest(context),
            "columns": digest_json(
                data.model_dump(include={"id", "ignore", "time", "holdout_fraction", "entity"})
            ),
            "golden": rows_digest(source),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Forever: the package is in the store under its digest."""
        return Forever()

    def already_serving(self, context: Context, result: StageResult) -> bool:
        """Say whether the environment serves this very package under this very contract."""
        serving = context.environment_ledger.state().serving
        return serving is not None and serving.digest == release_of(context, result).digest

    def run(self, context: Context) -> StageResult:
        """Package the candidate; a model that does not load, or wants what is no feature, fails a gate."""
        work = context.profile.home / "work" / context.contract.model / "package"
        shutil.rmtree(work, ignore_errors=True)
        folder = context.output / FOLDER
        installed = _installed(context)
        context.say("fetching the model", None)
        context.tracker.download(str(context.fact("train", "model_uri")), folder / "model")
        packaging.settle(folder / "model")
        context.say("loading the model in its own Python", None)
        described = packaging.describe(
            context.environments, installed, folder / "model", context.output / "describe.log"
        )
        if not isinstance(described, Described):
            shutil.rmtree(folder)
            packaging.refuse_crash(described, context.output / "describe.log")
            return self._failed(_does_not_load(packaging.reason_of(described)))
        result = self._packaged(context, described, installed, work)
        shutil.rmtree(work, ignore_errors=True)
        return result

    def _packaged(
        self, context: Context, described: Described, installed: Installed, work: Path
    ) -> StageResult:
        from mlops.stages.rows import features_of, split
        from mlops.tables.files import read_table

        folder = context.output / FOLDER
        rows = split(context.contract, context.workspace, work / "rows")
        holdout, train = read_table(rows.holdout), read_table(rows.train)
        available = features_of(context.contract, holdout.column_names)
        described, signature = _signed(described, train, available)
        unknown = [name for name in described.required if name not in available]
        if unknown:
            return self._failed(_no_features(unknown, available))
        features = [name for name in described.columns if name in available] or list(available)
        facts = packaging.package_facts(context.contract, described, features, installed)
        golden = packaging.golden_rows(holdout, features)
        packaging.write_package(folder, facts, installed.locked.requirements, golden)
        checks = (_loads(described), signature, _golden(context, folder, work))
        if any(check.answer is Answer.FAILED for check in checks):
            return replace(self._failed(checks[-1]), checks=checks)
        return self._kept(context, checks, facts)

    def _kept(self, context: Context, checks: tuple[Check, ...], facts: Mapping[str, object]) -> StageResult:
        from mlops.artifacts import keep_folder
        from mlops.serving.launch import forget_bytecode

        folder = context.output / FOLDER
        forget_bytecode(folder)  # the model's own modules have been imported from it
        digest = keep_folder(context.store, folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return StageResult(
            stage=self.name,
            status=status_of(checks),
            summary=f"packaged as {digest[:12]}, {size / 2**20:.1f} MiB",
            checks=checks,
            metrics={"size_bytes": float(size)},
            artifacts={"package": FOLDER},
            facts={
                "package": digest,
                "contract_digest": contract_digest(context),
                "size_bytes": size,
                **{name: facts[name] for name in ("signature", "features", "classes", "python", "flavors")},
                "environment_digest": facts["environment_digest"],
            },
        )

    def _failed(self, check: Check) -> StageResult:
        return StageResult(
            stage=self.name, status=status_of((check,)), summary=check.message, checks=(check,)
        )


def contract_digest(context: Context) -> str:
    """Return the digest of what the contract says of serving: two releases that differ in it are two."""
    contract = context.contract
    return digest_json(
        {"serve": contract.serve.model_dump(), "target": contract.target, "kind": contract.kind}
    )


def release_of(context: Context, result: StageResult, version: str = "") -> Release:
    """Return the release that a packaged candidate is; its digest does not depend on ``version``."""
    return Release(
        model=context.contract.model,
        version=version,
        package=str(result.facts["package"]),
        contract=str(result.facts["contract_digest"]),
    )


def _installed(context: Context) -> Installed:
    environment = context.contract.environment
    locked = context.environments.resolve(context.workspace, environment.python, environment.lock)
    return context.environments.install(locked)


def _signed(described: Described, train: pa.Table, available: Sequence[str]) -> tuple[Described, Check]:
    """Give a model without signature one from the training rows, and say so."""
    if described.inputs:
        listed = f"{len(described.inputs)} inputs"
        return described, _signature(Answer.PASSED, f"the model declares its signature: {listed}")
    inputs = packaging.inferred(train, available)
    message = f"the model declares no signature; {len(inputs)} inputs are inferred from the training rows"
    return replace(described, inputs=inputs), _signature(Answer.INCONCLUSIVE, message)


def _signature(answer: Answer, message: str) -> Check:
    remedy = "Give log_model a signature: mlflow.models.infer_signature(rows, predictions)."
    return Check(
        name="signature",
        answer=answer,
        message=message,
        gate=False,
        remedy="" if answer is Answer.PASSED else remedy,
    )


def _golden(context: Context, folder: Path, work: Path) -> Check:
    """Predict the golden rows with the packaged model, which no test of the code has run before."""
    from mlops.serving.launch import Launcher

    context.say("predicting golden rows", None)
    launcher = Launcher(context.store, context.environments, context.profile.home)
    launcher.score(folder, [packaging.golden_job(folder, work)], work)
    missing = packaging.keep_golden_predictions(folder, work)
    bad = {name: count for name, count in missing.items() if count}
    return Check(
        name="golden predictions",
        answer=Answer.FAILED if bad else Answer.PASSED,
        message=f"predictions are missing or NaN: {bad}" if bad else "every golden row gets a prediction",
        measured=sum(bad.values()),
        threshold=0,
        remedy="Look for rows that the pipeline does not impute or scale." if bad else "",
        evidence=missing,
    )


def _loads(described: Described) -> Check:
    return Check(
        name="loads in its own environment",
        answer=Answer.PASSED,
        message=f"loaded with {', '.join(described.flavors)}",
    )


def _does_not_load(reason: str) -> Check:
    return Check(
        name="loads in its own environment",
        answer=Answer.FAILED,
        message=f"the model does not load in its locked environment: {reason}",
        remedy="Lock what it needs, and log the repo's modules with it: log_model(..., code_paths=[...]).",
    )


def _no_features(unknown: Sequence[str], available: Sequence[str]) -> Check:
    return Check(
        name="inputs are features",
        answer=Answer.FAILED,
        message=f"the model wants columns that are no features of the data: {', '.join(unknown)}",
        remedy="A target, an id or an ignored column is not there when the model is asked: train without it.",
        evidence={"unknown": list(unknown), "features": list(available)},
    )
