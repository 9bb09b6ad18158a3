"""Statuses fold the same way whatever their order, and a run's record says all of it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlops.pipeline.results import Answer, Check, StageResult, Status, status_of
from mlops.pipeline.run import exit_code_of, status_of_run
from tests.pipeline.fakes import Fake, Repo

STATUSES = st.lists(st.sampled_from(Status))
CHECKS = st.lists(
    st.builds(
        Check, name=st.just("c"), answer=st.sampled_from(Answer), message=st.just("m"), gate=st.booleans()
    )
).map(tuple)


@given(STATUSES, st.randoms())
def test_the_order_of_the_stages_does_not_matter(statuses: list[Status], random: object) -> None:
    before = status_of_run(statuses)
    random.shuffle(statuses)  # type: ignore[attr-defined]
    assert status_of_run(statuses) is before


@given(STATUSES)
def test_one_bad_stage_is_enough(statuses: list[Status]) -> None:
    folded = status_of_run(statuses)
    if Status.FAILED in statuses:
        assert (folded, exit_code_of(folded)) == (Status.FAILED, 1)
    elif Status.INCONCLUSIVE in statuses:
        assert (folded, exit_code_of(folded)) == (Status.INCONCLUSIVE, 5)
    else:
        assert exit_code_of(folded) == 0
        assert folded in {Status.PASSED, Status.REQUESTED}


@given(CHECKS)
def test_gates_decide_and_notes_do_not(checks: tuple[Check, ...]) -> None:
    gates = {check.answer for check in checks if check.gate}
    status = status_of(checks)
    assert (status is Status.FAILED) == (Answer.FAILED in gates)
    assert (status is Status.PASSED) == (not gates & {Answer.FAILED, Answer.INCONCLUSIVE})
    assert status is status_of(tuple(reversed(checks)))


@given(CHECKS, st.sampled_from(Status))
def test_a_result_survives_its_json_form(checks: tuple[Check, ...], status: Status) -> None:
    result = StageResult(stage="s", status=status, summary="x", checks=checks, metrics={"a": 1.5})
    assert StageResult.from_record(json.loads(json.dumps(result.as_record()))) == result


def test_the_record_of_a_run_says_what_was_kept_and_saved(repo: Repo, stages: list[Fake]) -> None:
    stages[0].act = lambda context: __import__("time").sleep(0.01)
    repo.run(stages)
    result = repo.run(stages)
    record = repo.written("run.json")
    assert record == json.loads(json.dumps(result.as_record()))
    assert record["stages"][0]["saved_seconds"] >= 0.01
    assert len(record["stages"][0]["output"]) == 64
    assert result.result("nothing") is None
