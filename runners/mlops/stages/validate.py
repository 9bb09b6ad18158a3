"""The stage ``validate``: the contract fits the data, and the data is fit to learn from and to judge by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.canonical import digest_file, digest_json
from mlops.pipeline.results import Answer, Check, StageResult, Status, status_of
from mlops.pipeline.stage import Forever, Validity
from mlops.stages.inspection import Material, inspect
from mlops.stages.rows import Split, features_of, split
from mlops.stages.schema import schema_check, schema_inputs
from mlops.tables.columns import describe
from mlops.tables.files import frame_of, has_column, present, read_table

if TYPE_CHECKING:
    from mlops.contract.model import Contract
    from mlops.pipeline.stage import Context


class Validate:
    """Checks contract and data before anything is built from them."""

    name = "validate"
    help = "Check the contract and the data: schema, duplicates, leakage, order in time, target."

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return the digests of data files, schema and lock, and of what the contract says of them."""
        contract, found = context.contract, {}
        for role in ("train", "holdout"):
            if (path := getattr(contract.data, role)) is not None:
                present(context.workspace / path)
                found[role] = digest_file(context.workspace / path)
        found["contract"] = digest_json(
            {
                "data": contract.data.model_dump(mode="json"),
                "target": contract.target,
                "task": contract.kind,
                "minimum_rows": contract.metric.minimum_rows,
                "slices": [each.column for each in contract.metric.slices],
            }
        )
        return found | schema_inputs(context)

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's
        """Equal files give equal answers."""
        return Forever()

    def run(self, context: Context) -> StageResult:
        """Read, split and check; UserError for data that cannot be read or lacks a column that the contract names."""
        contract = context.contract
        context.say("reading the data", None)
        parts = split(contract, context.workspace, context.output)
        material = _material(contract, parts, context.workspace)
        context.say(f"checking {len(material.train)} training and {len(material.holdout)} holdout rows", None)
        checks = [
            _contract_check(contract),
            *inspect(material),
            schema_check(context, parts, material.train_columns),
        ]
        failed = [
            check.name
            for check in checks
            if check.gate and check.answer in {Answer.FAILED, Answer.INCONCLUSIVE}
        ]
        status = status_of(tuple(checks))
        return StageResult(
            stage=self.name,
            status=status,
            summary=_summary(status, failed, material),
            checks=tuple(checks),
            metrics={"train_rows": float(len(material.train)), "holdout_rows": float(len(material.holdout))},
            artifacts=_artifacts(context.output, parts),
            facts=_facts(context, parts, material),
        )


def _material(contract: Contract, parts: Split, workspace: Path) -> Material:
    tables = [read_table(path) for path in (parts.train, parts.holdout)]
    source = workspace / contract.data.train
    for role, name in _named_columns(contract):
        has_column(source, tables[0].column_names, name, role)
    train_columns, holdout_columns = (describe(table) for table in tables)
    return Material(
        contract=contract,
        train=frame_of(tables[0]),
        holdout=frame_of(tables[1]),
        train_columns=train_columns,
        holdout_columns=holdout_columns,
        features=features_of(contract, tables[0].column_names),
        train_path=parts.train,
        holdout_path=parts.holdout,
    )


def _named_columns(contract: Contract) -> Iterator[tuple[str, str]]:
    data = contract.data
    yield "target", contract.target
    for role in ("id", "time", "entity"):
        if (name := getattr(data, role)) is not None:
            yield f"data.{role}", name
    for role in ("ignore", "confirmed"):
        for name in getattr(data, role):
            yield f"data.{role}", name
    for part in contract.metric.slices:
        yield "metric.slices", part.column


def _contract_check(contract: Contract) -> Check:
    return Check(
        name="contract",
        answer=Answer.PASSED,
        message=f"the contract of `{contract.model}` is whole: {contract.kind} of `{contract.target}`",
        evidence={"metric": contract.metric.name},
    )


def _summary(status: Status, failed: list[str], material: Material) -> str:
    size = f"{len(material.train)} training and {len(material.holdout)} holdout rows, {len(material.features)} features"
    return (
        f"{size}: all checks passed"
        if status is Status.PASSED
        else f"{size}: {', '.join(failed)} did not pass"
    )


def _artifacts(output: Path, parts: Split) -> dict[str, str]:
    sides = {"train": parts.train, "holdout": parts.holdout}
    return {name: path.name for name, path in sides.items() if path.parent == output}


def _facts(context: Context, parts: Split, material: Material) -> dict[str, Any]:
    contract = context.contract
    facts: dict[str, Any] = {
        "rows": {"train": len(material.train), "holdout": len(material.holdout)},
        "columns": [{"name": column.name, "type": column.type} for column in material.train_columns],
        "features": list(material.features),
        "task": contract.kind,
        "classes": _classes(material) if contract.kind == "classification" else None,
        "train_digest": parts.train_digest,
        "holdout_digest": parts.holdout_digest,
        "split": parts.rule,
    }
    for name, path in (("train", parts.train), ("holdout", parts.holdout)):
        base = context.output if path.parent == context.output else context.workspace
        facts[name] = path.relative_to(base).as_posix()
    return facts


def _classes(material: Material) -> list[Any]:
    values = material.train[material.contract.target].dropna().unique()[:1000]
    plain = [value.item() if hasattr(value, "item") else value for value in values]
    return sorted(
        (value if isinstance(value, bool | int | float) else str(value) for value in plain), key=_order
    )


def _order(value: object) -> tuple[str, Any]:
    return ("", value) if isinstance(value, bool | int | float) else ("text", value)
