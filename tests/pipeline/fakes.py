"""Small stages and a runnable pipeline of them: `python -m tests.pipeline.fakes run.json` runs one in its
own process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlops.errors import UserError
from mlops.pipeline.progress import PlainReporter
from mlops.pipeline.results import Answer, Check, StageResult, Status, status_of
from mlops.pipeline.run import RunRequest, RunResult, Selection
from mlops.pipeline.runner import run_pipeline
from mlops.pipeline.stage import Forever, Validity
from mlops.store import open_store

NAMES = ("validate", "train", "package")


@dataclass
class Fake:
    """A stage that writes one file, leaves one fact, and notes each of its calls."""

    name: str
    help: str = "Does a small thing."
    reading: dict[str, str] = field(default_factory=dict)
    """Digests of its inputs."""
    valid: Validity = field(default_factory=Forever)
    act: Callable[[Any], StageResult | None] | None = None
    calls: list[str] = field(default_factory=list)

    def inputs(self, context: Any) -> Mapping[str, str]:
        return dict(self.reading)

    def validity(self, context: Any, result: StageResult) -> Validity:
        return self.valid

    def run(self, context: Any) -> StageResult:
        self.calls.append(self.name)
        assert list(context.output.iterdir()) == []
        context.say(f"{self.name} works", 0.5)
        (context.output / "made.txt").write_text(f"{self.name} {time.time_ns()}")
        return (self.act and self.act(context)) or passed(self.name)


def passed(name: str, **fields: Any) -> StageResult:
    check = Check(name="small thing", answer=Answer.PASSED, message="it is done", measured=1, threshold=1)
    fields = {
        "summary": f"{name} is done",
        "checks": (check,),
        "artifacts": {"made": "made.txt"},
        "facts": {"by": name},
    } | fields
    return StageResult(stage=name, status=Status.PASSED, **fields)


def judged(name: str, answer: str, **fields: Any) -> StageResult:
    check = Check(
        name="gate",
        answer=Answer(answer),
        message="0.4 is less than 0.5",
        measured=0.4,
        threshold=0.5,
        remedy="do better",
    )
    return StageResult(stage=name, status=status_of((check,)), summary="judged", checks=(check,), **fields)


def context_of(**given: Any) -> Any:
    """Stand for `partial(Context, ...)`: the stages here use nothing but what the frame gives."""
    return SimpleNamespace(contract=None, **given)


@dataclass
class Repo:
    """A workspace with a store beside it."""

    base: Path

    @property
    def workspace(self) -> Path:
        return self.base / "repo"

    @property
    def folder(self) -> Path:
        return self.workspace / ".mlops"

    @property
    def store(self) -> Any:
        return open_store((self.base / "store").as_uri())

    def request(self, **given: Any) -> RunRequest:
        self.workspace.mkdir(exist_ok=True)
        fields = {
            "model": "flight-delay",
            "workspace": self.workspace,
            "store": self.store,
            "wait_seconds": 0.0,
        }
        return RunRequest(**{**fields, **given})

    def run(self, stages: Any, reporter: Any = None, **given: Any) -> RunResult:
        return run_pipeline(stages, context_of, self.request(**given), reporter)

    def written(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def blobs(self) -> list[Path]:
        return sorted((self.base / "store" / "blobs").iterdir())


def statuses(result: RunResult) -> dict[str, str]:
    return {each.stage: each.status.value for each in result.stages}


# --- a run in its own process
# -----------------------------------------------------------------------------------------


def noting(path: Path, misbehave: str, name: str) -> Callable[[Any], StageResult | None]:
    def act(context: Any) -> StageResult | None:
        with path.open("a") as stream:
            stream.write(f"{name}\n")
        if misbehave == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if misbehave in ("wait", "swallow"):
            (context.output / "partial.txt").write_text("half")
            Path(f"{path}.waiting").write_text(str(os.getpid()))
            wait(misbehave)
        if misbehave == "bug":
            raise ZeroDivisionError("the divisor was zero")
        if misbehave == "input":
            raise UserError(
                "the column is missing", expected="a", found="b", remedy="add it", where="data.csv:1:1"
            )
        return None

    return act


def wait(how: str) -> None:
    try:
        time.sleep(60)
    except Exception:
        if how != "swallow":
            raise


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    notes = Path(settings["notes"])
    stages = [
        Fake(name, act=noting(notes, settings.get("misbehave", {}).get(name, ""), name)) for name in NAMES
    ]
    repo = Repo(Path(settings["base"]))
    request = repo.request(
        wait_seconds=settings.get("wait_seconds", 0.0),
        lease_seconds=10.0,
        debug=settings.get("debug", False),
        selection=Selection(),
    )
    result = run_pipeline(stages, context_of, request, PlainReporter(sys.stdout))
    sys.exit(result.exit_code)


if __name__ == "__main__":
    main()
