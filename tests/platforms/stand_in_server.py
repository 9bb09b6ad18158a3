"""A model server reduced to what a proxy sees of one, with faults on demand: answers, errors, delay, drain.

Run as ``stand_in_server.py PORT RELEASE [error_share [delay_seconds [start_seconds [refused_share]]]]``. Errors are
answered 500, refused requests 422. Each answer carries the moment at which the request arrived (``x-arrived``), for
measuring how fast a split takes effect.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time

PORT, RELEASE = int(sys.argv[1]), sys.argv[2]
FAULTS = (*map(float, sys.argv[3:]), *[0.0] * (7 - len(sys.argv)))
ERROR_SHARE, DELAY_SECONDS, START_SECONDS, REFUSED_SHARE = FAULTS
BUSY: set[asyncio.Task[None]] = set()
CONNECTIONS: set[asyncio.StreamWriter] = set()


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until it closes."""
    CONNECTIONS.add(writer)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            arrived = time.time()
            if "content-length:" in head:
                await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
            task = asyncio.ensure_future(answer(head.split(" ")[1], arrived, writer))
            BUSY.add(task)
            await task
            BUSY.discard(task)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        CONNECTIONS.discard(writer)
        writer.close()


async def answer(path: str, arrived: float, writer: asyncio.StreamWriter) -> None:
    """Write one answer, wrong or slow as asked for."""
    status = 200
    if path != "/v2/health/ready":
        await asyncio.sleep(DELAY_SECONDS + (5 if path == "/slow" else 0))
        drawn = random.random()
        status = 500 if drawn < ERROR_SHARE else 422 if drawn < ERROR_SHARE + REFUSED_SHARE else 200
    body = RELEASE.encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nx-arrived: {arrived:.6f}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def main() -> None:
    """Serve until SIGTERM, then finish what is in flight."""
    await asyncio.sleep(START_SECONDS)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(converse, "127.0.0.1", PORT)
    print(f"{RELEASE} listens on {PORT}", flush=True)
    await stopped.wait()
    server.close()
    if BUSY:
        await asyncio.wait(BUSY)
    for connection in list(CONNECTIONS):
        connection.close()


asyncio.run(main())
