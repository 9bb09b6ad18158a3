"""The repo's own tests as checks: which failed and why, and clear words when they cannot be run at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.environments.port import Completed
from mlops.errors import InfrastructureError, UserError
from mlops.pipeline.results import Answer, Status
from mlops.pipeline.stage import Forever
from mlops.stages import test as module
from mlops.stages.test import Test
from tests.stages.lab import Lab, MakeLab

# Tests need no more than this, and it is installed in a second.
ONLY_PYTEST = {"requirements.txt": "pytest==8.4.2\n"}

GOOD = "def test_good():\n    assert 1 + 1 == 2\n"
MIXED = """\
import pytest


def test_good():
    pass


def test_bad():
    assert 1 == 2, "one is not two"


@pytest.mark.skip(reason="no network here")
def test_left_out():
    pass


@pytest.fixture
def broken():
    raise RuntimeError("no database")


def test_without_its_fixture(broken):
    pass
"""


@pytest.fixture
def tested(make_lab: MakeLab) -> Lab:
    return make_lab(ONLY_PYTEST)


def command(lab: Lab, section: str) -> None:
    lab.write("mlops.yaml", (lab.repo / "mlops.yaml").read_text() + f"test: {section}\n")


def test_each_test_becomes_a_check(tested: Lab) -> None:
    tested.write("tests/test_features.py", MIXED)
    result = tested.run(Test())
    assert result.status is Status.FAILED
    answers = {check.name.rpartition("::")[2]: check for check in result.checks}
    assert {name: check.answer for name, check in answers.items()} == {
        "test_good": Answer.PASSED,
        "test_bad": Answer.FAILED,
        "test_left_out": Answer.SKIPPED,
        "test_without_its_fixture": Answer.FAILED,
    }
    assert "one is not two" in answers["test_bad"].message
    assert "no database" in answers["test_without_its_fixture"].message
    assert "no network here" in answers["test_left_out"].message
    assert "1 of 4 tests passed" in result.summary
    assert "test_bad" in result.summary
    assert (tested.folders["test"] / result.artifacts["report"]).is_file()


def test_good_tests_pass_and_leave_nothing_in_the_repo(tested: Lab) -> None:
    tested.write("tests/test_features.py", GOOD)
    before = {path.name for path in tested.repo.rglob("*")}
    result = tested.run(Test())
    assert result.status is Status.PASSED
    assert result.metrics == {"tests": 1.0, "failed": 0.0}
    assert {path.name for path in tested.repo.rglob("*")} == before
    assert "testing: python -m pytest tests" in tested.said


@pytest.mark.parametrize("files", [{}, {"tests/conftest.py": ""}])
def test_a_repo_without_tests_is_refused_where_they_are_required(tested: Lab, files: dict[str, str]) -> None:
    command(tested, "{required: true}")
    for name, text in files.items():
        tested.write(name, text)
    with pytest.raises(UserError, match="no tests") as caught:
        tested.run(Test())
    assert "test.required: true" in caught.value.remedy


def test_a_repo_that_need_not_have_tests_goes_on_visibly(tested: Lab) -> None:
    result = tested.run(Test())
    assert result.status is Status.SKIPPED
    assert "no tests" in result.summary


def test_tests_that_cannot_be_imported_are_the_users_to_correct(tested: Lab) -> None:
    tested.write("tests/test_features.py", "import nothing_of_that_name\n")
    with pytest.raises(UserError, match="cannot be collected") as caught:
        tested.run(Test())
    assert "nothing_of_that_name" in caught.value.found


def test_an_option_that_pytest_does_not_know_is_told(tested: Lab) -> None:
    tested.write("tests/test_features.py", GOOD)
    command(tested, "{command: python -m pytest --no-such-option}")
    with pytest.raises(UserError, match="does not understand"):
        tested.run(Test())


def test_a_lock_without_pytest_is_told(make_lab: MakeLab) -> None:
    lab = make_lab({"requirements.txt": "packaging==25.0\n", "tests/test_features.py": GOOD})
    with pytest.raises(UserError, match="pytest is not among") as caught:
        lab.run(Test())
    assert "Add pytest" in caught.value.remedy


@pytest.mark.parametrize(("code", "status"), [(0, Status.PASSED), (3, Status.FAILED)])
def test_any_command_counts_by_its_exit_code(tested: Lab, code: int, status: Status) -> None:
    tested.write("check.py", f"print('looked'); raise SystemExit({code})")
    command(tested, "{command: python check.py}")
    result = tested.run(Test())
    assert result.status is status
    assert result.checks[0].measured == code
    assert result.artifacts == {"log": "tests.log"}


@pytest.mark.parametrize("runner", ["python -m pytest tests", "python slow.py"])
def test_tests_that_take_too_long_are_ended(tested: Lab, runner: str) -> None:
    slow = "import time\ntime.sleep(600)\n"
    tested.write("slow.py", slow)
    tested.write("tests/test_slow.py", "def test_slow():\n    __import__('time').sleep(600)\n")
    command(tested, f"{{command: {runner}, timeout: 2}}")
    with pytest.raises(UserError, match="time limit"):
        tested.run(Test())


def test_tests_that_are_killed_may_be_tried_again(tested: Lab) -> None:
    tested.write("tests/test_killed.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(InfrastructureError, match="killed"):
        tested.run(Test())


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("python -m pytest tests -k 'a b'", True),
        ("pytest", True),
        ("/opt/bin/py.test tests", True),
        ("python -m tox", False),
        ("make test", False),
        ("", False),
    ],
)
def test_a_report_is_asked_of_pytest_only(command: str, known: bool) -> None:
    arguments = module.with_report(command, Path("/r.xml"))
    assert (arguments is not None) is known
    if arguments is not None:
        assert "--junitxml=/r.xml" in arguments


def test_an_internal_error_of_pytest_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pytest itself failed"):
        module._refuse_unusable(Completed(code=3, tail="INTERNALERROR", seconds=1), tmp_path)


def test_the_cache_key_follows_code_data_and_lock(tested: Lab) -> None:
    before = tested.inputs(Test())
    tested.write("tests/test_features.py", GOOD)
    assert tested.inputs(Test())["code"] != before["code"]
    (tested.repo / "data" / "holdout.parquet").write_bytes(b"other")
    assert tested.inputs(Test())["data"] != before["data"]
    command(tested, "{command: pytest}")
    assert tested.inputs(Test())["contract"] != before["contract"]
    assert isinstance(Test().validity(tested.context("test"), None), Forever)  # type: ignore[arg-type]


def test_a_repo_without_tests_needs_no_pytest(tested: Lab) -> None:
    result = tested.run(Test())
    assert result.status is Status.SKIPPED
    assert not any("preparing" in sentence for sentence in tested.said)
