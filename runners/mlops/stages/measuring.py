"""Puts packaged models into their real servers and measures them side by side, round by round."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.errors import InfrastructureError
from mlops.processes import Detached, alive, end, free_port, spawn, tail
from mlops.release import Release
from mlops.serving.launch import Launcher
from mlops.traffic.load import Load, measure
from mlops.traffic.requests import v2_bodies

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

START_SECONDS = 120.0
_WARM_UP_SECONDS = 0.5
_ROWS = 200


class NotStarted(InfrastructureError):  # noqa: N818 - says the fact
    """A packaged model's server did not become ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A packaged model in its server."""

    name: str
    """``candidate`` or ``champion``."""
    url: str
    bodies: Sequence[bytes]
    process: Detached
    start_seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one server did over all rounds."""

    name: str
    rounds: tuple[Load, ...]
    memory_bytes: int
    """Resident memory of the server and its children after the load."""
    start_seconds: float
    size_bytes: int

    @property
    def failures(self) -> int:
        """Failed requests of all rounds."""
        return sum(load.failures for load in self.rounds)

    @property
    def answers(self) -> int:
        """Successful requests of all rounds."""
        return sum(len(load.latencies_seconds) for load in self.rounds)

    @property
    def complete(self) -> bool:
        """Whether every round has answers to measure."""
        return all(len(load.latencies_seconds) for load in self.rounds)

    @property
    def first_error(self) -> str:
        """The first error that a request met, empty without one."""
        return next((load.first_error for load in self.rounds if load.first_error), "")

    @property
    def latencies_seconds(self) -> NDArray[np.float64]:
        """Latencies of all rounds."""
        import numpy as np

        return np.concatenate([load.latencies_seconds for load in self.rounds])

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latency over all rounds, in milliseconds."""
        import numpy as np

        return float(np.percentile(self.latencies_seconds, percent) * 1000)

    def per_round_ms(self, percent: float) -> list[float]:
        """Return a percentile of the latency in each round, in milliseconds."""
        import numpy as np

        return [float(np.percentile(load.latencies_seconds, percent) * 1000) for load in self.rounds]

    @property
    def rate(self) -> float:
        """Successful requests per second over all rounds."""
        seconds = sum(load.seconds for load in self.rounds)
        return self.answers / seconds if seconds else 0.0


class Bench:
    """Starts servers below one folder; every one of them is ended when the bench is left, however it is left."""

    def __init__(self, folder: Path, launcher: Launcher) -> None:
        self._folder = folder
        self._launcher = launcher

    @contextmanager
    def open(self) -> Iterator[Bench]:
        """End what an earlier, killed run left; end everything at the end."""
        self._end_all()
        try:
            yield self
        finally:
            self._end_all()

    def start(self, name: str, release: Release, rows: Path | None = None) -> Server:
        """Start the release's server and wait until it is ready; NotStarted with the end of its log otherwise.

        It is asked for the rows of ``rows`` if they have its features, for its own golden rows otherwise.
        """
        package = self._launcher.package(release.package)
        port = free_port()
        command = self._launcher.unreleased(release, port)
        begun = time.monotonic()
        record, log = self._folder / f"{name}.json", self._folder / f"{name}.log"
        log.unlink(missing_ok=True)
        process = spawn(
            command.argv, log=log, record=record, variables=command.variables, folder=command.folder
        )
        _await_ready(port, record, log, name)
        return Server(
            name=name,
            url=f"http://127.0.0.1:{port}/v2/models/{release.model}/infer",
            bodies=_bodies(package, rows),
            process=process,
            start_seconds=time.monotonic() - begun,
            size_bytes=sum(path.stat().st_size for path in package.rglob("*") if path.is_file()),
        )

    def _end_all(self) -> None:
        for record in sorted(self._folder.glob("*.json")):
            end(record, grace_seconds=5)
        shutil.rmtree(self._folder, ignore_errors=True)


def measure_in_turns(
    servers: Sequence[Server],
    *,
    rounds: int,
    seconds: float,
    concurrency: int,
    say: Callable[[str, float | None], None],
) -> list[Measured]:
    """Load the servers one after the other, ``rounds`` times, and return one record each.

    The order turns around with every round, so that a machine that grows slower or faster favours nobody. A warm-up
    comes before and is not counted.
    """
    for server in servers:
        say(f"warming up the {server.name}", None)
        measure(server.url, server.bodies, seconds=_WARM_UP_SECONDS, concurrency=concurrency)
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 == 0 else tuple(reversed(servers)):
            say(f"round {number + 1} of {rounds}: the {server.name}", number / rounds)
            loads[server.name].append(
                measure(server.url, server.bodies, seconds=seconds, concurrency=concurrency)
            )
    return [
        Measured(
            name=server.name,
            rounds=tuple(loads[server.name]),
            memory_bytes=_resident_bytes(server.process.pid),
            start_seconds=server.start_seconds,
            size_bytes=server.size_bytes,
        )
        for server in servers
    ]


def hardware() -> Mapping[str, str | int]:
    """Return what measurements depend on: processor, cores, architecture; a cached result of other hardware is void."""
    import os
    import platform

    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def _processor() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _bodies(package: Path, rows: Path | None) -> list[bytes]:
    facts = json.loads((package / "package.json").read_text())
    features = list(facts["features"])
    own = package / "golden.parquet"
    return v2_bodies(rows if rows is not None and _has(rows, features) else own, features, _ROWS)


def _has(rows: Path, features: Sequence[str]) -> bool:
    import pyarrow.parquet as pq

    return set(features) <= set(pq.read_schema(rows).names)


def _await_ready(port: int, record: Path, log: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _ready(port):
        if alive(record) is None or time.monotonic() > deadline:
            raise NotStarted(
                f"The server of the {name} did not become ready",
                expected=f"a ready server within {START_SECONDS:g} s",
                found=tail(log) or "it wrote nothing",
                remedy="Read what it wrote, above; often a file or a package was not logged with the model.",
            )
        time.sleep(0.02)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        leader = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (leader, *leader.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0
