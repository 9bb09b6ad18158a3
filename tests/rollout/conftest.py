"""A rollout world on the memory platform: a real ledger and real ticks in a store of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops.canonical import digest_bytes
from mlops.contract.model import Rollout
from mlops.ledger import Author, Ledger
from mlops.ledger.events import Event, Payload
from mlops.ledger.state import State
from mlops.platforms.port import LANES, Phase
from mlops.release import Release
from mlops.rollout.engine import Engine
from mlops.rollout.outcome import Outcome
from mlops.rollout.placing import residents
from mlops.store import open_store
from tests.doubles.memory_platform import Behaviour, MemoryPlatform, shares


def a_release(version: int) -> Release:
    """Return a release; equal versions are equal releases."""
    return Release(
        model="flights", version=str(version), package=digest_bytes(b"%d" % version), contract="c" * 64
    )


def settings(**changes: Any) -> dict[str, Any]:
    """Return a contract's rollout section as the ledger keeps it."""
    return Rollout.model_validate(changes).model_dump(mode="json")


@dataclass
class World:
    """Everything that outlives a process; ``engine()`` is what a new process would make of it."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = open_store((self.folder / "store").as_uri())
        self.platform = MemoryPlatform(self.folder / "platform.json")
        self.ledger = Ledger(
            self.store, "flights", "production", author=Author("ann"), clock=self.platform.utc
        )
        self.engine = self.an_engine()

    def an_engine(self, platform: Any = None, **changes: Any) -> Engine:
        """Return an engine as another process would have it, perhaps with a view of the platform of its own."""
        clocks = {"clock": self.platform.clock, "pace": self.platform.clock, "sleep": self.platform.sleep}
        return Engine(self.ledger, platform or self.platform, self.store, **{**clocks, **changes})

    @property
    def state(self) -> State:
        return self.ledger.state()

    def events(self, kind: str = "") -> list[Event]:
        return [event for event in self.ledger.events() if kind in ("", event.kind)]

    def payload(self, kind: str) -> Any:
        """Return the only payload of a kind."""
        (event,) = self.events(kind)
        assert isinstance(event.payload, Payload)
        return event.payload

    def roll_out(
        self, version: int, behaviour: Behaviour | None = None, tick_seconds: float = 1, **changes: Any
    ) -> Outcome:
        """Begin a rollout and watch it to its end."""
        self.begin(version, behaviour, **changes)
        return self.engine.watch(tick_seconds=tick_seconds)

    def begin(self, version: int, behaviour: Behaviour | None = None, **changes: Any) -> str:
        release = a_release(version)
        if behaviour is not None:
            self.platform.behave(release.digest, behaviour)
        return self.engine.begin(release, settings(**changes), f"release {version}")

    def until(self, holds: Callable[[Outcome], bool]) -> Outcome:
        """Advance, a second at a time, until an outcome holds."""
        for _ in range(1000):
            outcome = self.engine.advance()
            if holds(outcome):
                return outcome
            self.platform.sleep(1)
        raise AssertionError(f"never: {outcome}")

    def settle(self) -> None:
        """Advance until there is nothing left to do."""
        for _ in range(4):
            self.engine.advance()
            self.platform.sleep(1)

    def agrees(self) -> None:
        """Assert that the platform is what the ledger says."""
        state, memory = self.state, self.platform.look()
        wanted = {lane: each.digest for lane, each in residents(state).items()}
        assert {lane: each["release"] for lane, each in memory.lanes.items()} == wanted
        assert shares(memory.weights) == shares(state.weights()) or not state.weights()

    def serves(self) -> str:
        """Return the version that has all of the traffic."""
        self.agrees()
        serving = self.state.serving
        assert serving is not None
        assert self.platform.ready(serving.lane).phase is Phase.READY
        return str(serving.release["version"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty world."""
    return World(tmp_path / "world")


@pytest.fixture
def served(world: World) -> World:
    """A world in which version 1 serves."""
    outcome = world.roll_out(1)
    assert outcome.exit_code == 0, outcome
    world.settle()
    return world


__all__ = ["LANES", "Behaviour", "World", "a_release", "settings"]
