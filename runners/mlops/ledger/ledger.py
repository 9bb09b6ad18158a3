"""One ledger: read it, decide on it, append to it."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops.canonical import digest_bytes
from mlops.errors import InfrastructureError
from mlops.ledger.events import Event, Payload
from mlops.ledger.files import Files
from mlops.ledger.form import Author, BrokenLedger, Finding, event_content, read_event
from mlops.ledger.heads import Head, Heads, head_content, read_head, shortened
from mlops.ledger.snapshots import Snapshots
from mlops.ledger.state import GENESIS, State, fold
from mlops.ledger.verifying import findings
from mlops.signing import Signer, Verifier
from mlops.store import Store
from mlops.telemetry import crossing

Decision = Callable[[State], tuple[Payload, str] | None]
"""What to append and why, given the state; None for nothing. Asked again when somebody else was first."""

SNAPSHOT_EVERY = 32
_DECIDE_SECONDS = 60.0
_CREATE_ATTEMPTS = 5

_log = logging.getLogger(__name__)


class Conflict(InfrastructureError):  # noqa: N818 - says the fact
    """Somebody else appended first: what was decided was decided on a state that is over."""


@dataclass(frozen=True, slots=True)
class _View:
    """What was read: the state, and the event of the snapshot that reading began at."""

    state: State
    base: int


class Ledger:
    """The decisions about one model in one environment.

    Args:
        store: keeps the events.
        signer: signs what is appended; without one, events are unsigned.
        verifier: when given, an event without a valid signature of a trusted key is refused, never folded.
        heads: the second place for the signed head; without one a shortened ledger is noticed through
        snapshots only.
        author: who appends.
        snapshot_every: events between two snapshots.
        clock: the time written into events, UTC.
    """

    def __init__(  # noqa: PLR0913 - the collaborators of the one class that writes
        self,
        store: Store,
        model: str,
        environment: str,
        signer: Signer | None = None,
        verifier: Verifier | None = None,
        heads: Heads | None = None,
        author: Author | None = None,
        *,
        snapshot_every: int = SNAPSHOT_EVERY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.model = model
        self.environment = environment
        self.author = author or Author("unknown")
        self._files = Files(store, model, environment, verifier)
        self._snapshots = Snapshots(self._files)
        self._signer = signer
        self._heads = heads
        self._snapshot_every = snapshot_every
        self._clock = clock

    @property
    def signer(self) -> Signer | None:
        """The key that signs what is appended, for whoever writes a record that an event refers to."""
        return self._signer

    @property
    def verifier(self) -> Verifier | None:
        """Whose signatures count, for whoever reads a record that an event refers to."""
        return self._files.verifier

    def state(self) -> State:
        """Return what the ledger says now.

        Raises:
            BrokenLedger: a file is missing, altered, moved, unsigned or foreign, or the ledger is shorter
            than its head.
            InfrastructureError: the store cannot be read.
        """
        return self._view().state

    def append(self, payload: Payload, *, reason: str, expect: int) -> Event:
        """Append an event that was decided on the state with the sequence number ``expect``.

        Raises:
            Conflict: another event has the next number.
            BrokenLedger: the ledger is not sound, or ends before ``expect``.
        """
        view = self._view()
        if view.state.sequence < expect:
            sentence = f"event {expect} was there and is missing"
            raise self._files.broken(expect, "shortened", sentence)
        if view.state.sequence > expect:
            raise self._conflict(expect + 1)
        return self._write(view, payload, reason)[1]

    def decide(self, decision: Decision) -> tuple[State, Event | None]:
        """Read, decide, append; when somebody else was first, read again and decide again.

        Returns the state after the event and the event; the state as read and None when nothing was to be
        appended.

        Raises:
            Conflict: others were first for a whole minute.
        """
        deadline = time.monotonic() + _DECIDE_SECONDS
        attempt = 0
        while True:
            view = self._view()
            decided = decision(view.state)
            if decided is None:
                return view.state, None
            try:
                return self._write(view, *decided)
            except Conflict:
                if time.monotonic() >= deadline:
                    raise
            attempt = min(attempt + 1, 5)
            time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 - spreads writers, hides nothing

    def events(self, start: int = 1) -> Iterator[Event]:
        """Yield the events from a number on, each checked first; raises BrokenLedger at a flaw."""
        previous = GENESIS
        if start > 1:
            content = self._files.store.get(self._files.path(start - 1))
            if content is None:
                return
            previous = digest_bytes(content)
        yield from self._files.read(start - 1, previous)

    def verify(self) -> list[Finding]:
        """Check every file, signature, link, snapshot and the head; return all flaws in order of sequence."""
        return findings(self._files, self._snapshots, self._heads)

    def _view(self) -> _View:
        # The head is read first: it was written after its event, so what is listed next contains that event.
        head = self._head()
        base = self._snapshots.latest()
        events = list(self._files.read(base.sequence, base.head))
        state = fold(base, events)
        if head is not None:
            self._compare(head, state, {event.sequence: event.hash for event in events})
        return _View(state, base.sequence)

    def _head(self) -> Head | None:
        if self._heads is None:
            return None
        try:
            content = self._heads.read(self._files.ledger)
        except InfrastructureError as error:
            _log.warning("the signed head cannot be read, a shortened ledger would not be noticed: %s", error)
            return None
        if content is None:
            return None
        head, sentence = read_head(content, self._files.ledger, self._files.verifier)
        if head is None:
            raise self._files.broken(0, "head", sentence)
        return head

    def _compare(self, head: Head, state: State, hashes: dict[int, str]) -> None:
        if head.sequence > state.sequence:
            sentence = shortened(state.sequence, head.sequence)
            raise self._files.broken(head.sequence, "shortened", sentence)
        if hashes.get(head.sequence, head.hash) != head.hash:
            sentence = f"event {head.sequence} is not the one that the signed head names"
            raise self._files.broken(head.sequence, "altered", sentence)

    def _write(self, view: _View, payload: Payload, reason: str) -> tuple[State, Event]:
        event = Event(
            sequence=view.state.sequence + 1,
            id=uuid.uuid4().hex,
            at=self._clock().astimezone(UTC).isoformat(timespec="microseconds"),
            actor=self.author.actor,
            reason=reason,
            build=self.author.build,
            commit=self.author.commit,
            previous=view.state.head,
            kind=payload.kind,
            data=payload.as_record(),
        )
        content = event_content(event, self._files.ledger, self._signer)
        # What is returned is what every reader will read; an event that cannot be folded is never written.
        written = self._readable(content, event)
        state = fold(view.state, [written])
        self._create(written, content)
        self._follow(view, state)
        return state, written

    def _readable(self, content: bytes, event: Event) -> Event:
        read, finding = read_event(content, event.sequence, self._files.ledger, self._files.verifier)
        if read is None or finding is not None:
            raise BrokenLedger(
                self._files.ledger, finding or Finding(event.sequence, "unreadable", "unreadable")
            )
        return read

    def _create(self, event: Event, content: bytes) -> None:
        """Take the sequence number; after "it exists", or no answer, the file itself says whose it is."""
        path = self._files.path(event.sequence)
        for _ in range(_CREATE_ATTEMPTS):
            crossing("ledger.before-append")
            lost: InfrastructureError | None = None
            try:
                created = self._files.store.create(path, content)
            except InfrastructureError as error:
                created, lost = False, error
            crossing("ledger.after-append")
            if created:
                return
            there = self._read_back(path, lost)
            if there == content:
                return
            if there is not None:
                raise self._conflict(event.sequence)
            if lost is not None:
                raise lost
        raise self._conflict(event.sequence)

    def _read_back(self, path: str, lost: InfrastructureError | None) -> bytes | None:
        try:
            return self._files.store.get(path)
        except InfrastructureError as error:
            raise lost or error from error

    def _follow(self, view: _View, state: State) -> None:
        """Write what follows from the event: head, perhaps snapshot; the next append repairs both."""
        crossing("ledger.before-head")
        if self._heads is not None:
            head = Head(state.sequence, state.head)
            try:
                self._heads.write(self._files.ledger, head_content(head, self._files.ledger, self._signer))
            except InfrastructureError as error:
                _log.warning("the signed head was not written, the next append will do it: %s", error)
        crossing("ledger.after-head")
        if state.sequence - view.base >= self._snapshot_every:
            crossing("ledger.before-snapshot")
            try:
                self._snapshots.write(state, self._signer)
            except InfrastructureError as error:
                _log.warning("no snapshot was written, the next append will do it: %s", error)
            crossing("ledger.after-snapshot")

    def _conflict(self, sequence: int) -> Conflict:
        return Conflict(
            f"somebody else appended event {sequence} of {self._files.ledger} first",
            expected=f"event {sequence} to be free",
            found="an event with another id",
            remedy="read the state again and decide again",
            where=self._files.path(sequence),
        )


def models(store: Store) -> list[tuple[str, str]]:
    """Return (model, environment) of every ledger in the store, sorted."""
    return [
        (model.rpartition("/")[2], environment.rpartition("/")[2])
        for model in store.folders("ledger")
        for environment in store.folders(model)
    ]
