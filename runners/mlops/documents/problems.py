"""What is wrong with a document, and where: all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mlops.errors import UserError


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file (line and column start at 1), or the name of an environment variable (no line)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake, in words that need no knowledge of this program."""

    where: Position
    headline: str
    expected: str = ""
    found: str = ""
    nearest: str = ""
    """The known word that was probably meant; empty when none is close."""

    def __str__(self) -> str:
        details = [
            f"expected {self.expected}" if self.expected else "",
            f"found {self.found}" if self.found else "",
        ]
        text = f"{self.where}: {self.headline}"
        if any(details):
            text += ": " + ", ".join(filter(None, details))
        return text + (f"; did you mean `{self.nearest}`?" if self.nearest else "")


class DocumentError(UserError):
    """A document has mistakes; ``problems`` holds every one of them, in the order of the file."""

    def __init__(self, source: str, problems: Sequence[Problem], *, remedy: str = "") -> None:
        self.problems = tuple(
            sorted(problems, key=lambda problem: (problem.where.line, problem.where.column))
        )
        first = self.problems[0]
        if len(self.problems) == 1:
            super().__init__(
                first.headline,
                expected=first.expected,
                found=first.found,
                remedy=remedy or _remedy(first, source),
                where=str(first.where),
            )
        else:
            super().__init__(
                f"{source} has {len(self.problems)} mistakes",
                found="\n".join(str(problem) for problem in self.problems),
                remedy=remedy or f"correct {source} at the lines named, and run again",
                where=str(first.where),
            )

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def _remedy(problem: Problem, source: str) -> str:
    if problem.nearest:
        return f"did you mean `{problem.nearest}`? Correct {problem.where} and run again"
    return f"correct {problem.where if problem.where.line else source} and run again"


def nearest(word: object, known: Sequence[object]) -> str:
    """Return the known word closest to the given one (ignoring case, ``-`` and ``_``), or an empty string."""
    plain = {_plain(candidate): str(candidate) for candidate in reversed(known)}
    matches = get_close_matches(_plain(word), list(plain), n=1, cutoff=0.6)
    return plain[matches[0]] if matches else ""


def _plain(word: object) -> str:
    return str(word).lower().replace("-", "_")
