"""Take one stage to its result: from the cache, or by running it and keeping what it made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops.errors import MlopsError
from mlops.pipeline.cache import Cache, Damaged, Entry
from mlops.pipeline.files import Folders
from mlops.pipeline.interruption import Stop
from mlops.pipeline.lookup import Lookup, MakeContext, Trail, look_up
from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.run import GOES_ON
from mlops.pipeline.stage import Limited, Never, Recognises, Upstream
from mlops.telemetry import crossing, mask

if TYPE_CHECKING:
    from mlops.pipeline.stage import Context, Stage, Validity
    from mlops.rollout.outcome import Outcome

_SETUP_SECONDS = (
    900.0  # what a stage may take beside the `timeout` of its section: installing the model's environment
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A stage's result and where it came from."""

    result: StageResult
    entry: Entry | None = None
    """The kept form; None when the result is not one that is kept."""
    already_serving: bool = False

    @property
    def saved_seconds(self) -> float:
        """What the cache saved."""
        cached = self.result.status is Status.CACHED and self.entry is not None
        return self.entry.result.seconds if cached and self.entry else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Takes stages to their results, one at a time, on a trail of earlier ones."""

    make_context: MakeContext
    folders: Folders
    cache: Cache
    trail: Trail
    stop: Stop
    say: Callable[[str, str, float | None], None]
    show: Callable[[str, Outcome], None]
    fresh: bool = False

    def take(self, stage: Stage) -> Taken:
        """Answer from the cache, else run the stage; what it raises comes through."""
        began = time.monotonic()
        context = self._context(stage)
        lookup = look_up(self.cache, stage, context, self.trail)
        taken = self._adopted(stage, lookup) or self._computed(stage, context, lookup)
        return replace(
            taken,
            result=replace(taken.result, seconds=round(time.monotonic() - began, 3)),
            already_serving=_already_serving(stage, context, taken.result),
        )

    def hand_on(self, stage: Stage) -> Taken | str:
        """Take a stage that is not selected from the cache, for the later ones; else return why it has no
        result."""
        try:
            lookup = look_up(self.cache, stage, self._context(stage), self.trail, selected=False)
        except MlopsError as error:
            if error.category != "input":
                raise
            return error.headline
        return self._adopted(stage, lookup) or lookup.why

    def _context(self, stage: Stage) -> Context:
        output = self.folders.output(stage.name)
        output.mkdir(parents=True, exist_ok=True)
        return self.make_context(
            output=output,
            upstream=Upstream(self.trail.results),
            folders=dict(self.trail.folders),
            say=lambda sentence, share=None: self.say(stage.name, sentence, share),
            show=lambda outcome: self.show(stage.name, outcome),
            fresh=self.fresh,
        )

    def _adopted(self, stage: Stage, lookup: Lookup) -> Taken | None:
        """Take a kept result with its files; None when there is none, or a damaged one, which is said."""
        damage = lookup.why if lookup.damaged else ""
        if lookup.entry is not None:
            try:
                return self._restored(stage, lookup.entry)
            except Damaged as error:
                damage = error.headline
        if damage:
            self.say(stage.name, f"{damage}; computing it again", None)
        return None

    def _restored(self, stage: Stage, entry: Entry) -> Taken:
        self.folders.forget(stage.name)
        self.cache.restore(entry, self.folders.output(stage.name))
        return Taken(result=replace(entry.result, status=Status.CACHED), entry=entry)

    def _computed(self, stage: Stage, context: Context, lookup: Lookup) -> Taken:
        self.folders.emptied(stage.name)
        began = time.monotonic()
        with self.stop.limit(_limit_seconds(stage, context), stage.name):
            raw = stage.run(context)
        self.stop.check()  # a stage may have swallowed the exception
        crossing(f"pipeline.after-run:{stage.name}")
        result = _masked(replace(raw, seconds=round(time.monotonic() - began, 3), key=lookup.key))
        if result.status is not Status.PASSED:
            return Taken(result=result)
        entry = self.cache.keep(
            result, context.output, _validity(stage, context, result), replacing=lookup.generation
        )
        crossing(f"pipeline.after-keep:{stage.name}")
        if entry.result == result:
            return Taken(result=result, entry=entry)
        self.say(stage.name, "another run was first with these inputs; its result is adopted", None)
        return self._restored(stage, entry)


def _masked(result: StageResult) -> StageResult:
    checks = tuple(
        replace(check, message=mask(check.message), remedy=mask(check.remedy)) for check in result.checks
    )
    return replace(result, summary=mask(result.summary), checks=checks)


def _validity(stage: Stage, context: Context, result: StageResult) -> Validity:
    # What an environment serves is no input of any stage, so an answer that depends on it must not be given
    # again.
    if result.facts.get("already_serving") is True and not isinstance(stage, Recognises):
        return Never()
    return stage.validity(context, result)


def _already_serving(stage: Stage, context: Context, result: StageResult) -> bool:
    if result.status not in GOES_ON:
        return False
    if isinstance(stage, Recognises):
        return stage.already_serving(context, result)
    return result.facts.get("already_serving") is True


def _limit_seconds(stage: Stage, context: Context) -> float | None:
    """Return the stage's own limit, else its contract section's ``timeout`` with room for setting up; None
    without."""
    if isinstance(stage, Limited):
        return stage.limit_seconds(context)
    timeout = getattr(getattr(context.contract, stage.name, None), "timeout", None)
    return None if timeout is None else float(timeout) + _SETUP_SECONDS
