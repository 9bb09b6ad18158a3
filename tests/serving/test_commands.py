"""The commands that end: score, describe, check-schema."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlops_serve.__main__ import main

SCHEMA = """
import pandera.pandas as pa
from neighbour import LIMIT
schema = pa.DataFrameSchema({
    "distance": pa.Column(int, pa.Check.lt(LIMIT), unique=False),
    "carrier": pa.Column(str, nullable=False),
    "late": pa.Column(float, required=False),
})
class Model(pa.DataFrameModel):
    distance: int
single = pa.DataFrameSchema({"absent": pa.Column(int)})
not_a_schema = 5
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A classifier of numbers with every type that a table may have."""
    columns = ["f", "d", "i", "l"]
    data = pd.DataFrame({name: np.arange(8.0) for name in columns})
    model = LogisticRegression().fit(data, (data["f"] > 3).astype(int))
    folder = tmp_path / "package"
    (folder / "model").mkdir(parents=True)
    types = {"f": "float", "d": "double", "i": "integer", "l": "long"}
    inputs = json.dumps([{"name": name, "type": kind, "required": True} for name, kind in types.items()])
    mlmodel = {"flavors": {"sklearn": {"pickled_model": "model.pkl"}}, "signature": {"inputs": inputs}}
    (folder / "model" / "MLmodel").write_text(json.dumps(mlmodel))
    (folder / "model" / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "package.json").write_text('{"model": "m", "python": "3.11"}')
    return folder


def rows(tmp_path: Path, name: str = "rows.parquet", **changes: Any) -> Path:
    columns = {"f": [1.0, 5.0], "d": [1.0, 5.0], "i": [1, 5], "l": [1, 5], **changes}
    path = tmp_path / name
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def score(package: Path, *jobs: dict[str, Any]) -> int:
    listed = package.parent / "jobs.json"
    listed.write_text(json.dumps(jobs, default=str))
    return main(["score", "--package", str(package), "--jobs", str(listed)])


class TestScore:
    def test_classes_and_their_scores_are_written_whatever_the_batch(
        self, package: Path, tmp_path: Path
    ) -> None:
        whole, single = tmp_path / "out" / "whole.parquet", tmp_path / "single.parquet"
        path = rows(tmp_path)
        jobs = [{"input": path, "output": whole}, {"input": path, "output": single, "batch_rows": 1}]
        assert score(package, *jobs) == 0
        found = pd.read_parquet(whole)
        assert list(found.columns) == ["prediction", "score", "score_0", "score_1"]
        assert found["prediction"].tolist() == [0, 1]
        pd.testing.assert_frame_equal(found, pd.read_parquet(single), rtol=1e-12)

    def test_a_table_may_have_other_types_than_the_signature(self, package: Path, tmp_path: Path) -> None:
        from decimal import Decimal

        path = rows(
            tmp_path,
            f=pa.array([1, 5], pa.int8()),
            d=pa.array([Decimal("1.00"), Decimal("5.00")]),
            i=pa.array([1.0, 5.0]),
            l=pa.array([1, 5]).dictionary_encode(),
        )
        assert score(package, {"input": path, "output": tmp_path / "out.parquet"}) == 0
        assert pd.read_parquet(tmp_path / "out.parquet")["prediction"].tolist() == [0, 1]

    def test_a_failure_is_written_where_the_job_says_and_the_next_job_goes_on(
        self, package: Path, tmp_path: Path
    ) -> None:
        missing = rows(tmp_path, "missing.parquet", f=[1.0, None], i=[1.0, float("nan")])  # logistic: no NaN
        jobs = [
            {"input": missing, "output": tmp_path / "a.parquet", "error": tmp_path / "a.json"},
            {"input": rows(tmp_path), "output": tmp_path / "b.parquet"},
        ]
        assert score(package, *jobs) == 0
        assert json.loads((tmp_path / "a.json").read_text())["type"] == "ValueError"
        assert not (tmp_path / "a.parquet").exists()
        assert (tmp_path / "b.parquet").exists()

    def test_a_failure_of_the_model_is_code_1(
        self, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rows(tmp_path, f=[1.0, None])
        assert score(package, {"input": path, "output": tmp_path / "a.parquet"}) == 1
        assert "mlops-serve: the model failed: ValueError: Input X contains NaN" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"l": None}, "column `l` is missing; the file has f, d, i"),
            ({"l": ["x", "y"]}, "column `l` must be a whole number"),
            ({"l": [1.5, 2.0]}, "column `l` must be a whole number"),
            ({name: pa.array([], pa.float64()) for name in "fdil"}, "no rows"),
        ],
    )
    def test_a_file_that_does_not_fit_is_code_2(
        self,
        package: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        changes: dict[str, Any],
        says: str,
    ) -> None:
        assert score(package, {"input": rows(tmp_path, **changes), "output": tmp_path / "a.parquet"}) == 2
        assert says in capsys.readouterr().err

    def test_what_is_no_parquet_and_no_list_of_jobs_is_code_2(
        self, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "text").write_text("x")
        assert score(package, {"input": tmp_path / "text", "output": tmp_path / "a"}) == 2
        assert "cannot read" in capsys.readouterr().err
        assert score(package, {"input": "x"}) == 2
        assert "no list of jobs" in capsys.readouterr().err

    def test_every_type_of_column_comes_through(self, tmp_path: Path) -> None:
        from datetime import date, datetime

        from mlops_serve.score import _values
        from mlops_serve.signature import Column

        table = pa.table(
            {
                "day": pa.array([date(2013, 1, 1), None]),
                "time": pa.array([datetime(2013, 1, 1, 5), None]),
                "flag": pa.array([True, None]),
                "raw": pa.array([b"x", None]),
                "text": pa.array(["x", None]),
                "number": pa.array([1, 2]),
            }
        )
        for name in ("day", "time"):
            found = _values(Column(name, "datetime"), table)
            assert found.dtype == "datetime64[ns]"
            assert np.isnat(found[1])
        assert _values(Column("flag", "boolean"), table).tolist() == [True, None]
        assert _values(Column("raw", "binary"), table).tolist() == [b"x", None]
        assert _values(Column("text", "any"), table).tolist() == ["x", None]
        assert _values(Column("number", "any"), table).tolist() == [1, 2]
        assert np.isnan(_values(Column("gone", "double", required=False), table)).all()

    def test_a_tensor_model_is_scored_from_columns(self, tmp_path: Path) -> None:
        folder = tmp_path / "tensor"
        folder.mkdir()
        spec = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
        mlmodel = {"flavors": {"sklearn": {}}, "signature": {"inputs": json.dumps(spec)}}
        (folder / "MLmodel").write_text(json.dumps(mlmodel))
        model = LinearRegression().fit(np.array([[0.0, 0], [1, 1], [2, 3]]), [0.0, 1, 2])
        (folder / "model.pkl").write_bytes(pickle.dumps(model))
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"a": [1, 2], "b": [1.0, 3.0]}), path)
        assert score(folder, {"input": path, "output": tmp_path / "out.parquet"}) == 0
        assert pd.read_parquet(tmp_path / "out.parquet")["prediction"].tolist() == pytest.approx([1, 2])
        mlmodel["signature"] = {"inputs": json.dumps([{**spec[0], "name": "q"}, {**spec[0], "name": "r"}])}
        (folder / "MLmodel").write_text(json.dumps(mlmodel))
        assert score(folder, {"input": path, "output": tmp_path / "out.parquet"}) == 2


def test_describe_says_what_a_package_needs_to_know(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["describe", "--model", str(package / "model"), "--report", str(tmp_path / "facts.json")]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "facts.json").read_text())
    assert facts["features"] == ["f", "d", "i", "l"]
    assert facts["signature"]["inputs"][0] == {"name": "f", "type": "float", "required": True}
    assert (facts["kind"], facts["classes"], facts["flavors"]) == ("classification", [0, 1], ["sklearn"])
    assert main(["describe", "--model", str(tmp_path)]) == 2


class TestCheckSchema:
    @pytest.fixture
    def repo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A repo with a schema that imports its neighbour."""
        (tmp_path / "checks").mkdir()
        (tmp_path / "checks" / "rows_schema.py").write_text(SCHEMA)
        (tmp_path / "checks" / "neighbour.py").write_text("LIMIT = 100\n")
        (tmp_path / "checks" / "broken.py").write_text("import nothing_of_that_name\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [*__import__("sys").path])
        pd.DataFrame({"distance": [5, 6], "carrier": ["a", "b"]}).to_csv("good.csv", index=False)
        bad = pd.DataFrame({"distance": [500, 6] * 30, "carrier": ["a", None] * 30})
        bad.to_parquet("bad.parquet")
        return tmp_path

    def check(self, name: str, *data: str) -> tuple[int, Any]:
        code = main(["check-schema", "--schema", name, "--data", *data, "--report", "report.json"])
        report = Path("report.json")
        return code, json.loads(report.read_text()) if report.exists() else None

    def test_good_data(self, repo: Path) -> None:
        code, report = self.check("checks/rows_schema.py:schema", "good.csv")
        assert code == 0
        assert report == {"ok": True, "failures": [], "rows": 2, "columns": ["distance", "carrier"]}
        assert self.check("checks/rows_schema.py:Model", "good.csv")[0] == 0

    def test_bad_data_is_named_by_column_and_check_with_counts_and_a_sample(self, repo: Path) -> None:
        code, report = self.check("checks/rows_schema.py:schema", "good.csv", "bad.parquet")
        assert code == 1
        assert (report["ok"], report["rows"]) == (False, 62)
        by_column = {failure["column"]: failure for failure in report["failures"]}
        assert by_column["distance"]["check"] == "less_than(100)"
        assert by_column["distance"]["count"] == 30
        assert by_column["distance"]["rows"] == list(range(0, 20, 2))
        assert by_column["distance"]["values"] == [500] * 10
        assert by_column["carrier"]["check"] == "not_nullable"
        assert by_column["carrier"]["values"] == [None] * 10
        assert all(failure["data"] == "bad.parquet" for failure in report["failures"])

    def test_a_missing_column_is_a_failure(self, repo: Path) -> None:
        code, report = self.check("checks/rows_schema.py:single", "good.csv")
        assert code == 1
        assert report["failures"][0]["count"] == 1
        assert report["failures"][0]["values"] == ["absent"]

    @pytest.mark.parametrize(
        ("schema", "data", "says"),
        [
            ("nothing.py:schema", "good.csv", "is not a Python file"),
            ("checks/rows_schema.py:nothing", "good.csv", "no pandera schema named `nothing`"),
            ("checks/rows_schema.py:not_a_schema", "good.csv", "no pandera schema named"),
            ("checks/broken.py:schema", "good.csv", "cannot import checks/broken.py: ModuleNotFoundError"),
            ("checks/rows_schema.py:schema", "nothing.csv", "cannot read nothing.csv"),
        ],
    )
    def test_what_could_not_be_checked_is_code_2(
        self, repo: Path, capsys: pytest.CaptureFixture[str], schema: str, data: str, says: str
    ) -> None:
        code, report = self.check(schema, data)
        assert code == 2
        assert report is None
        assert says in capsys.readouterr().err
