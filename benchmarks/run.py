"""Measure the main job as a new user meets it: fresh clone, empty caches, `make run`; then again, then back under load.

Everything happens in a temporary folder; nothing of the caller's releases is touched.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from figures import Figure, publish

from mlops.traffic.requests import v2_bodies

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent (seconds since 1970), by which lane it was answered, and whether well."""

    sent: float
    lane: str
    ok: bool


class Users:
    """About 100 requests a second to the served model, from four callers that keep their connections."""

    def __init__(self, clone: Path, data: Path) -> None:
        self._data = data
        port = json.loads(next(data.glob("mlops/platform/flight-delay/*/port.json")).read_text())
        self._port = int(port["port"] if isinstance(port, dict) else port)
        rows = clone / "examples" / "flights" / "data" / "replay.parquet"
        package = next(data.glob("mlops/packages/*/package.json"))
        self._bodies = v2_bodies(rows, json.loads(package.read_text())["features"], limit=200)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(4)]
        self.answers: list[Answered] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        for turn in itertools.count(number):
            if self._ended.wait(0.04):
                return
            sent = time.time()
            body = self._bodies[turn % len(self._bodies)]
            connection.request(
                "POST", "/v2/models/flight-delay/infer", body, {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
            self.answers.append(Answered(sent, answer.headers.get("x-mlops-lane", ""), answer.status == 200))

    def failed(self) -> int:
        """Return how many were not answered well."""
        return sum(not each.ok for each in self.answers)

    def late_ms(self) -> float:
        """Return how long after the event of the rollback the last request was sent that the old lane answered."""
        events = sorted(self._data.glob("mlops/store/ledger/flight-delay/production/*.json"))
        began = events[-1].stat().st_mtime
        old = min(self.answers, key=lambda each: each.sent).lane
        late = [each.sent - began for each in self.answers if each.lane == old and each.sent > began]
        return 1000 * max(late, default=0.0)


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as scratch:
        publish("run", figures(Path(scratch)))


def figures(scratch: Path) -> list[Figure]:
    """Run the whole story once."""
    clone, log = scratch / "clone", scratch / "log.txt"
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLOPS_", "VIRTUAL_ENV"))
        },
        "XDG_DATA_HOME": str(scratch / "data"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "UV_CACHE_DIR": str(scratch / "uv-cache"),
        "PIP_CACHE_DIR": str(scratch / "pip-cache"),
    }

    def call(*arguments: str, folder: Path = clone) -> None:
        with log.open("ab") as stream:
            ended = subprocess.run(
                arguments, cwd=folder, env=environment, stdout=stream, stderr=stream, check=False
            )
        if ended.returncode:
            sys.exit(f"{' '.join(arguments)} ended with {ended.returncode}:\n{log.read_text()[-3000:]}")

    call("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone), folder=ROOT)
    mlops = str(clone / ".venv" / "bin" / "mlops")
    try:
        fresh = timed(lambda: call("make", "run"))
        first = json.loads((clone / "examples/flights/.mlops/run.json").read_text())
        again = timed(lambda: call(mlops, "run", "examples/flights"))
        second = json.loads((clone / "examples/flights/.mlops/run.json").read_text())
        if not second["already_serving"]:
            sys.exit("the second run did not end as already serving")
        with Users(clone, scratch / "data") as users:
            time.sleep(2)
            back = timed(lambda: call(mlops, "rollback", "flight-delay"))
            time.sleep(2)
        help_ms = [1000 * timed(lambda: call(mlops, "--help")) for _ in range(15)]
    finally:
        call(mlops, "stop")
    return [
        Figure("make run, fresh clone, empty caches", fresh, "s", 360, "<="),
        Figure("pipeline proper (candidate)", first["seconds"], "s", 120, "<="),
        Figure("cached rerun, whole command", again, "s", 5, "<="),
        Figure("rollback under 100 requests/s, whole command", back, "s", 1.5, "<="),
        Figure(
            "rollback, last request sent to the old slot after the event", users.late_ms(), "ms", 100, "<="
        ),
        Figure("rollback, failed requests", users.failed(), "requests", 0, "<="),
        Figure("rollback, requests meanwhile", len(users.answers), "requests"),
        Figure("mlops --help, median of 15", statistics.median(help_ms), "ms", 200, "<="),
        *(Figure(f"stage {each['stage']}", each["seconds"], "s") for each in first["stages"]),
    ]


if __name__ == "__main__":
    main()
