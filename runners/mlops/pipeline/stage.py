"""The port of a stage and the context that it runs in. A stage is one module in :mod:`mlops.stages`, found by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mlops.contract import Contract
from mlops.environments.port import Environments
from mlops.ledger import Ledger
from mlops.pipeline.results import StageResult
from mlops.profile import Profile
from mlops.rollout.port import Rollouts
from mlops.store import Store
from mlops.tracking.port import Tracker


class Never:
    """The result must never be taken from the cache."""


class Forever:
    """The result stays valid as long as the inputs are equal."""


Validity = Never | Forever | datetime
"""How long a result may be reused; a datetime is the (UTC) moment that it expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a stage may use. ``say`` reports progress: a sentence, and a share in [0, 1] where it is known."""

    contract: Contract
    profile: Profile
    workspace: Path
    """The model repo (absolute)."""
    output: Path
    """Folder of this stage's files (absolute, exists, empty); what the result names as artifacts is kept with it."""
    store: Store
    build_ledger: Ledger
    """The ledger ``<model>/build``."""
    environment_ledger: Ledger
    """The ledger ``<model>/<profile.environment>``."""
    tracker: Tracker
    environments: Environments
    rollouts: Rollouts
    upstream: Mapping[str, StageResult]
    """Results of the stages before this one."""
    folders: Mapping[str, Path]
    """Output folders of the stages before this one."""
    say: Callable[[str, float | None], None]
    commit: str = ""
    fresh: bool = False

    def fact(self, stage: str, name: str) -> Any:
        """Return what an earlier stage left for later ones."""
        return self.upstream[stage].facts[name]

    def artifact(self, stage: str, name: str) -> Path:
        """Return the path of an earlier stage's artifact."""
        return self.folders[stage] / self.upstream[stage].artifacts[name]


class Stage(Protocol):
    """One step of the pipeline. Instances hold no state between runs."""

    name: str
    help: str
    """One sentence: shown by the command, in Jenkins, and in the reference."""

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return a digest per thing that the stage reads (code, data, contract part, upstream facts): the cache key."""

    def validity(self, context: Context, result: StageResult) -> Validity:
        """Say how long the result may be reused."""

    def run(self, context: Context) -> StageResult:
        """Do the work; raise from :mod:`mlops.errors` for bad input and failed infrastructure, return failed checks otherwise."""
