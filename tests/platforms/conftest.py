"""Rigs of the platform contract suite: one fixture value per platform; everything started here ends here."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlops.platforms.local import LocalPlatform
from mlops.platforms.port import Phase, Platform
from mlops.processes import alive
from mlops.release import Release
from tests.doubles.memory_platform import Behaviour, MemoryPlatform
from tests.platforms.rigs import StandIns, await_ready, call, squatting


class LocalRig:
    """The real platform with stand-in servers."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.launch = StandIns(folder)
        self.platform: Platform = LocalPlatform(self.home, launch=self.launch, drain_seconds=5)

    def behave(
        self, release: Release, *, errors: float = 0, refused: float = 0, broken: bool = False
    ) -> None:
        self.launch.faults[release.digest] = (errors, 0, 0)
        self.launch.refused[release.digest] = refused
        self.launch.broken |= {release.digest} if broken else set()

    def await_phase(self, lane: str, phase: Phase) -> None:
        await_ready(self.platform, lane, phase=phase)

    def serve(self, count: int) -> None:
        call(self.platform.endpoint(), count)

    def kill_server(self, lane: str) -> None:
        (record,) = (self.home / "servers").glob(f"{lane}-*/*.json")
        _kill(record)

    def kill_proxy(self) -> None:
        _kill(self.home / "envoy" / "envoy.json")

    @contextmanager
    def squatted(self) -> Iterator[None]:
        with squatting(self.platform.endpoint()):
            yield

    def starts(self) -> int:
        return len(self.launch.launched)


class MemoryRig:
    """The in-memory platform, whose traffic is drawn at random."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryPlatform(folder / "memory.json")
        self.platform: Platform = self.memory

    def behave(
        self, release: Release, *, errors: float = 0, refused: float = 0, broken: bool = False
    ) -> None:
        behaviour = Behaviour(error_rate=errors, refused_rate=refused, fails_to_start=broken)
        self.memory.behave(release.digest, behaviour)

    def await_phase(self, lane: str, phase: Phase) -> None:
        for _ in range(10):
            if self.platform.ready(lane).phase is phase:
                return
            self.memory.traffic(0)
            self.memory.sleep(1)
        raise AssertionError(self.platform.ready(lane))

    def serve(self, count: int) -> None:
        self.memory.traffic(count)
        self.memory.sleep(1)

    def kill_server(self, lane: str) -> None:
        self.memory.kill_lane(lane)

    def kill_proxy(self) -> None:
        self.memory.kill_proxy()

    @contextmanager
    def squatted(self) -> Iterator[None]:
        self.memory.refuse("check", f"Port {urlsplit(self.platform.endpoint()).port} is in use")
        yield
        self.memory.heal()

    def starts(self) -> int:
        return len(self.memory.effects("deploy"))


Rig = LocalRig | MemoryRig


@pytest.fixture(params=[LocalRig, MemoryRig], ids=["local", "memory"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each platform in turn."""
    made = request.param(tmp_path)
    yield made
    made.platform.stop()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRig]:
    """The local platform alone."""
    made = LocalRig(tmp_path)
    yield made
    made.platform.stop()


def _kill(record: Path) -> None:
    process = alive(record)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def answered(platform: Platform) -> Counter[str]:
    """Return the requests per lane that the platform has counted."""
    return Counter({each.lane: each.requests for each in platform.observe()})
