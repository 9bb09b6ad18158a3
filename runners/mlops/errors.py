"""The one tree of errors: the class says what to do next, the exit code says it to a machine.

    MlopsError
    +-- GateFailed            exit 1   a measured check says no
    +-- UserError             exit 2   the input is wrong: fix it and run again
    +-- InfrastructureError   exit 3   something outside failed: worth a retry
    +-- Interrupted           exit 4   somebody stopped it
    +-- CouldNotTell          exit 5   not enough evidence: never promoted

An exception outside this tree is a defect of ours and is reported as such (category ``bug``, exit 3).
"""

from __future__ import annotations

from typing import ClassVar


class MlopsError(Exception):
    """An error that a person can act on.

    Args:
        headline: one sentence that names what went wrong.
        expected: what should have been there.
        found: what was there instead.
        remedy: the next thing to do, as a command where there is one.
        where: file, line and column, or the stage or address that it happened at.
    """

    category: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(
        self, headline: str, *, expected: str = "", found: str = "", remedy: str, where: str = ""
    ) -> None:
        super().__init__(headline)
        self.headline = headline
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.where = where

    def as_record(self) -> dict[str, str | int]:
        """Return the fields of the error file."""
        return {
            "category": self.category,
            "exit_code": self.exit_code,
            "headline": self.headline,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
            "where": self.where,
        }


class GateFailed(MlopsError):
    """A check measured something and the answer is no."""

    category = "gate"
    exit_code = 1


class UserError(MlopsError):
    """The input is wrong; running again without a change gives the same answer."""

    category = "input"
    exit_code = 2


class InfrastructureError(MlopsError):
    """Something outside failed (network, disk, a service); trying again may help."""

    category = "infrastructure"
    exit_code = 3


class Interrupted(MlopsError):
    """A person or the platform stopped the work; nothing is half done."""

    category = "interrupted"
    exit_code = 4


class CouldNotTell(MlopsError):
    """There is not enough evidence for yes or no; this never promotes."""

    category = "inconclusive"
    exit_code = 5
