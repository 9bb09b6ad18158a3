"""Does one thing in a world, as a process of its own that may be killed: ``driver.py FOLDER WHAT``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "runners")]

from tests.rollout.conftest import World, a_release, settings  # noqa: E402


def main(folder: str, what: str) -> None:
    """Do it."""
    world = World(Path(folder))
    if what == "supersede":
        world.engine.begin(a_release(3), settings(), "release 3", supersede=True)
        world.engine.watch()
        world.settle()
    if what == "watch":
        world.engine.begin(a_release(2), settings(), "release 2")
        world.engine.watch()
        world.settle()
    if what == "rollback":
        world.engine.rollback("bad")
    if what == "advance":
        world.settle()


if __name__ == "__main__":
    main(*sys.argv[1:])
