"""What can be wrong with a request or a package; the class says who has to act."""

from __future__ import annotations

from typing import Any


class Refused(Exception):  # noqa: N818 - it is an answer, not a defect
    """A request that gets an error as its answer; nothing of it reaches the model.

    ``status`` is the HTTP status: 400 not understood, 404 not here, 413 too large, 415 unknown format,
    422 understood but not acceptable (``column`` and ``row`` say where), 503 not now.
    """

    def __init__(
        self, status: int, message: str, *, column: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.column = column
        self.row = row

    def as_record(self) -> dict[str, Any]:
        """Return the body of the answer; V2 clients read ``error``."""
        record: dict[str, Any] = {"error": self.message}
        if self.column is not None:
            record["column"] = self.column
        if self.row is not None:
            record["row"] = self.row
        return record


class ModelError(Exception):
    """The model raised, or returned something that is no answer; the cause is logged and never sent."""


class Unusable(Exception):  # noqa: N818 - reported as a sentence, without a stack
    """The package, the schema or a file that was named cannot be used; the message says why."""
