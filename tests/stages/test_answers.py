"""Reading, comparing and classifying what a model answered, whatever form it gives its answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.errors import UserError
from mlops.stages.answers import codes, label, labels_of, not_finite, scored, unequal, values


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


@pytest.mark.parametrize(
    ("left", "right", "rows"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.0], [1.0 + 1e-10, 2.0], 0),
        ([1.0, 2.0], [1.0 + 1e-8, 2.0], 1),
        ([0.0, 2.0], [1e-13, 2.0], 0),
        ([float("nan"), 2.0], [float("nan"), 2.0], 0),
        ([float("nan"), 2.0], [1.0, 3.0], 2),
        (["a", "b"], ["a", "c"], 1),
        ([1, 2], [1, 2], 0),
        ([1, 2], [1, 3], 1),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.1]], 1),
        ([1.0, 2.0], [1.0], 2),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0], [3.0]], 2),
    ],
)
def test_rows_differ_by_more_than_rounding(left: list[Any], right: list[Any], rows: int) -> None:
    assert unequal(table(prediction=left), table(prediction=right)) == rows


def test_the_rounding_of_single_precision_is_coarser() -> None:
    single = pa.array([1.0, 1.0], pa.float32())
    near, far = pa.array([1.0 + 5e-6] * 2, pa.float32()), pa.array([1.0001] * 2, pa.float32())
    assert unequal(table(prediction=single), table(prediction=near)) == 0
    assert unequal(table(prediction=single), table(prediction=far)) == 2


def test_a_row_that_differs_in_two_columns_counts_once_and_other_columns_make_all_differ() -> None:
    left = table(prediction=[0, 1], score=[0.1, 0.9])
    assert unequal(left, table(prediction=[1, 1], score=[0.2, 0.9])) == 1
    assert unequal(left, table(prediction=[0, 1])) == 2


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        ([1.0, float("nan"), float("inf"), None], 3),
        (["a", None], 1),
        ([1, 2], 0),
        ([[0.1, 0.9], [float("nan"), 1.0]], 1),
    ],
)
def test_answers_that_are_missing_or_not_finite_are_counted(column: list[Any], rows: int) -> None:
    assert not_finite(table(prediction=column)) == rows


def test_one_class_has_one_name_in_every_type() -> None:
    assert {label(each) for each in (True, 1, 1.0, np.True_, np.int64(1), np.float64(1.0))} == {"1"}
    assert (label(0.5), label("late"), label(False)) == ("0.5", "late", "0")


def test_classes_are_sorted_as_numbers_or_as_text() -> None:
    assert labels_of([10, 2], [True]) == ("1", "2", "10")
    assert labels_of(["b", "a"], ["c"]) == ("a", "b", "c")
    assert list(codes([2.0, True, "10"], ("1", "2", "10"))) == [1, 0, 2]


def test_probabilities_per_class_are_put_in_the_order_of_the_classes() -> None:
    answers = table(prediction=["b", "a"], score_b=[0.7, 0.2], score_a=[0.3, 0.8])
    found = scored(answers, {"classes": ["b", "a"]}, ("a", "b", "c"))
    assert found.scores is not None
    assert found.scores.tolist() == [[0.3, 0.7, 0.0], [0.8, 0.2, 0.0]]
    assert found.prediction.tolist() == [1, 0]
    assert found.classes == 3


def test_boolean_classes_are_found_under_their_own_names() -> None:
    answers = table(prediction=[True, False], score_False=[0.1, 0.6], score_True=[0.9, 0.4], score=[0.9, 0.4])
    found = scored(answers, {"classes": [False, True]}, ("0", "1"))
    assert found.scores is not None
    assert found.scores[:, 1].tolist() == [0.9, 0.4]
    assert found.prediction.tolist() == [1, 0]


def test_a_list_of_probabilities_is_one_per_class() -> None:
    found = scored(table(prediction=[[0.2, 0.8], [0.6, 0.4]]), {}, ("0", "1"))
    assert found.prediction.tolist() == [1, 0]
    assert found.scores is not None
    assert found.scores.tolist() == [[0.2, 0.8], [0.6, 0.4]]


def test_a_number_between_0_and_1_is_the_probability_of_the_second_class() -> None:
    found = scored(table(prediction=[0.25, 0.75]), {"classes": None}, ("no", "yes"))
    assert found.prediction.tolist() == [0, 1]
    assert found.scores is not None
    assert found.scores.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_classes_written_as_floats_are_classes_and_no_probabilities() -> None:
    found = scored(table(prediction=[0.0, 1.0]), {}, ("0", "1"))
    assert found.prediction.tolist() == [0, 1]
    assert found.scores is None


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(UserError, match="no class of the target") as caught:
        scored(table(prediction=["late", "never"]), {}, ("late", "on time"))
    assert caught.value.found == "never"
    with pytest.raises(UserError, match="no class of the target"):
        scored(table(prediction=[1.5, 0.2]), {}, ("0", "1"))


def test_a_regression_answers_numbers() -> None:
    assert scored(table(prediction=[1, 2]), {}, None).prediction.tolist() == [1.0, 2.0]
    assert scored(table(prediction=[[1.0], [2.0]]), {}, None).prediction.tolist() == [1.0, 2.0]
    for wrong in (["a", "b"], [[1.0, 2.0], [3.0, 4.0]]):
        with pytest.raises(UserError, match="not a number"):
            scored(table(prediction=wrong), {}, None)


def test_list_columns_become_matrices() -> None:
    fixed = pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))
    assert values(pa.chunked_array([fixed])).shape == (1, 2)
