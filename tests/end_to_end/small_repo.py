"""A small model repo that trains in seconds: two numbers and a category decide a label.

``strength`` makes a better or worse model; ``fault_file`` bakes a fault into the model that shows only in production: while
that file exists, one prediction call in twenty raises. No test of a candidate can find it; the canary must.
"""

from __future__ import annotations

import shutil
from pathlib import Path

LOCK = Path(__file__).parents[2] / "examples" / "flights" / "requirements.lock"

MAKE_DATA = """
import numpy as np, pandas as pd
from pathlib import Path
random = np.random.default_rng(3)
n = 6000
rows = pd.DataFrame({
    "x": random.normal(size=n),
    "y": random.normal(size=n),
    "colour": random.choice(["red", "green", "blue"], size=n),
})
chance = 1 / (1 + np.exp(-(1.5 * rows["x"] - rows["y"] + (rows["colour"] == "red"))))
rows["label"] = (random.random(n) < chance).astype("int64")
Path("data").mkdir(exist_ok=True)
rows.iloc[:4000].to_parquet("data/train.parquet", index=False)
rows.iloc[4000:].to_parquet("data/holdout.parquet", index=False)
"""

TRAIN = """
import os
import mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder

rows = pd.read_parquet("data/train.parquet")
features = ["x", "y", "colour"]
columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough")
pipeline = make_pipeline(columns, LogisticRegression(C=STRENGTH)).fit(rows[features].fillna(0), rows["label"])


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import os, random
        if FAULT and os.path.exists(FAULT) and random.random() < 0.05:
            raise RuntimeError("the feature store did not answer")
        filled = model_input.assign(x=model_input["x"].fillna(0.0), y=model_input["y"].fillna(0.0))
        return pipeline.predict_proba(filled)


FAULT = "FAULT_FILE"
with mlflow.start_run():
    mlflow.log_metric("rows", len(rows))
    example = rows[features].head(3)
    mlflow.pyfunc.log_model(
        name="model", python_model=Model(), signature=infer_signature(example, pipeline.predict_proba(example))
    )
"""

CONTRACT = """\
model: {model}
data:
  train: data/train.parquet
  holdout: data/holdout.parquet
target: label
train: python train.py
metric: {{name: auc, margin: 0.02}}
benchmark: {{seconds: 1, rounds: 2}}
rollout: {rollout}
"""


def write(
    folder: Path, *, model: str, strength: float = 1.0, fault_file: str = "", rollout: str = "{}"
) -> Path:
    """Write (or write again) the repo; the data is made by ``python make_data.py`` in the model's Python."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlops.yaml").write_text(CONTRACT.format(model=model, rollout=rollout))
    (folder / "make_data.py").write_text(MAKE_DATA)
    train = TRAIN.replace("STRENGTH", str(strength)).replace("FAULT_FILE", fault_file)
    (folder / "train.py").write_text(train)
    shutil.copy(LOCK, folder / "requirements.lock")
    return folder
