"""What every part may call to be observed: structured logs, masked secrets, and (in tests) a kill at a
named point."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

LOGGER = "mlops"
"""Name of the logger whose records are written to the log file; modules use
``logging.getLogger(__name__)``."""

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_SHORTEST_SECRET = (
    6  # shorter values (`1`, `true`) are settings, and masking them would make every log unreadable
)
_MASK = "***"


def crossing(point: str) -> None:
    """Mark a point between an intent and its effect; the process kills itself here when ``MLOPS_KILL_AT``
    names it.

    SIGKILL leaves no chance to clean up, which is what the repair tests are about.
    """
    if os.environ.get("MLOPS_KILL_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def mask(text: str) -> str:
    """Replace secrets by ``***``: values of environment variables with a telling name, and the user part of
    URLs."""
    for secret in _secrets():
        text = text.replace(secret, _MASK)
    text = _USERINFO.sub(_MASK, text)
    # Output that was not UTF-8 comes as lone surrogates, which no file takes.
    return text.encode("utf-8", errors="replace").decode()


def _secrets() -> list[str]:
    found = {
        line
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name)
        # A key in PEM form has several lines, and a log shows them one at a time.
        for line in (value, *value.splitlines())
        if len(line.strip()) >= _SHORTEST_SECRET
    }
    return sorted(found, key=len, reverse=True)  # the longest first: one may contain another


class EcsFormatter(logging.Formatter):
    """Write a record as one line of JSON with the field names of the Elastic Common Schema (ecs.version
    8)."""

    def __init__(self, *, service: str, trace_id: str, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._fixed: dict[str, object] = {
            "ecs.version": "8.11.0",
            "service.name": service,
            "trace.id": trace_id,
        }
        self._labels = dict(labels)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a ``labels`` mapping given as ``extra`` is merged with the fixed labels."""
        given: Mapping[str, object] = getattr(record, "labels", {})
        fields: dict[str, object] = {
            "@timestamp": _stamp(record.created),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "log.logger": record.name,
            **self._fixed,
            "labels": {**self._labels, **{name: str(value) for name, value in given.items()}},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error.type"] = type(error).__name__
            fields["error.message"] = str(error)
            fields["error.stack_trace"] = "".join(traceback.format_exception(error))
        return json.dumps(_masked(fields), ensure_ascii=False)


def _masked(value: object) -> object:
    """Mask inside the values, so that no escape sequence of JSON can hide a secret."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    return value


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Unfailing(logging.FileHandler):
    """A log that cannot be written (full disk) must not end the work that it describes."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the name is logging's
        return


@contextmanager
def logging_to(
    path: Path, *, service: str, trace_id: str = "", labels: Mapping[str, str] | None = None
) -> Iterator[logging.Logger]:
    """Append the records of ``mlops.*`` to the file, one JSON object a line, while the block runs."""
    logger = logging.getLogger(LOGGER)
    former_level = logger.level
    handler = _handler(path)
    handler.setFormatter(EcsFormatter(service=service, trace_id=trace_id, labels=labels or {}))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former_level)
        with suppress(OSError):  # what a full disk did not take before it does not take now
            handler.close()


def _handler(path: Path) -> logging.Handler:
    try:
        return _Unfailing(path, encoding="utf-8")
    except OSError:
        return logging.NullHandler()
