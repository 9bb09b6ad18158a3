"""Checks a whole ledger and says everything that is wrong with it."""

from __future__ import annotations

from pathlib import PurePosixPath

from mlops.canonical import digest_bytes
from mlops.errors import InfrastructureError
from mlops.ledger.events import Event
from mlops.ledger.files import Files, unlinked
from mlops.ledger.form import Finding, read_event
from mlops.ledger.heads import Heads, read_head
from mlops.ledger.snapshots import Snapshots, read_snapshot
from mlops.ledger.state import GENESIS, State, fold


def findings(files: Files, snapshots: Snapshots, heads: Heads | None) -> list[Finding]:
    """Return all flaws in order of sequence: of the events, their links, the snapshots, and the signed head.

    Of an altered file nobody can say what it was; of a link that does not fit, the *earlier* file is named:
    its successor remembers another one.
    """
    numbers, strays = files.names()
    contents = {number: content for number, content in files.contents(numbers) if content is not None}
    found = [Finding(0, "stray", f"{path} is not an event of this ledger") for path in strays]
    found += _events(files, contents)
    states = _states(files, contents)
    found += _snapshots(files, snapshots, states, contents)
    if heads is not None:
        found += _head(files, heads, contents)
    return sorted(found, key=lambda each: each.sequence)


def _events(files: Files, contents: dict[int, bytes]) -> list[Finding]:
    found: list[Finding] = []
    previous: str | None = GENESIS
    for number in range(1, max(contents, default=0) + 1):
        content = contents.get(number)
        if content is None:
            found.append(Finding(number, "missing", f"event {number} is missing"))
            previous = None
            continue
        event, finding = read_event(content, number, files.ledger, files.verifier)
        if finding is not None:
            found.append(finding)
        out_of_place = event is None or event.sequence != number
        if not out_of_place and event is not None and previous is not None and event.previous != previous:
            found.append(Finding(max(number - 1, 1), "altered", unlinked(number)))
        # What follows a file that is out of place cannot be judged by its link.
        previous = None if event is not None and event.sequence != number else digest_bytes(content)
    return found


def _states(files: Files, contents: dict[int, bytes]) -> dict[int, State]:
    """Return the state after each event, up to the first that is not sound."""
    states = {0: State()}
    for number in range(1, len(contents) + 1):
        event: Event | None = None
        if number in contents:
            event, finding = read_event(contents[number], number, files.ledger, files.verifier)
            event = None if finding else event
        if event is None or event.previous != states[number - 1].head:
            break
        states[number] = fold(states[number - 1], [event])
    return states


def _snapshots(
    files: Files, snapshots: Snapshots, states: dict[int, State], contents: dict[int, bytes]
) -> list[Finding]:
    found = []
    for path in snapshots.paths():
        number = int(PurePosixPath(path).stem)
        content = files.store.get(path)
        state = None if content is None else read_snapshot(content, files.ledger, files.verifier)
        if state is None or state.sequence != number:
            sentence = (
                f"the snapshot at event {number} is damaged, foreign or of another version, and is not used"
            )
            found.append(Finding(number, "snapshot", sentence))
        elif number not in contents:
            sentence = f"event {number} is missing, and a snapshot shows that it was there"
            found.append(Finding(number, "shortened", sentence))
        elif number in states and state != states[number]:
            found.append(
                Finding(number, "snapshot", f"the snapshot at event {number} is not what the events say")
            )
    return found


def _head(files: Files, heads: Heads, contents: dict[int, bytes]) -> list[Finding]:
    last = max(contents, default=0)
    try:
        content = heads.read(files.ledger)
    except InfrastructureError as error:
        return [Finding(last, "head", f"the signed head cannot be read: {error.headline}")]
    if content is None:
        absent = "there is no signed head: the first append was interrupted, or somebody removed it"
        return [Finding(last, "head", absent)] if contents else []
    head, sentence = read_head(content, files.ledger, files.verifier)
    if head is None:
        return [Finding(last, "head", sentence)]
    if head.sequence > last:
        gone = (
            f"the ledger ends at event {last}, and its signed head shows that event {head.sequence} was there"
        )
        return [Finding(last + 1, "shortened", gone)]
    if head.sequence in contents and digest_bytes(contents[head.sequence]) != head.hash:
        other = f"event {head.sequence} is not the one that the signed head names"
        return [Finding(head.sequence, "altered", other)]
    return []
