"""Say how a run ended in one sentence, and write it down: ``run.json``, ``junit.xml``, ``error.json``, the
report page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from mlops.errors import MlopsError
from mlops.pipeline.failures import write_error
from mlops.pipeline.files import write_json, write_text
from mlops.pipeline.junit import run_report
from mlops.pipeline.report import write_report
from mlops.pipeline.results import Status
from mlops.pipeline.run import RunResult

_log = logging.getLogger(__name__)


def verdict_of(result: RunResult) -> str:
    """Return one sentence for a person: what came of the run and, when it did not pass, why."""
    if result.error:
        kind = _KINDS.get(str(result.error["category"]), "stopped")
        return f"{result.model}: {kind}: {result.error['headline']}"
    if result.already_serving:
        where = result.environment or "the environment"
        return f"{result.model}: already serving in {where}, nothing to do"
    if not result.stages:
        return f"{result.model}: no stage was selected"
    last = result.stages[-1]
    word = "a release was requested" if result.status is Status.REQUESTED else "passed"
    first, _, _ = last.summary.partition(". ")
    return f"{result.model}: {word}: {first.rstrip('.')}"


_KINDS = {
    "gate": "not released",
    "input": "the input is wrong",
    "infrastructure": "something outside failed",
    "interrupted": "interrupted",
    "inconclusive": "could not tell",
    "bug": "this program failed",
}


def write_down(result: RunResult, error: MlopsError | None, folder: Path) -> Iterator[str]:
    """Write all files of the run; yield a sentence for each that could not be written.

    The verdict stands whatever happens here: a full disk or a broken report page changes no answer.
    """
    steps: dict[str, Callable[[], object]] = {
        "error.json": lambda: _error_file(folder, error),
        "run.json": lambda: write_json(folder / "run.json", result.as_record()),
        "junit.xml": lambda: write_text(folder / "junit.xml", run_report(result)),
        "report": lambda: write_report(result, folder / "report"),
    }
    for name, write in steps.items():
        try:
            write()
        except Exception as caught:  # noqa: BLE001 - see the promise above
            _log.exception("%s could not be written", name)
            yield f"{folder / name} could not be written: {caught}"


def _error_file(folder: Path, error: MlopsError | None) -> None:
    if error is None:
        (folder / "error.json").unlink(missing_ok=True)
    else:
        write_error(folder, error)
