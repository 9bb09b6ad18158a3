"""``evaluate`` with real models in their real environment: what passes, and each fault that must be stopped."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from mlops.artifacts import keep_folder
from mlops.decide.gate import alpha_for
from mlops.environments.uv import UvEnvironments
from mlops.errors import UserError
from mlops.ledger.events import HoldoutUsed
from mlops.pipeline.results import Answer, StageResult, Status
from mlops.pipeline.stage import Forever
from mlops.stages.evaluate import Evaluate
from tests.stages.evaluation_rig import Rig, cache_folder, make_models, rows
from tests.stages.killed import killed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[UvEnvironments, Path, Any]:
    environments = UvEnvironments(cache_folder())
    return environments, *make_models(environments, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def rig(made: tuple[UvEnvironments, Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One machine whose production serves the model ``good``."""
    environments, models, installed = made
    rig = Rig(tmp_path_factory.mktemp("rig"), models, installed, environments)
    rig.serve("good")
    return rig


@pytest.fixture
def fresh(made: tuple[UvEnvironments, Path, Any], tmp_path: Path) -> Rig:
    """A machine on which nothing is served yet."""
    environments, models, installed = made
    return Rig(tmp_path, models, installed, environments)


@pytest.fixture(scope="module")
def alone(made: tuple[UvEnvironments, Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One machine on which nothing is served, for candidates that are judged by themselves."""
    environments, models, installed = made
    return Rig(tmp_path_factory.mktemp("alone"), models, installed, environments)


def check(result: StageResult, name: str) -> Any:
    return next(each for each in result.checks if each.name == name)


def stopped_by(result: StageResult) -> set[str]:
    return {each.name for each in result.checks if each.gate and each.answer is Answer.FAILED}


SLICED = {"name": "auc", "margin": 0.02, "slices": [{"column": "colour"}, {"column": "x", "bins": 4}]}


def test_a_candidate_as_good_as_the_champion_passes_with_numbers_and_files(rig: Rig) -> None:
    context = rig.context("alike", rig.contract(metric=SLICED))
    result = Evaluate().run(context)
    assert result.status is Status.PASSED, result.summary
    assert "as good as the champion" in result.summary
    assert result.facts["verdict"] == "as_good"
    assert result.facts["champion"] == rig.package("good", context.contract)[1]
    assert result.facts["value"] == result.metrics["holdout_auc"] == pytest.approx(0.836, abs=0.02)
    assert check(result, "golden predictions moved").gate is False
    assert check(result, "slices of x").message == "no slice is worse; 4 slices compared"
    names = {each["name"] for each in check(result, "slices of colour").evidence["slices"]}
    assert names == {"colour=blue", "colour=green", "colour=missing", "colour=red"}
    json.dumps(result.as_record(), allow_nan=False)
    written = json.loads((context.output / result.artifacts["evaluation"]).read_text())
    assert written["comparison"]["verdict"] == "as_good"
    predictions = pd.read_parquet(context.output / result.artifacts["predictions"])
    assert list(predictions.columns) == [
        "row",
        "label",
        *(
            f"{side}_{name}"
            for side in ("candidate", "champion")
            for name in ("prediction", "score", "score_0", "score_1")
        ),
    ]
    assert len(predictions) == 3000
    assert rig.tracker.logged["holdout_auc"] == result.metrics["holdout_auc"]
    assert rig.tracker.logged["gate_champion"] == pytest.approx(0.836, abs=0.02)
    assert rig.tracker.tags == {"mlops.evaluate": "passed"}


def test_each_distinct_candidate_spends_a_part_and_the_same_one_nothing_more(rig: Rig) -> None:
    holdout = rig.context("weak").fact("validate", "holdout_digest")
    before = dict(rig.build.state().holdouts.get(holdout, {}))
    first = Evaluate().run(rig.context("weak"))
    spent = rig.build.state().holdouts[holdout]
    digest = rig.package("weak", rig.contract())[1]
    assert spent[digest] == alpha_for(len(before) + 1, 0.05)
    assert len(spent) == len(before) + 1
    again = Evaluate().run(rig.context("weak"))
    assert rig.build.state().holdouts[holdout] == spent
    assert again.facts["comparison"] == first.facts["comparison"]
    event = list(rig.build.events())[-1]
    assert isinstance(event.payload, HoldoutUsed)
    assert event.payload.verdict == "worse"
    assert "use" in event.reason
    assert first.status is Status.FAILED


def test_killed_after_the_use_of_the_holdout_it_is_used_once(fresh: Rig, tmp_path: Path) -> None:
    fresh.serve("good")
    fresh.context("weak")
    machine = {
        "folder": fresh.folder,
        "models": fresh.models,
        "installed": fresh.installed,
        "packages": fresh._packages,
        "runs": fresh._runs,
        "candidate": "weak",
    }
    killed("evaluate", machine, tmp_path, "evaluate.after-use")
    (used,) = fresh.build.events()
    assert used.kind == HoldoutUsed.kind
    fresh._runs += 1
    result = Evaluate().run(fresh.context("weak"))
    assert list(fresh.build.events()) == [used]
    assert result.facts["verdict"] == used.data["verdict"] == "worse"


def test_the_champion_itself_passes_and_spends_nothing(rig: Rig) -> None:
    sequence = rig.build.state().sequence
    result = Evaluate().run(rig.context("good"))
    assert result.status is Status.PASSED
    assert "the same package as the champion" in result.summary
    assert rig.build.state().sequence == sequence


def test_a_poisoned_model_is_stopped(rig: Rig) -> None:
    result = Evaluate().run(rig.context("poisoned", rig.contract(metric=SLICED)))
    assert result.status is Status.FAILED
    assert stopped_by(result) == {"champion", "slices of colour", "slices of x"}
    assert result.summary.startswith("champion: worse than the champion: auc 0.1")


def test_a_model_that_is_worse_in_one_slice_is_stopped_by_it(rig: Rig) -> None:
    wide = {**SLICED, "margin": 0.3, "slices": [{"column": "colour", "margin": 0.03}]}
    result = Evaluate().run(rig.context("bad-in-red", rig.contract(metric=wide)))
    assert result.status is Status.FAILED
    assert "slices of colour" in stopped_by(result)
    assert "champion" not in stopped_by(result)
    assert "worse in colour=red (" in check(result, "slices of colour").message
    assert "blue" not in check(result, "slices of colour").message


@pytest.mark.parametrize(
    ("name", "stopping"),
    [
        ("unsteady", {"same answer twice", "same answer in any batch", "same answer in any order"}),
        ("of-the-batch", {"same answer in any batch"}),
        ("of-the-order", {"same answer in any batch", "same answer in any order"}),
        ("not-imputed", {"missing values"}),
    ],
)
def test_a_model_that_misbehaves_is_stopped(alone: Rig, name: str, stopping: set[str]) -> None:
    result = Evaluate().run(alone.context(name))
    assert result.status is Status.FAILED
    assert stopped_by(result) - {"same answer after serialisation"} == stopping
    assert all(check(result, each).remedy for each in stopping)
    assert check(result, "better than a constant").answer is Answer.PASSED


def test_predictions_that_are_not_numbers_are_stopped_and_spend_no_holdout(rig: Rig) -> None:
    sequence = rig.build.state().sequence
    result = Evaluate().run(rig.context("not-a-number"))
    assert result.status is Status.FAILED
    assert stopped_by(result) == {"finite predictions"}
    assert rig.build.state().sequence == sequence
    assert result.facts["verdict"] is None
    assert "predictions" not in result.artifacts
    json.dumps(result.as_record(), allow_nan=False)


def test_a_clean_refusal_of_what_was_never_trained_for_is_allowed_and_told(alone: Rig) -> None:
    result = Evaluate().run(alone.context("strict"))
    assert result.status is Status.PASSED
    assert check(result, "missing values").message == "2 of 3 features: predicted; refused in x"
    assert (
        "column colour: a category is unknown"
        in check(result, "unseen categories").evidence["refused"]["colour"]
    )


def test_champion_scores_are_kept_in_the_store_and_made_again_when_damaged(rig: Rig) -> None:
    context = rig.context("alike")
    champion = rig.package("good", context.contract)[1]
    kept = f"scores/{champion}/{context.fact('validate', 'holdout_digest')}.parquet"
    if not rig.store.exists(kept):
        Evaluate().run(context)
    table = parquet.read_table(BytesIO(rig.store.get(kept) or b""))
    assert table.num_rows == 3000
    rig.store.put(kept, b"not parquet")
    assert Evaluate().run(rig.context("alike")).status is Status.PASSED
    assert parquet.read_table(BytesIO(rig.store.get(kept) or b"")).equals(table)


def test_a_tracking_server_that_is_down_is_said_and_undoes_nothing(rig: Rig) -> None:
    rig.tracker.down = True
    try:
        assert Evaluate().run(rig.context("alike")).status is Status.PASSED
    finally:
        rig.tracker.down = False
    assert "the numbers are not in the tracking run: the tracking server does not answer" in rig.said


def test_a_spent_holdout_cannot_tell_and_asks_for_a_new_one(rig: Rig) -> None:
    rig.write(rows(4000, seed=1), rows(3000, seed=30))
    holdout = rig.context("alike").fact("validate", "holdout_digest")
    for index in range(45):
        used = HoldoutUsed(candidate=f"c{index}", holdout=holdout, alpha=0.001, verdict="worse")
        rig.build.append(used, reason="test", expect=rig.build.state().sequence)
    result = Evaluate().run(rig.context("alike"))
    assert result.status is Status.INCONCLUSIVE
    assert check(result, "holdout").remedy.startswith("new holdout")
    assert len(rig.build.state().holdouts[holdout]) == 45
    rig.write(rows(4000, seed=1), rows(3000, seed=2))


def test_without_champion_the_candidate_must_beat_a_constant(alone: Rig) -> None:
    result = Evaluate().run(alone.context("good"))
    assert result.status is Status.PASSED
    assert check(result, "better than a constant").threshold == 0.5
    assert len(alone.build.state().holdouts) == 1


@pytest.mark.parametrize("name", ["clueless", "poisoned"])
def test_without_champion_a_model_that_says_nothing_is_stopped(alone: Rig, name: str) -> None:
    result = Evaluate().run(alone.context(name))
    assert result.status in {Status.FAILED, Status.INCONCLUSIVE}
    assert check(result, "better than a constant").answer is not Answer.PASSED
    assert (stopped_by(result) == {"better than a constant"}) >= (name == "poisoned")


@pytest.mark.parametrize(
    ("floor", "status", "words"),
    [
        (0.8, Status.PASSED, "reaches the floor"),
        (0.9, Status.FAILED, "misses the floor"),
        (0.84, Status.INCONCLUSIVE, "cannot be told from the floor"),
    ],
)
def test_without_champion_a_floor_decides(alone: Rig, floor: float, status: Status, words: str) -> None:
    contract = alone.contract(metric={"name": "auc", "floor": floor})
    result = Evaluate().run(alone.context("good", contract))
    assert result.status is status
    assert words in result.summary


def test_a_regression_is_compared_by_its_error(fresh: Rig) -> None:
    contract = fresh.contract(
        target="amount",
        metric={"name": "rmse"},
        data={"train": "train.parquet", "holdout": "holdout.parquet", "id": "row", "ignore": ["label"]},
    )
    result = Evaluate().run(fresh.context("regression", contract))
    assert result.status is Status.PASSED, result.summary
    assert check(result, "better than a constant").measured == pytest.approx(1.0, abs=0.05)


def test_a_champion_whose_environment_answers_otherwise_now_is_noticed(fresh: Rig) -> None:
    """The champion's golden predictions are altered, as if an upgrade below it had changed its answers."""
    folder, _ = fresh.package("good", fresh.contract())
    golden = folder / "golden-predictions.parquet"
    table = pd.read_parquet(golden)
    table.loc[4, "score"] += 1e-6
    table.to_parquet(golden)
    fresh._packages["good"] = (folder, keep_folder(fresh.store, folder))
    fresh.serve("good")
    result = Evaluate().run(fresh.context("alike"))
    assert stopped_by(result) == {"champion reproduces its golden predictions"}
    assert "1 of 120 golden rows" in check(result, "champion reproduces its golden predictions").message


def test_a_champion_that_needs_other_columns_cannot_be_compared(fresh: Rig) -> None:
    fresh.serve("other-columns")
    result = Evaluate().run(fresh.context("good"))
    assert result.status is Status.INCONCLUSIVE
    assert (
        "the champion cannot predict this holdout: column `z` is missing" in check(result, "champion").message
    )
    assert fresh.build.state().holdouts == {}


def test_a_champion_that_answers_no_numbers_cannot_be_compared(fresh: Rig) -> None:
    fresh.serve("not-a-number")
    result = Evaluate().run(fresh.context("good"))
    assert result.status is Status.INCONCLUSIVE
    assert "of its answers are missing, NaN or infinite" in check(result, "champion").message
    json.dumps(result.as_record(), allow_nan=False)


def test_a_holdout_of_one_class_has_no_auc_and_cannot_tell(fresh: Rig) -> None:
    fresh.write(rows(4000, seed=1), rows(3000, seed=2).assign(label=1))
    result = Evaluate().run(fresh.context("good"))
    assert result.status is Status.INCONCLUSIVE
    assert "holdout_auc" not in result.metrics
    json.dumps(result.as_record(), allow_nan=False)


def test_a_candidate_that_needs_other_columns_is_the_users_to_correct(fresh: Rig) -> None:
    with pytest.raises(UserError, match="columns that the holdout does not have"):
        Evaluate().run(fresh.context("other-columns"))


def test_a_metric_that_the_answers_do_not_allow_is_said(fresh: Rig) -> None:
    holdout = rows(3000, seed=2)
    holdout.loc[:9, "label"] = 2
    fresh.write(rows(4000, seed=1), holdout)
    with pytest.raises(UserError, match="auc cannot be computed"):
        Evaluate().run(fresh.context("good"))


def test_rows_without_truth_are_the_users_to_leave_out(fresh: Rig) -> None:
    holdout = rows(3000, seed=2).astype({"label": "Int64"})
    holdout.loc[:2, "label"] = None
    fresh.write(rows(4000, seed=1), holdout)
    with pytest.raises(UserError, match="3 holdout rows have no `label`"):
        Evaluate().run(fresh.context("good"))


def test_inputs_name_what_the_stage_reads(rig: Rig) -> None:
    base = Evaluate().inputs(rig.context("alike"))
    assert base == Evaluate().inputs(rig.context("alike"))
    assert base["champion"] == rig.package("good", rig.contract())[1]
    changed = Evaluate().inputs(rig.context("alike", rig.contract(metric={"name": "auc", "margin": 0.03})))
    assert {name for name in base if base[name] != changed[name]} == {"contract"}
    assert Evaluate().inputs(rig.context("weak"))["package"] != base["package"]
    result = StageResult(stage="evaluate", status=Status.PASSED, summary="")
    assert isinstance(Evaluate().validity(rig.context("alike"), result), Forever)
    assert Evaluate.reads == ("validate", "train", "package")


def test_the_holdout_of_the_rig_is_not_degenerate() -> None:
    """A test of the fixture: both classes, all colours, missing values; else the tests above mean nothing."""
    frame = rows(3000, seed=2)
    assert 0.3 < frame["label"].mean() < 0.7
    assert set(frame["colour"].dropna()) == {"red", "green", "blue"}
    assert 0.02 < frame["colour"].isna().mean() < 0.08
    assert np.isfinite(frame[["x", "y"]]).all().all()
