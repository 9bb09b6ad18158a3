"""The form of a ledger's files: one DSSE envelope each, in canonical JSON, chained by the SHA-256 of the exact file bytes.

An unsigned ledger has the same form with no signatures. The signed payload names the ledger and the sequence number, so an
event cannot be moved to another place, and carries the hash of the predecessor's file, so it cannot follow another one.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlops.canonical import canonical_json, digest_bytes
from mlops.errors import MlopsError
from mlops.ledger.events import Event
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

    ``problem`` is one word: ``missing``, ``shortened``, ``altered``, ``reordered``, ``moved``, ``unsigned``, ``foreign``
    (signed by a key that is not trusted), ``unreadable``, ``stray``, ``snapshot`` or ``head``.
    """

    sequence: int
    problem: str
    sentence: str


class BrokenLedger(MlopsError):
    """The ledger is not what its writers wrote; nothing is decided on it."""

    category = "integrity"
    exit_code = 1

    def __init__(self, ledger: str, finding: Finding) -> None:
        super().__init__(
            f"the ledger {ledger} cannot be trusted: {finding.sentence}",
            expected="every event as it was written, in order, signed by a trusted key where signatures are required",
            found=f"event {finding.sequence}: {finding.problem}",
            remedy="run `mlops ledger verify` for the whole list; restore the files from the store's versions or a backup",
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


def unseal(
    content: bytes, payload_type: str, verifier: Verifier | None
) -> tuple[dict[str, Any] | None, str, str]:
    """Return (record, problem, sentence); the record is None when nothing can be read, the problem empty when all is well.

    Without a verifier signatures are not looked at.
    """
    try:
        envelope = json.loads(content)
        payload = b64decode(envelope["payload"], validate=True)
        record = json.loads(payload)
        exact = canonical_json(envelope) == content and canonical_json(record) == payload
        signatures = list(envelope["signatures"])
        found_type = envelope["payloadType"]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        return None, "unreadable", "is not a whole file of this ledger (cut off, overwritten or damaged)"
    if not isinstance(record, dict):
        return None, "unreadable", "holds no record"
    if found_type != payload_type:
        return None, "unreadable", f"holds {found_type!r} instead of {payload_type!r}"
    if not exact:
        return record, "altered", "was written again in another form"
    if verifier is None:
        return record, "", ""
    if not signatures:
        return record, "unsigned", "is not signed"
    try:
        verifier.verify(envelope, payload_type)
    except SignatureError as error:
        return record, "foreign", f"has no valid signature of a trusted key ({error.found})"
    return record, "", ""


def event_content(event: Event, ledger: str, signer: Signer | None) -> bytes:
    """Return the file content of an event; its hash is not part of it."""
    record = {name: value for name, value in asdict(event).items() if name != "hash"}
    return seal({**record, "ledger": ledger}, EVENT_TYPE, signer)


def read_event(
    content: bytes, sequence: int, ledger: str, verifier: Verifier | None
) -> tuple[Event | None, Finding | None]:
    """Read the file at a sequence number: the event as far as it can be read, and the first thing wrong with it."""
    record, problem, sentence = unseal(content, EVENT_TYPE, verifier)
    if record is None:
        return None, Finding(sequence, problem, f"event {sequence} {sentence}")
    place = record.pop("ledger", None)
    try:
        event = Event(**record, hash=digest_bytes(content))
        event.payload  # noqa: B018 - a known kind without its fields cannot be folded
    except (TypeError, AttributeError):
        return None, Finding(sequence, "unreadable", f"event {sequence} lacks fields of its kind")
    if problem:
        return event, Finding(sequence, problem, f"event {sequence} {sentence}")
    if place != ledger:
        return event, Finding(sequence, "moved", f"event {sequence} was written for the ledger {place}")
    if event.sequence != sequence:
        moved = f"the file of event {sequence} holds event {event.sequence}"
        return event, Finding(sequence, "reordered", moved)
    return event, None
