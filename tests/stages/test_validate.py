"""Every gate of `validate` stops what it is for, and lets an honest repo pass."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from mlops.contract.loading import load_contract
from mlops.environments.port import Command, Completed, Installed, Locked
from mlops.environments.uv import UvEnvironments
from mlops.errors import InfrastructureError, UserError
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.stage import Context, Forever
from mlops.processes import run_to_end
from mlops.profile import Profile
from mlops.stages import giveaways, likeness
from mlops.stages.rows import split_of
from mlops.stages.validate import Validate


class OwnPython:
    """Environments that run commands in the Python of these tests, which has pandera and the model server."""

    def __init__(self, locked: Locked | None = None, python: Path = Path(sys.executable)) -> None:
        self.locked = locked or Locked("3.11", "pandera==0.35.0\n", "requirements.lock")
        self.python = python

    def resolve(self, workspace: Path, python: str | None, lock: str | None) -> Locked:
        return self.locked

    def install(self, locked: Locked) -> Installed:
        return Installed(self.python, locked)

    def run(
        self, installed: Installed, command: Command, line: Callable[[str], None] | None = None
    ) -> Completed:
        ended = run_to_end(
            command.arguments,
            folder=command.folder,
            log=command.log,
            timeout_seconds=command.timeout_seconds,
            variables={**os.environ, **command.variables},
            line=line,
        )
        return Completed(ended.code, ended.tail, ended.seconds, ended.timed_out)


class Repo:
    """A small model repo: change its rows or its contract, then look at what `validate` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repo"
        self.folder.mkdir()
        self.output = folder / "output"
        self.environments: Any = OwnPython()
        self.said: list[str] = []
        random = np.random.default_rng(7)
        n = 3000
        x = random.normal(size=n)
        rows = pd.DataFrame(
            {
                "id": np.arange(n),
                "when": pd.date_range("2024-01-01", periods=n, freq="h"),
                "x": x,
                "hour": random.integers(0, 24, n),
                "carrier": random.choice(["AA", "UA", "DL", None], n),
                "late": (random.random(n) < 1 / (1 + np.exp(-x))).astype(int),
            }
        )
        self.train, self.holdout = rows[:2400].copy(), rows[2400:].reset_index(drop=True)
        self.data: dict[str, Any] = {
            "train": "train.parquet",
            "holdout": "holdout.parquet",
            "id": "id",
            "time": "when",
        }
        self.contract: dict[str, Any] = {"model": "m", "target": "late", "train": "x", "metric": "auc"}

    def context(self) -> Context:
        if self.train is not None:
            self.train.to_parquet(self.folder / "train.parquet", index=False)
            self.holdout.to_parquet(self.folder / "holdout.parquet", index=False)
        (self.folder / "mlops.yaml").write_text(json.dumps({**self.contract, "data": self.data}))
        self.output.mkdir(exist_ok=True)
        return Context(
            contract=load_contract(self.folder),
            profile=Profile(home=self.folder),
            workspace=self.folder,
            output=self.output,
            **cast(
                dict[str, Any],
                dict.fromkeys(("store", "build_ledger", "environment_ledger", "tracker", "engine")),
            ),
            environments=self.environments,
            upstream={},
            folders={},
            say=lambda text, share: self.said.append(text),
        )

    def run(self) -> StageResult:
        result = Validate().run(self.context())
        json.dumps(result.as_record(), allow_nan=False)
        return result

    def check(self, name: str) -> Check:
        return {check.name: check for check in self.run().checks}[name]

    def key(self) -> Mapping[str, str]:
        return Validate().inputs(self.context())


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def stops(check: Check, *words: str, answer: Answer = Answer.FAILED) -> None:
    assert check.answer is answer, check.message
    assert check.gate
    assert check.remedy
    for word in words:
        assert word in check.message


class TestAnHonestRepo:
    def test_passes_every_check(self, repo: Repo) -> None:
        result = repo.run()
        assert result.status is Status.PASSED, result.summary
        assert {check.name for check in result.checks if check.answer is Answer.PASSED} == {
            *("contract", "columns", "rows", "target", "duplicates", "leakage"),
            *("id", "time order", "giveaways", "missing values"),
        }
        assert repo.said

    def test_leaves_facts_for_later_stages(self, repo: Repo) -> None:
        facts = repo.run().facts
        assert facts["rows"] == {"train": 2400, "holdout": 600}
        assert facts["features"] == ["when", "x", "hour", "carrier"]
        assert (facts["task"], facts["classes"]) == ("classification", [0, 1])
        assert facts["train"] == "train.parquet"
        assert {"name": "x", "type": "double"} in facts["columns"]

    def test_later_stages_find_the_rows_wherever_the_result_lies(self, repo: Repo, tmp_path: Path) -> None:
        def found(result: StageResult, folder: Path) -> Any:
            context = repo.context()
            from dataclasses import replace

            return split_of(replace(context, upstream={"validate": result}, folders={"validate": folder}))

        assert found(repo.run(), tmp_path).train == repo.folder / "train.parquet"
        repo.data.pop("holdout")
        result = repo.run()
        assert dict(result.artifacts) == {"train": "train.parquet", "holdout": "holdout.parquet"}
        assert found(result, tmp_path / "elsewhere").holdout == tmp_path / "elsewhere" / "holdout.parquet"
        assert found(result, tmp_path).train_digest == result.facts["train_digest"]

    @pytest.mark.parametrize("data", [{"time": "when"}, {}, {"entity": "hour"}])
    def test_passes_with_a_holdout_that_is_split_off(self, repo: Repo, data: dict[str, str]) -> None:
        repo.data = {"train": "train.parquet", "id": "id", **data}
        repo.contract["metric"] = {"name": "auc", "minimum_rows": 30}
        result = repo.run()
        assert result.status is Status.PASSED, result.summary

    def test_shows_types_and_ranges_when_there_is_no_schema(self, repo: Repo) -> None:
        check = repo.check("schema")
        assert (check.answer, check.gate) == (Answer.SKIPPED, False)
        assert "hour (whole number, 0 to 23)" in check.message
        assert check.evidence["columns"][4]["values"] == ["AA", "DL", "UA"]

    def test_keeps_its_result_as_long_as_the_inputs_are_equal(self, repo: Repo) -> None:
        assert isinstance(Validate().validity(repo.context(), repo.run()), Forever)


class TestInputs:
    def test_what_is_read_makes_the_key(self, repo: Repo) -> None:
        before = repo.key()
        assert before == repo.key()
        repo.contract["owner"] = "somebody"
        assert before == repo.key(), "what is not read does not count"
        repo.holdout.loc[0, "x"] = 99
        after = repo.key()
        assert {name for name in before if before[name] != after[name]} == {"holdout"}
        repo.data["ignore"] = ["hour"]
        assert repo.key()["contract"] != before["contract"]

    def test_the_schema_counts_with_what_it_imports(self, repo: Repo) -> None:
        repo.data["schema"] = "schema.py:schema"
        (repo.folder / "schema.py").write_text("import limits\nimport pandera\n")
        (repo.folder / "limits.py").write_text("MOST = 24\n")
        before = repo.key()
        (repo.folder / "limits.py").write_text("MOST = 25\n")
        assert repo.key()["schema"] != before["schema"]
        (repo.folder / "other.py").write_text("")
        (repo.folder / "limits.py").write_text("MOST = 24\n")
        assert repo.key() == before
        repo.environments = OwnPython(Locked("3.12", "", "x"))
        assert repo.key()["lock"] != before["lock"]
        (repo.folder / "schema.py").write_text("def broken(:\n")
        assert repo.key()["schema"]

    def test_absent_files_are_an_error_of_the_user(self, repo: Repo) -> None:
        repo.data["holdout"] = "absent.parquet"
        with pytest.raises(UserError, match="no such file"):
            repo.key()
        repo.data["holdout"] = "holdout.parquet"
        repo.data["schema"] = "absent.py:schema"
        with pytest.raises(UserError, match=r"no such file: absent\.py"):
            repo.key()


class TestColumns:
    @pytest.mark.parametrize(
        ("change", "role"),
        [
            ({"target": "lat"}, "target"),
            ({"data": {"id": "idd"}}, "data.id"),
            ({"data": {"time": "whenn"}}, "data.time"),
            ({"data": {"entity": "hours"}}, "data.entity"),
            ({"data": {"ignore": ["hourr"]}}, "data.ignore"),
            ({"data": {"confirmed": ["xx"]}}, "data.confirmed"),
            ({"metric": {"name": "auc", "slices": [{"column": "carriers"}]}}, "metric.slices"),
        ],
    )
    def test_a_name_in_the_contract_that_the_data_lacks(
        self, repo: Repo, change: dict[str, Any], role: str
    ) -> None:
        repo.data |= change.pop("data", {})
        repo.contract |= change
        with pytest.raises(UserError) as caught:
            repo.run()
        assert f"which mlops.yaml names as `{role}`" in caught.value.expected
        assert "did you mean" in caught.value.remedy

    def test_files_that_differ_stop(self, repo: Repo) -> None:
        repo.holdout = repo.holdout.drop(columns="x").assign(z=1, hour="noon")
        stops(
            repo.check("columns"),
            "holdout lacks `x`",
            "train lacks `z`",
            "`hour` holds whole number in train and text in holdout",
        )
        assert repo.check("leakage").answer is Answer.SKIPPED
        assert repo.run().status is Status.FAILED

    def test_whole_numbers_and_numbers_are_the_same_column(self, repo: Repo) -> None:
        repo.holdout = repo.holdout.astype({"hour": float})
        assert repo.run().status is Status.PASSED

    def test_a_feature_that_no_request_can_carry_stops(self, repo: Repo) -> None:
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["nested"] = [[1, 2]] * len(frame)
        stops(repo.check("columns"), "the feature `nested` is of type list")
        repo.data["ignore"] = ["nested"]
        assert repo.check("columns").answer is Answer.PASSED

    def test_no_feature_at_all_stops(self, repo: Repo) -> None:
        repo.data["ignore"] = ["x", "hour", "carrier", "when"]
        stops(repo.check("columns"), "there is no feature")

    def test_a_feature_without_values_is_told(self, repo: Repo) -> None:
        repo.holdout = repo.holdout.assign(carrier=pd.Series([None] * 600, dtype="str"))
        check = repo.check("missing values")
        assert (check.answer, check.gate) == (Answer.FAILED, False)
        assert "`carrier` in holdout" in check.message
        assert repo.run().status is Status.PASSED


class TestTarget:
    def test_one_class_stops(self, repo: Repo) -> None:
        repo.train["late"] = 1
        stops(repo.check("target"), "has one class, 1, in all 2400 train rows")
        assert repo.check("giveaways").answer is Answer.SKIPPED

    def test_one_class_in_the_holdout_stops(self, repo: Repo) -> None:
        repo.holdout["late"] = 0
        stops(repo.check("target"), "in all 600 holdout rows")

    def test_missing_targets_stop(self, repo: Repo) -> None:
        repo.train["late"] = repo.train["late"].astype(float)
        repo.train.loc[:23, "late"] = np.nan
        stops(repo.check("target"), "missing in 24 of 2400 train rows (1.00%)")

    def test_a_class_that_training_does_not_know_stops(self, repo: Repo) -> None:
        repo.holdout.loc[:2, "late"] = 7
        stops(repo.check("target"), "classes unseen in training: 7 (3 holdout rows)")

    def test_a_number_is_no_class(self, repo: Repo) -> None:
        repo.contract["target"] = "x"
        stops(repo.check("target"), "a number, not a class")

    def test_classes_may_be_text_or_switches(self, repo: Repo) -> None:
        for name in ("train", "holdout"):
            setattr(
                repo,
                name,
                getattr(repo, name).assign(late=lambda f: f["late"].map({0: "on time", 1: "late"})),
            )
        result = repo.run()
        assert (result.status, result.facts["classes"]) == (Status.PASSED, ["late", "on time"])
        for name in ("train", "holdout"):
            setattr(repo, name, getattr(repo, name).assign(late=lambda f: f["late"] == "late"))
        assert repo.run().facts["classes"] == [False, True]


class TestRegression:
    @pytest.fixture
    def number(self, repo: Repo) -> Repo:
        random = np.random.default_rng(1)
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["late"] = frame["x"] + random.normal(size=len(frame))
        repo.contract["metric"] = "rmse"
        return repo

    def test_an_honest_one_passes(self, number: Repo) -> None:
        result = number.run()
        assert (result.status, result.facts["task"]) == (Status.PASSED, "regression")
        assert result.facts["classes"] is None

    def test_a_constant_target_stops(self, number: Repo) -> None:
        number.train["late"] = 3.0
        stops(number.check("target"), "the one value 3.0 in all train rows")

    def test_an_infinite_target_stops(self, number: Repo) -> None:
        number.train.loc[5, "late"] = np.inf
        stops(number.check("target"), "infinite in 1 of 2400 train rows")

    def test_text_is_no_number(self, number: Repo) -> None:
        for name in ("train", "holdout"):
            setattr(number, name, getattr(number, name).astype({"late": str}))
        stops(number.check("target"), "is no number in train")

    def test_the_target_under_another_name_is_suspicious(self, number: Repo) -> None:
        for name in ("train", "holdout"):
            frame = getattr(number, name)
            frame["minutes"] = frame["late"] * 60
        stops(number.check("giveaways"), "`minutes` alone predict", answer=Answer.INCONCLUSIVE)


class TestLeakage:
    def test_a_holdout_that_training_has_seen_stops(self, repo: Repo) -> None:
        repo.train = pd.concat([repo.train, repo.holdout], ignore_index=True)
        check = repo.check("leakage")
        stops(check, "600 of 600 holdout rows (100.00%)", "so about 100.00% leaked")
        assert check.evidence["holdout_rows"] == [0, 1, 2, 3, 4]

    def test_a_few_leaked_rows_stop_when_they_could_decide(self, repo: Repo) -> None:
        repo.train = pd.concat([repo.train, repo.holdout[:12]], ignore_index=True)
        check = repo.check("leakage")
        stops(check, "12 of 600")
        assert check.measured == pytest.approx(12 / 600)

    def test_a_handful_of_coincidences_does_not(self, repo: Repo) -> None:
        repo.train = pd.concat([repo.train, repo.holdout[:3]], ignore_index=True)
        assert repo.check("leakage").answer is Answer.PASSED

    @pytest.mark.parametrize("values", [4, 40, 400, 4000])
    def test_identical_rows_are_normal_where_there_are_few_values(self, repo: Repo, values: int) -> None:
        """24 hours and three carriers: an honest holdout repeats training rows all the time."""
        random = np.random.default_rng(values)
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["x"] = random.integers(0, values, len(frame))
        repo.data = {"train": "train.parquet", "holdout": "holdout.parquet", "ignore": ["id", "when", "hour"]}
        check = repo.check("leakage")
        assert check.answer is Answer.PASSED, check.message
        if values <= 40:
            assert check.evidence["share"] > 0.9

    def test_leaks_are_found_among_normal_coincidences(self, repo: Repo) -> None:
        random = np.random.default_rng(5)
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["x"] = random.integers(0, 4000, len(frame))
        repo.data = {"train": "train.parquet", "holdout": "holdout.parquet", "ignore": ["id", "when", "hour"]}
        repo.train = pd.concat([repo.train, repo.holdout[:300]], ignore_index=True)
        stops(repo.check("leakage"))

    def test_the_estimate_is_right_on_average_and_honest_data_rarely_stopped(self) -> None:
        random = np.random.default_rng(11)
        estimates, alarms = [], 0
        for _ in range(200):
            rows = random.integers(0, 3000, 2500).astype(np.uint64)
            honest = likeness.overlap(rows[:2000], rows[2000:])
            alarms += honest.deviation > 3
            copied = np.concatenate([rows[:2000], rows[2000:2100]])
            estimates.append(likeness.overlap(copied, rows[2000:]).leaked)
        assert alarms <= 4
        assert 0.08 < np.mean(estimates) < 0.25, (
            "a fifth was copied; half of it had a twin in training anyway"
        )

    def test_an_id_on_both_sides_stops(self, repo: Repo) -> None:
        repo.holdout.loc[:4, "id"] = repo.train["id"].iloc[:5].to_numpy()
        check = repo.check("id")
        stops(check, "5 holdout rows have the `id` of a training row")
        assert check.evidence["holdout_rows"] == [0, 1, 2, 3, 4]

    def test_an_id_that_repeats_or_is_missing_stops(self, repo: Repo) -> None:
        repo.train["id"] = repo.train["id"].astype(float)
        repo.train.loc[0, "id"] = 5.0
        repo.train.loc[1, "id"] = np.nan
        stops(repo.check("id"), "`id` repeats in 1 train rows", "`id` is missing in 1 train rows")

    def test_duplicates_within_training_are_told(self, repo: Repo) -> None:
        repo.train = pd.concat(
            [repo.train, repo.train[:24].assign(id=lambda f: f["id"] + 10_000)], ignore_index=True
        )
        check = repo.check("duplicates")
        assert not check.gate
        assert "24 of 2424 training rows (0.99%) repeat an earlier row" in check.message
        assert repo.run().status is Status.PASSED

    def test_rows_are_alike_whatever_type_their_numbers_have(self) -> None:
        left = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.0, np.nan]})
        right = pd.DataFrame({"a": [2.0, 1.0], "b": [None, "x"], "c": [np.nan, -0.0]})
        one, two = likeness.keys(left, right, ["a", "b", "c"])
        assert one.tolist() == two.tolist()[::-1]


class TestOrder:
    def test_a_holdout_that_begins_too_early_stops(self, repo: Repo) -> None:
        repo.holdout.loc[:9, "when"] = pd.Timestamp("2024-01-02")
        stops(repo.check("time order"), "10 of 600 holdout rows lie before the last training row")

    def test_the_same_last_moment_on_both_sides_is_allowed(self, repo: Repo) -> None:
        repo.holdout.loc[0, "when"] = repo.train["when"].max()
        assert repo.check("time order").answer is Answer.PASSED


class TestRows:
    def test_too_few_holdout_rows_decide_nothing(self, repo: Repo) -> None:
        repo.holdout = repo.holdout[:199]
        stops(repo.check("rows"), "fewer than 200 holdout rows decide nothing", answer=Answer.INCONCLUSIVE)
        assert repo.run().status is Status.INCONCLUSIVE
        repo.contract["metric"] = {"name": "auc", "minimum_rows": 199}
        assert repo.check("rows").answer is Answer.PASSED


class TestGiveaways:
    def disguise(self, repo: Repo, make: Callable[[pd.DataFrame], Any]) -> None:
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["arrival"] = make(frame)

    @pytest.mark.parametrize(
        "make",
        [
            lambda frame: frame["late"].map({0: "on time", 1: "late"}),
            lambda frame: -frame["late"],
            lambda frame: frame["late"] == 1,
            lambda frame: np.where(frame["late"] == 1, np.nan, frame["x"]),
            lambda frame: frame["late"] * 10 + np.random.default_rng(3).random(len(frame)),
            lambda frame: (
                (frame["late"] + 1) * np.random.default_rng(3).choice([-10, 10], len(frame))
            ).astype(float),
        ],
        ids=["text", "negated", "switch", "missing", "noisy", "not monotonic"],
    )
    def test_the_answer_in_disguise_is_suspicious(
        self, repo: Repo, make: Callable[[pd.DataFrame], Any]
    ) -> None:
        self.disguise(repo, make)
        stops(repo.check("giveaways"), "`arrival` alone predict", answer=Answer.INCONCLUSIVE)
        assert repo.run().status is Status.INCONCLUSIVE

    def test_a_person_can_confirm_or_ignore_it(self, repo: Repo) -> None:
        self.disguise(repo, lambda frame: -frame["late"])
        repo.data["confirmed"] = ["arrival"]
        assert repo.run().status is Status.PASSED
        repo.data["confirmed"], repo.data["ignore"] = [], ["arrival"]
        assert repo.run().status is Status.PASSED

    def test_a_strong_but_imperfect_feature_passes(self, repo: Repo) -> None:
        random = np.random.default_rng(9)
        self.disguise(
            repo, lambda frame: np.where(random.random(len(frame)) < 0.02, 1 - frame["late"], frame["late"])
        )
        assert repo.check("giveaways").answer is Answer.PASSED

    def test_a_name_for_every_row_is_no_giveaway(self, repo: Repo) -> None:
        self.disguise(repo, lambda frame: frame["id"].astype(str))
        assert repo.check("giveaways").answer is Answer.PASSED

    def test_several_classes_are_measured_one_against_the_rest(self, repo: Repo) -> None:
        for name in ("train", "holdout"):
            frame = getattr(repo, name)
            frame["late"] = frame["hour"] % 4
        repo.contract["metric"] = "accuracy"
        stops(repo.check("giveaways"), "`hour` alone predict", answer=Answer.INCONCLUSIVE)

    def test_classes_too_rare_to_measure_are_left_out(self) -> None:
        frame = pd.DataFrame({"x": range(100), "y": [1] * 3 + [0] * 97})
        assert giveaways.strengths(frame, frame, ["x"], "y", regression=False) == {}

    def test_features_without_a_finite_value_or_any_variance_say_nothing(self) -> None:
        frame = pd.DataFrame({"nothing": np.nan, "same": 1.0, "y": np.arange(50.0)})
        found = giveaways.strengths(frame, frame, ["nothing", "same"], "y", regression=True)
        assert found == {"nothing": 0.0, "same": 0.0}


SCHEMA = """
import pandera.pandas as pa
from limits import MOST

schema = pa.DataFrameSchema({
    "hour": pa.Column(int, pa.Check.in_range(0, MOST)),
    "carrier": pa.Column(str, pa.Check.isin(["AA", "UA", "DL"]), nullable=True),
}, coerce=True)
"""


class TestSchema:
    @pytest.fixture
    def described(self, repo: Repo) -> Repo:
        (repo.folder / "schema.py").write_text(SCHEMA)
        (repo.folder / "limits.py").write_text("MOST = 23\n")
        repo.data["schema"] = "schema.py:schema"
        return repo

    def test_data_that_satisfies_it_passes(self, described: Repo) -> None:
        check = described.check("schema")
        assert (check.answer, check.message) == (Answer.PASSED, "3000 rows satisfy schema.py:schema")

    def test_violations_stop_with_column_check_counts_and_examples(self, described: Repo) -> None:
        described.train.loc[[3, 5, 7, 9, 11, 13], "hour"] = 99
        described.holdout.loc[2, "carrier"] = "XX"
        check = described.check("schema")
        stops(check, "2 checks of schema.py:schema fail")
        assert (
            "`hour`: in_range(0, 23) in 6 train rows, rows 3, 5, 7, 9, 11 (99, 99, 99, 99, 99)"
            in check.message
        )
        assert "`carrier`: isin(" in check.message
        assert "in 1 holdout rows, rows 2 ('XX')" in check.message
        assert check.measured == 7

    @pytest.mark.slow
    def test_the_models_own_locked_python_decides(self, described: Repo, tmp_path: Path) -> None:
        """The example's lock has another pandera than these tests: the schema must run there, and still stop bad rows."""
        described.environments = UvEnvironments(tmp_path / "home")
        shutil.copy(Path(__file__).parents[2] / "examples/flights/requirements.lock", described.folder)
        assert described.check("schema").answer is Answer.PASSED
        described.train.loc[3, "hour"] = 99
        stops(described.check("schema"), "`hour`: in_range(0, 23) in 1 train rows, rows 3 (99)")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("schema = 5", "no pandera schema named `schema`"),
            ("import nowhere_at_all", "nowhere_at_all"),
            ("def broken(:", "SyntaxError"),
        ],
    )
    def test_a_schema_that_cannot_be_used_is_an_error_of_the_user(
        self, described: Repo, change: str, expected: str
    ) -> None:
        (described.folder / "schema.py").write_text(change)
        with pytest.raises(UserError, match=r"schema\.py:schema cannot be used") as caught:
            described.run()
        assert expected in caught.value.found

    def test_an_environment_without_pandera_says_what_to_add(self, described: Repo) -> None:
        (described.folder / "schema.py").write_text(
            "raise ModuleNotFoundError(\"No module named 'pandera'\")"
        )
        with pytest.raises(UserError) as caught:
            described.run()
        assert caught.value.remedy == "add pandera to the repo's requirements"

    def test_an_absent_schema_file_is_an_error_of_the_user(self, described: Repo) -> None:
        (described.folder / "schema.py").unlink()
        with pytest.raises(UserError, match="no such file"):
            described.run()

    def test_a_check_that_is_killed_is_worth_a_retry(self, described: Repo) -> None:
        (described.folder / "schema.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
        with pytest.raises(InfrastructureError, match="was stopped") as caught:
            described.run()
        assert caught.value.found == "signal 9"
