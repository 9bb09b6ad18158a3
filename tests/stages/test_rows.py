"""Data files are read whole or explained; the holdout is chosen the same way every time."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.contract.model import Contract
from mlops.errors import UserError
from mlops.stages.rows import Split, features_of, read_rows, split
from mlops.tables.columns import Kind, describe, kind_of
from mlops.tables.files import read_table


def contract(data: dict[str, Any] | str, target: str = "y") -> Contract:
    return Contract.model_validate(
        {"model": "m", "data": data, "target": target, "train": "x", "metric": "auc"}
    )


def refused(path: Path, columns: list[str] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        read_rows(path, columns)
    assert caught.value.where == str(path)
    assert caught.value.remedy
    return caught.value


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class TestReading:
    def test_a_csv_reads_as_pandas_would_read_it(self, tmp_path: Path) -> None:
        text = 'a,b,c,d,e\n1,x,2024-01-01,True,12:30\n,"y,\nz",2024-01-02,False,13:00\n3,NA,,True,\n'
        path = file(tmp_path, "rows.csv", text)
        rows = read_rows(path)
        pd.testing.assert_frame_equal(rows.frame, pd.read_csv(path), check_dtype=False)
        assert rows.frame["c"].tolist()[:2] == ["2024-01-01", "2024-01-02"], "dates stay as they are written"

    def test_parquet_and_compressed_csv_hold_the_same_rows(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]}, index=[7, 9])
        frame.to_parquet(tmp_path / "rows.parquet")
        file(tmp_path, "rows.csv.gz", gzip.compress(b"a,b\n1.5,x\n,y\n"))
        expected = frame.reset_index(drop=True)
        for name in ("rows.parquet", "rows.csv.gz"):
            pd.testing.assert_frame_equal(read_rows(tmp_path / name).frame, expected, check_dtype=False)

    def test_a_broken_row_is_named_by_line_and_counted(self, tmp_path: Path) -> None:
        lines = ["a,b", "1,2", '"x\ny",2', "1", "1,2,3", *["1"] * 8]
        error = refused(file(tmp_path, "rows.csv", "\n".join(lines) + "\n"))
        assert error.headline == "rows.csv: 10 of 12 rows are broken"
        assert error.expected == "2 values in each row, as in the first line"
        assert error.found.startswith("line 5 has 1, line 6 has 3, line 7 has 1")
        assert error.found.endswith("and 5 more")

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("rows.csv", "", "the file is empty"),
            ("rows.csv", "a,b\n", "the file has no rows"),
            ("rows.csv", "a,a\n1,2\n", "the column `a` is there twice"),
            ("rows.csv", ",a\n0,2\n", "column 1 has no name"),
            ("rows.csv", "a;b\n1;2\n", "one column only"),
            ("rows.csv", b"a,b\n1,\xff\n1\n", "not UTF-8 text"),
            ("rows.csv", b"a,b\n1,caf\xe9\n", "not UTF-8 text"),
            ("rows.csv", b'a,b\n"1,2\n', "broken"),
            ("rows.csv.gz", b"not compressed", "not a readable CSV file"),
            ("rows.parquet", b"not parquet", "not a readable Parquet file"),
            ("rows.xlsx", b"x", "not a kind of file that is read"),
            ("rows", b"x", "not a kind of file that is read"),
        ],
    )
    def test_a_file_that_cannot_be_used_is_explained(
        self, tmp_path: Path, name: str, content: str | bytes, expected: str
    ) -> None:
        assert expected in refused(file(tmp_path, name, content)).headline

    def test_what_is_absent_is_explained(self, tmp_path: Path) -> None:
        assert "no such file" in refused(tmp_path / "rows.csv").headline
        (tmp_path / "folder.csv").mkdir()
        assert "a folder, not a file" in refused(tmp_path / "folder.csv").headline
        error = refused(file(tmp_path, "rows.csv", "colour,b\n1,2\n"), ["color"])
        assert error.headline == "rows.csv has no column `color`"
        assert "did you mean `colour`?" in error.remedy
        assert "did you mean" not in refused(tmp_path / "rows.csv", ["zzz"]).remedy
        pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "none.parquet")
        assert "no rows" in refused(tmp_path / "none.parquet").headline

    def test_a_column_that_is_asked_for_comes_alone(self, tmp_path: Path) -> None:
        assert list(read_rows(file(tmp_path, "rows.csv", "a,b,c\n1,2,3\n"), ["c", "a"]).frame) == ["c", "a"]


class TestColumns:
    def test_each_type_has_a_kind(self) -> None:
        kinds = {
            pa.int8(): Kind.WHOLE,
            pa.float32(): Kind.NUMBER,
            pa.decimal128(5, 2): Kind.NUMBER,
            pa.bool_(): Kind.SWITCH,
            pa.string(): Kind.TEXT,
            pa.dictionary(pa.int32(), pa.string()): Kind.TEXT,
            pa.timestamp("ns", "UTC"): Kind.TIME,
            pa.null(): Kind.NOTHING,
            pa.list_(pa.int8()): Kind.OTHER,
        }
        assert {type_: kind_of(type_) for type_ in kinds} == kinds

    def test_a_description_counts_nan_as_missing_and_is_json(self) -> None:
        table = pa.table(
            {
                "x": pa.array([1.0, float("nan"), None, float("inf")]),
                "many": [str(n) for n in range(3)] + [None],
                "big": pa.array([1, 2, 3, 4]).cast(pa.decimal128(20, 1)),
                "list": [[1], [2], None, []],
            }
        )
        x, many, big, nested = describe(table)
        assert (x.missing, x.missing_share, x.lowest, x.highest) == (2, 0.5, 1.0, "inf")
        assert x.summary == "1 to inf"
        assert many.values == ("0", "1", "2")
        assert big.as_record()["lowest"] == "1.0"
        assert (nested.kind, nested.summary) == (Kind.OTHER, "")
        (wide,) = describe(pa.table({"w": [str(n) for n in range(100)]}))
        assert wide.summary == "100 values"


@pytest.fixture
def rows() -> pd.DataFrame:
    random = np.random.default_rng(1)
    n = 2000
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "plane": random.choice([f"N{k}" for k in range(200)], n),
            "when": pd.date_range("2024-01-01", periods=n, freq="h")[random.permutation(n)],
            "x": random.normal(size=n),
            "y": random.integers(0, 2, n),
        }
    )


def parts(found: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_rows(found.train).frame, read_rows(found.holdout).frame


class TestSplitting:
    def test_a_parquet_holdout_of_the_repo_is_used_as_it_is(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        rows[:1500].to_parquet(tmp_path / "a.parquet", index=False)
        rows[1500:].to_parquet(tmp_path / "b.parquet", index=False)
        found = split(contract({"train": "a.parquet", "holdout": "b.parquet"}), tmp_path, tmp_path / "out")
        assert (found.train, found.holdout) == (tmp_path / "a.parquet", tmp_path / "b.parquet")
        assert not list((tmp_path / "out").iterdir())

    def test_a_csv_holdout_becomes_parquet_with_the_types_of_the_training_rows(self, tmp_path: Path) -> None:
        file(tmp_path, "a.csv", "x,z,w,y\n1.5,q,1,0\n2.5,,1,1\n")
        file(tmp_path, "b.csv", "x,z,v,y\n1,,1,0\n2,,1,1\n")
        found = split(contract({"train": "a.csv", "holdout": "b.csv"}), tmp_path, tmp_path / "out")
        train, holdout = read_table(found.train).schema, read_table(found.holdout).schema
        assert (found.train.name, found.holdout.name) == ("train.parquet", "holdout.parquet")
        assert holdout.field("x").type == train.field("x").type == pa.float64()
        assert holdout.field("z").type == pa.string()

    def test_without_a_holdout_the_last_rows_in_time_are_held_out(
        self, tmp_path: Path, rows: pd.DataFrame
    ) -> None:
        rows.to_parquet(tmp_path / "a.parquet", index=False)
        found = split(contract({"train": "a.parquet", "time": "when"}), tmp_path, tmp_path / "out")
        train, holdout = parts(found)
        assert train["when"].max() < holdout["when"].min()
        assert len(holdout) == 400
        assert found.rule == "the last 20 % by `when`"

    def test_time_may_be_text_or_a_number(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        rows.assign(when=rows["when"].dt.strftime("%Y-%m-%dT%H:%M")).to_csv(tmp_path / "a.csv", index=False)
        train, holdout = parts(
            split(contract({"train": "a.csv", "time": "when"}), tmp_path, tmp_path / "out")
        )
        assert train["when"].max() < holdout["when"].min()
        _, by_number = parts(split(contract({"train": "a.csv", "time": "id"}), tmp_path, tmp_path / "out2"))
        assert by_number["id"].min() == 1600

    def test_rows_of_one_time_are_never_parted(self, tmp_path: Path) -> None:
        pd.DataFrame({"t": [1] * 5 + [2] * 3 + [3] * 2, "y": [0, 1] * 5}).to_csv(
            tmp_path / "a.csv", index=False
        )
        _, holdout = parts(
            split(
                contract({"train": "a.csv", "time": "t", "holdout_fraction": 0.4}), tmp_path, tmp_path / "o"
            )
        )
        assert holdout["t"].tolist() == [2, 2, 2, 3, 3] or holdout["t"].tolist() == [3, 3]

    def test_a_row_without_a_time_is_named(self, tmp_path: Path) -> None:
        file(tmp_path, "a.csv", "t,y\n2024-01-01,0\n,1\nsoon,1\n")
        with pytest.raises(UserError) as caught:
            split(contract({"train": "a.csv", "time": "t"}), tmp_path, tmp_path / "out")
        assert caught.value.headline == "a.csv: 2 rows have no time in `t`"
        assert "row 3: 'soon'" in caught.value.found

    def test_else_rows_are_chosen_by_their_content(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        rows.to_parquet(tmp_path / "a.parquet", index=False)
        found = split(contract({"train": "a.parquet", "id": "id"}), tmp_path, tmp_path / "out")
        train, holdout = parts(found)
        assert 300 < len(holdout) < 500
        assert len(train) + len(holdout) == len(rows)
        assert found.rule == "20 % of the rows, chosen by hash"
        shuffled = pd.concat([rows.iloc[::-1], rows.assign(x=rows["x"] + 100)])
        shuffled.to_parquet(tmp_path / "a.parquet", index=False)
        _, grown = parts(split(contract({"train": "a.parquet", "id": "id"}), tmp_path, tmp_path / "out"))
        assert set(holdout["id"]) == set(grown.loc[grown["x"] < 50, "id"]), (
            "more rows do not move the old ones"
        )

    def test_equal_rows_are_on_the_same_side(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        double = pd.concat([rows, rows.assign(id=rows["id"] + 10_000)])
        double.to_parquet(tmp_path / "a.parquet", index=False)
        train, holdout = parts(
            split(contract({"train": "a.parquet", "id": "id"}), tmp_path, tmp_path / "out")
        )
        assert not set(train["x"]) & set(holdout["x"])

    def test_an_entity_is_never_parted(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        rows.to_parquet(tmp_path / "a.parquet", index=False)
        found = split(contract({"train": "a.parquet", "entity": "plane"}), tmp_path, tmp_path / "out")
        train, holdout = parts(found)
        assert not set(train["plane"]) & set(holdout["plane"])
        assert 0.1 < len(holdout) / len(rows) < 0.3

    def test_the_same_rows_give_the_same_bytes(self, tmp_path: Path, rows: pd.DataFrame) -> None:
        rows.to_parquet(tmp_path / "a.parquet", index=False)
        first, second = (split(contract("a.parquet"), tmp_path, tmp_path / name) for name in ("one", "two"))
        assert (first.train_digest, first.holdout_digest) == (second.train_digest, second.holdout_digest)
        assert first.train_digest != first.holdout_digest

    @pytest.mark.parametrize("data", [{"time": "t"}, {}, {"entity": "t"}])
    def test_rows_that_cannot_be_parted_are_an_error(self, tmp_path: Path, data: dict[str, str]) -> None:
        file(tmp_path, "a.csv", "t,y\n" + "1,0\n" * 50)
        with pytest.raises(UserError, match="no holdout can be chosen"):
            split(contract({"train": "a.csv", **data}), tmp_path, tmp_path / "out")

    def test_a_column_that_the_split_needs_must_be_there(self, tmp_path: Path) -> None:
        file(tmp_path, "a.csv", "t,y\n1,0\n2,1\n")
        for role in ("time", "entity"):
            with pytest.raises(UserError, match="has no column `T2`"):
                split(contract({"train": "a.csv", role: "T2"}), tmp_path, tmp_path / "out")
        with pytest.raises(UserError, match="no such file"):
            split(contract({"train": "a.parquet", "holdout": "b.parquet"}), tmp_path, tmp_path / "out")

    def test_features_are_what_is_left(self) -> None:
        given = contract({"train": "a.csv", "id": "id", "time": "when", "ignore": ["note"]})
        assert features_of(given, ["id", "when", "x", "note", "y"]) == ("when", "x")
