"""What ``evaluate`` needs, for real: a model environment, packages, a store, two ledgers, a split; only tracking is in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from mlops.artifacts import keep_folder
from mlops.contract.model import Contract
from mlops.environments.port import Command, Installed
from mlops.environments.uv import UvEnvironments
from mlops.errors import InfrastructureError
from mlops.ledger import Author, Ledger
from mlops.ledger.events import Promoted, RolloutStarted
from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.stage import Context
from mlops.profile import Profile
from mlops.release import Release
from mlops.serving.launch import Launcher
from mlops.stages import packaging
from mlops.store import Store, open_store
from mlops.tracking.port import Tracker

REQUIREMENTS = """\
scikit-learn==1.5.2
mlflow-skinny==3.1.4
pandas==2.2.3
pandera==0.24.0
pyarrow==19.0.1
"""
FEATURES = ["x", "y", "colour"]


def rows(count: int, seed: int) -> pd.DataFrame:
    """Return rows whose label depends on two numbers and a colour."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "row": np.arange(count) + 1_000_000 * seed,
            "x": random.normal(size=count),
            "y": random.normal(size=count),
            "colour": random.choice(["red", "green", "blue"], size=count),
        }
    )
    strength = 1.5 * frame["x"] - frame["y"] + (frame["colour"] == "red")
    frame["label"] = (random.random(count) < 1 / (1 + np.exp(-strength))).astype("int64")
    frame["amount"] = strength + random.normal(size=count)
    frame.loc[random.random(count) < 0.05, "colour"] = None
    return frame


@dataclass
class MemoryTracker:
    """Keeps what is logged; ``down`` makes it fail as a server does that is not there."""

    uri: str = "memory"
    logged: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    down: bool = False

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if self.down:
            raise InfrastructureError("the tracking server does not answer", remedy="start it")
        self.logged |= dict(metrics or {})
        self.tags |= dict(tags or {})


def cache_folder() -> Path:
    """Return the folder that survives the session; the environment is the same as that of the serving tests."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "mlops-tests" / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_models(environments: UvEnvironments, work: Path) -> tuple[Path, Installed]:
    """Train all models once (kept by the content of what makes them) and return their folder and environment."""
    repo = work / "repo"
    repo.mkdir()
    (repo / "requirements.txt").write_text(REQUIREMENTS)
    installed = environments.install(environments.resolve(repo, "3.11", None))
    maker = Path(__file__).with_name("evaluation_models.py")
    content = maker.read_bytes() + Path(__file__).read_bytes() + installed.locked.digest.encode()
    final = cache_folder() / "evaluated" / hashlib.sha256(content).hexdigest()[:16]
    if final.is_dir():
        return final, installed
    rows(4000, seed=1).to_parquet(work / "train.parquet")
    made = work / "made"
    command = Command(
        arguments=["python", str(maker), str(work), str(made)],
        folder=work,
        log=work / "making.log",
        timeout_seconds=300,
    )
    completed = environments.run(installed, command)
    assert completed.code == 0, completed.tail
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, final, dirs_exist_ok=True)
    return final, installed


class Rig:
    """One machine with a store and ledgers, on which candidates are evaluated one after the other."""

    def __init__(
        self, folder: Path, models: Path, installed: Installed, environments: UvEnvironments
    ) -> None:
        self.folder = folder
        self.models = models
        self.installed = installed
        self.environments = environments
        self.store: Store = open_store((folder / "store").as_uri())
        self.tracker = MemoryTracker()
        self.said: list[str] = []
        self.build = Ledger(self.store, "toy", "build", author=Author("test"))
        self.production = Ledger(self.store, "toy", "production", author=Author("test"))
        self.train = folder / "train.parquet"
        self.holdout = folder / "holdout.parquet"
        self.write(rows(4000, seed=1), rows(3000, seed=2))
        self._packages: dict[str, tuple[Path, str]] = {}
        self._runs = 0

    def write(self, train: pd.DataFrame, holdout: pd.DataFrame) -> None:
        """Write the two files of the split."""
        train.to_parquet(self.train, index=False)
        holdout.to_parquet(self.holdout, index=False)

    def contract(self, **changes: Any) -> Contract:
        """Return the contract, with some of its top-level entries changed."""
        content: dict[str, Any] = {
            "model": "toy",
            "data": {
                "train": "train.parquet",
                "holdout": "holdout.parquet",
                "id": "row",
                "ignore": ["amount"],
            },
            "target": "label",
            "train": "python train.py",
            "metric": {"name": "auc", "margin": 0.02},
        }
        return Contract.model_validate({**content, **changes})

    def package(self, name: str, contract: Contract) -> tuple[Path, str]:
        """Return the packaged model, made once (and kept between sessions), and its digest in this rig's store."""
        if name not in self._packages:
            folder = self.folder / "packages" / name
            shutil.copytree(self._packaged(name, contract), folder)
            self._packages[name] = (folder, keep_folder(self.store, folder))
        return self._packages[name]

    def _packaged(self, name: str, contract: Contract) -> Path:
        final = self.models / "packages" / name
        if final.is_dir():
            return final
        folder = self.folder / "packaging" / name
        shutil.copytree(self.models / name, folder)
        packaging.settle(folder / "model")
        described = packaging.describe(
            self.environments, self.installed, folder / "model", self.folder / f"{name}.log"
        )
        assert isinstance(described, packaging.Described), described
        facts = packaging.package_facts(contract, described, list(described.columns), self.installed)
        golden = _golden(described.columns)
        packaging.write_package(folder, facts, self.installed.locked.requirements, golden)
        work = self.folder / "golden" / name
        launcher = Launcher(self.store, self.environments, self.folder / "home")
        launcher.score(folder, [packaging.golden_job(folder, work)], work)
        packaging.keep_golden_predictions(folder, work)
        final.parent.mkdir(exist_ok=True)
        folder.rename(final)
        return final

    def serve(self, name: str, contract: Contract | None = None) -> str:
        """Let production serve this model, by the ledger's own events; return its package digest."""
        _, digest = self.package(name, contract or self.contract())
        release = Release(model="toy", version="1", package=digest, contract="c" * 64)
        started = RolloutStarted(
            rollout="r1",
            release=release.as_record(),
            lane="blue",
            strategy="canary",
            settings={"replicas": 1, "rollback_window": 60},
        )
        self.production.append(started, reason="test", expect=self.production.state().sequence)
        promoted = Promoted(rollout="r1", verdict="PROMOTE")
        self.production.append(promoted, reason="test", expect=self.production.state().sequence)
        return digest

    def context(self, name: str, contract: Contract | None = None, *, fresh: bool = False) -> Context:
        """Return what the frame would hand to ``evaluate`` for this candidate."""
        contract = contract or self.contract()
        folder, digest = self.package(name, contract)
        facts = json.loads((folder / "package.json").read_text())
        self._runs += 1
        output = self.folder / f"output-{self._runs}"
        output.mkdir()
        upstream = {
            "validate": _result(
                "validate",
                {
                    "train": "train.parquet",
                    "holdout": "holdout.parquet",
                    "train_digest": hashlib.sha256(self.train.read_bytes()).hexdigest(),
                    "holdout_digest": hashlib.sha256(self.holdout.read_bytes()).hexdigest(),
                    "split": "the file holdout.parquet",
                },
            ),
            "train": _result("train", {"run_id": "run-1"}),
            "package": _result(
                "package",
                {"package": digest, "features": facts["features"], "classes": facts["classes"]},
                {"package": folder.name},
            ),
        }
        return Context(
            contract=contract,
            profile=Profile(home=self.folder / "home"),
            workspace=self.folder,
            output=output,
            store=self.store,
            build_ledger=self.build,
            environment_ledger=self.production,
            tracker=cast(Tracker, self.tracker),
            environments=self.environments,
            engine=cast(Any, None),  # not asked by this stage
            upstream=upstream,
            folders={"validate": self.folder, "train": self.folder, "package": folder.parent},
            say=lambda sentence, share: self.said.append(sentence),
            fresh=fresh,
        )


def _golden(columns: tuple[str, ...]) -> Any:
    import pyarrow as pa

    frame = rows(120, seed=9).assign(z=0.0)
    return pa.Table.from_pandas(frame[list(columns)], preserve_index=False)


def _result(stage: str, facts: dict[str, Any], artifacts: dict[str, str] | None = None) -> StageResult:
    return StageResult(stage=stage, status=Status.PASSED, summary="", facts=facts, artifacts=artifacts or {})
