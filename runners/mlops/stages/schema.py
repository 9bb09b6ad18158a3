"""Hold data against the pandera schema of the repo: in the model's Python, as model code never runs in ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.canonical import digest_file, digest_json
from mlops.environments.port import Command, Locked
from mlops.errors import InfrastructureError, UserError
from mlops.pipeline.results import Answer, Check
from mlops.stages.rows import Split
from mlops.tables.columns import Column

if TYPE_CHECKING:
    from mlops.pipeline.stage import Context

_SCHEMA_SECONDS = 900.0
_SHOWN = 5


def schema_inputs(context: Context) -> dict[str, str]:
    """Return the digests of the schema (with all modules of the repo that it imports) and of the lock it runs in."""
    if context.contract.data.schema_ is None:
        return {}
    return {"schema": _code_digest(context.workspace, _schema_file(context)), "lock": _locked(context).digest}


def schema_check(context: Context, parts: Split, columns: tuple[Column, ...]) -> Check:
    """Hold both files against the repo's pandera schema, in the model's Python; without one, show what was found."""
    reference = context.contract.data.schema_
    if reference is None:
        return Check(
            name="schema",
            answer=Answer.SKIPPED,
            gate=False,
            message="no schema given; types and ranges as found: "
            + "; ".join(f"{column.name} ({column.kind}{_range(column)})" for column in columns[:_SHOWN])
            + (" ..." if len(columns) > _SHOWN else ""),
            evidence={"columns": [column.as_record() for column in columns]},
        )
    context.say(f"holding the data against {reference}", None)
    report = _schema_report(context, parts)
    failures = report.failures
    return Check(
        name="schema",
        answer=Answer.FAILED if failures else Answer.PASSED,
        message=f"{len(failures)} checks of {reference} fail: "
        + "; ".join(map(_failure_words, failures[:_SHOWN]))
        if failures
        else f"{report.rows} rows satisfy {reference}",
        measured=sum(int(failure["count"]) for failure in failures),
        threshold=0,
        unit="failures",
        remedy="correct these rows, or the schema if it is too narrow" if failures else "",
        evidence={"failures": list(failures), "rows": report.rows},
    )


def _range(column: Column) -> str:
    return f", {column.summary}" if column.summary else ""


@dataclass(frozen=True, slots=True)
class _Report:
    rows: int
    failures: tuple[Mapping[str, Any], ...]


def _schema_report(context: Context, parts: Split) -> _Report:
    reference = str(context.contract.data.schema_)
    _schema_file(context)
    installed = context.environments.install(_locked(context))
    written, log = context.output / "schema-report.json", context.output / "schema-check.log"
    command = Command(
        arguments=[
            *(str(installed.python), "-m", "mlops_serve", "check-schema", "--schema", reference),
            *("--data", str(parts.train), str(parts.holdout), "--report", str(written)),
        ],
        folder=context.workspace,
        log=log,
        timeout_seconds=_SCHEMA_SECONDS,
    )
    done = context.environments.run(installed, command)
    if done.code in {0, 1} and written.exists():
        content = json.loads(written.read_text())
        names = {str(parts.train): "train", str(parts.holdout): "holdout"}
        failures = (_failure(failure, names) for failure in content["failures"])
        return _Report(int(content["rows"]), tuple(failures))
    if done.code < 0 or done.timed_out:
        raise InfrastructureError(
            "the check of the data against the schema was stopped",
            expected=f"an end within {_SCHEMA_SECONDS:g} s",
            found="the time limit" if done.timed_out else f"signal {-done.code}",
            remedy="run again; if it stays so, give the machine more memory or make the schema simpler",
            where=reference,
        )
    last = done.tail.strip().rpartition("\n")[2]
    lacks = "No module named 'pandera'" in done.tail
    raise UserError(
        f"{reference} cannot be used",
        expected="a Python file with a pandera schema of this name",
        found=last,
        remedy="add pandera to the repo's requirements" if lacks else "correct the schema, and run again",
        where=reference,
    )


def _failure(failure: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "data": names.get(str(failure.get("data")), ""),
        "column": failure["column"],
        "check": failure["check"],
        "count": failure["count"],
        "rows": list(failure["rows"])[:_SHOWN],
        "values": list(failure["values"])[:_SHOWN],
    }


def _failure_words(failure: Mapping[str, Any]) -> str:
    column = f"`{failure['column']}`: " if failure["column"] else ""
    rows = f", rows {', '.join(map(str, failure['rows']))}" if failure["rows"] else ""
    values = f" ({', '.join(map(repr, failure['values']))})" if failure["values"] else ""
    return f"{column}{failure['check']} in {failure['count']} {failure['data']} rows{rows}{values}"


def _locked(context: Context) -> Locked:
    environment = context.contract.environment
    return context.environments.resolve(context.workspace, environment.python, environment.lock)


def _schema_file(context: Context) -> Path:
    reference = str(context.contract.data.schema_)
    path = context.workspace / reference.rpartition(":")[0]
    if path.is_file():
        return path
    raise UserError(
        f"no such file: {path.name}",
        expected="the Python file of the pandera schema",
        found="nothing",
        remedy="correct `data.schema` in mlops.yaml",
        where=str(path),
    )


def _code_digest(workspace: Path, file: Path) -> str:
    """Return the digest of a Python file and of every module of the repo that it imports."""
    from modulefinder import ModuleFinder

    finder = ModuleFinder(path=[str(file.parent), str(workspace)])
    try:
        finder.run_script(str(file))
    except SyntaxError:
        return digest_file(file)  # the check itself says what is wrong
    files = sorted(
        {Path(str(name)) for module in finder.modules.values() if (name := vars(module)["__file__"])}
    )
    return digest_json({path.relative_to(workspace).as_posix(): digest_file(path) for path in files})
