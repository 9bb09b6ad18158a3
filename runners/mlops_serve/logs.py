"""Logs as JSON lines with the field names of the Elastic Common Schema; a caller's trace is kept."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from datetime import datetime, timezone
from typing import Any

import orjson

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
LOGGER = logging.getLogger("mlops_serve")


class EcsFormatter(logging.Formatter):
    """Writes one record as one line; ``extra={"fields": {...}}`` adds fields by their ECS names."""

    def __init__(self, service: str, version: str) -> None:
        super().__init__()
        self._fixed = {"ecs.version": "8.11.0", "service.name": service, "service.version": version}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "@timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "log.logger": record.name,
            **self._fixed,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error.type"] = type(error).__name__
            fields["error.message"] = str(error)
            fields["error.stack_trace"] = "".join(
                traceback.format_exception(type(error), error, error.__traceback__)
            )
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(service: str, version: str, level: int = logging.INFO) -> None:
    """Send every log of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EcsFormatter(service, version))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What uvicorn says of its own start and end is said by us, with the model's name.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def trace_fields(traceparent: bytes | None) -> dict[str, str]:
    """Return the ECS fields of a W3C ``traceparent`` header; empty for an absent or malformed one."""
    match = _TRACEPARENT.match(traceparent.decode("latin-1")) if traceparent else None
    return {"trace.id": match.group(1), "span.id": match.group(2)} if match else {}
