"""Run the stages: what is around each of them is written once, here.

Whatever happens (a failed gate, bad input, a lost network, a signal, a defect, a full disk), the run ends
with a
:class:`RunResult` that says what to do, the files of :mod:`mlops.pipeline.files` tell the same, and the
next run goes on
where this one ended.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import mlops
from mlops import telemetry
from mlops.errors import GateFailed, Interrupted, MlopsError, UserError
from mlops.pipeline.cache import Cache
from mlops.pipeline.ending import verdict_of, write_down
from mlops.pipeline.failures import Defect, DiskFull, as_error, error_of
from mlops.pipeline.files import Folders, write_json, write_text
from mlops.pipeline.interruption import Stop, interruptible
from mlops.pipeline.junit import stage_report
from mlops.pipeline.lookup import MakeContext, Trail
from mlops.pipeline.plan import Scope, scope_of
from mlops.pipeline.progress import Announced, Reporter, Silent
from mlops.pipeline.required import RELEASING, refusal
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.run import GOES_ON, RunRequest, RunResult, exit_code_of, status_of_run
from mlops.pipeline.step import Steps, Taken
from mlops.telemetry import crossing, mask

if TYPE_CHECKING:
    from mlops.leases import Lease
    from mlops.pipeline.stage import Stage
    from mlops.rollout.outcome import Outcome

_log = logging.getLogger(__name__)


def run_pipeline(
    stages: Sequence[Stage], make_context: MakeContext, request: RunRequest, reporter: Reporter | None = None
) -> RunResult:
    """Run the selected stages, in order, up to the first that fails or cannot tell.

    Args:
        stages: all stages, in order (:func:`mlops.pipeline.registry.find_stages`).
        make_context: makes a stage's context from ``output, upstream, folders, say, show, fresh``.
        request: what to run.
        reporter: who is told; nobody by default.

    No exception of a stage leaves this function: the result's exit code says what came of it.
    """
    return _Runner(stages, make_context, request, reporter or Silent()).run()


def holder() -> str:
    """Name this process for whoever waits for it."""
    build = os.environ.get("BUILD_URL", "")
    return f"mlops run of {_user()}" + (f", {build}" if build else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user id may have no name
        return f"user {os.getuid()}"


class _Runner:
    """One run; used once."""

    def __init__(
        self, stages: Sequence[Stage], make_context: MakeContext, request: RunRequest, reporter: Reporter
    ) -> None:
        self._stages = stages
        self._make_context = make_context
        self._request = request
        self._reporter = reporter
        self._id = uuid.uuid4().hex
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._folders = Folders(request.workspace)
        self._stop = Stop()
        self._trail = Trail()
        self._taken: list[Taken] = []
        self._not_run: dict[str, str] = {}
        self._error: MlopsError | None = None
        self._trace = ""

    def run(self) -> RunResult:
        """Run everything and write it down."""
        with self._reporter:
            with interruptible() as self._stop:
                try:
                    self._whole()
                except BaseException as caught:  # noqa: BLE001 - whatever it was, the run ends with an answer and its files
                    self._fail(self._understood(caught))
                self._stop.close()
                result = self._result()
                for problem in write_down(result, self._error, self._folders.root):
                    self._reporter.said("", problem)
            self._reporter.run_ended(result)
        if self._request.debug and self._trace:
            sys.stderr.write(self._trace)
        return result

    def _whole(self) -> None:
        self._folders.root.mkdir(parents=True, exist_ok=True)
        labels = {"model": self._request.model, "commit": self._request.commit}
        with telemetry.logging_to(self._folders.log(), service="mlops", trace_id=self._id, labels=labels):
            scope = scope_of(self._stages, self._request.selection, self._request.required_stages)
            with self._lease() as lease:
                self._folders.prepare()
                self._announce(scope)
                self._each(scope, lease)

    def _lease(self) -> AbstractContextManager[Lease]:
        from mlops.leases import held

        return held(
            self._request.store,
            f"runs/{self._request.model}",
            holder(),
            ttl_seconds=self._request.lease_seconds,
            wait_seconds=self._request.wait_seconds,
            say=lambda sentence: self._say("", sentence, None),
        )

    def _announce(self, scope: Scope) -> None:
        needed = [Announced(stage.name, stage.help) for stage in self._stages if stage.name in scope.needed]
        _log.info("run started", extra={"labels": {"stages": " ".join(stage.name for stage in needed)}})
        self._reporter.run_started(self._request.model, needed)

    def _each(self, scope: Scope, lease: Lease) -> None:
        steps = Steps(
            make_context=self._make_context,
            folders=self._folders,
            cache=Cache(self._request.store),
            trail=self._trail,
            stop=self._stop,
            say=self._say,
            show=self._show,
            fresh=self._request.fresh,
        )
        ended = ""
        for stage in self._stages:
            if ended or stage.name not in scope.needed:
                self._not_run[stage.name] = ended or "not selected"
            elif stage.name in scope.selected:
                lease.require()
                ended = self._one(stage, steps)
            else:
                self._hand_on(stage, steps)

    def _hand_on(self, stage: Stage, steps: Steps) -> None:
        found = steps.hand_on(stage)
        if isinstance(found, Taken):
            self._record(found)
        else:
            self._not_run[stage.name] = f"not selected; {found}"

    def _one(self, stage: Stage, steps: Steps) -> str:
        """Take a stage to its result; return why the run ends here, empty when it goes on."""
        self._reporter.stage_started(stage.name)
        began = time.monotonic()
        try:
            crossing(f"pipeline.before:{stage.name}")
            taken = self._refused(stage) or steps.take(stage)
        except BaseException as caught:  # noqa: BLE001 - a stage's end is always recorded, and _understood classifies it
            taken = self._broken(stage, caught, time.monotonic() - began)
        self._record(taken)
        if taken.result.status not in GOES_ON:
            self._fail(error_of(taken.result))
            return f"the run ended with {stage.name}: {taken.result.status}"
        return "the environment already serves this release" if taken.already_serving else ""

    def _refused(self, stage: Stage) -> Taken | None:
        if stage.name != RELEASING:
            return None
        result = refusal(self._request.required_stages, self._trail.results, self._not_run)
        return Taken(result=result) if result else None

    def _broken(self, stage: Stage, caught: BaseException, seconds: float) -> Taken:
        """Return the result that stands for an exception; what it had begun is removed when it cannot be of use."""
        error = self._understood(caught, stage.name)
        self._fail(error)
        if isinstance(error, Interrupted | DiskFull):
            self._folders.discard(
                stage.name
            )  # of a full disk, this also makes room for the files that tell of it
        no = isinstance(error, GateFailed | UserError)
        check = Check(
            name=error.category,
            answer=Answer.FAILED if no else Answer.INCONCLUSIVE,
            message=mask(error.headline),
            measured=mask(error.found) or None,
            threshold=mask(error.expected) or None,
            remedy=mask(error.remedy),
        )
        result = StageResult(
            stage=stage.name,
            status=Status.FAILED if no else Status.INCONCLUSIVE,
            summary=check.message,
            checks=(check,),
            seconds=round(seconds, 3),
        )
        return Taken(result=result)

    def _understood(self, caught: BaseException, stage: str = "") -> MlopsError:
        if isinstance(caught, Interrupted):
            return caught  # a stage may have said more than the signal does: what was left, and how to go on
        # The exception of a signal may have been swallowed or replaced on its way up; its reason counts.
        error = self._stop.reason or as_error(caught, folder=self._folders.root, stage=stage)
        if isinstance(error, Defect):
            self._trace = "".join(traceback.format_exception(caught))
        return error

    def _fail(self, error: MlopsError | None) -> None:
        """Remember the first error; what follows from it is not another one."""
        if self._error is None and error is not None:
            self._error = error
            _log.error(
                "%s", error.headline, extra={"labels": {"category": error.category, "where": error.where}}
            )

    def _record(self, taken: Taken) -> None:
        result = taken.result
        self._taken.append(taken)
        self._trail.add(result, self._folders.output(result.stage), taken.entry)
        labels = {"stage": result.stage, "status": result.status, "seconds": result.seconds}
        _log.info("stage ended: %s", result.summary, extra={"labels": labels})
        self._write(result)
        self._reporter.stage_ended(result)

    def _write(self, result: StageResult) -> None:
        folder = self._folders.stage(result.stage)
        try:
            write_json(folder / "result.json", result.as_record())
            write_text(folder / "junit.xml", stage_report(result))
        except (OSError, ValueError) as caught:  # ValueError: a measure that is not a number
            self._fail(self._understood(caught, result.stage))

    def _say(self, stage: str, sentence: str, share: float | None) -> None:
        self._stop.check()
        sentence = mask(sentence)
        _log.info("%s", sentence, extra={"labels": {"stage": stage}})
        self._reporter.said(stage, sentence, share)

    def _show(self, stage: str, outcome: Outcome) -> None:
        self._stop.check()
        self._reporter.looked(stage, outcome)

    def _result(self) -> RunResult:
        results = tuple(taken.result for taken in self._taken)
        status = status_of_run(result.status for result in results)
        if self._error is not None and status is Status.PASSED:
            status = Status.FAILED if self._error.exit_code in (1, 2) else Status.INCONCLUSIVE
        served = bool(self._taken) and self._taken[-1].already_serving
        kept = [taken for taken in self._taken if taken.entry is not None]
        result = RunResult(
            model=self._request.model,
            run=self._id,
            status=status,
            sentence="",
            exit_code=self._error.exit_code if self._error else exit_code_of(status),
            started=self._started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._clock,
            stages=results,
            not_run=self._not_run,
            saved_seconds={t.result.stage: t.saved_seconds for t in kept if t.saved_seconds},
            outputs={t.result.stage: t.entry.output for t in kept if t.entry},
            already_serving=served,
            error=self._error.as_record() if self._error else None,
            commit=self._request.commit,
            environment=self._request.environment,
            runner=mlops.__version__,
        )
        return replace(result, sentence=mask(verdict_of(result)))
