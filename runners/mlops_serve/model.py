"""Loaded models behind one method: rows in, named outputs out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mlops_serve.outputs import PREDICTION, PROBABILITY, Outputs, outputs_of
from mlops_serve.signature import Column

Rows = Mapping[str, "np.ndarray[Any, Any]"]
"""Arrays by column name; the first axis is the rows."""

_ARGMAX_CLASSIFIERS = frozenset(
    {
        "LogisticRegression",
        "HistGradientBoostingClassifier",
        "GradientBoostingClassifier",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
        "DecisionTreeClassifier",
        "GaussianNB",
        "BernoulliNB",
        "MultinomialNB",
        "CalibratedClassifierCV",
        "XGBClassifier",
        "LGBMClassifier",
    }
)
"""Classifiers whose ``predict`` is the most probable class: one pass is enough for both outputs."""


class Model(Protocol):
    """A model in memory."""

    kind: str
    """``classification``, ``regression`` or ``unknown``."""
    classes: list[Any] | None
    inputs: tuple[Column, ...]

    def predict(self, rows: Rows, count: int) -> Outputs:
        """Predict ``count`` rows; whatever the model raises passes through."""


class Estimator:
    """An object with scikit-learn's interface: ``predict`` and perhaps ``predict_proba``."""

    def __init__(self, estimator: Any, inputs: tuple[Column, ...], invoked: str = "predict") -> None:
        self._estimator = estimator
        self.inputs = inputs
        self._arrange = arrangement(inputs)
        self._has_probability = hasattr(estimator, "predict_proba")
        self._one_pass = type(_last_step(estimator)).__name__ in _ARGMAX_CLASSIFIERS
        self._invoked = PROBABILITY if invoked == "predict_proba" else PREDICTION
        classes = getattr(estimator, "classes_", None) if self._has_probability else None
        self._classes = None if classes is None or isinstance(classes, list) else np.asarray(classes)
        self.classes: list[Any] | None = None if self._classes is None else self._classes.tolist()
        self.kind = _kind(estimator)

    def predict(self, rows: Rows, count: int) -> Outputs:
        """Predict, with probabilities where the estimator has them."""
        data = self._arrange(rows)
        if self._classes is None:
            return outputs_of(self._estimator.predict(data), count)
        probability = np.asarray(self._estimator.predict_proba(data))
        prediction = self._most_probable(probability)
        if prediction is None:
            prediction = self._estimator.predict(data)
        prediction = outputs_of(prediction, count).named[PREDICTION]
        return Outputs({PREDICTION: prediction, PROBABILITY: probability}, None, self._invoked, count)

    def _most_probable(self, probability: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """Return the class of each row, or None where only the estimator itself can say."""
        if not self._one_pass or self._classes is None:
            return None
        best = probability.argmax(axis=1)
        # Estimators differ in how they break a tie, also one within rounding.
        top = probability[np.arange(len(best)), best]
        if np.count_nonzero(probability >= top[:, None] - 1e-9) != len(best):
            return None
        chosen: np.ndarray[Any, Any] = self._classes[best]
        return chosen


class Generic:
    """Any MLflow model through its ``python_function`` flavour."""

    def __init__(self, pyfunc: Any, inputs: tuple[Column, ...]) -> None:
        self._pyfunc = pyfunc
        self.inputs = inputs
        self._arrange = arrangement(inputs)
        self.classes: list[Any] | None = None
        self.kind = "unknown"

    def predict(self, rows: Rows, count: int) -> Outputs:
        """Predict; a table keeps the names of its columns."""
        return outputs_of(self._pyfunc.predict(self._arrange(rows)), count)


def arrangement(inputs: tuple[Column, ...]) -> Any:
    """Return the function that makes what the model takes: a tensor, a table, or (without pandas) a matrix."""
    if any(column.is_tensor for column in inputs):
        return _tensor if len(inputs) == 1 and not inputs[0].name else dict
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return _matrix
    strings = frozenset(column.name for column in inputs if column.type == "string")
    if int(pandas.__version__.split(".")[0]) < 3 or not strings:
        return pandas.DataFrame

    def with_strings(rows: Rows) -> Any:
        # Since 3.0 strings have a type of their own, with NaN for a missing one. Left to itself pandas finds it
        # only where there is a string, and a row would be predicted differently alone than among others.
        return pandas.DataFrame(
            {
                name: pandas.Series(array, dtype="str") if name in strings else array
                for name, array in rows.items()
            }
        )

    return with_strings


def _tensor(rows: Rows) -> np.ndarray[Any, Any]:
    return next(iter(rows.values()))


def _matrix(rows: Rows) -> np.ndarray[Any, Any]:
    return np.column_stack(list(rows.values()))


def _last_step(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def _kind(estimator: Any) -> str:
    if hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_"):
        return "classification"
    last = _last_step(estimator)
    names = {base.__name__ for base in type(last).__mro__}
    if "ClassifierMixin" in names:
        return "classification"
    return "regression" if "RegressorMixin" in names else "unknown"
