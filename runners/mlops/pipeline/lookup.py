"""Find out, before a stage runs, whether its result is already kept; shared by the plan and the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.pipeline.cache import Cache, Damaged, Entry, key_of
from mlops.pipeline.results import StageResult

if TYPE_CHECKING:
    from mlops.pipeline.stage import Context, Stage

MakeContext = Callable[..., "Context"]
"""``functools.partial(Context, contract=..., profile=..., ...)``: everything but what the frame fills in
for each stage,
which is ``output, upstream, folders, say, show, fresh``."""


@dataclass(slots=True)
class Trail:
    """What the stages so far have come to."""

    results: dict[str, StageResult] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    """What enters the keys of later stages; a stage that was skipped left nothing to read and has none."""

    def add(self, result: StageResult, folder: Path, entry: Entry | None = None) -> None:
        """Go on by one stage."""
        self.results[result.stage] = result
        self.folders[result.stage] = folder
        if entry is not None:
            self.identities[result.stage] = entry.identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The answer: the entry to use, or why there is none."""

    key: str
    entry: Entry | None
    why: str
    """A clause for a person."""
    generation: int = 0
    """The last generation that is kept under the key, usable or not; a new result becomes the next one."""
    damaged: bool = False


def look_up(cache: Cache, stage: Stage, context: Context, trail: Trail, *, selected: bool = True) -> Lookup:
    """Look for a kept result of the stage for these inputs.

    Of a stage that is not selected, a result that must not be reused is still handed on to the later stages.
    """
    key = key_of(stage, stage.inputs(context), trail.identities)
    if selected and context.fresh:
        return Lookup(
            key=key, entry=None, why="fresh asked for", generation=cache.last_generation(stage.name, key)
        )
    try:
        entry = cache.find(stage.name, key)
    except Damaged as error:
        generation = cache.last_generation(stage.name, key)
        return Lookup(key=key, entry=None, why=error.headline, generation=generation, damaged=True)
    if entry is None:
        return Lookup(key=key, entry=None, why="nothing is kept for these inputs")
    now = datetime.now(UTC)
    if entry.reusable(now) or (not selected and entry.handed_on(now)):
        return Lookup(key=key, entry=entry, why="same inputs as before", generation=entry.generation)
    why = "is computed every time" if entry.until == "never" else f"the kept result expired at {entry.until}"
    return Lookup(key=key, entry=None, why=why, generation=entry.generation)
