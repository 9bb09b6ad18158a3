"""Model repos of a few files, the real services around them, and stages run one by one as the frame runs them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops.contract.loading import load_contract
from mlops.environments.uv import UvEnvironments
from mlops.ledger import Ledger
from mlops.pipeline.results import StageResult
from mlops.pipeline.stage import Context, Stage
from mlops.profile import Profile
from mlops.signing import Signer
from mlops.store import Store, open_store
from mlops.tracking.mlflow import MlflowTracker

REQUIREMENTS = """\
scikit-learn==1.5.2
mlflow-skinny==3.1.4
pandas==2.2.3
pandera==0.24.0
pyarrow==19.0.1
"""
"""The same text as in tests/serving, so that both use one installed environment; other versions than the runner's."""

CONTRACT = """\
model: colours
description: Will it be bought?
owner: colours@example.com
data:
  train: data/train.parquet
  holdout: data/holdout.parquet
  replay: data/replay.parquet
  id: row
target: label
train: {command: python train.py}
metric: auc
"""

TRAIN = """\
import os
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

assert os.environ["MLOPS_MODEL"] == "colours", os.environ
assert not Path("data/holdout.parquet").exists(), "training can see the holdout"
assert not Path("data/replay.parquet").exists(), "training can see the replayed rows"
assert "AWS_SECRET_ACCESS_KEY" not in os.environ, "training inherits secrets"
rows = pd.read_parquet(os.environ["MLOPS_TRAIN_DATA"])
features = ["x", "y", "colour"]
encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough")
model = make_pipeline(encoded, LogisticRegression()).fit(rows[features], rows[os.environ["MLOPS_TARGET"]])
with mlflow.start_run():
    mlflow.log_metric("rows", len(rows))
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(rows[features], model.predict_proba(rows[features])),
        pip_requirements=["scikit-learn"],
    )
print("trained")
"""


def rows_of(count: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "row": [f"{seed}-{number}" for number in range(count)],
            "x": random.normal(size=count),
            "y": random.normal(size=count),
            "colour": random.choice(["red", "green", "blue"], size=count),
        }
    )
    frame["label"] = (frame["x"] - frame["y"] + random.normal(scale=0.5, size=count) > 0).astype("int64")
    return frame


def make_repo(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """Write a model repo; ``files`` replaces or adds some."""
    (folder / "data").mkdir(parents=True)
    for number, name in enumerate(("train", "holdout", "replay")):
        rows_of(400 - 100 * number, seed=number).to_parquet(folder / "data" / f"{name}.parquet", index=False)
    content = {
        "mlops.yaml": CONTRACT,
        "train.py": TRAIN,
        "requirements.txt": REQUIREMENTS,
        "README.md": "# Colours\n",
    }
    for name, text in {**content, **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def commit(folder: Path) -> str:
    """Put the repo into git, data ignored as people do; return the commit."""
    (folder / ".gitignore").write_text("data/\n")
    identity = ("-c", "user.name=Someone", "-c", "user.email=someone@example.com")
    for arguments in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "First")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass
class Lab:
    """A repo on a machine: runs stages one after the other and keeps what they return."""

    repo: Path
    profile: Profile
    tracker: MlflowTracker
    environments: UvEnvironments
    signer: Signer | None
    said: list[str] = field(default_factory=list)
    results: dict[str, StageResult] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return open_store(self.profile.store_url)

    def ledger(self, environment: str) -> Ledger:
        verifier = self.signer.verifier() if self.signer else None
        return Ledger(self.store, "colours", environment, self.signer, verifier)

    def context(self, stage: str, say: Callable[[str, float | None], None] | None = None) -> Context:
        output = (
            self.profile.home.parent
            / "outputs"
            / f"{stage}-{len(list(self.profile.home.parent.glob('outputs/*')))}"
        )
        output.mkdir(parents=True)
        return Context(
            contract=load_contract(self.repo),
            profile=self.profile,
            workspace=self.repo,
            output=output,
            store=self.store,
            build_ledger=self.ledger("build"),
            environment_ledger=self.ledger(self.profile.environment),
            tracker=self.tracker,
            environments=self.environments,
            engine=None,  # type: ignore[arg-type] - no stage of these tests rolls out
            upstream=dict(self.results),
            folders=dict(self.folders),
            say=say or (lambda sentence, share: self.said.append(sentence)),
        )

    def run(self, stage: Stage, say: Callable[[str, float | None], None] | None = None) -> StageResult:
        context = self.context(stage.name, say)
        self.folders[stage.name] = context.output
        result = stage.run(context)
        self.results[stage.name] = result
        return result

    def inputs(self, stage: Stage) -> dict[str, str]:
        return dict(stage.inputs(self.context(stage.name)))

    def last_run(self) -> dict[str, Any]:
        """Return the newest tracked run of the model."""
        rest = self.tracker._rest
        experiment = rest.get("experiments/get-by-name", experiment_name="colours")["experiment"][
            "experiment_id"
        ]
        found = rest.post(
            "runs/search", experiment_ids=[experiment], max_results=1, order_by=["attributes.start_time DESC"]
        )
        run: dict[str, Any] = found["runs"][0]
        return run

    def write(self, name: str, text: str) -> None:
        (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
        (self.repo / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.repo / name).read_text()
        assert old in text
        (self.repo / name).write_text(text.replace(old, new))


MakeLab = Callable[..., Lab]
