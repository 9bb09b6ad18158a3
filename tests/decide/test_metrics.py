"""Each metric against scikit-learn, and what no metric may be computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn import metrics as sklearn

from mlops.decide.metrics import METRICS, Scored, auc, check, evaluate, midranks


def classified(n: int = 400, classes: Any = 2, seed: int = 0) -> Any:
    """Return truth and a model's answers for n rows."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, n)
    raw = random.normal(size=(n, classes)) + 1.2 * np.eye(classes)[truth]
    scores = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return truth, Scored(scores.argmax(axis=1), scores, classes)


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_metrics_are_those_of_scikit_learn(classes: Any) -> None:
    truth, scored = classified(classes=classes)
    onehot = np.eye(classes)[truth]
    brier = ((scored.scores - onehot) ** 2).sum(axis=1).mean() / (2 if classes == 2 else 1)
    average = "binary" if classes == 2 else "macro"
    expected = {
        "log_loss": sklearn.log_loss(truth, scored.scores),
        "brier": brier,
        "accuracy": sklearn.accuracy_score(truth, scored.prediction),
        "f1": sklearn.f1_score(truth, scored.prediction, average=average),
    }
    for name, value in expected.items():
        assert evaluate(METRICS[name], truth, scored) == pytest.approx(value), name


def test_brier_of_two_classes_is_the_positive_ones() -> None:
    truth, scored = classified()
    expected = sklearn.brier_score_loss(truth, scored.scores[:, 1])
    assert evaluate(METRICS["brier"], truth, scored) == pytest.approx(expected)


@given(seed=st.integers(0, 10**6), levels=st.integers(1, 12))
def test_auc_is_that_of_scikit_learn_also_with_ties(seed: int, levels: Any) -> None:
    random = np.random.default_rng(seed)
    truth = np.r_[0, 1, random.integers(0, 2, 60)]
    scores = random.integers(0, levels, 62) / levels
    assert auc(truth, scores) == pytest.approx(sklearn.roc_auc_score(truth, scores))


def test_auc_by_hand() -> None:
    assert auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.4, 0.1])) == 0.75
    assert auc(np.array([1, 0]), np.array([0.5, 0.5])) == 0.5
    assert np.isnan(auc(np.array([1, 1]), np.array([0.1, 0.2])))
    assert np.isnan(auc(np.array([0, 0]), np.array([0.1, 0.2])))


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_midranks_are_those_of_scipy(values: Any) -> None:
    array = np.array(values, dtype=float)
    assert midranks(array) == pytest.approx(rankdata(array))


def test_regression_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=300)
    scored = Scored(truth + random.normal(size=300))
    assert evaluate(METRICS["mae"], truth, scored) == pytest.approx(
        sklearn.mean_absolute_error(truth, scored.prediction)
    )
    assert evaluate(METRICS["rmse"], truth, scored) == pytest.approx(
        sklearn.root_mean_squared_error(truth, scored.prediction)
    )


def test_a_certain_and_wrong_model_has_a_finite_loss() -> None:
    scored = Scored(np.array([1, 0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert evaluate(METRICS["log_loss"], np.array([0, 1]), scored) == pytest.approx(-np.log(1e-15))


def test_f1_of_nothing_found_is_zero() -> None:
    nothing = Scored(np.zeros(4, dtype=int))
    assert evaluate(METRICS["f1"], np.array([0, 0, 0, 0]), nothing) == 0.0
    assert evaluate(METRICS["f1"], np.array([1, 0, 0, 0]), nothing) == 0.0


def test_directions_and_traits() -> None:
    higher = {name for name, metric in METRICS.items() if metric.higher_is_better}
    assert higher == {"auc", "accuracy", "f1"}
    assert {name for name, metric in METRICS.items() if metric.sign == -1.0} == set(METRICS) - higher
    assert {name for name, metric in METRICS.items() if metric.needs_scores} == {"auc", "log_loss", "brier"}
    assert {name for name, metric in METRICS.items() if metric.unit_interval} == {
        "auc",
        "brier",
        "accuracy",
        "f1",
    }
    assert {name for name, metric in METRICS.items() if metric.task == "regression"} == {"mae", "rmse"}
    assert {name for name, metric in METRICS.items() if metric.additive} == {
        "log_loss",
        "brier",
        "accuracy",
        "mae",
    }
    assert {name for name, metric in METRICS.items() if metric.discrete} == {"f1"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(METRICS))
def test_predictions_that_are_not_finite_are_refused(name: str, bad: Any) -> None:
    truth, scored = classified()
    scores = scored.scores.copy()
    prediction = scored.prediction.astype(float)
    scores[3, 1] = prediction[3] = bad
    spoiled = Scored(prediction if not METRICS[name].needs_scores else scored.prediction, scores)
    with pytest.raises(ValueError, match=r"1 (of 400 predictions|scores) are not finite"):
        check(truth, spoiled, METRICS[name])


def test_a_truth_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 truth"):
        check(np.array([np.nan, 1.0]), Scored(np.zeros(2)), METRICS["mae"])


@pytest.mark.parametrize(
    ("truth", "scored", "metric", "message"),
    [
        ([], Scored(np.zeros(0)), "mae", "0 predictions do not belong to 0 rows"),
        ([1, 2], Scored(np.zeros(3)), "mae", "3 predictions do not belong to 2 rows"),
        ([1, 0], Scored(np.zeros(2)), "auc", "auc needs the probabilities"),
        ([1, 0], Scored(np.zeros(2), np.full((3, 2), 0.5)), "auc", "3 scores do not belong to 2 rows"),
        ([1, 0], Scored(np.zeros(2), np.full((2, 3), 1 / 3), 3), "auc", "auc needs two classes, not 3"),
        (
            [1, 0],
            Scored(np.zeros(2), np.full((2, 2), 0.6)),
            "brier",
            "brier needs probabilities between 0 and 1",
        ),
        ([1, 0], Scored(np.zeros(2), np.array([[-0.1, 1.1]] * 2)), "log_loss", "add up to 1"),
    ],
)
def test_what_does_not_fit_is_refused(truth: Any, scored: Any, metric: str, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        check(np.array(truth), scored, METRICS[metric])


def test_scores_that_are_no_probabilities_are_fine_for_auc_and_rounding_for_all() -> None:
    truth = np.array([1, 0])
    check(truth, Scored(np.zeros(2), np.array([[0, 7.0], [0, -3.0]])), METRICS["auc"])
    check(truth, Scored(np.zeros(2), np.full((2, 2), 0.5004)), METRICS["brier"])


def test_some_rows_can_be_taken() -> None:
    _truth, scored = classified(classes=3)
    part = scored.take(np.array([5, 2]))
    assert (part.prediction == scored.prediction[[5, 2]]).all()
    assert (part.scores == scored.scores[[5, 2]]).all()
    assert part.classes == 3
    assert Scored(np.arange(3)).take(np.array([1])).scores is None
