"""How fast a change of the split takes effect, and what it costs users: a real Envoy before stand-in servers.

    python benchmarks/split.py [rounds]

Each round goes 0 -> 10 -> 50 -> 100 % and back at once, while about 100 requests a second come from four callers that keep
their connections. A request *starts on* a lane when its server receives it. Prints a table and writes
build/bench/split.json.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, publish

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlops.platforms.local import LocalPlatform
from mlops.platforms.port import Deployment, Split
from mlops.processes import alive
from tests.platforms.rigs import Caller, StandIns, await_ready, call, release

RATE = 100.0
PAUSE_SECONDS = 0.4


def divide(platform: LocalPlatform, share: float) -> tuple[float, float]:
    """Give green the share; return when the call was made and how long it took, in seconds."""
    called = time.time()
    begun = time.perf_counter()
    platform.split(Split({"blue": 1 - share, "green": share}))
    return called, time.perf_counter() - begun


def move(platform: LocalPlatform, rounds: int) -> tuple[Caller, list[float], list[float]]:
    """Move traffic there and back; return the caller, the split calls' durations and the moments of both ends."""
    durations, forth, back = [], [], []
    with Caller(platform.endpoint(), rate=RATE) as caller:
        for _ in range(rounds):
            for share in (0.1, 0.5, 1.0, 0.0):
                called, took = divide(platform, share)
                durations.append(took)
                (forth if share == 1.0 else back if share == 0.0 else []).append(called)
                time.sleep(PAUSE_SECONDS)
    late = [_late(caller, "blue", each) for each in forth] + [_late(caller, "green", each) for each in back]
    return caller, durations, late


def _late(caller: Caller, lane: str, called: float) -> float:
    """Return how long after the call the last request started on the lane that was left; 0 when none did."""
    arrivals = [each.arrived for each in caller.answers if each.lane == lane]
    within = [each - called for each in arrivals if called < each < called + PAUSE_SECONDS]
    return max(within, default=0.0)


def looks(platform: LocalPlatform, count: int = 50) -> list[float]:
    """Return how long each of some observations takes, in seconds, while nobody calls."""
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        platform.observe()
        seconds.append(time.perf_counter() - begun)
    return seconds


def uncounted(platform: LocalPlatform) -> int:
    """Return how many of 500 answered requests the observation right after them has not counted."""
    before = sum(each.requests for each in platform.observe())
    call(platform.endpoint(), 500)
    return 500 - (sum(each.requests for each in platform.observe()) - before)


def repair(platform: LocalPlatform, home: Path) -> float:
    """Kill Envoy; return the seconds until the next deployment has it answering again."""
    process = alive(home / "envoy" / "envoy.json")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    while platform.current() is not None:
        time.sleep(0.01)
    begun = time.perf_counter()
    platform.deploy(Deployment("blue", release("a")))
    assert call(platform.endpoint(), 1).failed() == []
    return time.perf_counter() - begun


def main(rounds: int) -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        platform = LocalPlatform(home, launch=StandIns(Path(folder)))
        try:
            begun = time.perf_counter()
            platform.deploy(Deployment("blue", release("a")))
            platform.deploy(Deployment("green", release("b")))
            await_ready(platform, "blue", "green")
            started = time.perf_counter() - begun
            divide(platform, 0.0)
            caller, durations, late = move(platform, rounds)
            lag, seconds, repaired = uncounted(platform), looks(platform), repair(platform, home)
        finally:
            platform.stop()
    publish(
        "split",
        [
            Figure(
                "from the split call to the last request started on the old lane, worst",
                1e3 * max(late),
                "ms",
                100,
                "<=",
            ),
            Figure("the same, median", 1e3 * statistics.median(late), "ms"),
            Figure("split call, median", 1e3 * statistics.median(durations), "ms"),
            Figure("split call, worst", 1e3 * max(durations), "ms", 100, "<="),
            Figure("failed requests while traffic moved", len(caller.failed()), "requests", 0, "<="),
            Figure("requests while traffic moved", len(caller.answers), "requests"),
            Figure("changes of the split", len(durations), "splits"),
            Figure("observation, median", 1e3 * statistics.median(seconds), "ms"),
            Figure("observation, worst", 1e3 * max(seconds), "ms"),
            Figure("answered requests not yet counted", lag, "requests", 0, "<="),
            Figure("two servers and the proxy started and ready", 1e3 * started, "ms"),
            Figure("a killed proxy repaired", 1e3 * repaired, "ms"),
        ],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
