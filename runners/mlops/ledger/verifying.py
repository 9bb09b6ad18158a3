"""Checks a whole ledger and says everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlops.canonical import digest_bytes
from mlops.errors import InfrastructureError
from mlops.ledger.events import Event
from mlops.ledger.files import Files, unlinked
from mlops.ledger.form import Finding, read_event
from mlops.ledger.heads import Heads, read_head, shortened
from mlops.ledger.snapshots import Snapshots, read_snapshot
from mlops.ledger.state import GENESIS, State, fold


@dataclass(frozen=True, slots=True)
class _Read:
    """One file as it was read."""

    hash: str
    event: Event | None
    finding: Finding | None

    @property
    def in_place(self) -> bool:
        """Whether the file's link to its neighbours means anything."""
        return self.finding is None or self.finding.problem not in {"unreadable", "reordered"}


def findings(files: Files, snapshots: Snapshots, heads: Heads | None) -> list[Finding]:
    """Return the flaws in order of sequence: of the events, their links, the snapshots, and the signed head.

    An event has one finding at most, the plainest. Of an altered file nobody can say what it was; of a link that does not fit,
    the *earlier* file is named: its successor remembers another one.
    """
    numbers, strays = files.names()
    read = {
        number: _Read(digest_bytes(content), *read_event(content, number, files.ledger, files.verifier))
        for number, content in files.contents(numbers)
        if content is not None
    }
    flaws = _missing(read) | {number: each.finding for number, each in read.items() if each.finding}
    for finding in (*_links(read), *([] if heads is None else _head(files, heads, read))):
        flaws.setdefault(finding.sequence, finding)
    found = [Finding(0, "stray", f"{path} is not an event of this ledger") for path in strays]
    found += [*flaws.values(), *_snapshots(files, snapshots, read)]
    return sorted(found, key=lambda each: each.sequence)


def _missing(read: Mapping[int, _Read]) -> dict[int, Finding]:
    absent = set(range(1, max(read, default=0))) - set(read)
    return {number: Finding(number, "missing", f"event {number} is missing") for number in absent}


def _links(read: Mapping[int, _Read]) -> list[Finding]:
    found = []
    for number, each in read.items():
        before = read.get(number - 1) if number > 1 else _Read(GENESIS, None, None)
        if each.event is None or not each.in_place or before is None or not before.in_place:
            continue
        if each.event.previous != before.hash:
            found.append(Finding(max(number - 1, 1), "altered", unlinked(number)))
    return found


def _head(files: Files, heads: Heads, read: Mapping[int, _Read]) -> list[Finding]:
    last = max(read, default=0)
    try:
        content = heads.read(files.ledger)
    except InfrastructureError as error:
        return [Finding(last, "head", f"the signed head cannot be read: {error.headline}")]
    if content is None:
        absent = "there is no signed head: the first append was interrupted, or somebody removed it"
        return [Finding(last, "head", absent)] if read else []
    head, sentence = read_head(content, files.ledger, files.verifier)
    if head is None:
        return [Finding(last, "head", sentence)]
    if head.sequence > last:
        return [Finding(last + 1, "shortened", shortened(last, head.sequence))]
    if head.sequence in read and read[head.sequence].hash != head.hash:
        other = f"event {head.sequence} is not the one that the signed head names"
        return [Finding(head.sequence, "altered", other)]
    return []


def _snapshots(files: Files, snapshots: Snapshots, read: Mapping[int, _Read]) -> list[Finding]:
    paths = {int(PurePosixPath(path).stem): path for path in snapshots.paths()}
    states = _states(read, set(paths))
    found = []
    for number, path in paths.items():
        content = files.store.get(path)
        state = None if content is None else read_snapshot(content, files.ledger, files.verifier)
        if state is None or state.sequence != number:
            sentence = (
                f"the snapshot at event {number} is damaged, foreign or of another version, and is not used"
            )
            found.append(Finding(number, "snapshot", sentence))
        elif number > max(read, default=0):
            sentence = f"event {number} is missing, and a snapshot shows that it was there"
            found.append(Finding(number, "shortened", sentence))
        elif number in states and state != states[number]:
            found.append(
                Finding(number, "snapshot", f"the snapshot at event {number} is not what the events say")
            )
    return found


def _states(read: Mapping[int, _Read], wanted: set[int]) -> dict[int, State]:
    """Return the states after the wanted events, as far as the events before are sound."""
    states: dict[int, State] = {}
    state = State()
    for number in range(1, max(wanted, default=0) + 1):
        each = read.get(number)
        if each is None or each.event is None or each.finding or each.event.previous != state.head:
            break
        state = fold(state, [each.event])
        if number in wanted:
            states[number] = state
    return states
