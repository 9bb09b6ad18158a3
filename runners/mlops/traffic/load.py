"""Measures a server under steady load: a fixed number of requests in flight, the next one sent when one is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.traffic.client import post, run, session

if TYPE_CHECKING:
    import aiohttp
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server did under load."""

    latencies_seconds: NDArray[np.float64]
    """One per successful request, in order of their answers."""
    failures: int
    """Requests that failed: no connection, no answer in time, or a status outside 2xx."""
    seconds: float
    """From the first request to the last answer."""
    by_code: dict[str, int]
    first_error: str = ""

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return len(self.latencies_seconds) / self.seconds if self.seconds else 0.0


def measure(
    url: str,
    bodies: Sequence[bytes],
    *,
    seconds: float,
    concurrency: int,
    timeout_seconds: float = 30.0,
) -> Load:
    """Send the bodies over and over for so many seconds with ``concurrency`` requests in flight.

    Requests in flight at the end are waited for. Nothing is retried; failures are counted and have no latency.
    """
    import numpy as np

    latencies, codes, errors, lasted = run(_measure(url, bodies, seconds, concurrency, timeout_seconds))
    return Load(
        latencies_seconds=np.array(latencies, dtype=np.float64),
        failures=codes.total() - len(latencies),
        seconds=lasted,
        by_code=dict(codes),
        first_error=errors[0] if errors else "",
    )


async def _measure(
    url: str, bodies: Sequence[bytes], seconds: float, concurrency: int, timeout_seconds: float
) -> tuple[list[float], Counter[str], list[str], float]:
    latencies: list[float] = []
    codes: Counter[str] = Counter()
    errors: list[str] = []
    turn = itertools.cycle(bodies)

    async def worker(client: aiohttp.ClientSession, turn: Iterator[bytes], begun: float) -> None:
        while time.perf_counter() - begun < seconds:
            answer = await post(client, url, next(turn))
            codes[answer.code] += 1
            if answer.ok:
                latencies.append(answer.seconds)
            else:
                errors.append(f"{answer.code}: {answer.error}")
                await asyncio.sleep(0.01)  # a server that is gone must not be asked in a tight loop

    async with session(concurrency, timeout_seconds) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(worker(client, turn, begun) for _ in range(concurrency)))
        return latencies, codes, errors, time.perf_counter() - begun
