"""Open Inference Protocol V2: what is read, what is refused, what is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_serve.decoding import Request
from mlops_serve.failures import Refused
from mlops_serve.outputs import Outputs
from mlops_serve.protocol import DATATYPES, decode, encode, model_metadata
from mlops_serve.signature import Column

INPUTS = (Column("a", "double"), Column("b", "string", required=False), Column("n", "long", required=False))
TENSOR = (Column("", "tensor", dtype="float64", shape=(-1, 2)),)


def given_tensor(name: str = "a", datatype: str = "FP64", **fields: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [2], "data": [1, 2.5], **fields}


def read(*inputs: Any, columns: tuple[Column, ...] = INPUTS, **fields: Any) -> Request:
    return decode(json.dumps({"inputs": list(inputs), **fields}).encode(), columns)


def test_columns_come_in_the_models_order_and_extra_ones_are_ignored() -> None:
    request = read(
        given_tensor("zzz"),
        given_tensor("b", "BYTES", data=["x", None]),
        given_tensor("a", shape=[2, 1], data=[[1], [None]]),
        id=5,
        parameters={"anything": 1},
    )
    assert list(request.rows) == ["a", "b", "n"]
    assert request.rows["b"].tolist() == ["x", None]
    assert np.isnan(request.rows["a"][1])
    assert np.isnan(request.rows["n"]).all()
    assert (request.count, request.id) == (2, "5")


@pytest.mark.parametrize("datatype", sorted(DATATYPES - {"BOOL", "BYTES"}))
def test_every_number_type_is_a_number(datatype: str) -> None:
    assert read(given_tensor(datatype=datatype, data=[1, 2])).rows["a"].tolist() == [1.0, 2.0]


def test_one_matrix_is_the_columns_in_their_order() -> None:
    columns = (Column("x", "double"), Column("y", "long"))
    request = read(
        {"name": "all", "datatype": "FP64", "shape": [2, 2], "data": [[1, 2], [3, 4]]}, columns=columns
    )
    assert request.rows["x"].tolist() == [1, 3]
    assert request.rows["y"].tolist() == [2, 4]


def test_python_clients_write_nan_for_a_missing_number() -> None:
    assert np.isnan(
        decode(b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[NaN]}]}', INPUTS).rows["a"]
    )


def test_a_model_without_signature_takes_what_comes() -> None:
    request = read(given_tensor("q", "BYTES", data=["x", "y"]), columns=())
    assert request.rows["q"].tolist() == ["x", "y"]


def test_a_tensor_is_taken_under_any_name_with_its_shape() -> None:
    request = read(given_tensor("whatever", shape=[1, 2]), columns=TENSOR)
    assert request.rows[""].tolist() == [[1.0, 2.5]]


@pytest.mark.parametrize(
    ("inputs", "status", "says"),
    [
        ([], 400, "at least one"),
        ([5], 400, "input 0"),
        ([{"datatype": "FP64"}], 400, "`name`"),
        ([given_tensor(), given_tensor()], 400, "given twice"),
        ([given_tensor(data="x")], 400, "the list `data`"),
        (
            [{"name": "a", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}],
            400,
            "binary",
        ),
        ([given_tensor(datatype="FP128")], 422, "FP128"),
        ([given_tensor(datatype=["FP64"])], 422, "FP64"),
        ([{"name": "a", "datatype": "FP64", "shape": [1], "parameters": 5}], 400, "the list `data`"),
        ([given_tensor(shape="x")], 422, "shape"),
        ([given_tensor(shape=[2, 2], data=[1, 2, 3, 4])], 422, r"\[2, 1\]"),
        ([given_tensor(shape=[3])], 422, "2 values, its shape says 3"),
        ([given_tensor(shape=[0], data=[])], 422, "no rows"),
        ([given_tensor(data=[[1], 2])], 422, "uneven"),
        ([given_tensor(datatype="INT64")], 422, "is INT64, found '2.5' in row 1"),
        ([given_tensor(datatype="BOOL")], 422, "is BOOL"),
        ([given_tensor("b", "BYTES", data=["x", "y"])], 422, "column `a` is missing"),
        (
            [given_tensor(), given_tensor("b", "BYTES", shape=[1], data=["x"])],
            422,
            "column `b` must have shape",
        ),
    ],
)
def test_refusals(inputs: list[Any], status: int, says: str) -> None:
    with pytest.raises(Refused, match=says) as refusal:
        read(*inputs)
    assert refusal.value.status == status


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"inputs":[Infinity NaN]}', b"[" * 5000 + b"NaN", b"1"])
def test_what_is_not_json_is_400(body: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        decode(body, INPUTS)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([given_tensor("q")], "must have shape"),
        ([given_tensor("q"), given_tensor("r")], "`x` is missing"),
    ],
)
def test_tensors_are_checked(inputs: list[Any], says: str) -> None:
    named = (Column("x", "tensor", dtype="float64", shape=(-1, 2)),)
    with pytest.raises(Refused, match=says):
        read(*inputs, columns=named)


def test_several_tensors_must_agree_on_the_rows() -> None:
    both = (
        Column("x", "tensor", dtype="float64", shape=(-1,)),
        Column("y", "tensor", dtype="int64", shape=(-1,)),
    )
    assert list(read(given_tensor("x"), given_tensor("y", "INT64", data=[1, 2]), columns=both).rows) == [
        "x",
        "y",
    ]
    with pytest.raises(Refused, match="different numbers"):
        read(given_tensor("x"), given_tensor("y", "INT64", shape=[1], data=[1]), columns=both)
    with pytest.raises(Refused, match="not acceptable"):
        read(given_tensor("x"), given_tensor("y", "BYTES", data=["q", "r"]), columns=both)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.sampled_from(["a", "b", "n", "q"]) | JSON,
                    "datatype": st.sampled_from(sorted(DATATYPES)) | JSON,
                    "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
                    "data": st.lists(JSON, max_size=3) | JSON,
                    "parameters": JSON,
                },
            ),
            max_size=3,
        )
        | JSON,
        "outputs": JSON,
        "id": JSON,
    },
)


def attempt(body: Any, columns: tuple[Column, ...]) -> Request | Refused:
    try:
        return decode(json.dumps(body).encode(), columns)
    except Refused as refusal:
        return refusal


@given(ALMOST | JSON, st.sampled_from([INPUTS, TENSOR, ()]))
def test_whatever_comes_is_read_or_refused(body: Any, columns: tuple[Column, ...]) -> None:
    answer = attempt(body, columns)
    assert answer.status in (400, 422) if isinstance(answer, Refused) else answer.count > 0


def outputs() -> Outputs:
    return Outputs(
        {
            "prediction": np.array(["late", "ok"]),
            "probability": np.array([[0.25, 0.75], [np.nan, 1]]),
            "half": np.array([1, 2], dtype=np.float16),
            "when": np.array(["2013-01-01", "2014-01-01"], dtype="datetime64[D]"),
            "raw": np.array([b"x", None], dtype=object),
        },
        rows=2,
    )


def test_the_answer_has_shapes_types_and_null_for_nan() -> None:
    request = Request({}, 2, id="7")
    answer = json.loads(encode(request, outputs(), model="m", version="3"))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("m", "3", "7")
    assert answer["outputs"] == [
        {"name": "prediction", "shape": [2], "datatype": "BYTES", "data": ["late", "ok"]},
        {"name": "probability", "shape": [2, 2], "datatype": "FP64", "data": [0.25, 0.75, None, 1.0]},
        {"name": "half", "shape": [2], "datatype": "FP16", "data": [1.0, 2.0]},
        {"name": "when", "shape": [2], "datatype": "BYTES", "data": ["2013-01-01", "2014-01-01"]},
        {"name": "raw", "shape": [2], "datatype": "BYTES", "data": ["x", None]},
    ]


def test_an_output_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Refused, match="no output `nope`"):
        encode(Request({}, 2, outputs=("nope",)), outputs(), model="m", version="3")
    with pytest.raises(Refused, match="`outputs`"):
        read(given_tensor(), outputs=["prediction"])


def test_metadata_of_a_regression_and_of_a_tensor() -> None:
    metadata = model_metadata(name="m", version="1", platform="x", inputs=TENSOR, classes=None)
    assert metadata["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}]
    numbers = model_metadata(name="m", version="1", platform="x", inputs=INPUTS, classes=[0, 1])
    assert numbers["outputs"][0]["datatype"] == "INT64"
