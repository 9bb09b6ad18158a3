"""Train the model and log it. Runs alone (`python train.py`), under `mlflow run .`, and in the pipeline alike."""

import argparse

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from features import FEATURES, build

# The model is written without pickle (skops): loading it runs no code but these reviewed types.
TRUSTED = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--iterations", type=int, default=150)
    arguments.add_argument("--learning-rate", type=float, default=0.1)
    given = arguments.parse_args()

    rows = pd.read_parquet("data/train.parquet")
    # The last tenth in time is the closest thing to tomorrow that training may look at.
    fit, check = train_test_split(rows, test_size=0.1, shuffle=False)
    with mlflow.start_run():
        mlflow.log_params({"iterations": given.iterations, "learning_rate": given.learning_rate})
        pipeline = build(given.iterations, given.learning_rate).fit(fit[FEATURES], fit["late"])
        scores = pipeline.predict_proba(check[FEATURES])[:, 1]
        mlflow.log_metric("inner_auc", roc_auc_score(check["late"], scores))
        # The check has said what it can; the model that is shipped learns from the latest flights too.
        pipeline.fit(rows[FEATURES], rows["late"])
        mlflow.sklearn.log_model(
            pipeline,
            name="model",
            signature=infer_signature(
                fit[FEATURES].head(100), pipeline.predict_proba(fit[FEATURES].head(100))
            ),
            input_example=fit[FEATURES].head(3),
            pyfunc_predict_fn="predict_proba",
            skops_trusted_types=TRUSTED,
            pip_requirements="requirements.in",  # stated, so that MLflow need not find out by loading the model
        )
        print(f"trained on {len(rows):,} flights")


if __name__ == "__main__":
    main()
