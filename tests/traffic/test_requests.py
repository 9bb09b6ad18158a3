"""Rows become requests of the Open Inference Protocol, whatever their columns hold."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.errors import UserError
from mlops.traffic.requests import v2_bodies


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_each_row_is_a_request_with_one_tensor_per_feature(rows: Path) -> None:
    first, second, third = (json.loads(body) for body in v2_bodies(rows, ["x", "word"]))
    assert first == {
        "inputs": [
            {"name": "x", "shape": [1], "datatype": "INT64", "data": [1]},
            {"name": "word", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        ]
    }
    assert second["inputs"][1]["data"] == [None]
    assert third["inputs"][0]["data"] == [None]


def test_without_features_every_column_is_sent_and_the_limit_holds(rows: Path) -> None:
    bodies = v2_bodies(rows, limit=2)
    assert len(bodies) == 2
    assert [each["name"] for each in json.loads(bodies[0])["inputs"]] == ["x", "word", "late"]


@pytest.mark.parametrize(
    ("values", "datatype", "data"),
    [
        (pa.array([True, None]), "BOOL", True),
        (pa.array([7], pa.int8()), "INT64", 7),
        (pa.array([2**63], pa.uint64()), "INT64", 2**63),
        (pa.array([1.5], pa.float32()), "FP64", 1.5),
        (pa.array([float("nan")]), "FP64", None),
        (pa.array([float("inf")]), "FP64", None),
        (pa.array([Decimal("1.25")]), "FP64", 1.25),
        (pa.array(["é"]), "BYTES", "é"),
        (pa.array(["a", "b"]).dictionary_encode(), "BYTES", "a"),
        (pa.array([datetime(2013, 5, 1, 12, tzinfo=UTC)]), "BYTES", "2013-05-01T12:00:00+00:00"),
        (pa.array([date(2013, 5, 1)]), "BYTES", "2013-05-01"),
        (pa.array([None], pa.null()), "BYTES", None),
    ],
)
def test_each_type_of_column_has_its_datatype(
    tmp_path: Path, values: pa.Array, datatype: str, data: object
) -> None:
    (tensor,) = json.loads(v2_bodies(write(tmp_path / "f.parquet", c=values))[0])["inputs"]
    assert (tensor["datatype"], tensor["data"]) == (datatype, [data])


@given(
    st.lists(
        st.one_of(st.none(), st.floats(), st.text(), st.integers(-(2**53), 2**53)), min_size=1, max_size=1
    )
)
def test_any_value_gives_strict_json(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = write(tmp_path_factory.mktemp("any") / "f.parquet", c=pa.array(values))
    (body,) = v2_bodies(path)
    json.loads(body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_lacking_feature_a_missing_file_and_an_empty_one_are_told(tmp_path: Path, rows: Path) -> None:
    with pytest.raises(UserError, match="lacks the column y"):
        v2_bodies(rows, ["x", "y"])
    with pytest.raises(UserError, match="cannot be read"):
        v2_bodies(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("x\n1\n")
    with pytest.raises(UserError, match="cannot be read"):
        v2_bodies(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="no rows"):
        v2_bodies(write(tmp_path / "empty.parquet", c=pa.array([], pa.int64())))
