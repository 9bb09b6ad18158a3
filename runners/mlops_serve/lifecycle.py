"""A server process from its first second to its last: bind, load, answer, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
import uvloop

from mlops_serve.app import Application, Settings
from mlops_serve.batching import Batcher
from mlops_serve.failures import Unusable
from mlops_serve.listener import BACKLOG, listen, turn_away
from mlops_serve.loading import load
from mlops_serve.logs import LOGGER, configure
from mlops_serve.metrics import Metrics
from mlops_serve.model import Model
from mlops_serve.package import Package

UNUSABLE_EXIT = 2
PORT_IN_USE_EXIT = 3
_LAST_SECONDS = 0.25
_SWITCH_SECONDS = 0.001
"""How long the predicting thread may keep the interpreter from the one that reads (Python's default: 5 ms)."""


@dataclass(frozen=True)
class Listening:
    """Where to listen and how to end."""

    host: str
    port: int
    drain_seconds: float
    """Seconds that requests in flight are given."""
    linger_seconds: float
    """Seconds after SIGTERM in which requests are still taken, so that routers can see `not ready` first."""


def serve(package: Package, settings: Settings, listening: Listening, batch_rows: int) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code: 0 drained, 2 package unusable, 3 port not to be had."""
    configure(settings.name, settings.version)
    try:
        listener = listen(listening.host, listening.port)
    except OSError as error:
        sys.stderr.write(f"{_why(error, listening)}\n")
        return PORT_IN_USE_EXIT
    sys.setswitchinterval(_SWITCH_SECONDS)
    with contextlib.closing(listener):
        return _run(_main(package, settings, listening, batch_rows, listener))


def _run(main: Coroutine[Any, Any, int]) -> int:
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def _why(error: OSError, listening: Listening) -> str:
    place = f"{listening.host}:{listening.port}"
    if error.errno == errno.EADDRINUSE:
        return f"mlops-serve: port in use: another process listens on {place}; end it or give another --port"
    return f"mlops-serve: cannot listen on {place}: {error.strerror or error}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: it would end by the signal, and we end with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _main(
    package: Package, settings: Settings, listening: Listening, batch_rows: int, listener: socket.socket
) -> int:
    metrics = Metrics(model=settings.name, version=settings.version, release=settings.release)
    app = Application(settings, metrics)
    server = _Server(_config(app, listening))
    ending = _Ending(app, server, listener, listening.linger_seconds)
    ending.listen_for_signals()
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    loading = _in_thread(load, package)
    either: set[asyncio.Future[Any]] = {loading, serving}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        _leave_at_once()
    try:
        model = loading.result()
    except Unusable as error:
        LOGGER.critical("the package cannot be served", exc_info=error)
        sys.stderr.write(f"mlops-serve: {error}\n")
        server.should_exit = True
        await serving
        return UNUSABLE_EXIT
    batcher = Batcher(model.predict, batch_rows=batch_rows, on_batch=metrics.batch)
    app.serve_with(model, batcher)
    LOGGER.info("ready", extra={"fields": _ready_fields(settings, listener, model)})
    await serving
    batcher.close()
    LOGGER.info("ended", extra={"fields": {"event.action": "end"}})
    logging.shutdown()
    return 0


def _in_thread(function: Callable[[Package], Model], package: Package) -> asyncio.Future[Model]:
    """Call the function in a thread that does not keep the process alive, and answer `live` meanwhile."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Model] = loop.create_future()

    def run() -> None:
        try:
            model = function(package)
        except Unusable as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, model)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future


def _leave_at_once() -> None:
    """End while the model is being loaded: there is nothing to drain, and its libraries cannot be interrupted."""
    logging.shutdown()
    os._exit(0)


def _ready_fields(settings: Settings, listener: socket.socket, model: Model) -> dict[str, object]:
    address = listener.getsockname()
    return {
        "event.action": "ready",
        "server.address": address[0],
        "server.port": address[1],
        "labels": {"release": settings.release, "kind": model.kind},
    }


def _config(app: Application, listening: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="auto",
        ws="none",
        backlog=BACKLOG,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        # Longer than the idle time of the proxies in front, so that they close first: a request that is sent
        # into a connection that we close at that moment would be lost.
        timeout_keep_alive=3700,
        timeout_graceful_shutdown=max(1, round(listening.drain_seconds)),
    )


class _Ending:
    """What a signal sets in motion: not ready, a moment in which all is answered, no new connections, the end."""

    def __init__(
        self, app: Application, server: uvicorn.Server, listener: socket.socket, linger_seconds: float
    ) -> None:
        self._app = app
        self._server = server
        self._listener = listener
        self._linger_seconds = linger_seconds
        self._begun = False

    def listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._begun:  # a second signal is impatience: do not linger
            self._server.should_exit = True
            return
        self._begun = True
        self._app.drain()
        LOGGER.info("draining", extra={"fields": {"event.action": "drain", "event.reason": number.name}})
        asyncio.get_running_loop().call_later(self._linger_seconds, self._turn_away)

    def _turn_away(self) -> None:
        turn_away(self._listener)
        # Time for what is already connected to be accepted, and to send its request.
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self._stop)

    def _stop(self) -> None:
        self._server.should_exit = True
