"""Snapshots: the state at some event, where reading a long ledger starts. Never trusted on their own word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mlops.canonical import digest_bytes, digest_json
from mlops.ledger.files import Files
from mlops.ledger.form import SNAPSHOT_TYPE, seal, unseal
from mlops.ledger.state import State
from mlops.signing import Signer, Verifier

FOLD_VERSION = 1
"""Raise it whenever the fold reads an event differently: snapshots of another version are not used."""

_FILE = re.compile(r"\d{10}\.json")


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one ledger, ``snapshots/<model>/<environment>/<ten digits>.json``, create-only."""

    files: Files

    @property
    def folder(self) -> str:
        """Where they are: beside the ledger, so that listing events does not list them."""
        return f"snapshots/{self.files.ledger}"

    def path(self, sequence: int) -> str:
        """Return the path of the snapshot at an event."""
        return f"{self.folder}/{sequence:010d}.json"

    def paths(self) -> list[str]:
        """Return the paths of all snapshots, oldest first."""
        found = self.files.store.list(self.folder)
        return [path for path in found if _FILE.fullmatch(PurePosixPath(path).name)]

    def write(self, state: State, signer: Signer | None) -> None:
        """Keep the state; an existing snapshot at this event stays."""
        self.files.store.create(self.path(state.sequence), snapshot_content(state, self.files.ledger, signer))

    def latest(self) -> State:
        """Return the newest state that can be trusted, the empty one if there is none.

        A snapshot that is damaged, of another fold or not signed by a trusted key is passed over: the events
        say the same. A sound snapshot whose event is gone or differs proves that the *ledger* was changed.

        Raises:
            BrokenLedger: in the last case.
        """
        for path in reversed(self.paths()):
            content = self.files.store.get(path)
            state = (
                None if content is None else read_snapshot(content, self.files.ledger, self.files.verifier)
            )
            if state is not None and path == self.path(state.sequence):
                self._anchored(state)
                return state
        return State()

    def _anchored(self, state: State) -> None:
        content = self.files.store.get(self.files.path(state.sequence))
        if content is None:
            sentence = f"event {state.sequence} is missing, and a snapshot shows that it was there"
            raise self.files.broken(state.sequence, "missing", sentence)
        if digest_bytes(content) != state.head:
            sentence = f"event {state.sequence} is not the one that a snapshot was made of"
            raise self.files.broken(state.sequence, "altered", sentence)


def snapshot_content(state: State, ledger: str, signer: Signer | None) -> bytes:
    """Return the file content of a snapshot."""
    record = state.as_record()
    return seal(
        {"ledger": ledger, "fold": FOLD_VERSION, "state": record, "digest": digest_json(record)},
        SNAPSHOT_TYPE,
        signer,
    )


def read_snapshot(content: bytes, ledger: str, verifier: Verifier | None) -> State | None:
    """Return the state in the file; None when damaged, foreign, unsigned, or of another ledger or fold."""
    file = unseal(content, SNAPSHOT_TYPE, verifier)
    record = file.record
    if record is None or file.problem or record.get("ledger") != ledger or record.get("fold") != FOLD_VERSION:
        return None
    stored: Mapping[str, Any] = record.get("state", {})
    if record.get("digest") != digest_json(stored):
        return None
    try:
        return State.from_record(stored)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
