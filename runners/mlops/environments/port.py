"""The port of a model's own Python: a locked environment, and commands run inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Locked:
    """What an environment consists of: every package pinned."""

    python: str
    """Version such as ``3.11``."""
    requirements: str
    """Text of the lock: ``name==version`` lines, with hashes where the repo has them."""
    source: str
    """The file it came from, for messages."""

    @property
    def digest(self) -> str:
        """SHA-256 that names the environment (interpreter, lock, and what the model server adds to it)."""
        from mlops.canonical import digest_json

        return digest_json({"python": self.python, "requirements": self.requirements})


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment on this machine."""

    python: Path
    """Its interpreter (absolute)."""
    locked: Locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run in an environment. A string is split as a shell would, but no shell ever sees it."""

    arguments: str | Sequence[str]
    folder: Path
    log: Path
    """File that gets standard output and error."""
    timeout_seconds: float
    variables: Mapping[str, str] = field(default_factory=dict)
    """Added to a minimal environment (PATH, HOME, locale, certificates); nothing else of ours is inherited."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. ``timed_out`` and an exit by signal (negative code) are not the same as a failure."""

    code: int
    tail: str
    """The last lines of its output."""
    seconds: float
    timed_out: bool = False


class Environments(Protocol):
    """Makes environments and runs commands in them."""

    def resolve(self, workspace: Path, python: str | None, lock: str | None) -> Locked:
        """Read (or, for unpinned requirements, compile) the repo's lock; UserError with the remedy when there is none."""

    def install(self, locked: Locked) -> Installed:
        """Install it once per digest, safely when several do so at once; returns at once when it is there."""

    def run(
        self, installed: Installed, command: Command, line: Callable[[str], None] | None = None
    ) -> Completed:
        """Run to the end; ends the whole process group at the time limit or when this process is told to stop."""
