"""Make the packages that the serving tests use, in a process of its own: ``make_models.py FOLDER [NAME ...]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

RANDOM = np.random.default_rng(7)
ROWS = 400


def rows() -> pd.DataFrame:
    """Return rows with categories, missing values, and an integer that is never missing."""
    return pd.DataFrame(
        {
            "carrier": RANDOM.choice(np.array(["AA", "UA", "B6", None], dtype=object), ROWS),
            "distance": RANDOM.integers(1, 3000, ROWS),
            "temp": np.where(RANDOM.random(ROWS) < 0.1, np.nan, RANDOM.normal(size=ROWS)),
        }
    )


def keep(folder: Path, model: str, frame: pd.DataFrame) -> None:
    """Write what makes a folder with a model a package."""
    facts = {
        "model": model,
        "python": ".".join(map(str, sys.version_info[:2])),
        "features": list(frame.columns),
        "serve": {"drain_seconds": 5, "batch_rows": 64},
    }
    (folder / "package.json").write_text(json.dumps(facts))
    frame.to_parquet(folder / "golden.parquet")


def save(model: Any, folder: Path, example: Any, **options: Any) -> None:
    """Save a scikit-learn model with its signature, in the one format that every version can write."""
    signature = infer_signature(example, model.predict(example))
    mlflow.sklearn.save_model(
        model,
        folder / "model",
        signature=signature,
        pip_requirements=[],
        serialization_format="cloudpickle",
        **options,
    )


def classifier(folder: Path, frame: pd.DataFrame, **options: Any) -> None:
    """A pipeline with strings as classes."""
    label = np.where(RANDOM.random(ROWS) + frame["distance"] / 6000 > 0.7, "late", "on time")
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            (make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "temp"]),
        ),
        LogisticRegression(),
    ).fit(frame, label)
    save(model, folder, frame, **options)
    expected = pd.DataFrame({"prediction": model.predict(frame), "score": model.predict_proba(frame)[:, 1]})
    expected.to_parquet(folder / "golden-predictions.parquet")
    keep(folder, "delay", frame)


def probabilities(folder: Path, frame: pd.DataFrame) -> None:
    """The same, logged so that MLflow answers with probabilities."""
    classifier(folder, frame, pyfunc_predict_fn="predict_proba")


def regression(folder: Path, frame: pd.DataFrame) -> None:
    """Numbers in, a number out."""
    numbers = frame[["distance", "temp"]]
    model = HistGradientBoostingRegressor(max_iter=20).fit(numbers, frame["distance"] * 0.1)
    save(model, folder, numbers)
    pd.DataFrame({"prediction": model.predict(numbers)}).to_parquet(folder / "golden-predictions.parquet")
    keep(folder, "minutes", numbers)


def boosted(folder: Path, frame: pd.DataFrame) -> None:
    """A native flavour other than scikit-learn's."""
    import mlflow.lightgbm
    from lightgbm import LGBMClassifier

    numbers = frame[["distance", "temp"]]
    model = LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers, (numbers["distance"] > 1500).astype(int))
    signature = infer_signature(numbers, model.predict(numbers))
    mlflow.lightgbm.save_model(model, folder / "model", signature=signature, pip_requirements=[])
    expected = pd.DataFrame(
        {"prediction": model.predict(numbers), "score": model.predict_proba(numbers)[:, 1]}
    )
    expected.to_parquet(folder / "golden-predictions.parquet")
    keep(folder, "boosted", numbers)


class Faulty(mlflow.pyfunc.PythonModel):
    """Doubles a number, and raises for a batch in which any number ends in 00, 20, 40, 60 or 80."""

    def predict(self, context, model_input, params=None):  # noqa: ANN001, ANN201
        """Predict or raise."""
        if (model_input["distance"] % 20 == 0).any():
            raise RuntimeError("secret detail of the model")
        return model_input["distance"].to_numpy() * 2.0


def faulty(folder: Path, frame: pd.DataFrame) -> None:
    """A model that fails for one row in twenty."""
    numbers = frame[["distance"]]
    signature = infer_signature(numbers, numbers["distance"].to_numpy() * 2.0)
    mlflow.pyfunc.save_model(
        folder / "model", python_model=Faulty(), signature=signature, pip_requirements=[]
    )
    keep(folder, "faulty", numbers)


def matrix(folder: Path, frame: pd.DataFrame) -> None:
    """A model that takes a tensor."""
    numbers = frame[["distance", "temp"]].fillna(0).to_numpy(dtype=np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, numbers[:, 0] > 1500)
    save(model, folder, numbers)
    keep(folder, "matrix", frame[["distance", "temp"]].fillna(0))


MAKERS = {make.__name__: make for make in (classifier, probabilities, regression, boosted, faulty, matrix)}


def main(target: Path, names: list[str]) -> None:
    """Make the named packages below the folder, all of them by default."""
    frame = rows()
    for name in names or MAKERS:
        folder = target / name
        folder.mkdir(parents=True)
        MAKERS[name](folder, frame)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
