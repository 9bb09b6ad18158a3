"""A training run: the copy of the repo that it runs in, its command, and the run that it logs into."""

from __future__ import annotations

import re
import shutil
import signal
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlops.environments.port import Command, Completed, Installed
from mlops.errors import InfrastructureError, MlopsError, UserError
from mlops.pipeline.stage import Context
from mlops.stages.commands import TrainingCommand, training_command
from mlops.stages.repo import Repo

if TYPE_CHECKING:
    from mlops.stages.rows import Split

LOG = "train.log"
MARK = "mlops.training"
"""Tag of a run with the number of its training, by which a run that a killed command left open is found."""
_LINE_WIDTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training that is ready to run."""

    work: Path
    """Folder of everything that is thrown away afterwards."""
    folder: Path
    """The copy of the repo, without the holdout."""
    data: Path
    """The training rows, at their place in the copy."""
    command: TrainingCommand
    installed: Installed
    rows: Split
    commit: str
    dirty: bool

    def facts(self) -> dict[str, Any]:
        """Return what the model was made from."""
        return {
            "environment_digest": self.installed.locked.digest,
            "train_digest": self.rows.train_digest,
            "holdout_digest": self.rows.holdout_digest,
            "commit": self.commit,
            "dirty": self.dirty,
            "command": self.command.shown,
        }

    def tags(self, context: Context) -> dict[str, str]:
        """Return the tags of the run: what the model was made from, in our words and in MLflow's."""
        contract = context.contract
        tags = {
            "mlops.environment": self.installed.locked.digest,
            "mlops.data.train": self.rows.train_digest,
            "mlops.data.holdout": self.rows.holdout_digest,
            "mlops.commit": self.commit,
            "mlops.dirty": str(self.dirty).lower(),
            "mlops.target": contract.target,
            "mlflow.source.type": "PROJECT" if contract.train.entry_point else "LOCAL",
            "mlflow.source.name": self.command.shown,
        }
        if self.commit:
            tags["mlflow.source.git.commit"] = self.commit
        if contract.train.entry_point:
            tags["mlflow.project.entryPoint"] = contract.train.entry_point
        return tags


def prepare(context: Context) -> Training:
    """Install the model's Python, copy the repo without the holdout, put the training rows in their place."""
    from mlops.stages.rows import split

    contract, environment = context.contract, context.contract.environment
    context.say("preparing the model's Python", None)
    locked = context.environments.resolve(context.workspace, environment.python, environment.lock)
    installed = context.environments.install(locked)
    context.say("copying the repo, without the holdout", None)
    work = context.profile.home / "work" / contract.model / "train"
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left; the model's lease is ours
    repo, folder = Repo(context.workspace), work / "repo"
    repo.copy(folder, contract)
    rows = split(contract, context.workspace, work / "rows")
    data = folder / contract.data.train
    _place(rows.train, context.workspace / contract.data.train, data, cut=contract.data.holdout is None)
    shutil.rmtree(work / "rows", ignore_errors=True)  # a holdout beside the copy could be found, too
    return Training(
        work=work,
        folder=folder,
        data=data,
        command=training_command(contract, folder),
        installed=installed,
        rows=rows,
        commit=context.commit or repo.commit(),
        dirty=repo.dirty(),
    )


class Tracked:
    """The run of a training, from start to end: FINISHED, FAILED (its own fault) or KILLED (it was stopped).

    What the training printed is kept with it. A tracking server that died under the training is named as the
    cause, since the training's own last lines rarely say so. A command that is killed without a word leaves its
    run open; it has noted in the store which one, and the model's next training (one at a time: the lease is ours)
    closes it.
    """

    def __init__(self, context: Context, training: Training) -> None:
        self._context = context
        self._training = training
        self.run_id = ""
        self._noted = f"trainings/{context.contract.model}"

    def __enter__(self) -> Tracked:
        """Open the run."""
        context, training = self._context, self._training
        model, mark = context.contract.model, uuid.uuid4().hex
        if left := context.store.get(self._noted):
            context.tracker.end_left_open(model, MARK, left.decode())
        context.store.put(self._noted, mark.encode())
        self.run_id = context.tracker.start_run(
            model,
            training.commit[:8] or "candidate",
            training.command.parameters,
            {**training.tags(context), MARK: mark},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the run; an error passes on."""
        tracker = self._context.tracker
        if error is None:
            tracker.log_folder(self.run_id, self._context.output, "log")
            tracker.end_run(self.run_id, "FINISHED")
        elif isinstance(error, UserError):
            tracker.end_run(self.run_id, "FAILED")
            tracker.log_folder(self.run_id, self._context.output, "log")
        else:
            with suppress(MlopsError):  # what went wrong is on its way already
                tracker.end_run(self.run_id, "FAILED" if isinstance(error, InfrastructureError) else "KILLED")

    def train(self) -> float:
        """Run the command to its end and return its seconds; raise for any other end than exit code 0."""
        context, contract = self._context, self._context.contract
        context.say(f"training: {self._training.command.shown}", None)
        command = Command(
            arguments=self._training.command.arguments,
            folder=self._training.folder,
            log=context.output / LOG,
            timeout_seconds=contract.train.timeout,
            variables={
                **context.tracker.variables(self.run_id),
                "MLOPS_TRAIN_DATA": str(self._training.data),
                "MLOPS_TARGET": contract.target,
                "MLOPS_MODEL": contract.model,
                "PYTHONUNBUFFERED": "1",
                # Sets of strings in one order: equal inputs get a chance to give equal models.
                "PYTHONHASHSEED": "0",
            },
        )
        completed = context.environments.run(self._training.installed, command, last_line(context.say))
        refuse_failure(completed, command, self._training.command.shown)
        return completed.seconds


def last_line(say: Callable[[str, float | None], None]) -> Callable[[str], None]:
    """Return what to call with each line of a command's output, so that people see the last one."""

    def line(text: str) -> None:
        # A progress bar rewrites its line; only its last state is of interest.
        shown = text.rpartition("\r")[2].strip()
        if shown:
            say(shown[:_LINE_WIDTH], None)

    return line


def refuse_failure(completed: Completed, command: Command, shown: str) -> None:
    """Raise unless the training ended with 0: UserError for its fault, InfrastructureError for a signal."""
    found = completed.tail.strip() or "no output"
    if completed.timed_out:
        raise UserError(
            "The training did not end within its time limit",
            expected=f"an end within {command.timeout_seconds:g} s",
            found=found,
            remedy="Raise `train.timeout` in mlops.yaml, or train on less.",
            where=str(command.log),
        )
    if completed.code < 0 or completed.code == 128 + signal.SIGKILL:
        number = -completed.code if completed.code < 0 else signal.SIGKILL
        raise InfrastructureError(
            "The training was killed" if number == signal.SIGKILL else "The training crashed",
            expected=f"`{shown}` ends by itself",
            found=f"signal {number}; last lines: {found}",
            remedy=_SIGNALS.get(number, "Look for the library that crashed in the log; run again."),
            where=str(command.log),
        )
    if completed.code:
        raise UserError(
            f"The training failed with exit code {completed.code}",
            expected=f"`{shown}` ends with 0",
            found=found,
            remedy=_remedy(completed.tail),
            where=str(command.log),
        )


_SIGNALS: Mapping[int, str] = {
    signal.SIGKILL: "Usually memory ran out: give it more, or train on less; then run again.",
    signal.SIGTERM: "Somebody ended it; run again.",
}
_REMEDIES: Mapping[str, str] = {
    r"No module named '([\w.]+)'": (
        "Add {0} to the requirements and lock them again, or commit the file that it is in."
    ),
    r"(?:FileNotFoundError|No such file or directory).*?'([^']+)'": (
        "Training runs in a copy of the repo: {0} is not there unless git tracks it, or it is `data.train`."
    ),
    r"(active experiment ID)": (
        "Remove mlflow.set_experiment from the training: it is given the run that it logs into."
    ),
}


def _remedy(tail: str) -> str:
    for pattern, remedy in _REMEDIES.items():
        if found := re.search(pattern, tail):
            return remedy.format(found.group(1))
    return "Correct the training and run again; its whole output is in the log."


def _place(rows: Path, original: Path, target: Path, *, cut: bool) -> None:
    """Write the training rows to their place: the original file, or the training part in the same format."""
    from mlops.tables.files import is_parquet

    target.parent.mkdir(parents=True, exist_ok=True)
    if not cut:
        shutil.copyfile(original, target)
    elif is_parquet(original):
        shutil.copyfile(rows, target)
    else:
        import pandas

        pandas.read_parquet(rows).to_csv(target, index=False)
