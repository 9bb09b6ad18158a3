"""``test``: the repo's own tests, in the model's own Python; each becomes a check with its history."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from mlops.canonical import digest_json
from mlops.environments.port import Command, Completed
from mlops.errors import InfrastructureError, UserError
from mlops.pipeline.results import Answer, Check, StageResult, Status, status_of
from mlops.pipeline.stage import Context, Forever, Validity
from mlops.stages.repo import Repo, rows_digest
from mlops.stages.training import last_line

LOG = "tests.log"
REPORT = "tests.xml"

# Exit codes of pytest: https://docs.pytest.org/en/stable/reference/exit-codes.html
_FAILURES, _INTERRUPTED, _INTERNAL, _USAGE, _NONE = 1, 2, 3, 4, 5


class Test:
    """Runs any command; of pytest it also reads which test failed and why."""

    __test__ = False  # not a test class for pytest

    name = "test"
    help = "Run the repo's tests in the model's own Python."
    reads: tuple[str, ...] = ()

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of the code, the lock, the command, and the data: tests may read it."""
        contract = context.contract
        locked = context.environments.resolve(
            context.workspace, contract.environment.python, contract.environment.lock
        )
        named = (contract.data.train, contract.data.holdout)
        return {
            "code": Repo(context.workspace).digest(contract),
            "environment": locked.digest,
            "data": digest_json([rows_digest(context.workspace / name) for name in named if name]),
            "contract": digest_json(contract.test.model_dump(exclude={"timeout"})),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Forever: same code, same data, same packages."""
        return Forever()

    def run(self, context: Context) -> StageResult:
        """Run the tests; a failed one fails the gate, and tests that cannot be run are the user's to repair.

        A repo without tests has the stage skipped, visibly; ``test.required: true`` in the contract refuses it.
        """
        settings = context.contract.test
        if "command" not in settings.model_fields_set and not (context.workspace / "tests").is_dir():
            # Nobody asked for tests and there are none: pytest need not be installed to say so.
            return self._without_tests(context)
        arguments = with_report(settings.command, context.output / REPORT)
        completed = _run(context, arguments)
        log = context.output / LOG
        if arguments is None:
            return self._of_command(context, completed)
        _refuse_unusable(completed, log)
        checks = tuple(checks_of(context.output / REPORT))
        if completed.code == _NONE or not checks or _no_such_folder(completed):
            return self._without_tests(context)
        return self._of_checks(checks, completed)

    def _of_checks(self, checks: tuple[Check, ...], completed: Completed) -> StageResult:
        failed = [check.name for check in checks if check.answer is Answer.FAILED]
        good = sum(check.answer is Answer.PASSED for check in checks)
        bad = f", {len(failed)} failed: {', '.join(failed[:3])}" if failed else ""
        return StageResult(
            stage=self.name,
            status=status_of(checks),
            summary=f"{good} of {len(checks)} tests passed in {completed.seconds:.0f} s{bad}",
            checks=checks,
            metrics={"tests": float(len(checks)), "failed": float(len(failed))},
            artifacts={"log": LOG, "report": REPORT},
        )

    def _of_command(self, context: Context, completed: Completed) -> StageResult:
        command = context.contract.test.command
        if completed.timed_out:
            raise _too_slow(context)
        check = Check(
            name=command,
            answer=Answer.FAILED if completed.code else Answer.PASSED,
            message=f"exit code {completed.code}" + (f": {_last(completed)}" if completed.code else ""),
            measured=completed.code,
            threshold=0,
            remedy="Read the log of the tests." if completed.code else "",
        )
        return StageResult(
            stage=self.name,
            status=status_of((check,)),
            summary=f"`{command}` ended with {completed.code}",
            checks=(check,),
            artifacts={"log": LOG},
        )

    def _without_tests(self, context: Context) -> StageResult:
        if not context.contract.test.required:
            return StageResult(
                stage=self.name,
                status=Status.SKIPPED,
                summary="the repo has no tests, and its contract does not require any",
            )
        raise UserError(
            "The repo has no tests",
            expected="at least one test",
            found=f"none by `{context.contract.test.command}`",
            remedy="Write tests/test_features.py; without `test.required: true` in mlops.yaml the stage is skipped.",
            where="tests",
        )


def with_report(command: str, report: Path) -> tuple[str, ...] | None:
    """Return the arguments of a pytest command with ``--junitxml`` added; None when it is another command."""
    words = shlex.split(command)
    for position, word in enumerate(words[:-1]):
        if word == "-m" and words[position + 1] in {"pytest", "py.test"}:
            return (*words, *_options(report))
    if words and Path(words[0]).name in {"pytest", "py.test"}:
        return (*words, *_options(report))
    return None


def checks_of(report: Path) -> Iterator[Check]:
    """Yield a check per test of a JUnit report; nothing when there is no report."""
    if not report.is_file():
        return
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written by the pytest that was just run
        yield _check(case)


def _options(report: Path) -> tuple[str, ...]:
    return (f"--junitxml={report}", "-p", "no:cacheprovider")


def _run(context: Context, arguments: tuple[str, ...] | None) -> Completed:
    contract = context.contract
    context.say("preparing the model's Python", None)
    locked = context.environments.resolve(
        context.workspace, contract.environment.python, contract.environment.lock
    )
    installed = context.environments.install(locked)
    context.say(f"testing: {contract.test.command}", None)
    completed = context.environments.run(
        installed,
        Command(
            arguments=arguments or contract.test.command,
            folder=context.workspace,
            log=context.output / LOG,
            timeout_seconds=contract.test.timeout,
            # The repo stays as it is: what tests leave behind would be taken for new code.
            variables={"PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
        ),
        last_line(context.say),
    )
    if completed.timed_out:
        raise _too_slow(context)
    if completed.code < 0:
        raise InfrastructureError(
            "The tests were killed",
            expected=f"`{contract.test.command}` ends by itself",
            found=f"signal {-completed.code}; last line: {_last(completed)}",
            remedy="Signal 9 usually means that memory ran out: give it more; then run again.",
            where=str(context.output / LOG),
        )
    return completed


def _refuse_unusable(completed: Completed, log: Path) -> None:
    """Raise UserError when pytest could not run the tests, which says nothing about the model."""
    if completed.code in {0, _FAILURES, _NONE} or _no_such_folder(completed):
        if "No module named pytest" not in completed.tail:
            return
        raise UserError(
            "pytest is not among the model's locked packages",
            expected="pytest in the repo's lock",
            found=_last(completed),
            remedy="Add pytest to the requirements and lock them again.",
            where=str(log),
        )
    headline = {
        _INTERRUPTED: "The tests cannot be collected",
        _USAGE: "pytest does not understand the test command",
    }.get(completed.code, "pytest itself failed")
    raise UserError(
        headline,
        expected="tests that pytest can import and run",
        found=completed.tail.strip() or f"exit code {completed.code}",
        remedy="Correct the import or the command; it must work with pytest in the model's environment.",
        where=str(log),
    )


def _no_such_folder(completed: Completed) -> bool:
    return completed.code == _USAGE and "file or directory not found" in completed.tail


def _too_slow(context: Context) -> UserError:
    return UserError(
        "The tests did not end within their time limit",
        expected=f"an end within {context.contract.test.timeout:g} s",
        found="they were still running",
        remedy="Raise `test.timeout` in mlops.yaml, or make the tests quicker.",
        where=str(context.output / LOG),
    )


def _check(case: ElementTree.Element) -> Check:
    name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
    seconds = float(case.get("time") or 0)
    trouble = next((child for child in case if child.tag in {"failure", "error"}), None)
    if trouble is not None:
        message = (trouble.get("message") or trouble.text or trouble.tag).strip().splitlines()
        return Check(
            name=name,
            answer=Answer.FAILED,
            message=message[0][:500] if message else trouble.tag,
            remedy="Correct the code or the test.",
            evidence={"seconds": seconds, "detail": (trouble.text or "")[-4000:]},
        )
    skipped = case.find("skipped")
    if skipped is not None:
        reason = skipped.get("message") or "skipped"
        return Check(name=name, answer=Answer.SKIPPED, message=reason[:500], evidence={"seconds": seconds})
    return Check(
        name=name, answer=Answer.PASSED, message=f"passed in {seconds:.2f} s", evidence={"seconds": seconds}
    )


def _last(completed: Completed) -> str:
    lines = completed.tail.strip().splitlines()
    return lines[-1] if lines else "no output"
