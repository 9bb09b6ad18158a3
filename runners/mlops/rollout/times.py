"""The ledger's times as numbers."""

from __future__ import annotations

from datetime import datetime


def seconds_of(at: str) -> float:
    """Return an ISO 8601 time with offset as seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()
