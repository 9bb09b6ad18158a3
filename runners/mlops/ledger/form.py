"""The form of a ledger's files: a DSSE envelope each, in canonical JSON, chained by the SHA-256 of the file.

An unsigned ledger has the same form with no signatures. The signed payload names the ledger and the sequence
number, so an event cannot be moved to another place, and carries the hash of the predecessor's file, so it
cannot follow another one.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlops.canonical import canonical_json, digest_bytes
from mlops.errors import MlopsError
from mlops.ledger.events import Event
from mlops.ledger.state import State, fold
from mlops.signing import SignatureError, Signer, Verifier

EVENT_TYPE = "application/vnd.mlops.event.v1+json"
SNAPSHOT_TYPE = "application/vnd.mlops.snapshot.v1+json"
HEAD_TYPE = "application/vnd.mlops.head.v1+json"


@dataclass(frozen=True, slots=True)
class Author:
    """Who appends: a person or a job, the URL of the build and the commit it runs for (both may be empty)."""

    actor: str
    build: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a ledger.

    ``problem`` is one word: ``missing``, ``shortened``, ``altered``, ``reordered``, ``moved``, ``unsigned``,
    ``foreign`` (signed by a key that is not trusted), ``unreadable``, ``stray``, ``snapshot`` or ``head``.
    """

    sequence: int
    problem: str
    sentence: str


class BrokenLedger(MlopsError):  # noqa: N818 - says the fact
    """The ledger is not what its writers wrote; nothing is decided on it."""

    category = "integrity"
    exit_code = 1

    def __init__(self, ledger: str, finding: Finding) -> None:
        super().__init__(
            f"the ledger {ledger} cannot be trusted: {finding.sentence}",
            expected="every event as it was written, in order, and signed where signatures are required",
            found=f"event {finding.sequence}: {finding.problem}",
            remedy="run `mlops ledger verify` for the whole list; restore the files from a backup",
            where=f"ledger/{ledger}",
        )
        self.finding = finding


def seal(record: Mapping[str, Any], payload_type: str, signer: Signer | None) -> bytes:
    """Return the content of a file that says ``record``, signed when there is a signer."""
    payload = canonical_json(record)
    if signer is not None:
        return canonical_json(signer.sign(payload, payload_type))
    unsigned = {"payload": b64encode(payload).decode(), "payloadType": payload_type, "signatures": []}
    return canonical_json(unsigned)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What a file says: no record when nothing can be read, no problem when all is well."""

    record: dict[str, Any] | None
    problem: str = ""
    sentence: str = ""


def unseal(content: bytes, payload_type: str, verifier: Verifier | None) -> Unsealed:  # noqa: PLR0911 - a list of flaws
    """Read the content of a file; without a verifier signatures are not looked at."""
    try:
        envelope = json.loads(content)
        payload = b64decode(envelope["payload"], validate=True)
        record = json.loads(payload)
        found_type = str(envelope["payloadType"])
        envelope["signatures"]
        exact = canonical_json(envelope) == content and canonical_json(record) == payload
    except (ValueError, KeyError, TypeError, RecursionError):
        return Unsealed(
            None, "unreadable", "is not a whole file of a ledger (cut off, overwritten or damaged)"
        )
    if not isinstance(record, dict) or found_type != payload_type:
        return Unsealed(None, "unreadable", f"holds {found_type[:80]!r} and no record of {payload_type!r}")
    if not exact:
        return Unsealed(record, "altered", "was written again in another form")
    if verifier is None:
        return Unsealed(record)
    if not envelope["signatures"]:
        return Unsealed(record, "unsigned", "is not signed")
    try:
        verifier.verify(envelope, payload_type)
    except SignatureError as error:
        return Unsealed(record, "foreign", f"has no valid signature of a trusted key ({error.found})")
    return Unsealed(record)


def event_content(event: Event, ledger: str, signer: Signer | None) -> bytes:
    """Return the file content of an event; its hash is not part of it."""
    record = {name: value for name, value in asdict(event).items() if name != "hash"}
    return seal({**record, "ledger": ledger}, EVENT_TYPE, signer)


def read_event(
    content: bytes, sequence: int, ledger: str, verifier: Verifier | None
) -> tuple[Event | None, Finding | None]:
    """Read the file at a sequence number: the event as far as it can be read, and the first flaw."""
    file = unseal(content, EVENT_TYPE, verifier)
    if file.record is None:
        return None, Finding(sequence, file.problem, f"event {sequence} {file.sentence}")
    place = file.record.pop("ledger", None)
    event = _event(file.record, digest_bytes(content))
    if event is None:
        return None, Finding(sequence, "unreadable", f"event {sequence} lacks fields of its kind")
    if file.problem:
        return event, Finding(sequence, file.problem, f"event {sequence} {file.sentence}")
    if place != ledger:
        return event, Finding(sequence, "moved", f"event {sequence} was written for the ledger {place}")
    if event.sequence != sequence:
        moved = f"the file of event {sequence} holds event {event.sequence}"
        return event, Finding(sequence, "reordered", moved)
    return event, None


def _event(record: Mapping[str, Any], digest: str) -> Event | None:
    """Return the event, None when it lacks what it cannot be folded without."""
    known = {each.name for each in fields(Event)}
    try:
        event = Event(**{name: value for name, value in record.items() if name in known}, hash=digest)
        # Raises when a known kind lacks a field or holds one that no state can be made of.
        fold(State(), [event])
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return event
