"""Make packages that differ in speed and faults: ``make_packages.py FOLDER``; a process of its own, as training is."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import infer_signature


class Doubling(mlflow.pyfunc.PythonModel):
    """Doubles ``x``; takes its time, and fails for one row in ten, as asked for."""

    def __init__(self, seconds: float = 0.0, fails: bool = False) -> None:
        self.seconds = seconds
        self.fails = fails

    def predict(self, context, model_input, params=None):  # noqa: ANN001, ANN201
        """Predict, late or never."""
        time.sleep(self.seconds)
        if self.fails and (model_input["x"] % 10 == 0).any():
            raise RuntimeError("no such row")
        return model_input["x"].to_numpy() * 2.0


def package(folder: Path, model: Doubling, loads: bool = True) -> None:
    """Write one package."""
    rows = pd.DataFrame({"x": np.arange(50, dtype=np.int64), "colour": ["red", "blue"] * 25})
    signature = infer_signature(rows, np.zeros(2))
    folder.mkdir(parents=True)
    mlflow.pyfunc.save_model(folder / "model", python_model=model, signature=signature, pip_requirements=[])
    if not loads:
        (folder / "model" / "MLmodel").write_text("flavors: {}\n")
    facts = {
        "model": "m",
        "python": ".".join(map(str, sys.version_info[:2])),
        "features": list(rows.columns),
        "serve": {"drain_seconds": 2, "batch_rows": 64},
    }
    (folder / "package.json").write_text(json.dumps(facts))
    (folder / "requirements.lock").write_text("")
    rows.to_parquet(folder / "golden.parquet")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    package(target / "plain", Doubling())
    package(target / "other", Doubling(seconds=0.0001))
    package(target / "slow", Doubling(seconds=0.02))
    package(target / "failing", Doubling(fails=True))
    package(target / "broken", Doubling(), loads=False)
