"""Where a ledger's files are, and how they are read in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlops.errors import UserError
from mlops.ledger.events import Event
from mlops.ledger.form import BrokenLedger, Finding, read_event
from mlops.signing import Verifier
from mlops.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FILE = re.compile(r"(\d{10})\.json")
_AT_ONCE = 64


@dataclass(frozen=True)
class Files:
    """The files of one ledger, ``ledger/<model>/<environment>/<ten digits>.json``: sorted as numbers are."""

    store: Store
    model: str
    environment: str
    verifier: Verifier | None

    def __post_init__(self) -> None:
        for name in (self.model, self.environment):
            if not _NAME.fullmatch(name):
                raise UserError(
                    f"'{name}' cannot name a ledger",
                    expected="lower-case letters, digits, dots, dashes and underscores",
                    found=name,
                    remedy="correct the model's or the environment's name",
                )

    @property
    def ledger(self) -> str:
        """The ledger's name, as it stands in every event."""
        return f"{self.model}/{self.environment}"

    @property
    def folder(self) -> str:
        """Where the events are."""
        return f"ledger/{self.ledger}"

    def path(self, sequence: int) -> str:
        """Return the path of an event's file."""
        return f"{self.folder}/{sequence:010d}.json"

    def names(self, after: int = 0) -> tuple[list[int], list[str]]:
        """Return the sequence numbers after the given one that have a file, and the paths of no event."""
        numbers, strays = [], []
        for path in self.store.list(self.folder, after=self.path(after) if after else None):
            match = _FILE.fullmatch(PurePosixPath(path).name)
            if match and path == self.path(int(match[1])):
                numbers.append(int(match[1]))
            else:
                strays.append(path)
        return numbers, strays

    def contents(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
        """Read the files in the order given, some at a time."""
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            yield from zip(some, self.store.get_all([self.path(number) for number in some]), strict=True)

    def read(self, after: int, previous: str) -> Iterator[Event]:
        """Yield the events after a number whose file has the hash ``previous``; BrokenLedger at a flaw."""
        numbers, _ = self.names(after)
        for expected, (number, content) in enumerate(self.contents(numbers), after + 1):
            if number != expected or content is None:
                raise self.broken(expected, "missing", f"event {expected} is missing")
            event, finding = read_event(content, number, self.ledger, self.verifier)
            if finding is not None:
                raise BrokenLedger(self.ledger, finding)
            assert event is not None  # noqa: S101 - no event always has a finding
            if event.previous != previous:
                raise self.broken(number - 1, "altered", unlinked(number))
            previous = event.hash
            yield event

    def broken(self, sequence: int, problem: str, sentence: str) -> BrokenLedger:
        """Return the error for a flaw of this ledger."""
        return BrokenLedger(self.ledger, Finding(sequence, problem, sentence))


def unlinked(number: int) -> str:
    """Say that an event does not follow from the file before it."""
    if number == 1:
        return "event 1 says that another event came before it"
    return f"event {number} was written after another event {number - 1} than the one that is there now"
