"""MLflow's REST API, spoken directly.

Importing the MLflow client takes two to three seconds and its retries are hard to bound; a rollback that only
moves an alias has neither to spare. So everything but files goes through here: documented endpoints below
``/api/2.0/mlflow``, one connection per call, a time limit on each, few retries with jitter, errors of our own
tree.
Source: https://mlflow.org/docs/latest/rest-api.html
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from mlops.errors import InfrastructureError, UserError

_TRIES = 3
_BUSY = frozenset({429, 502, 503, 504})
_REFUSED = "Check the value that the message names."


class Refused(UserError):  # noqa: N818 - the tree names what happened, as `GateFailed` does
    """The server understood the request and said no; ``code`` is MLflow's word for it."""

    def __init__(self, headline: str, *, code: str, found: str, remedy: str, where: str) -> None:
        super().__init__(headline, found=found, remedy=remedy, where=where)
        self.code = code

    @property
    def missing(self) -> bool:
        """Whether the thing asked for does not exist (or the server is too old to know such things)."""
        return self.code in {"RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND", "NOT_FOUND"}

    @property
    def exists(self) -> bool:
        """Whether the thing that was to be created exists."""
        return self.code == "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class Rest:
    """Calls to one tracking server; credentials are read from MLflow's variables at each call, never kept."""

    uri: str
    timeout_seconds: float = 10.0

    def get(self, path: str, /, **query: str) -> dict[str, Any]:
        """Read; ``path`` is relative to ``/api/2.0/mlflow/``."""
        return self._call("GET", path, query, None)

    def post(self, path: str, /, **body: object) -> dict[str, Any]:
        """Create or search."""
        return self._call("POST", path, {}, body)

    def patch(self, path: str, /, **body: object) -> dict[str, Any]:
        """Change."""
        return self._call("PATCH", path, {}, body)

    def delete(self, path: str, /, **body: object) -> dict[str, Any]:
        """Remove."""
        return self._call("DELETE", path, {}, body)

    def healthy(self) -> bool:
        """Say whether the server answers at all; never raises."""
        try:
            status, _ = self._send("GET", "/health", None)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def _call(
        self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        target = f"/api/2.0/mlflow/{path}" + (f"?{urlencode(query)}" if query else "")
        payload = None if body is None else json.dumps(body).encode()
        status, answer = self._persist(verb, lambda: self._send(verb, target, payload))
        if status == 200:
            return self._decoded(answer)
        raise self._refusal(status, answer, path)

    def _persist(self, verb: str, send: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """Send, again when that is safe: nothing was sent, the server was busy, or the call only reads."""
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                status, answer = send()
            except (OSError, http.client.HTTPException) as error:
                if last or not (isinstance(error, ConnectionRefusedError) or verb == "GET"):
                    raise self._down(str(error) or type(error).__name__) from error
            else:
                if status not in _BUSY or last:
                    return status, answer
            time.sleep(0.2 * 2**attempt * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")  # pragma: no cover - the last attempt returns or raises

    def _send(self, verb: str, target: str, payload: bytes | None) -> tuple[int, bytes]:
        address = urlsplit(self.uri)
        connection = self._connection(address.scheme, address.netloc.rpartition("@")[2])
        try:
            headers = {"Content-Type": "application/json", **_authorization(self.uri)}
            connection.request(verb, address.path.rstrip("/") + target, body=payload, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _connection(self, scheme: str, place: str) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(place, timeout=self.timeout_seconds, context=_trust())
        return http.client.HTTPConnection(place, timeout=self.timeout_seconds)

    def _decoded(self, answer: bytes) -> dict[str, Any]:
        try:
            decoded: dict[str, Any] = json.loads(answer or b"{}")
        except ValueError as error:
            raise self._down("an answer that is not JSON: " + _short(answer)) from error
        return decoded

    def _refusal(self, status: int, answer: bytes, path: str) -> UserError | InfrastructureError:
        code, message = _reason(status, answer)
        if status in (401, 403):
            return Refused(
                "The tracking server refuses our credentials",
                code=code,
                found=message,
                remedy="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
                where=self.uri,
            )
        if 400 <= status < 500 and status != 429:
            headline = f"The tracking server refused `{path}`"
            return Refused(headline, code=code, found=message, remedy=_REFUSED, where=self.uri)
        return self._down(f"status {status}: {message}")

    def _down(self, found: str) -> InfrastructureError:
        return InfrastructureError(
            "The tracking server does not answer as it should",
            expected=f"an MLflow server at {self.uri}",
            found=found,
            remedy="Check that it runs and that this machine reaches it, then run again.",
            where=self.uri,
        )


def _reason(status: int, answer: bytes) -> tuple[str, str]:
    """Return MLflow's error code and message, also for pages that are not MLflow's."""
    try:
        content = json.loads(answer)
        return str(content["error_code"]), str(content.get("message", ""))
    except (ValueError, KeyError, TypeError):
        return ("NOT_FOUND" if status == 404 else f"HTTP_{status}"), _short(answer)


def _short(answer: bytes) -> str:
    text = " ".join(answer.decode("utf-8", "replace").split())
    return text if len(text) <= 300 else text[:300] + " ..."


def _authorization(uri: str) -> dict[str, str]:
    """Return the headers of MLflow's own client, from its variables or user and password in the address."""
    headers = {}
    if workspace := os.environ.get("MLFLOW_WORKSPACE"):
        headers["X-MLFLOW-WORKSPACE"] = workspace
    address = urlsplit(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or address.username
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or address.password
    if user and password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
