"""The signed head: the last event's number and hash in a second place, which shows a shortened ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlops.ledger.form import HEAD_TYPE, seal, unseal
from mlops.signing import Signer, Verifier
from mlops.store import Store


class Heads(Protocol):
    """The second place: another store, or a tag of the model in the tracking server.

    ``ledger`` is ``<model>/<environment>``; contents are under a kilobyte of JSON. Errors are
    InfrastructureError; a place that is down never stops an append (a rollback must not wait for it), the
    next append writes the head.
    """

    def read(self, ledger: str) -> bytes | None:
        """Return what was written last, None when nothing was."""
        ...

    def write(self, ledger: str, content: bytes) -> None:
        """Replace the content."""
        ...


@dataclass(frozen=True)
class StoreHeads:
    """Heads as objects ``heads/<model>/<environment>.json`` of a store."""

    store: Store

    def read(self, ledger: str) -> bytes | None:
        """Return the object's content."""
        return self.store.get(self._path(ledger))

    def write(self, ledger: str, content: bytes) -> None:
        """Replace the object."""
        self.store.put(self._path(ledger), content)

    @staticmethod
    def _path(ledger: str) -> str:
        return f"heads/{ledger}.json"


@dataclass(frozen=True, slots=True)
class Head:
    """The last event that was there when the head was written."""

    sequence: int
    hash: str


def head_content(head: Head, ledger: str, signer: Signer | None) -> bytes:
    """Return the content that says the head."""
    return seal({"ledger": ledger, "sequence": head.sequence, "hash": head.hash}, HEAD_TYPE, signer)


def read_head(content: bytes, ledger: str, verifier: Verifier | None) -> tuple[Head | None, str]:
    """Return the head, or None with the sentence that says why it cannot be trusted."""
    file = unseal(content, HEAD_TYPE, verifier)
    record = file.record
    if record is None or file.problem:
        return None, f"the head {file.sentence}"
    if record.get("ledger") != ledger:
        return None, f"the head was written for the ledger {record.get('ledger')}"
    sequence, digest = record.get("sequence"), record.get("hash")
    if not isinstance(sequence, int) or not isinstance(digest, str):
        return None, "the head lacks its number or its hash"
    return Head(sequence, digest), ""


def shortened(last: int, head: int) -> str:
    """Say that events are gone from the end."""
    return f"it ends at event {last}, and its signed head shows that event {head} was there"
