"""Killed at any point between an intent and its effect; the next command repairs, and the end is the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops.ledger.state import Placement
from mlops.rollout.outcome import Progress
from tests.doubles.memory_platform import Behaviour
from tests.rollout import driver
from tests.rollout.conftest import World, a_release

POINTS = (
    "rollout.after:rollout-started",
    "rollout.after-deploy",
    "rollout.after-tick",
    "rollout.after:weight-set",
    "rollout.before-split",
    "rollout.after-split",
    "ledger.before-append",
    "ledger.after-append",
)


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which version 1 serves, made once and copied."""
    world = World(tmp_path_factory.mktemp("served") / "world")
    world.roll_out(1)
    world.settle()
    return world.folder


@pytest.fixture
def world(served_folder: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(served_folder, tmp_path / "world")))


@pytest.fixture(scope="module")
def promoted_folder(served_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which version 2 was promoted without any disturbance."""
    folder = Path(shutil.copytree(served_folder, tmp_path_factory.mktemp("promoted") / "world"))
    driver.main(str(folder), "watch")
    return folder


@pytest.fixture
def promoted(promoted_folder: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(promoted_folder, tmp_path / "world")))


def killed(world: World, what: str, point: str) -> None:
    """Run it in a process of its own that kills itself at the point."""
    done = subprocess.run(
        [sys.executable, driver.__file__, str(world.folder), what],
        env={**os.environ, "MLOPS_KILL_AT": point},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, f"not killed at {point}: {done.returncode} {done.stderr}"


def summary(world: World) -> dict[str, Any]:
    """Return all that must be equal whether somebody was killed or not."""
    state = world.state
    world.agrees()
    version = lambda placement: placement.release["version"] if placement else None  # noqa: E731
    placed: list[Placement | None] = [state.serving, state.warm]
    return {
        "placed": [version(each) for each in placed],
        "lanes": [each.lane for each in placed if each],
        "rollout": state.rollout,
        "draining": state.draining,
        "events": [event.kind for event in world.events()],
        "weights": [event.data["weight"] for event in world.events("weight-set")],
        "ticks": world.store.list("rollouts/"),
    }


@pytest.mark.parametrize("point", [*POINTS, "rollout.after:promoted"])
def test_a_promotion_ends_the_same(world: World, point: str, promoted_folder: Path) -> None:
    killed(world, "watch", point)
    driver.main(str(world.folder), "watch")
    after, before = summary(world), summary(World(promoted_folder))
    leftovers = after.pop("ticks"), before.pop("ticks")
    assert after == before
    assert leftovers[1] == []
    assert leftovers[0] == [] or point == "rollout.after:promoted"
    assert after["placed"] == ["2", "1"]


@pytest.mark.parametrize("point", ["rollout.after:rolled-back", "rollout.after:retired"])
def test_a_judged_rollback_ends_the_same(world: World, point: str) -> None:
    world.platform.behave(a_release(2).digest, Behaviour(error_rate=0.05))
    killed(world, "watch", point)
    world.settle()
    after = summary(world)
    assert after["placed"] == ["1", None]
    assert after["draining"] == ()
    assert after["events"][-2:] == ["rolled-back", "retired"]


@pytest.mark.parametrize(
    "point",
    ["rollout.after:rolled-back", "rollout.before-split", "rollout.after-split", "ledger.after-append"],
)
def test_a_persons_rollback_is_repaired_by_any_command(promoted: World, point: str) -> None:
    world = promoted
    killed(world, "rollback", point)
    driver.main(str(world.folder), "rollback")
    after = summary(world)
    assert after["placed"] == ["1", "2"]
    assert after["events"].count("rolled-back") == 1


def test_a_tick_carries_out_what_a_killed_rollback_decided(promoted: World) -> None:
    killed(promoted, "rollback", "rollout.after:rolled-back")
    promoted.settle()
    assert summary(promoted)["placed"] == ["1", "2"]


def test_a_rollback_killed_before_its_event_has_not_happened(promoted: World) -> None:
    world = promoted
    killed(world, "rollback", "ledger.before-append")
    world.settle()
    assert summary(world)["placed"] == ["2", "1"]


def test_a_superseding_rollout_begins_all_the_same(world: World) -> None:
    world.begin(2)
    world.until(lambda outcome: outcome.weight == 0.1)
    killed(world, "supersede", "rollout.after:rolled-back")
    assert world.state.rollout is None, "the first event is there, the second is not"
    driver.main(str(world.folder), "supersede")
    after = summary(world)
    assert after["placed"] == ["3", "1"]
    assert after["events"].count("rolled-back") == 1
    assert after["events"].count("rollout-started") == 3
    assert after["ticks"] == []


def test_a_warm_release_whose_window_is_over_leaves_once(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    killed(promoted, "advance", "rollout.after:retired")
    assert len(promoted.platform.look().lanes) == 2, "decided, not done"
    promoted.settle()
    after = summary(promoted)
    assert after["placed"] == ["2", None]
    assert after["draining"] == ()
    assert len(promoted.platform.look().lanes) == 1
    assert [each for each in after["events"] if each == "retired"] == ["retired"] * retirements(promoted)


def retirements(world: World) -> int:
    """Return the number of (lane, release) that have left, each of which is said once."""
    return len({(event.data["lane"], event.data["release"]) for event in world.events("retired")})


@pytest.mark.parametrize("again", ["rollback", "advance"])
def test_a_cold_return_goes_on(promoted: World, again: str) -> None:
    promoted.platform.sleep(90_000)
    promoted.settle()
    assert promoted.state.warm is None
    killed(promoted, "rollback", "rollout.after:rollout-started")
    assert promoted.state.rollout is not None
    driver.main(str(promoted.folder), again)
    promoted.settle()
    after = summary(promoted)
    assert after["placed"] == ["1", "2"]
    assert after["events"].count("rolled-back") == 1
    assert after["rollout"] is None


def test_no_point_of_any_part_is_left_out() -> None:
    """Each place where a process may be killed is named by a test; a placeholder stands for any word."""
    root = Path(__file__).parents[2]
    sources = [path.read_text() for path in (root / "runners" / "mlops").rglob("*.py")]
    calls = [each for source in sources for each in re.findall(r"\bcrossing\((.*)\)", source)]
    points = [each for call in calls for each in re.findall(r'^f?"([^"]+)"$', call)]
    definitions = [call for call in calls if call == "point: str"]
    assert len(points) + len(definitions) == len(calls), "a point that is no literal cannot be found here"
    named = [path.read_text() for path in (root / "tests").rglob("test_*.py")]
    lacking = {point for point in points if not any(re.search(_pattern(point), text) for text in named)}
    assert lacking == set()
    assert len(set(points)) >= 20


def _pattern(point: str) -> str:
    """Return what finds the point in a test; a test may add the word for the placeholder later."""
    prefix, placeholder, rest = point.partition(":{")
    assert rest.endswith("}") if placeholder else not rest
    return f'"{re.escape(prefix)}' + (r'(?::[\w{}.-]+)?"' if placeholder else '"')


def test_two_watchers_at_once_decide_once(world: World) -> None:
    world.begin(2)
    command = [sys.executable, driver.__file__, str(world.folder), "watch"]
    watchers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for watcher in watchers:
        _, errors = watcher.communicate(timeout=120)
        assert watcher.returncode == 0, errors
    after = summary(world)
    assert after["placed"] == ["2", "1"]
    assert after["weights"] == [1.0, 0.1, 0.5]
    assert after["events"].count("promoted") == 2
    assert world.engine.advance().progress is Progress.IDLE
