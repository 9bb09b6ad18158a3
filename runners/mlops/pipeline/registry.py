"""Find the stages and put them in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Iterable

from mlops import plugins
from mlops.errors import UserError
from mlops.pipeline.stage import Placed, Stage

ORDER = (
    "validate",
    "build",
    "test",
    "train",
    "package",
    "scan",
    "evaluate",
    "benchmark",
    "register",
    "rollout",
)


def find_stages() -> tuple[Stage, ...]:
    """Return an instance of every installed stage, in the order that they run."""
    return in_order(make() for make in plugins.load_all(plugins.STAGES).values())


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Sort: the known stages by the order of the pipeline, each other one behind the stage that it names in
    ``after``.

    Raises UserError for a stage that names none, an absent one, or one that in turn waits for it.
    """
    by_name = {stage.name: stage for stage in stages}
    placed = [name for name in ORDER if name in by_name]
    waiting = sorted(name for name in by_name if name not in ORDER)
    while waiting:
        ready = [name for name in waiting if _after(by_name[name]) in placed]
        if not ready:
            raise _misplaced(by_name[waiting[0]], by_name)
        # Reversed, so that several behind the same stage end up in the order of their names.
        for name in reversed(ready):
            placed.insert(placed.index(_after(by_name[name])) + 1, name)
            waiting.remove(name)
    return tuple(by_name[name] for name in placed)


def _after(stage: Stage) -> str:
    return stage.after if isinstance(stage, Placed) else ""


def _misplaced(stage: Stage, known: Iterable[str]) -> UserError:
    after = _after(stage)
    meant = plugins.nearest(after, [name for name in known if name != stage.name])
    return UserError(
        f"stage {stage.name!r} has no place in the pipeline",
        expected="an attribute `after` with the name of an installed stage",
        found=f"after = {after!r}" if after else "no attribute `after`",
        remedy=f"did you mean after = {meant!r}?" if meant else "set `after` in the package of that stage",
        where=f"{type(stage).__module__}:{type(stage).__qualname__}",
    )
