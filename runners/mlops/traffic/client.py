"""The HTTP client that replay and load measurement share: answers and failures as values, never as exceptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got. ``code`` is the HTTP status, or a word when there was no answer."""

    code: str
    seconds: float
    lane: str = ""
    """The lane that answered, where the proxy says so."""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the answer was a success (2xx)."""
        return self.code.startswith("2")


@asynccontextmanager
async def session(concurrency: int, timeout_seconds: float) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client that keeps at most so many connections, and no cookies."""
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json"},
        auto_decompress=False,
    ) as opened:
        yield opened


async def post(client: aiohttp.ClientSession, url: str, body: bytes) -> Answer:
    """Send one request and read its whole answer; nothing is retried."""
    import aiohttp

    begun = time.perf_counter()
    try:
        async with client.post(url, data=body) as response:
            text = await response.read()
            lane = response.headers.get("x-mlops-lane", "")
            wrong = "" if response.ok else text[:200].decode("utf-8", "replace")
            return Answer(str(response.status), time.perf_counter() - begun, lane, wrong)
    except TimeoutError:
        return Answer("timeout", time.perf_counter() - begun, error="no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return Answer(
            "connection", time.perf_counter() - begun, error=f"{type(error).__name__}: {error}"[:200]
        )


async def is_up(client: aiohttp.ClientSession, url: str) -> bool:
    """Whether the server (or the proxy in front of it) says that it is ready."""
    import aiohttp

    try:
        async with client.get(url) as response:
            return response.ok
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
