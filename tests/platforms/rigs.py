"""What the platform tests stand on: releases, a launch of the stand-in server, and a small steady caller."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlops.platforms.envoy import is_free
from mlops.platforms.port import Phase, Platform
from mlops.release import Release

STAND_IN = Path(__file__).with_name("stand_in_server.py")


def release(name: str) -> Release:
    """Return a release whose package is named by the letter."""
    return Release(model="m", version="1", package=name * 64, contract="c" * 64)


@dataclass(frozen=True)
class Command:
    """A server command of the stand-in."""

    argv: list[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass
class StandIns:
    """Launches stand-in servers; ``faults`` gives a release its (error share, delay, start time), ``refused`` a share of 422."""

    folder: Path
    faults: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    launched: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, release: Release, port: int) -> Command:
        self.launched.append((release.short, port))
        if release.digest in self.broken:
            return Command([sys.executable, "-c", "raise SystemExit('no such model')"], self.folder)
        faults = (*self.faults.get(release.digest, (0.0, 0.0, 0.0)), self.refused.get(release.digest, 0.0))
        return Command(
            [sys.executable, "-I", str(STAND_IN), str(port), release.short, *map(str, faults)], self.folder
        )


def await_ready(platform: Platform, *lanes: str, phase: Phase = Phase.READY, seconds: float = 20) -> None:
    """Wait until the lanes are ready, or in another phase."""
    deadline = time.monotonic() + seconds
    while any(platform.ready(lane).phase is not phase for lane in lanes):
        assert time.monotonic() < deadline, [platform.ready(lane) for lane in lanes]
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    """What one request got; status 0 when the connection failed."""

    sent: float
    status: int
    lane: str
    arrived: float
    error: str = ""


class Caller:
    """Calls an endpoint at a steady rate from a few threads until it is told to stop; nothing is retried."""

    def __init__(
        self, endpoint: str, rate: float, threads: int = 4, path: str = "/v2/models/m/infer"
    ) -> None:
        self._address = urlsplit(endpoint).netloc
        self._pause = threads / rate
        self._path = path
        self._stopped = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._call, args=(index,)) for index in range(threads)]

    def __enter__(self) -> Caller:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def by_lane(self) -> Counter[str]:
        """Count the answers per lane."""
        return Counter(each.lane for each in self.answers)

    def failed(self) -> list[Answer]:
        """Return the answers that were no answers, or errors."""
        return [each for each in self.answers if each.status != 200]

    def _call(self, index: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        due = time.monotonic() + self._pause * index / len(self._threads)
        while not self._stopped.wait(max(due - time.monotonic(), 0)):
            due = max(due + self._pause, time.monotonic() - 1)
            self.answers.append(self._one(connection))
        connection.close()

    def _one(self, connection: http.client.HTTPConnection) -> Answer:
        sent = time.time()
        try:
            connection.request("POST", self._path, body=b"{}")
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            connection.close()
            return Answer(sent, 0, "", 0.0, repr(error))
        headers = response.headers
        return Answer(
            sent,
            response.status,
            headers.get("x-mlops-lane", ""),
            float(headers.get("x-arrived", 0)),
            "" if response.status == 200 else body.decode(),
        )


@contextmanager
def squatting(endpoint: str) -> Iterator[None]:
    """Listen at the address, as another program of the user would."""
    port = urlsplit(endpoint).port or 0
    deadline = time.monotonic() + 10
    while not is_free(port) and time.monotonic() < deadline:
        time.sleep(0.02)  # a proxy that was killed a moment ago still holds it
    with socket.create_server(("127.0.0.1", port)):
        yield


def call(endpoint: str, count: int) -> Caller:
    """Send so many requests as fast as one caller can, and return the answers."""
    caller = Caller(endpoint, rate=1e6, threads=1)
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    caller.answers = [caller._one(connection) for _ in range(count)]
    connection.close()
    return caller
