"""The ASGI application: routes, limits, and the way from a request's bytes to the model and back."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Callable

import orjson

from mlops_serve import __version__, invocations, protocol
from mlops_serve.batching import Batcher
from mlops_serve.decoding import Request
from mlops_serve.failures import ModelError, Refused
from mlops_serve.logs import LOGGER, trace_fields
from mlops_serve.metrics import CONTENT_TYPE as METRICS_TYPE
from mlops_serve.metrics import Metrics
from mlops_serve.model import Model
from mlops_serve.outputs import Outputs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = b"application/json"


@dataclass(frozen=True)
class Settings:
    """What the server is told on its command line."""

    name: str
    version: str = "1"
    release: str = ""
    platform: str = "mlflow"
    body_bytes: int = 16 << 20


@dataclass(frozen=True)
class _Answer:
    body: bytes
    status: int = 200
    content_type: bytes = _JSON
    close: bool = False


class _ClientGone(Exception):  # noqa: N818 - nobody is left to tell
    """The client closed the connection before its request was whole."""


class Application:
    """Answers requests for one model; it is live at once and ready once :meth:`serve_with` was called."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._model: Model | None = None
        self._batcher: Batcher | None = None
        self._draining = False
        base = f"/v2/models/{settings.name}"
        self._gets: dict[str, Callable[[], _Answer]] = {
            "/v2/health/ready": self._ready,
            "/v2/health/live": _live,
            "/health": self._ready,
            "/ping": self._ready,
            "/version": lambda: _Answer(__version__.encode(), content_type=b"text/plain"),
            "/metrics": lambda: _Answer(metrics.text(), content_type=METRICS_TYPE),
            "/v2": self._server_metadata,
        }
        self._posts: dict[str, tuple[str, Callable[[Scope, bytes], Awaitable[bytes]]]] = {
            "/invocations": ("invocations", self._invoke)
        }
        for prefix in (base, f"{base}/versions/{settings.version}"):
            self._gets[prefix] = self._model_metadata
            self._gets[f"{prefix}/ready"] = self._ready
            self._posts[f"{prefix}/infer"] = ("infer", self._infer)

    def serve_with(self, model: Model, batcher: Batcher) -> None:
        """Become ready."""
        self._model, self._batcher = model, batcher

    def drain(self) -> None:
        """Say `not ready` from now on, and ask each client to leave with its next answer; go on answering."""
        self._draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        begun = perf_counter()
        path = scope["path"]
        route = self._posts.get(path)
        endpoint = "other" if route is None else route[0]
        if route is not None:
            self._metrics.in_flight.inc()
        try:
            answer = await self._answer(scope, receive)
            await self._send(scope, send, answer)
        except _ClientGone:
            return
        finally:
            if route is not None:
                self._metrics.in_flight.dec()
        self._metrics.answered(endpoint, answer.status, perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        try:
            return await self._routed(scope, receive)
        except Refused as refusal:
            return _Answer(orjson.dumps(refusal.as_record()), refusal.status, close=refusal.status == 413)
        except _ClientGone:
            raise
        except ModelError as error:
            self._log(scope, "the model failed", error.__cause__ or error)
            # What the model raised may hold values of the request or of the machine: it is logged, not sent.
            return _Answer(orjson.dumps({"error": "the model failed on this request"}), 500)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not end the connection without an answer
            self._log(scope, "the server failed", error)
            return _Answer(orjson.dumps({"error": "the server failed on this request"}), 500)

    async def _routed(self, scope: Scope, receive: Receive) -> _Answer:
        method, path = scope["method"], scope["path"]
        if path in self._posts:
            if method != "POST":
                raise Refused(405, f"{path} takes POST")
            body = await self._body(scope, receive)
            return _Answer(await self._posts[path][1](scope, body))
        if path in self._gets:
            if method not in ("GET", "HEAD"):
                raise Refused(405, f"{path} takes GET")
            return self._gets[path]()
        if path.startswith("/v2/models/"):
            raise Refused(
                404, f"no such model or path: {path}; this server has the model `{self._settings.name}`"
            )
        raise Refused(404, f"no such path: {path}")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.body_bytes
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused(415, "compressed bodies are not supported")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise Refused(413, f"the body may have {limit} bytes at most")
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise Refused(413, f"the body may have {limit} bytes at most")
            chunks.append(chunk)
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _infer(self, scope: Scope, body: bytes) -> bytes:  # noqa: ARG002 - one form for all routes
        request = protocol.decode(body, self._loaded().inputs)
        outputs = await self._predict(request)
        return protocol.encode(request, outputs, model=self._settings.name, version=self._settings.version)

    async def _invoke(self, scope: Scope, body: bytes) -> bytes:
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        request = invocations.decode(body, content_type, self._loaded().inputs)
        return invocations.encode(await self._predict(request))

    async def _predict(self, request: Request) -> Outputs:
        assert self._batcher is not None  # noqa: S101 - _loaded() was called
        outputs = await self._batcher.predict(request.rows, request.count)
        self._metrics.rows.inc(request.count)
        return outputs

    def _loaded(self) -> Model:
        if self._model is None:
            raise Refused(503, "the model is still being loaded")
        return self._model

    def _ready(self) -> _Answer:
        if self._model is None:
            raise Refused(503, "the model is still being loaded")
        if self._draining:
            raise Refused(503, "the server is ending")
        return _Answer(orjson.dumps({"name": self._settings.name, "ready": True}))

    def _server_metadata(self) -> _Answer:
        return _Answer(orjson.dumps({"name": "mlops-serve", "version": __version__, "extensions": []}))

    def _model_metadata(self) -> _Answer:
        model, settings = self._loaded(), self._settings
        return _Answer(
            orjson.dumps(
                protocol.model_metadata(
                    name=settings.name,
                    version=settings.version,
                    platform=settings.platform,
                    inputs=model.inputs,
                    classes=model.classes,
                ),
                default=str,
            )
        )

    async def _send(self, scope: Scope, send: Send, answer: _Answer) -> None:
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
        ]
        if answer.status == 503:
            headers.append((b"retry-after", b"1"))
        if answer.close or self._draining:
            headers.append((b"connection", b"close"))
        headers.extend(pair for pair in scope["headers"] if pair[0] == b"traceparent")
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})

    def _log(self, scope: Scope, message: str, error: BaseException) -> None:
        fields = {
            "event.action": "request",
            "url.path": scope["path"],
            "http.request.method": scope["method"],
            "http.response.status_code": 500,
            **trace_fields(dict(scope["headers"]).get(b"traceparent")),
        }
        LOGGER.error(message, exc_info=error, extra={"fields": fields})


def _live() -> _Answer:
    return _Answer(b'{"live":true}')
