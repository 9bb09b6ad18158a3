"""JUnit files are what CI systems take, with one test per check and none that is counted twice."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from mlops.pipeline.junit import run_report, stage_report
from mlops.pipeline.results import Answer, Check, StageResult, Status, status_of
from mlops.pipeline.run import Selection
from tests.pipeline.fakes import Fake, Repo, judged, passed

# What the schema of Jenkins' xunit plugin (junit-10.xsd) allows of each element: attributes (! is required)
# and children.
SCHEMA = {
    "testsuites": ({"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": (
        {
            "name!",
            "tests!",
            "failures",
            "errors",
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
        },
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name!", "classname", "time", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}


def checked(text: str) -> ET.Element:
    """Parse, and demand that the document is one that the schema allows and that its counts are right."""
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = SCHEMA[element.tag]
        required = {name[:-1] for name in attributes if name.endswith("!")}
        assert required <= set(element.attrib) <= {name.rstrip("!") for name in attributes}
        assert {child.tag for child in element} <= children
    for suite in root.iter("testsuite"):
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute, "")) == len(suite.findall(f"testcase/{tag}"))
        assert re.fullmatch(r"\d+\.\d{3}", suite.get("time", ""))
    return root


def case(root: ET.Element, name: str) -> ET.Element:
    (found,) = [each for each in root.iter("testcase") if each.get("name") == name]
    return found


def outcome(root: ET.Element, name: str) -> str:
    tags = [child.tag for child in case(root, name) if child.tag != "system-out"]
    return tags[0] if tags else "passed"


def test_each_check_is_a_test_of_its_stage() -> None:
    root = checked(stage_report(passed("train", seconds=1.5)))
    test = case(root, "small thing")
    assert (test.get("classname"), outcome(root, "small thing"), outcome(root, "stage")) == (
        "mlops.train",
        "passed",
        "passed",
    )
    assert test.findtext("system-out") == "it is done\nmeasured: 1\nthreshold: 1"


def test_a_failed_gate_is_one_failure_with_its_numbers_and_remedy() -> None:
    root = checked(stage_report(judged("train", "failed")))
    assert (outcome(root, "gate"), outcome(root, "stage")) == ("failure", "skipped")
    failure = case(root, "gate").find("failure")
    assert failure is not None
    assert failure.get("message") == "0.4 is less than 0.5"
    assert failure.text == "0.4 is less than 0.5\nmeasured: 0.4\nthreshold: 0.5\ndo: do better"


def test_a_gate_that_could_not_tell_is_an_error_not_a_failure() -> None:
    assert outcome(checked(stage_report(judged("train", "inconclusive"))), "gate") == "error"


def test_a_check_that_only_informs_fails_no_test() -> None:
    check = Check(name="note", answer=Answer.FAILED, message="12 rows twice", gate=False)
    result = StageResult(stage="validate", status=Status.PASSED, summary="fine", checks=(check,))
    root = checked(stage_report(result))
    assert outcome(root, "note") == "passed"
    assert case(root, "note").findtext("system-out") == "note: 12 rows twice"


def test_a_failure_without_a_check_is_the_stages() -> None:
    root = checked(stage_report(StageResult(stage="train", status=Status.FAILED, summary="no luck")))
    assert outcome(root, "stage") == "failure"


def test_a_whole_run_has_a_suite_per_stage_and_names_those_not_run(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages, selection=Selection(only=("validate", "train")))
    root = checked((repo.folder / "junit.xml").read_text())
    assert [suite.get("name") for suite in root] == ["mlops.validate", "mlops.train", "mlops.package"]
    (left_out,) = root[2].findall("testcase/skipped")
    assert left_out.get("message") == "not selected"
    checked((repo.folder / "train/junit.xml").read_text())


def test_names_stay_the_same_when_the_answer_changes() -> None:
    good, bad = (
        checked(stage_report(judged("train", "passed"))),
        checked(stage_report(judged("train", "failed"))),
    )
    names = [[test.get("name") for test in root.iter("testcase")] for root in (good, bad)]
    assert names[0] == names[1]


TEXT = st.text(max_size=30)


@given(
    st.lists(
        st.builds(
            Check, name=TEXT, answer=st.sampled_from(Answer), message=TEXT, gate=st.booleans(), remedy=TEXT
        )
    ).map(tuple),
    TEXT,
)
def test_any_text_makes_a_document_that_can_be_read(checks: tuple[Check, ...], summary: str) -> None:
    result = StageResult(stage="train", status=status_of(checks), summary=summary, checks=checks)
    checked(stage_report(result))


def test_control_characters_are_replaced() -> None:
    result = StageResult(stage="train", status=Status.PASSED, summary="a\x00b\x1b[31mc\ud800")
    assert case(checked(stage_report(result)), "stage").findtext("system-out") == "a�b�[31mc�"


def test_a_run_without_any_result_is_a_document_too(repo: Repo) -> None:
    checked(run_report(repo.run([])))
