"""Call an ASGI application directly, as a server would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_serve.app import Application


@dataclass(frozen=True)
class Answer:
    """What was sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


async def call(
    app: Application,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    chunks: Sequence[bytes] | None = None,
    gone: bool = False,
) -> Answer | None:
    """Send one request; None when nothing was answered. ``gone`` closes the connection before the body is whole."""
    data = body if isinstance(body, bytes) else (b"" if body is None else json.dumps(body).encode())
    parts = list(chunks or [data])
    given = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None and chunks is None else "POST"),
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts) or gone}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    start, end = sent
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], names, end["body"])
