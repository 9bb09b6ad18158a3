"""JSON values become arrays of a column's type, or are refused by column and row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_serve.failures import Refused
from mlops_serve.signature import SCALARS, Column, columns_of
from mlops_serve.values import missing, to_array

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def attempt(column: Column, values: list[Any]) -> np.ndarray[Any, Any] | Refused:
    try:
        return to_array(column, values)
    except Refused as refusal:
        return refusal


@given(st.sampled_from([*SCALARS, "any"]), st.booleans(), st.lists(JSON, min_size=1, max_size=5))
def test_any_value_is_an_array_of_as_many_rows_or_a_refusal_with_column_and_row(
    kind: str, required: bool, values: list[Any]
) -> None:
    answer = attempt(Column("x", kind, required), values)
    if isinstance(answer, Refused):
        assert (answer.status, answer.column) == (422, "x")
        assert answer.row in range(len(values))
    else:
        assert answer.shape == (len(values),)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_whole_numbers_come_through_exactly(values: list[int]) -> None:
    assert to_array(Column("x", "long"), values).tolist() == values


@given(st.lists(st.floats(allow_nan=False) | st.none(), min_size=1))
def test_numbers_come_through_exactly_and_a_missing_one_is_nan(values: list[float | None]) -> None:
    array = to_array(Column("x", "double"), values)
    assert [None if np.isnan(value) else float(value) for value in array] == values


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        ("double", [1, 2.5, None], "float64"),
        ("float", [1, 2.5], "float32"),
        ("long", [1, 2.0], "int64"),
        ("integer", [1, -5], "int32"),
        ("boolean", [True, False], "bool"),
        ("boolean", [1, 0], "bool"),
        ("string", ["a", None], "object"),
        ("datetime", ["2013-01-01T05:00:00Z", "2013-01-01", None], "datetime64[ns]"),
        ("binary", ["aGk=", None], "object"),
        ("any", [True], "bool"),
        ("any", [1], "int64"),
        ("any", [1, None], "float64"),
        ("any", [[1, 2], [3, 4]], "object"),
    ],
)
def test_types(kind: str, values: list[Any], dtype: str) -> None:
    assert to_array(Column("x", kind), values).dtype == dtype


@pytest.mark.parametrize(
    ("kind", "values", "row"),
    [
        ("double", [1.0, "2"], 1),
        ("double", [True], 0),
        ("double", [1.0, 10**400], 1),
        ("long", [1, 2.5], 1),
        ("long", [1, None], 1),
        ("long", [0, 2**63], 1),
        ("integer", [0, 2**31], 1),
        ("integer", [0, -(2**31) - 1], 1),
        ("boolean", [True, 2], 1),
        ("boolean", [True, None], 1),
        ("string", ["a", 1], 1),
        ("datetime", ["2013-01-01", "soon"], 1),
        ("datetime", [None, 5], 1),
        ("binary", ["aGk=", "no base64!"], 1),
    ],
)
def test_what_does_not_fit_is_refused_with_its_row(kind: str, values: list[Any], row: int) -> None:
    with pytest.raises(Refused, match=f"column `x` .* in row {row}") as refusal:
        to_array(Column("x", kind), values)
    assert refusal.value.row == row


def test_an_optional_column_may_hold_missing_values_whatever_its_type() -> None:
    assert np.isnan(to_array(Column("x", "long", required=False), [1, None])[1])
    assert to_array(Column("x", "boolean", required=False), [True, None]).tolist() == [True, None]
    # Negative control: even then a fraction is no whole number.
    with pytest.raises(Refused):
        to_array(Column("x", "long", required=False), [1.5, None])


def test_what_stands_for_a_column_that_was_left_out() -> None:
    assert np.isnan(missing(Column("x", "double"), 2)).all()
    assert missing(Column("x", "string"), 2).tolist() == [None, None]


def test_a_signature_is_read_in_both_of_its_forms() -> None:
    written = (
        '[{"type": "long", "name": "a", "required": true}, {"type": "string", "name": "b", "required": false},'
        ' {"type": "array", "items": {"type": "long"}, "name": "c"},'
        ' {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
    )
    columns = columns_of(written)
    assert [column.type for column in columns] == ["long", "string", "any", "tensor"]
    assert [column.required for column in columns[:2]] == [True, False]
    assert columns[3].shape == (-1, 3)
    assert columns_of([column.as_record() for column in columns]) == columns
    assert columns_of(None) == ()
