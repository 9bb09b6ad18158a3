"""Loading by flavour, and what estimators of different kinds answer."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mlops_serve.failures import Unusable
from mlops_serve.loading import load
from mlops_serve.model import Estimator, arrangement
from mlops_serve.outputs import outputs_of
from mlops_serve.package import read_package
from mlops_serve.signature import Column

X = np.array([[0.0], [1.0], [2.0], [3.0]])
Y = np.array(["no", "no", "yes", "yes"])
INPUTS = (Column("x", "double"),)


def rows(*values: float) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.array(values, dtype=float)}


def frame(values: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"x": values[:, 0]})


def test_one_pass_gives_the_estimators_own_prediction() -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame(X), Y)
    model = Estimator(estimator, INPUTS)
    values = np.linspace(-5, 8, 101)
    found = model.predict(rows(*values), 101).named
    assert found["prediction"].tolist() == estimator.predict(frame(values[:, None])).tolist()
    assert found["probability"].shape == (101, 2)
    assert (model.kind, model.classes) == ("classification", ["no", "yes"])


def test_a_tie_is_decided_by_the_estimator() -> None:
    class Contrary:
        classes_ = np.array(["no", "yes"])

        def predict_proba(self, data: pd.DataFrame) -> np.ndarray[Any, Any]:
            return np.full((len(data), 2), 0.5)

        def predict(self, data: pd.DataFrame) -> np.ndarray[Any, Any]:
            return np.full(len(data), "yes")

    contrary = type("LogisticRegression", (Contrary,), {})()  # one whose name promises argmax
    assert Estimator(contrary, INPUTS).predict(rows(1, 2), 2).named["prediction"].tolist() == ["yes", "yes"]


def test_classifiers_without_probability_and_regressions_have_only_a_prediction() -> None:
    machine = Estimator(SVC().fit(frame(X), Y), INPUTS)
    assert list(machine.predict(rows(3), 1).named) == ["prediction"]
    assert (machine.kind, machine.classes) == ("classification", None)
    line = Estimator(LinearRegression().fit(frame(X), X), INPUTS)  # a column vector as target
    assert line.predict(rows(2), 1).named["prediction"] == pytest.approx([2.0])
    assert line.kind == "regression"
    assert Estimator(object(), INPUTS).kind == "unknown"


def test_without_pandas_a_model_takes_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    arrange = arrangement((Column("x", "double"), Column("y", "double")))
    assert arrange({"x": np.array([1.0]), "y": np.array([2.0])}).tolist() == [[1.0, 2.0]]


def test_a_missing_string_is_the_same_alone_and_among_others() -> None:
    arrange = arrangement((Column("s", "string"), Column("x", "double")))
    numbers = np.array([1.0, 2.0])
    among = arrange({"s": np.array(["q", None], dtype=object), "x": numbers})
    alone = arrange({"s": np.array([None], dtype=object), "x": numbers[1:]})
    assert among["s"].dtype == alone["s"].dtype
    assert repr(among["s"].iloc[1]) == repr(alone["s"].iloc[0])


def test_several_named_tensors_come_by_name() -> None:
    inputs = (
        Column("x", "tensor", dtype="float64", shape=(-1,)),
        Column("y", "tensor", dtype="float64", shape=(-1,)),
    )
    assert list(arrangement(inputs)({"x": X, "y": X})) == ["x", "y"]


def test_a_sparse_matrix_a_series_and_a_table_are_arrays() -> None:
    from scipy.sparse import csr_matrix

    assert outputs_of(csr_matrix(X), 4).named["prediction"].tolist() == [0, 1, 2, 3]
    assert outputs_of(pd.Series([1, 2]), 2).named["prediction"].tolist() == [1, 2]
    table = outputs_of(pd.DataFrame({"q": [1], "prediction": [2]}), 1)
    assert list(table.named) == ["prediction", "q"]
    assert table.table == ("q", "prediction")
    first = outputs_of(pd.DataFrame({"q": [1]}), 1)
    assert first.named["prediction"].tolist() == [1]


def write(folder: Path, flavors: str, model: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(f"flavors:\n{flavors}\n")
    if model is not None:
        (folder / "model.pkl").write_bytes(pickle.dumps(model))
    return folder


def test_a_pickled_and_a_skops_model_load(tmp_path: Path) -> None:
    import skops.io

    estimator = DummyClassifier(strategy="constant", constant="yes").fit(X, Y)
    pickled = write(
        tmp_path / "a", "  sklearn: {pickled_model: model.pkl}\n  python_function: {code: code}", estimator
    )
    assert load(read_package(pickled)).classes == ["no", "yes"]
    assert str(pickled / "code") in sys.path
    sys.path.remove(str(pickled / "code"))
    written = write(tmp_path / "b", "  sklearn: {pickled_model: model.skops, serialization_format: skops}")
    skops.io.dump(estimator, written / "model.skops")
    assert load(read_package(written)).kind == "classification"


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="neither a package"):
        read_package(tmp_path)
    with pytest.raises(Unusable, match="no flavour that can be served"):
        load(read_package(write(tmp_path / "a", "  pmml: {}")))
    with pytest.raises(Unusable, match="cannot load"):
        load(read_package(write(tmp_path / "b", "  sklearn: {}")))
    (tmp_path / "b" / "MLmodel").write_text("- no mapping")
    with pytest.raises(Unusable, match="is not an MLmodel"):
        read_package(tmp_path / "b")
    (tmp_path / "b" / "MLmodel").write_text("{")
    with pytest.raises(Unusable, match="no readable MLmodel"):
        read_package(tmp_path / "b")
    (tmp_path / "b" / "package.json").write_text("{")
    with pytest.raises(Unusable, match="is not JSON"):
        read_package(tmp_path / "b")


def test_a_package_without_signature_has_the_columns_of_its_features(tmp_path: Path) -> None:
    write(tmp_path / "model", "  sklearn: {}")
    (tmp_path / "package.json").write_text('{"features": ["x"], "serve": {"batch_rows": 5}, "model": "q"}')
    package = read_package(tmp_path)
    assert package.inputs == (Column("x", "any"),)
    assert (package.name, package.batch_rows, package.model) == ("q", 5, tmp_path / "model")
