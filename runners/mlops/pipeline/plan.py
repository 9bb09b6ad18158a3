"""Say which stages apply and what a run would do with each, without doing it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops import plugins
from mlops.errors import UserError
from mlops.pipeline.cache import Cache, Damaged, Entry
from mlops.pipeline.lookup import MakeContext, Trail, look_up
from mlops.pipeline.stage import Reads, Recognises, Upstream

if TYPE_CHECKING:
    from mlops.pipeline.results import StageResult
    from mlops.pipeline.run import RunRequest, Selection
    from mlops.pipeline.stage import Context, Stage


class Action(StrEnum):
    """What a run would do with a stage."""

    RUN = "run"
    CACHED = "cached"
    OPEN = "open"
    """Cached or run: that depends on what an earlier stage comes to."""
    LEFT_OUT = "left out"
    """Not selected; ``why`` says what the later stages get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One line of a plan."""

    stage: str
    help: str
    action: Action
    why: str
    required: bool
    """Whether a release is refused unless this stage has passed."""
    key: str = ""
    """The cache key, where it can be known before the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All stages in order, with what a run would do."""

    model: str
    stages: tuple[PlannedStage, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form of ``mlops plan --json``."""
        return {"model": self.model, "stages": [asdict(stage) for stage in self.stages]}


@dataclass(frozen=True, slots=True)
class Scope:
    """The stages that a run is about: the selected ones, and those before them whose results are handed
    on."""

    selected: tuple[str, ...]
    needed: tuple[str, ...]


def scope_of(stages: Sequence[Stage], selection: Selection, required: Sequence[str] = ()) -> Scope:
    """Apply the selection; UserError for a name that no stage has, in the selection or the profile."""
    names = [stage.name for stage in stages]
    for name in required:
        if name not in names:
            raise plugins.unknown("stage", name, names, where="profile: required_stages")
    selected = _selected(names, selection)
    last = max((names.index(name) for name in selected), default=-1)
    return Scope(selected=selected, needed=tuple(names[: last + 1]))


def _selected(names: list[str], selection: Selection) -> tuple[str, ...]:
    if selection.only and selection.since:
        raise UserError(
            "choose single stages, or those from one on, not both",
            expected="--only or --from",
            found=f"--only {','.join(selection.only)} --from {selection.since}",
            remedy="leave one of them out",
        )
    for name in (*selection.only, selection.since):
        if name and name not in names:
            raise plugins.unknown("stage", name, names)
    if selection.since:
        return tuple(names[names.index(selection.since) :])
    return tuple(name for name in names if not selection.only or name in selection.only)


def make_plan(stages: Sequence[Stage], make_context: MakeContext, request: RunRequest) -> Plan:
    """Look up each stage in the cache as far as that can be known; nothing is run, the workspace is left
    alone."""
    scope = scope_of(stages, request.selection, request.required_stages)
    with tempfile.TemporaryDirectory(prefix="mlops-plan-") as scratch:
        walk = _Walk(make_context, request, scope, Path(scratch))
        return Plan(model=request.model, stages=tuple(walk.step(stage) for stage in stages))


@dataclass(frozen=True, slots=True)
class _Guess:
    action: Action
    why: str
    key: str = ""


class _Walk:
    """Follows the stages as a run would, as long as the cache knows their results."""

    def __init__(self, make_context: MakeContext, request: RunRequest, scope: Scope, scratch: Path) -> None:
        self._make_context = make_context
        self._request = request
        self._scope = scope
        self._scratch = scratch
        self._cache = Cache(request.store)
        self._trail = Trail()
        self._unknown: list[str] = []
        """Stages that would run: what they come to is not known."""
        self._served = False
        """Whether a kept result is of the very release that the environment serves: the run would end there."""

    def step(self, stage: Stage) -> PlannedStage:
        """Plan one stage."""
        guess = self._guess(stage)
        return PlannedStage(
            stage=stage.name,
            help=stage.help,
            action=guess.action,
            why=guess.why,
            required=stage.name in self._request.required_stages,
            key=guess.key,
        )

    def _guess(self, stage: Stage) -> _Guess:
        if stage.name not in self._scope.needed:
            return _Guess(Action.LEFT_OUT, "not selected")
        if self._served:
            return _Guess(Action.LEFT_OUT, "the environment already serves this release")
        waits_for = [name for name in self._unknown if not isinstance(stage, Reads) or name in stage.reads]
        selected = stage.name in self._scope.selected
        if waits_for and not (selected and self._request.fresh):
            self._unknown.append(stage.name)
            return _Guess(Action.OPEN, f"depends on what {waits_for[0]} comes to")
        found = self._found(stage, selected)
        if found.action is not Action.CACHED and selected:
            self._unknown.append(stage.name)
        return found if selected else _Guess(Action.LEFT_OUT, f"not selected; {found.why}", found.key)

    def _found(self, stage: Stage, selected: bool) -> _Guess:
        if selected and self._request.fresh:
            return _Guess(Action.RUN, "fresh asked for")
        output = self._scratch / stage.name
        output.mkdir()
        context = self._make_context(
            output=output,
            upstream=Upstream(self._trail.results),
            folders=dict(self._trail.folders),
            say=lambda sentence, share=None: None,  # noqa: ARG005 - a plan is silent
            fresh=False,
        )
        try:
            lookup = look_up(self._cache, stage, context, self._trail, selected=selected)
            if lookup.entry is not None:
                self._follow(lookup.entry, output)
                self._served = selected and _serves(stage, context, lookup.entry.result)
        except Damaged as error:
            return _Guess(Action.RUN, error.headline, lookup.key)
        except UserError as error:
            return _Guess(Action.RUN, error.headline)
        return _Guess(Action.CACHED if lookup.entry else Action.RUN, lookup.why, lookup.key)

    def _follow(self, entry: Entry, output: Path) -> None:
        self._cache.restore(entry, output)
        self._trail.add(entry.result, output, entry)


def _serves(stage: Stage, context: Context, result: StageResult) -> bool:
    return isinstance(stage, Recognises) and stage.already_serving(context, result)
