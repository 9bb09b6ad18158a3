"""A small HTTP server on loopback with faults on demand, and rows to send to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@dataclass
class Upstream:
    """Answers every request; what it got, and how it answers, is for the test to see and set."""

    port: int = 0
    code: int = 200
    delay_seconds: float = 0.0
    ready: bool = True
    hangs_up: bool = False
    bodies: list[bytes] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def url(self) -> str:
        """Where requests are posted to."""
        return f"http://127.0.0.1:{self.port}/v2/models/m/infer"

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                if head.startswith("get"):
                    writer.write(self.answer(200 if self.ready else 503))
                    continue
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                if self.hangs_up:
                    return
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                await asyncio.sleep(self.delay_seconds)
                self.in_flight -= 1
                writer.write(self.answer(self.code))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, code: int) -> bytes:
        """Return the bytes of an answer."""
        return f"HTTP/1.1 {code} X\r\ncontent-length: 5\r\nx-mlops-lane: blue\r\n\r\nhello".encode()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A running server; it ends with the test."""
    made = Upstream()
    started, stopped = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        server = await asyncio.start_server(made.converse, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopped.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    yield made
    loops[0].call_soon_threadsafe(stopped.set)
    thread.join(10)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three rows with a missing number and a missing word."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": [1, 2, None], "word": ["a", None, "c"], "late": [True, False, True]}), path)
    return path


def status(path: Path) -> dict[str, Any]:
    """Read a status file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content
