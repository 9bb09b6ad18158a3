"""What a package consists of, written so that equal trainings give equal bytes.

MLflow writes into ``MLmodel`` when, by which run and under which id a model was logged: the same model
trained again would have another digest, and look like another release. These lines are left out (the tracked run
and the release keep the lineage), the rest is written in one order. Of the model's own files only the skops format
is settled, which writes memory addresses (:mod:`mlops.stages.skops_files`); for all others, whether two trainings
give the same bytes is up to the training (seeds, and one thread where a library needs that).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.contract import Contract
from mlops.environments.port import Command, Completed, Environments, Installed
from mlops.errors import InfrastructureError
from mlops.stages.skops_files import settle_skops

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.serving.launch import ScoreJob

GOLDEN_ROWS = 200
"""Enough rows to notice a change of the model or its libraries, few enough to score in no time."""
PACKAGE_FILE = "package.json"
LOCK_FILE = "requirements.lock"
GOLDEN_FILE = "golden.parquet"
GOLDEN_PREDICTIONS_FILE = "golden-predictions.parquet"

_LINEAGE = frozenset(
    {"run_id", "model_id", "model_uuid", "utc_time_created", "artifact_path", "model_size_bytes", "env_vars"}
)
_DESCRIBE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the model server says of a model folder, in the model's own Python."""

    flavors: tuple[str, ...]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    classes: tuple[Any, ...] | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the input columns; empty for a model without signature or with tensors."""
        return tuple(str(each["name"]) for each in self.inputs if each.get("type") != "tensor")

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the input columns that must be there."""
        return tuple(
            str(each["name"]) for each in self.inputs if each.get("required", True) and each.get("name")
        )


def describe(
    environments: Environments, installed: Installed, model: Path, log: Path
) -> Described | Completed:
    """Load the model in its own environment, away from the repo; how the command ended when that fails."""
    completed = environments.run(
        installed,
        Command(
            # Isolated and elsewhere: a module that only lies in the repo is not there for a server either.
            arguments=("python", "-I", "-m", "mlops_serve", "describe", "--model", str(model)),
            folder=model.parent,
            log=log,
            timeout_seconds=_DESCRIBE_SECONDS,
        ),
    )
    facts = _facts(log) if completed.code == 0 else None
    if facts is None:
        return completed
    classes = facts.get("classes")
    return Described(
        flavors=tuple(facts["flavors"]),
        inputs=tuple(facts["signature"]["inputs"]),
        outputs=tuple(facts["signature"]["outputs"]),
        classes=None if classes is None else tuple(classes),
    )


def settle(model: Path) -> None:
    """Leave out of the model folder what differs between two equal trainings."""
    import yaml

    file = model / "MLmodel"
    content = yaml.safe_load(file.read_text())
    kept = {name: value for name, value in content.items() if name not in _LINEAGE and value is not None}
    file.write_text(yaml.safe_dump(kept, sort_keys=True))
    for path in sorted(model.rglob("*.skops")):
        settle_skops(path)
    for name in ("registered_model_meta", "__pycache__"):
        for path in sorted(model.rglob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def inferred(table: pa.Table, features: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """Return a signature's inputs for the features, from the types of the training rows, in MLflow's words.

    Every column is optional if any of its values is missing, and integers that could be missing are doubles.
    """
    columns = []
    for name in features:
        column = table.column(name)
        required = column.null_count == 0
        columns.append({"name": name, "type": _type(column.type, required=required), "required": required})
    return tuple(columns)


def package_facts(
    contract: Contract, described: Described, features: Sequence[str], installed: Installed
) -> dict[str, Any]:
    """Return the content of ``package.json``."""
    return {
        "model": contract.model,
        "python": installed.locked.python,
        "kind": contract.kind,
        "target": contract.target,
        "flavors": list(described.flavors),
        "signature": {"inputs": list(described.inputs), "outputs": list(described.outputs)},
        "features": list(features),
        "classes": None if described.classes is None else list(described.classes),
        "environment_digest": installed.locked.digest,
        "serve": contract.serve.model_dump(),
    }


def write_package(folder: Path, facts: Mapping[str, Any], requirements: str, golden: pa.Table) -> None:
    """Write everything but the model folder and the golden predictions."""
    from pyarrow import parquet

    (folder / PACKAGE_FILE).write_text(json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n")
    (folder / LOCK_FILE).write_text(requirements)
    parquet.write_table(golden.replace_schema_metadata(None), folder / GOLDEN_FILE)


def golden_job(folder: Path, work: Path) -> ScoreJob:
    """Return the job that predicts the golden rows."""
    from mlops.serving.launch import ScoreJob

    return ScoreJob(input=folder / GOLDEN_FILE, output=work / GOLDEN_PREDICTIONS_FILE)


def keep_golden_predictions(folder: Path, work: Path) -> Mapping[str, int]:
    """Put the predictions into the package, without the time they took; return what is missing per column."""
    from pyarrow import parquet

    table = parquet.read_table(work / GOLDEN_PREDICTIONS_FILE).replace_schema_metadata(None)
    parquet.write_table(table, folder / GOLDEN_PREDICTIONS_FILE)
    return {name: _missing(table.column(name)) for name in table.column_names}


def golden_rows(table: pa.Table, features: Sequence[str]) -> pa.Table:
    """Return up to 200 rows, spread evenly over the holdout, features only."""
    import numpy as np

    count = min(GOLDEN_ROWS, table.num_rows)
    picked = np.linspace(0, max(table.num_rows - 1, 0), count).round().astype("int64")
    return table.select(list(features)).take(picked)


def _missing(column: pa.ChunkedArray) -> int:
    import pyarrow as pa
    from pyarrow import compute

    missing = int(column.null_count)
    if pa.types.is_floating(column.type):
        missing += int(compute.sum(compute.is_nan(column)).as_py() or 0)
    return missing


def _facts(log: Path) -> Mapping[str, Any] | None:
    """Return the JSON line that ``describe`` printed; libraries may print beside it."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                facts = json.loads(line)
            except ValueError:
                continue
            if "signature" in facts:
                return dict(facts)
    return None


def _type(kind: pa.DataType, *, required: bool) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _type(kind.value_type, required=required)
    if pa.types.is_integer(kind) and not required:
        return "double"
    for applies, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "long"),
        (pa.types.is_floating, "double"),
        (pa.types.is_decimal, "double"),
        (pa.types.is_temporal, "datetime"),
        (pa.types.is_binary, "binary"),
    ):
        if applies(kind):
            return name
    return "string"


def refuse_crash(completed: Completed, log: Path) -> None:
    """Raise InfrastructureError when a signal ended the command: that says nothing about the model."""
    if completed.code < 0 and not completed.timed_out:
        raise InfrastructureError(
            "Loading the model was killed",
            expected="the model server's `describe` ends by itself",
            found=f"signal {-completed.code}",
            remedy="Signal 9 usually means that memory ran out; give it more, then run again.",
            where=str(log),
        )


def reason_of(completed: Completed) -> str:
    """Return the sentence in which a failed ``describe`` says why, else its last line."""
    said = re.findall(r"^mlops-serve: (.*)$", completed.tail, re.MULTILINE)
    if completed.timed_out:
        return f"it was still loading after {completed.seconds:.0f} s"
    lines = completed.tail.strip().splitlines()
    return str(said[-1]) if said else (lines[-1] if lines else f"exit code {completed.code}")
