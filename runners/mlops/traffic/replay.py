"""Replays rows as users' requests at a steady rate: ``python -m mlops.traffic.replay --url U --rows F ...``.

The rate is held by a schedule, with a bounded number of requests in flight. When the server cannot keep up, the schedule
waits for it: requests are sent later, never piled up. Every request is counted, and a failed one is a failed one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from mlops.errors import InfrastructureError, MlopsError
from mlops.processes import write_record
from mlops.traffic.client import Answer, is_up, post, run, session
from mlops.traffic.requests import v2_bodies

if TYPE_CHECKING:
    import aiohttp

_STATUS_SECONDS = 0.5
_BEHIND_SECONDS = 0.25
"""How far the schedule may be behind before it is moved to now."""
_RECENT = 4000
"""Latest answers that the percentiles are of."""
_KEPT_FAILURES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to replay, where to, and how fast."""

    url: str
    rows: Path
    rate: float
    concurrency: int
    status: Path
    features: tuple[str, ...] | None = None
    limit: int = 5000
    seconds: float | None = None
    """None: until SIGTERM."""
    wait_seconds: float = 60.0
    """How long to wait for the address to be ready before the first request."""
    timeout_seconds: float = 30.0


@dataclass(slots=True)
class Tally:
    """What became of the requests so far."""

    begun: float = field(default_factory=time.time)
    codes: Counter[str] = field(default_factory=Counter)
    lanes: Counter[str] = field(default_factory=Counter)
    ok: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    failures: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_FAILURES))
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=5))

    def count(self, answer: Answer) -> None:
        """Count one answer."""
        self.codes[answer.code] += 1
        if answer.lane:
            self.lanes[answer.lane] += 1
        if answer.ok:
            self.ok += 1
            self.recent.append(answer.seconds)
        else:
            self.failures.append({"at": time.time(), "code": answer.code, "error": answer.error})

    def as_record(self, settings: Settings, state: str) -> dict[str, Any]:
        """Return the content of the status file."""
        sent = self.codes.total()
        now = time.time()
        self.marks.append((now, sent))
        since, before = self.marks[0]
        slow = sorted(self.recent)
        return {
            "state": state,
            "url": settings.url,
            "rate": settings.rate,
            "at": now,
            "seconds": now - self.begun,
            "sent": sent,
            "ok": self.ok,
            "failed": sent - self.ok,
            "by_code": dict(self.codes),
            "by_lane": dict(self.lanes),
            "per_second": (sent - before) / (now - since) if now > since else 0.0,
            "p50_ms": _at(slow, 0.5),
            "p99_ms": _at(slow, 0.99),
            "failures": list(self.failures),
        }


@dataclass(slots=True)
class Schedule:
    """When the next request is due; times of one monotonic clock, in seconds."""

    rate: float
    due: float

    def next(self, now: float) -> float:
        """Return when to send the next request; a schedule that fell behind starts again from now."""
        self.due = max(self.due, now - _BEHIND_SECONDS)
        mine = self.due
        self.due += 1 / self.rate
        return mine


async def replay(settings: Settings, bodies: Sequence[bytes]) -> Tally:
    """Send the bodies over and over until the time is over or SIGTERM comes, and keep the status file current.

    InfrastructureError when the address is not ready within ``wait_seconds``.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with session(settings.concurrency, settings.timeout_seconds) as client:
        tally = Tally()
        write_record(settings.status, tally.as_record(settings, "waiting"))
        await _await_up(client, settings, stopped)
        tally = Tally()
        turn = itertools.cycle(bodies)
        schedule = Schedule(settings.rate, time.monotonic())
        workers = [
            asyncio.create_task(_work(client, settings, turn, schedule, tally, stopped))
            for _ in range(settings.concurrency)
        ]
        await _report(settings, tally, stopped)
        await asyncio.gather(*workers)
    write_record(settings.status, tally.as_record(settings, "ended"))
    return tally


async def _work(
    client: aiohttp.ClientSession,
    settings: Settings,
    turn: Iterator[bytes],
    schedule: Schedule,
    tally: Tally,
    stopped: asyncio.Event,
) -> None:
    while not stopped.is_set():
        await asyncio.sleep(max(schedule.next(time.monotonic()) - time.monotonic(), 0))
        if stopped.is_set():
            return
        answer = await post(client, settings.url, next(turn))
        tally.count(answer)
        if answer.code == "connection":
            await asyncio.sleep(0.05)  # nobody listens: ask again soon, not at once


async def _report(settings: Settings, tally: Tally, stopped: asyncio.Event) -> None:
    begun = time.monotonic()
    while not stopped.is_set():
        left = _STATUS_SECONDS
        if settings.seconds is not None:
            left = min(left, begun + settings.seconds - time.monotonic())
        if left <= 0:
            stopped.set()
            return
        try:
            await asyncio.wait_for(stopped.wait(), left)
        except TimeoutError:
            write_record(settings.status, tally.as_record(settings, "running"))


async def _await_up(client: aiohttp.ClientSession, settings: Settings, stopped: asyncio.Event) -> None:
    deadline = time.monotonic() + settings.wait_seconds
    health = urljoin(settings.url, "/v2/health/ready")
    while not stopped.is_set() and not await is_up(client, health):
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"Nothing is ready at {health}",
                expected=f"an answer within {settings.wait_seconds:g} s",
                found="none",
                remedy="See `mlops status`: is a release being served?",
                where=settings.url,
            )
        await asyncio.sleep(0.1)


def _at(ascending: Sequence[float], share: float) -> float | None:
    """Return the value at this share of the sorted latencies in milliseconds; None when there is none."""
    return 1000 * ascending[min(int(share * len(ascending)), len(ascending) - 1)] if ascending else None


def arguments(settings: Settings) -> list[str]:
    """Return the command that replays like this, for a process of its own."""
    command = [
        sys.executable,
        "-m",
        "mlops.traffic.replay",
        "--url",
        settings.url,
        "--rows",
        str(settings.rows),
    ]
    command += ["--rate", str(settings.rate), "--concurrency", str(settings.concurrency)]
    command += ["--status", str(settings.status), "--limit", str(settings.limit)]
    command += [
        "--wait-seconds",
        str(settings.wait_seconds),
        "--timeout-seconds",
        str(settings.timeout_seconds),
    ]
    if settings.features is not None:
        command += ["--features", json.dumps(settings.features)]
    if settings.seconds is not None:
        command += ["--seconds", str(settings.seconds)]
    return command


def parsed(argv: Sequence[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mlops.traffic.replay", description=__doc__)
    parser.add_argument("--url", required=True, help="address that each request is posted to")
    parser.add_argument(
        "--rows", required=True, type=Path, help="Parquet file; one request per row, over and over"
    )
    parser.add_argument("--rate", required=True, type=_positive, help="requests per second")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight at the most")
    parser.add_argument(
        "--status", required=True, type=Path, help="JSON file that is rewritten twice a second"
    )
    parser.add_argument(
        "--features", type=lambda text: tuple(json.loads(text)), help="columns, as a JSON list"
    )
    parser.add_argument("--limit", type=int, default=5000, help="rows that are read at the most")
    parser.add_argument("--seconds", type=_positive, help="end after so many seconds; else by SIGTERM")
    parser.add_argument("--wait-seconds", type=float, default=60.0, help="wait for the address to be ready")
    parser.add_argument("--timeout-seconds", type=_positive, default=30.0, help="time limit of one request")
    return Settings(**vars(parser.parse_args(argv)))


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, found {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Replay as the command line says; the exit code is 0, or that of the error, whose reason is in the status file."""
    settings = parsed(sys.argv[1:] if argv is None else argv)
    try:
        run(replay(settings, v2_bodies(settings.rows, settings.features, settings.limit)))
    except MlopsError as error:
        write_record(settings.status, {"state": "failed", "error": error.as_record()})
        print(f"{error.headline}. {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
