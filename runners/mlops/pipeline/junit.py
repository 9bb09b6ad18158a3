"""Write results in the JUnit format, so that each check is a test in Jenkins, with its history.

A failed gate is a ``failure``; a gate that could not tell is an ``error``, which CI systems list apart from
failures. What does
not stop the run is told, not counted: a check that only informs, and is not passed, is a passed test with
its message in
``system-out``. Names stay the same from run to run, numbers are in the messages: a test's history is its
name's.
Follows the schema of Jenkins' xunit plugin (``junit-10.xsd``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.run import RunResult

# XML 1.0, production [2] Char: everything else cannot be in a document, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANSWERS = {
    Status.PASSED: Answer.PASSED,
    Status.CACHED: Answer.PASSED,
    Status.REQUESTED: Answer.PASSED,
    Status.SKIPPED: Answer.SKIPPED,
    Status.FAILED: Answer.FAILED,
    Status.INCONCLUSIVE: Answer.INCONCLUSIVE,
}


def stage_report(result: StageResult) -> str:
    """Return the document of one stage."""
    return _document([_suite(result)])


def run_report(result: RunResult) -> str:
    """Return the document of a whole run: a suite per stage; stages that were not run are skipped tests."""
    suites = [_suite(stage, started=result.started) for stage in result.stages]
    for name, why in result.not_run.items():
        suites.append(_make_suite(name, [_case(name, "stage", Answer.SKIPPED, why)], 0.0, result.started))
    return _document(suites)


def _document(suites: Sequence[ET.Element]) -> str:
    root = ET.Element("testsuites", name="mlops")
    root.extend(suites)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(result: StageResult, started: str = "") -> ET.Element:
    cases = [_check_case(result, check) for check in result.checks]
    cases.append(_stage_case(result))
    return _make_suite(result.stage, cases, result.seconds, started)


def _make_suite(stage: str, cases: list[ET.Element], seconds: float, started: str) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=f"mlops.{stage}",
        tests=str(len(cases)),
        failures=_count(cases, "failure"),
        errors=_count(cases, "error"),
        skipped=_count(cases, "skipped"),
        time=f"{seconds:.3f}",
    )
    if started:
        suite.set("timestamp", started[:19])
    suite.extend(cases)
    return suite


def _count(cases: Sequence[ET.Element], tag: str) -> str:
    return str(sum(case.find(tag) is not None for case in cases))


def _stage_case(result: StageResult) -> ET.Element:
    """The stage as a whole: fails only when no check of it tells why, so that one cause is one failure."""
    answer = _ANSWERS[result.status]
    told = any(check.gate and check.answer is answer for check in result.checks)
    if answer in (Answer.FAILED, Answer.INCONCLUSIVE) and told:
        answer = Answer.SKIPPED
    return _case(result.stage, "stage", answer, result.summary, seconds=result.seconds)


def _check_case(result: StageResult, check: Check) -> ET.Element:
    lines = [check.message]
    lines += [f"measured: {check.measured} {check.unit}".rstrip()] if check.measured is not None else []
    lines += [f"threshold: {check.threshold} {check.unit}".rstrip()] if check.threshold is not None else []
    lines += [f"do: {check.remedy}"] if check.remedy and check.answer is not Answer.PASSED else []
    answer = check.answer
    if not check.gate and answer in (Answer.FAILED, Answer.INCONCLUSIVE):
        lines[0] = f"note: {lines[0]}"
        answer = Answer.PASSED
    return _case(result.stage, check.name, answer, check.message, detail="\n".join(lines))


def _case(
    stage: str, name: str, answer: Answer, message: str, *, detail: str = "", seconds: float = 0.0
) -> ET.Element:
    case = ET.Element("testcase", classname=f"mlops.{stage}", name=_clean(name), time=f"{seconds:.3f}")
    tag, kind = _TAGS.get(answer, ("", ""))
    if tag:
        outcome = ET.SubElement(case, tag, message=_clean(message))
        if kind:
            outcome.set("type", kind)
            outcome.text = _clean(detail or message)
    if not kind:
        ET.SubElement(case, "system-out").text = _clean(detail or message)
    return case


_TAGS = {
    Answer.FAILED: ("failure", "gate"),
    Answer.INCONCLUSIVE: ("error", "could not tell"),
    Answer.SKIPPED: ("skipped", ""),
}


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
