# ruff: noqa: ANN001, ANN201, ANN204 - a script for the model's Python, written as a data scientist would
"""Run in the model's own Python: trains models that are good, and models that each have one fault, and saves them.

    python evaluation_models.py <folder with train.parquet> <folder for the models>

Each class pickles by value, since it is defined in the main module.
"""

import sys
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

FEATURES = ["x", "y", "colour"]


def pipeline(last):
    """Return the honest pipeline: missing values imputed, unknown categories ignored."""
    colours = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")
    )
    return make_pipeline(make_column_transformer((colours, ["colour"]), (SimpleImputer(), ["x", "y"])), last)


class Faulty:
    """A classifier with scikit-learn's interface around a good one; subclasses spoil its probabilities."""

    def __init__(self, good):
        self.good = good
        self.classes_ = good.classes_

    def predict_proba(self, rows):
        positive = np.clip(self.spoil(rows, self.good.predict_proba(rows)[:, 1]), 0.0, 1.0)
        return np.column_stack([1 - positive, positive])

    def predict(self, rows):
        return self.classes_[(self.predict_proba(rows)[:, 1] >= 0.5).astype(int)]

    def spoil(self, rows, positive):
        raise NotImplementedError


class Unsteady(Faulty):
    """Answers differently each time."""

    def spoil(self, rows, positive):
        return positive + np.random.default_rng().normal(0, 1e-3, len(positive))


class OfTheBatch(Faulty):
    """Centres its answers over the rows of one call."""

    def spoil(self, rows, positive):
        return positive - 0.2 * positive.mean() + 0.1


class OfTheOrder(Faulty):
    """Leans on the row before, within blocks of seven, so that batches of seven do not show it."""

    def spoil(self, rows, positive):
        before = np.concatenate([positive[:1], positive[:-1]])
        return 0.9 * positive + 0.1 * before


class NotANumber(Faulty):
    """Divides by zero on some rows."""

    def predict_proba(self, rows):
        answer = self.good.predict_proba(rows)
        answer[np.asarray(rows["x"], dtype=float) > 2.0] = np.nan
        return answer

    def predict(self, rows):
        return self.good.predict(rows)


class NotImputed(Faulty):
    """Returns NaN where a number is missing."""

    def predict_proba(self, rows):
        answer = self.good.predict_proba(rows)
        answer[np.isnan(np.asarray(rows["y"], dtype=float))] = np.nan
        return answer

    def predict(self, rows):
        return self.good.predict(rows)


class Strict(Faulty):
    """Refuses, with the column's name, what it was not trained for."""

    def spoil(self, rows, positive):
        if np.isnan(np.asarray(rows["x"], dtype=float)).any():
            raise ValueError("column x: a value is missing")
        if not set(rows["colour"].dropna()) <= {"red", "green", "blue"}:
            raise ValueError("column colour: a category is unknown")
        return positive


class BadInRed(Faulty):
    """Guesses for one slice only."""

    def spoil(self, rows, positive):
        red = (rows["colour"] == "red").to_numpy()
        guess = (np.asarray(rows["y"], dtype=float) * 1e4) % 1.0
        return np.where(red, guess, positive)


class OtherColumns(Faulty):
    """Needs a column that the holdout does not have."""

    def spoil(self, rows, positive):
        return positive + 0 * rows["z"]


def main():
    data, target = Path(sys.argv[1]), Path(sys.argv[2])
    rows = pd.read_parquet(data / "train.parquet")
    good = pipeline(LogisticRegression(C=1.0)).fit(rows[FEATURES], rows["label"])
    flipped = pipeline(LogisticRegression()).fit(rows[FEATURES], 1 - rows["label"])
    models = {
        "good": good,
        "alike": pipeline(LogisticRegression(C=0.5)).fit(rows[FEATURES], rows["label"]),
        "weak": pipeline(LogisticRegression()).fit(rows[FEATURES].assign(x=0.0), rows["label"]),
        "poisoned": flipped,
        "clueless": pipeline(LogisticRegression()).fit(
            rows[FEATURES], np.random.default_rng(1).integers(0, 2, len(rows))
        ),
        "unsteady": Unsteady(good),
        "of-the-batch": OfTheBatch(good),
        "of-the-order": OfTheOrder(good),
        "not-a-number": NotANumber(good),
        "not-imputed": NotImputed(good),
        "strict": Strict(good),
        "bad-in-red": BadInRed(good),
        "regression": pipeline(Ridge()).fit(rows[FEATURES], rows["amount"]),
        "other-columns": OtherColumns(good),
    }
    for name, model in models.items():
        features = [*FEATURES, "z"] if name == "other-columns" else FEATURES
        example = rows.assign(z=0.0)[features].head(20)
        signature = infer_signature(example, np.zeros(len(example)))
        mlflow.sklearn.save_model(
            model, str(target / name / "model"), signature=signature, serialization_format="cloudpickle"
        )


if __name__ == "__main__":
    main()
