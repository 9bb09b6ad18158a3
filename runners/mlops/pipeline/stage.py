"""The port of a stage and the context that it runs in. A stage is one module in :mod:`mlops.stages`, found
by entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mlops.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from mlops.contract import Contract
    from mlops.environments.port import Environments
    from mlops.ledger import Ledger
    from mlops.pipeline.results import StageResult
    from mlops.profile import Profile
    from mlops.rollout.engine import Engine
    from mlops.rollout.outcome import Outcome
    from mlops.store import Store
    from mlops.tracking.port import Tracker


class Never:
    """The result must never be taken from the cache."""


class Forever:
    """The result stays valid as long as the inputs are equal."""


Validity = Never | Forever | datetime
"""How long a result may be reused; a datetime is the (UTC) moment that it expires."""


def _unseen(outcome: Outcome) -> None:
    """Drop a look at a rollout that nobody watches."""


class Upstream(dict[str, "StageResult"]):
    """Results by stage; asking for one that is not there is a wrong selection of stages, not a defect."""

    def __missing__(self, stage: str) -> StageResult:
        raise _missing(stage, self)


def _missing(stage: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"the result of {stage} is needed, and there is none for these inputs",
        expected=f"{stage} has passed with the same inputs",
        found=f"results of: {', '.join(known) or 'no stage'}",
        remedy=f"run it first: mlops run --from {stage}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a stage may use. ``say`` reports progress: a sentence, and a share in [0, 1] where it is
    known."""

    contract: Contract
    profile: Profile
    workspace: Path
    """The model repo (absolute)."""
    output: Path
    """Folder of this stage's files (absolute, exists, empty during `run`); what the result names as
    artifacts is kept with it."""
    store: Store
    build_ledger: Ledger
    """The ledger ``<model>/build``."""
    environment_ledger: Ledger
    """The ledger ``<model>/<profile.environment>``."""
    tracker: Tracker
    environments: Environments
    engine: Engine
    """Moves the profile's environment from one release to the next."""
    upstream: Mapping[str, StageResult]
    """Results of the stages before this one."""
    folders: Mapping[str, Path]
    """Output folders of the stages before this one."""
    say: Callable[[str, float | None], None]
    show: Callable[[Outcome], None] = field(default=_unseen)
    """Shows a look at a running rollout in the live display; fits ``engine.watch(on_tick=context.show)``."""
    commit: str = ""
    fresh: bool = False
    again: bool = False
    """Roll out even a release that the judge or a person took back before."""

    def fact(self, stage: str, name: str) -> Any:  # noqa: ANN401 - JSON of the stage's own making
        """Return what an earlier stage left for later ones; UserError when that stage has no result here."""
        return self._result(stage).facts[name]

    def artifact(self, stage: str, name: str) -> Path:
        """Return the path of an earlier stage's artifact; UserError when that stage has no result here."""
        result = self._result(stage)
        return self.folders[stage] / result.artifacts[name]

    def _result(self, stage: str) -> StageResult:
        if stage not in self.upstream:
            raise _missing(stage, self.upstream)
        return self.upstream[stage]


class Stage(Protocol):
    """One step of the pipeline. Instances hold no state between runs.

    A stage may also be any of :class:`Placed`, :class:`Reads`, :class:`Limited` and :class:`Recognises`.
    """

    name: str
    help: str
    """One sentence: shown by the command, in Jenkins, and in the reference."""

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return a digest per thing that the stage reads (code, data, contract part, upstream facts): the
        cache key."""

    def validity(self, context: Context, result: StageResult) -> Validity:
        """Say how long the result may be reused."""

    def run(self, context: Context) -> StageResult:
        """Do the work; raise from :mod:`mlops.errors` for bad input and failed infrastructure, return
        failed checks otherwise."""


@runtime_checkable
class Placed(Protocol):
    """A stage of another package: it names the stage that it comes after."""

    after: str


@runtime_checkable
class Reads(Protocol):
    """A stage that names the earlier stages whose output it reads; without it, all of them count for its
    cache key."""

    reads: tuple[str, ...]


@runtime_checkable
class Limited(Protocol):
    """A stage with a time limit of its own, enforced by the frame."""

    def limit_seconds(self, context: Context) -> float | None:
        """Return the seconds after which the frame stops the stage; None for no limit."""


@runtime_checkable
class Recognises(Protocol):
    """A stage that can tell, from its result, that the environment already serves this very release.

    It is asked for cached results too: what an environment serves is no input of the stage.
    """

    def already_serving(self, context: Context, result: StageResult) -> bool:
        """Say whether there is nothing left to do."""
