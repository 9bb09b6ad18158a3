"""`mlops init` writes five lines from what the repo tells, asks for what it does not, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mlops.contract.loading import load_contract
from mlops.contract.starting import JENKINSFILE_TEXT, start
from mlops.errors import UserError


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "Late_Flights"
    folder.mkdir()
    (folder / "train.py").write_text("print()")
    return folder


def data(repo: Path, name: str = "train.csv", **columns: list[object]) -> None:
    path = repo / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(columns or {"x": [1.5, 2.5, None], "colour": ["a", "b", "a"], "label": [0, 1, 1]})
    frame.to_csv(path, index=False) if name.endswith(".csv") else frame.to_parquet(path, index=False)


def asked(repo: Path, **given: str) -> str:
    with pytest.raises(UserError) as caught:
        start(repo, **given)
    assert not (repo / "mlops.yaml").exists()
    return f"{caught.value.expected}\n{caught.value.remedy}"


def test_a_telling_repo_needs_no_argument(repo: Path) -> None:
    data(repo, "data/train.parquet")
    started = start(repo)
    assert (repo / "mlops.yaml").read_text() == (
        "model: late-flights\ndata: data/train.parquet\ntarget: label\ntrain: python train.py\nmetric: auc\n"
    )
    assert (repo / "Jenkinsfile").read_text() == JENKINSFILE_TEXT
    assert started.contract == load_contract(repo)
    assert started.written == (repo / "mlops.yaml", repo / "Jenkinsfile")


def test_what_is_given_wins(repo: Path) -> None:
    data(repo, "a.csv")
    data(repo, "train.csv")
    started = start(repo, data="a.csv", target="colour", train="make train", metric="accuracy", model="mine")
    contract = started.contract
    assert (contract.model, contract.data.train, contract.target) == ("mine", "a.csv", "colour")
    assert (contract.train.command, contract.metric.name) == ("make train", "accuracy")
    assert "# given" in started.text


def test_the_columns_are_shown_as_table_and_as_a_schema_that_is_not_written(repo: Path) -> None:
    data(repo)
    started = start(repo)
    assert "33.3%" in started.text
    assert "a, b" in started.text
    assert "'colour': pa.Column(str, pa.Check.isin(['a', 'b']))" in started.schema_code
    assert "'x': pa.Column(float, pa.Check.in_range(1.5, 2.5), nullable=True)" in started.schema_code
    assert not (repo / "schema.py").exists()


def test_the_inferred_schema_accepts_the_data_it_was_inferred_from(repo: Path) -> None:
    data(
        repo,
        "train.parquet",
        x=[1.5, float("inf"), None],
        whole=[1, 2, None],
        when=[pd.Timestamp("2024-01-01"), None, pd.Timestamp("2024-02-01")],
        flag=[True, False, True],
        label=[0, 1, 1],
        nothing=[None, None, None],
    )
    scope: dict[str, object] = {}
    exec(compile(start(repo).schema_code, "schema.py", "exec"), scope)
    schema = scope["schema"]
    rows = pd.read_parquet(repo / "train.parquet")
    assert len(schema.validate(rows)) == 3  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="in_range"):
        schema.validate(rows.assign(x=-1.0))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("label", "metric"),
    [
        ([0, 1] * 20, "auc"),
        ([0.0, 1.0] * 20, "auc"),
        (["a", "b", "c", "d"] * 10, "accuracy"),
        ([1, 2, 3, 4] * 10, "accuracy"),
        (list(range(40)), "rmse"),
        ([n / 3 for n in range(40)], "rmse"),
        ([f"t{n}" for n in range(40)], "accuracy"),
    ],
)
def test_the_metric_follows_from_the_target(repo: Path, label: list[object], metric: str) -> None:
    data(repo, x=list(range(40)), label=label)
    assert start(repo).contract.metric.name == metric


def test_a_holdout_is_recognised_by_its_name(repo: Path) -> None:
    data(repo, "data/train.csv")
    data(repo, "data/test.csv")
    started = start(repo)
    assert started.contract.data.holdout == "data/test.csv"
    assert len((repo / "mlops.yaml").read_text().splitlines()) == 5


def test_everything_that_is_missing_is_asked_for_at_once(repo: Path) -> None:
    (repo / "train.py").unlink()
    data(repo, x=[1], z=[2])
    text = asked(repo)
    assert "train: the command" in text
    assert "target: the column to predict, one of x, z" in text
    assert "--train 'python train.py' --target COLUMN" in text
    assert "--metric auc" in asked(repo, metric="auc"), "the command that is proposed keeps what was given"


def test_data_that_cannot_be_chosen_is_asked_for(repo: Path) -> None:
    assert "no Parquet or CSV file found" in asked(repo)
    data(repo, "a.csv")
    data(repo, "b.csv")
    assert "a.csv, b.csv found" in asked(repo)


def test_files_of_others_are_not_taken_for_data(repo: Path) -> None:
    data(repo, "train.csv")
    for name in (".venv/x.csv", "mlruns/y.csv", "tests/z.csv", "a/b/c/d/deep.csv"):
        data(repo, name)
    assert start(repo).contract.data.train == "train.csv"


def test_an_mlproject_with_a_main_entry_point_trains(repo: Path) -> None:
    data(repo)
    (repo / "MLproject").write_text("name: x\nentry_points:\n  main:\n    command: python train.py\n")
    assert start(repo).contract.train.entry_point == "main"


def test_nothing_is_overwritten(repo: Path) -> None:
    data(repo)
    (repo / "Jenkinsfile").write_text("mine")
    assert start(repo).written == (repo / "mlops.yaml",)
    assert (repo / "Jenkinsfile").read_text() == "mine"
    with pytest.raises(UserError, match="has a contract already"):
        start(repo)


def test_a_wrong_argument_leaves_no_file_behind(repo: Path) -> None:
    data(repo)
    for wrong in ({"metric": "acc"}, {"model": "Not Good"}, {"target": "labels"}, {"data": "absent.csv"}):
        with pytest.raises(UserError):
            start(repo, **wrong)
        assert not (repo / "mlops.yaml").exists()
    with pytest.raises(UserError, match="no folder"):
        start(repo / "absent")


def test_odd_names_are_quoted_and_read_back(repo: Path) -> None:
    data(repo, "my data, [x].csv", **{"no": [1.5, 2.0, 2.5], "a: b #c": [1, 2, 3]})
    started = start(repo, target="no")
    assert started.contract.target == "no"
    assert started.contract.data.train == "my data, [x].csv"
    (repo / "mlops.yaml").unlink()
    assert start(repo, target="a: b #c").contract.target == "a: b #c"
