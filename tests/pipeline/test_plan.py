"""A plan says what a run would do, as far as that can be known, and does nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops.errors import UserError
from mlops.pipeline.plan import Plan, make_plan
from mlops.pipeline.run import Selection
from mlops.pipeline.stage import Never
from tests.pipeline.fakes import Fake, Repo, context_of


def plan(repo: Repo, stages: list[Fake], **given: Any) -> Plan:
    return make_plan(stages, context_of, repo.request(**given))


def actions(made: Plan) -> dict[str, str]:
    return {line.stage: line.action.value for line in made.stages}


def test_before_the_first_run_the_rest_depends_on_the_first_stage(repo: Repo, stages: list[Fake]) -> None:
    made = plan(repo, stages)
    assert actions(made) == {"validate": "run", "train": "open", "package": "open"}
    assert made.stages[0].why == "nothing is kept for these inputs"
    assert made.stages[1].why == "depends on what validate comes to"


def test_nothing_is_run_and_the_workspace_is_left_alone(repo: Repo, stages: list[Fake]) -> None:
    plan(repo, stages)
    assert not repo.folder.exists()
    assert [stage.calls for stage in stages] == [[], [], []]


def test_after_a_run_everything_is_cached(repo: Repo, stages: list[Fake]) -> None:
    run = repo.run(stages)
    made = plan(repo, stages)
    assert set(actions(made).values()) == {"cached"}
    assert [line.key for line in made.stages] == [stage.key for stage in run.stages]


def test_a_changed_input_opens_what_follows(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    stages[1].reading["code"] = "new"
    assert actions(plan(repo, stages)) == {"validate": "cached", "train": "run", "package": "open"}


def test_what_does_not_read_it_is_not_opened(repo: Repo, stages: list[Fake]) -> None:
    stages[2].reads = ("validate",)  # type: ignore[attr-defined]
    repo.run(stages)
    stages[1].reading["code"] = "new"
    assert actions(plan(repo, stages)) == {"validate": "cached", "train": "run", "package": "cached"}


def test_fresh_and_never(repo: Repo, stages: list[Fake]) -> None:
    stages[0].valid = Never()
    repo.run(stages)
    assert plan(repo, stages).stages[0].why == "is computed every time"
    made = plan(repo, stages, fresh=True)
    assert set(actions(made).values()) == {"run"}
    assert made.stages[1].why == "fresh asked for"


def test_left_out_stages_say_what_the_others_get(repo: Repo, stages: list[Fake]) -> None:
    made = plan(repo, stages, selection=Selection(only=("train",)))
    assert actions(made) == {"validate": "left out", "train": "run", "package": "left out"}
    assert made.stages[0].why == "not selected; nothing is kept for these inputs"
    repo.run(stages)
    made = plan(repo, stages, selection=Selection(since="train"))
    assert actions(made) == {"validate": "left out", "train": "cached", "package": "cached"}
    assert made.stages[0].why == "not selected; same inputs as before"


def test_a_damaged_result_will_be_computed_again(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    for blob in repo.blobs():
        blob.write_bytes(b"harm")
    made = plan(repo, stages)
    assert actions(made)["validate"] == "run"
    assert "damaged" in made.stages[0].why


def test_inputs_that_cannot_be_read_are_told(repo: Repo, stages: list[Fake]) -> None:
    def inputs(context: Any) -> dict[str, str]:
        context.say("reading", None)
        raise UserError("data.csv is missing", remedy="fetch it")

    stages[0].inputs = inputs  # type: ignore[method-assign]
    assert plan(repo, stages).stages[0].why == "data.csv is missing"


def test_required_stages_are_marked_and_must_exist(repo: Repo, stages: list[Fake]) -> None:
    made = plan(repo, stages, required_stages=("train",))
    assert [line.required for line in made.stages] == [False, True, False]
    with pytest.raises(UserError, match="no stage named 'trian'"):
        plan(repo, stages, required_stages=("trian",))


def test_the_json_form_is_plain(repo: Repo, stages: list[Fake]) -> None:
    record = json.loads(json.dumps(plan(repo, stages).as_record()))
    assert record["model"] == "flight-delay"
    assert record["stages"][0] == {
        "stage": "validate",
        "help": "Does a small thing.",
        "action": "run",
        "why": "nothing is kept for these inputs",
        "required": False,
        "key": record["stages"][0]["key"],
    }
    assert len(record["stages"][0]["key"]) == 64


def test_a_plan_ends_where_the_environment_already_serves_the_release(repo: Repo, stages: list[Fake]) -> None:
    stages[1].already_serving = lambda context, result: True  # type: ignore[attr-defined]
    repo.run(stages)
    made = plan(repo, stages)
    assert actions(made) == {"validate": "cached", "train": "cached", "package": "left out"}
    assert made.stages[2].why == "the environment already serves this release"
