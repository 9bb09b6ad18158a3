"""Small proxies between us and an S3 server, each with one fault."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy(ThreadingHTTPServer):
    """Forwards requests to ``127.0.0.1:upstream``; a subclass decides what goes wrong with a PUT.

    ``every`` says how often: 1 is each PUT, 3 each third; 0 none. ``put_count`` counts PUTs, ``faults`` those that went wrong.
    """

    daemon_threads = True

    def __init__(self, upstream: int, every: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.every = every
        self.put_count = 0
        self.faults = 0
        self.offsets: list[str] = []
        """The ``start-after`` of each listing."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def due(self) -> bool:
        """Count a PUT and say whether this one goes wrong."""
        with self.lock:
            self.put_count += 1
            wrong = self.every > 0 and self.put_count % self.every == 0
            self.faults += wrong
            return wrong

    def forward(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        connection.request(handler.command, handler.path, body=body or None, headers=headers)
        return connection.getresponse()

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        """Answer a PUT."""
        handler.answer(self.forward(handler, body, headers))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some of these proxies are for."""


class CommitsAndDropsTheAnswer(Proxy):
    """The write takes effect, and the connection ends before a word comes back."""

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        response = self.forward(handler, body, headers)
        if self.due():
            response.read()
            handler.close_connection = True
            return
        handler.answer(response)


class AnswersConflict(Proxy):
    """409 ConditionalRequestConflict, as S3 does when another write is under way; nothing takes effect."""

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        if self.due():
            handler.respond(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {})
        else:
            super().put(handler, body, headers)


class CommitsAndAnswersConflict(Proxy):
    """409 although the write took effect: a repeat inside the network met its own first copy."""

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        response = self.forward(handler, body, headers)
        if self.due() and response.status == 200:
            response.read()
            handler.respond(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {})
        else:
            handler.answer(response)


class DropsTheCondition(Proxy):
    """If-None-Match gets lost, so a second create replaces the first."""

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        unconditional = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        super().put(handler, body, unconditional)


class Fails(Proxy):
    """503 for a PUT, and nothing takes effect."""

    def put(self, handler: _Handler, body: bytes, headers: dict[str, str]) -> None:
        if self.due():
            handler.respond(503, b"<Error><Code>SlowDown</Code></Error>", {})
        else:
            super().put(handler, body, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        if self.command == "PUT":
            self.server.put(self, body, headers)
            return
        if "start-after=" in self.path:
            self.server.offsets.append(self.path.split("start-after=")[1].split("&")[0])
        self.answer(self.server.forward(self, body, headers))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815 - the library's names

    def answer(self, response: http.client.HTTPResponse) -> None:
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = response.getheader("Content-Length")
        self.respond(response.status, response.read(), headers, length if self.command == "HEAD" else None)

    def respond(self, status: int, body: bytes, headers: dict[str, str], length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def running(proxy: Proxy) -> Iterator[Proxy]:
    """Serve in a thread while the block runs."""
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
