"""Somebody changes the files: each change is found, named by its number, and refused by the next reader."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest

from mlops.canonical import canonical_json
from mlops.ledger import BrokenLedger, Ledger
from mlops.ledger.events import Noted
from mlops.ledger.form import EVENT_TYPE, seal
from mlops.signing import Signer
from mlops.store import Store
from tests.core.ledgers import Make, path

EVENTS = 6


@pytest.fixture(params=["signed", "unsigned"])
def ledger(request: pytest.FixtureRequest, make: Make) -> Ledger:
    """Six events."""
    made = make() if request.param == "signed" else make(signer=None, verifier=None)
    for number in range(EVENTS):
        made.append(Noted(subject=f"event {number + 1}"), reason="", expect=number)
    assert made.verify() == []
    return made


def problems(ledger: Ledger) -> list[tuple[int, str]]:
    return [(each.sequence, each.problem) for each in ledger.verify()]


def rewritten(content: bytes | None, **changes: Any) -> bytes:
    """Return the file with other values in its payload, its signature kept."""
    envelope = json.loads(content or b"")
    record = {**json.loads(b64decode(envelope["payload"])), **changes}
    return canonical_json({**envelope, "payload": b64encode(canonical_json(record)).decode()})


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_removed_event(ledger: Ledger, store: Store, number: int) -> None:
    store.delete(path(number))
    assert problems(ledger) == [(number, "missing")]
    assert ledger.verify()[0].sentence == f"event {number} is missing"
    with pytest.raises(BrokenLedger, match=f"event {number} is missing") as broken:
        ledger.state()
    assert (broken.value.finding.sequence, broken.value.finding.problem) == (number, "missing")


def test_removed_events_are_each_named(ledger: Ledger, store: Store) -> None:
    for number in (2, 3, 5):
        store.delete(path(number))
    assert problems(ledger) == [(2, "missing"), (3, "missing"), (5, "missing")]


@pytest.mark.parametrize("number", [1, 4])
def test_an_altered_event_in_an_unsigned_ledger(make: Make, store: Store, number: int) -> None:
    ledger = make(signer=None, verifier=None)
    for each in range(EVENTS):
        ledger.append(Noted(subject="x"), reason="", expect=each)
    store.put(path(number), rewritten(store.get(path(number)), reason="something else"))
    found = ledger.verify()
    assert [(each.sequence, each.problem) for each in found] == [(number, "altered")]
    assert f"event {number + 1} was written after another event {number}" in found[0].sentence
    with pytest.raises(BrokenLedger, match="was written after another event") as broken:
        ledger.state()
    assert (broken.value.finding.sequence, broken.value.finding.problem) == (number, "altered")
    assert [event.sequence for event in ledger.events(number + 2)] == list(range(number + 2, EVENTS + 1))
    with pytest.raises(BrokenLedger, match=f"event {number + 1} was written after another"):
        list(ledger.events(number + 1))


def test_an_altered_event_in_a_signed_ledger(make: Make, store: Store) -> None:
    ledger = make()
    for each in range(EVENTS):
        ledger.append(Noted(subject="x"), reason="", expect=each)
    store.put(path(4), rewritten(store.get(path(4)), reason="something else"))
    assert problems(ledger) == [(4, "foreign")], "one finding for one file"
    with pytest.raises(BrokenLedger, match="event 4 has no valid signature"):
        ledger.state()


def test_the_last_event_altered_is_found_by_the_head(ledger: Ledger, store: Store) -> None:
    store.put(path(EVENTS), rewritten(store.get(path(EVENTS)), reason="something else"))
    assert problems(ledger) in ([(EVENTS, "altered")], [(EVENTS, "foreign")])
    with pytest.raises(BrokenLedger, match=f"event {EVENTS}"):
        ledger.state()


def test_an_event_written_again_in_another_form(ledger: Ledger, store: Store) -> None:
    content = store.get(path(3)) or b""
    store.put(path(3), json.dumps(json.loads(content), indent=1).encode())
    assert problems(ledger) == [(3, "altered")]
    with pytest.raises(BrokenLedger, match="event 3 was written again in another form"):
        ledger.state()


def test_a_payload_written_again_in_another_form(make: Make, store: Store, signer: Signer) -> None:
    ledger = make(heads=None)
    ledger.append(Noted(subject="x"), reason="", expect=0)
    record = json.loads(b64decode(json.loads(store.get(path(1)) or b"")["payload"]))
    loose = json.dumps(record, indent=1).encode()
    store.put(path(1), canonical_json(signer.sign(loose, EVENT_TYPE)))
    assert problems(ledger) == [(1, "altered")]


def test_two_events_changed_places(ledger: Ledger, store: Store) -> None:
    second, fourth = store.get(path(2)) or b"", store.get(path(4)) or b""
    store.put(path(2), fourth)
    store.put(path(4), second)
    assert problems(ledger) == [(2, "reordered"), (4, "reordered")]
    assert ledger.verify()[0].sentence == "the file of event 2 holds event 4"
    with pytest.raises(BrokenLedger, match="the file of event 2 holds event 4"):
        ledger.state()


def test_an_event_repeated_under_the_next_number(ledger: Ledger, store: Store) -> None:
    store.put(path(EVENTS + 1), store.get(path(EVENTS)) or b"")
    assert problems(ledger) == [(EVENTS + 1, "reordered")]


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_a_file_cut_off(ledger: Ledger, store: Store, length: int) -> None:
    store.put(path(2), (store.get(path(2)) or b"")[:length])
    assert problems(ledger) == [(2, "unreadable")]
    with pytest.raises(BrokenLedger, match="event 2 is not a whole file"):
        ledger.state()


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"payload":"!!","payloadType":"x","signatures":[]}',
        b'{"payload":"e30=","payloadType":"x","signatures":[]}',
        b'{"payload":"e30=","payloadType":"application/vnd.mlops.event.v1+json","signatures":[]}',
        b'{"payload":"e30=","payloadType":"application/vnd.mlops.event.v1+json"}',
        b'{"payload":"W10=","payloadType":"application/vnd.mlops.event.v1+json","signatures":[]}',
        b'{"payload":1,"payloadType":"application/vnd.mlops.event.v1+json","signatures":[]}',
    ],
)
def test_a_file_that_is_no_event(ledger: Ledger, store: Store, content: bytes) -> None:
    store.put(path(2), content)
    assert problems(ledger) == [(2, "unreadable")]
    with pytest.raises(BrokenLedger, match="event 2"):
        ledger.state()


@pytest.mark.parametrize("missing", ["id", "kind", "data", "previous", "sequence", "at"])
def test_an_event_without_a_field(make: Make, store: Store, signer: Signer, missing: str) -> None:
    ledger = make(heads=None)
    ledger.append(Noted(subject="x"), reason="", expect=0)
    record = json.loads(b64decode(json.loads(store.get(path(1)) or b"")["payload"]))
    del record[missing]
    store.put(path(1), seal(record, EVENT_TYPE, signer))
    assert problems(ledger) == [(1, "unreadable")]
    assert "lacks fields of its kind" in ledger.verify()[0].sentence


@pytest.mark.parametrize("data", [{}, {"numbers": {}}, [], None, 3])
def test_a_known_kind_without_what_it_needs(make: Make, store: Store, signer: Signer, data: object) -> None:
    ledger = make(heads=None)
    ledger.append(Noted(subject="x"), reason="", expect=0)
    record = json.loads(b64decode(json.loads(store.get(path(1)) or b"")["payload"]))
    store.put(path(1), seal({**record, "data": data}, EVENT_TYPE, signer))
    assert problems(ledger) == [(1, "unreadable")]
    with pytest.raises(BrokenLedger):
        ledger.state()


def test_a_foreign_event_appended(make: Make, store: Store) -> None:
    ledger = make()
    ledger.append(Noted(subject="x"), reason="", expect=0)
    make(signer=Signer.generate(), verifier=None, heads=None).append(Noted(subject="y"), reason="", expect=1)
    assert problems(ledger) == [(2, "foreign")]
    assert "event 2 has no valid signature of a trusted key (signed by " in ledger.verify()[0].sentence


def test_an_unsigned_event_appended(make: Make, store: Store) -> None:
    ledger = make()
    ledger.append(Noted(subject="x"), reason="", expect=0)
    make(signer=None, verifier=None, heads=None).append(Noted(subject="y"), reason="", expect=1)
    assert problems(ledger) == [(2, "unsigned")]
    assert ledger.verify()[0].sentence == "event 2 is not signed"


def test_an_event_of_another_ledger(make: Make, store: Store) -> None:
    other = make(environment="staging", heads=None)
    other.append(Noted(subject="x"), reason="", expect=0)
    store.put(path(1), store.get("ledger/flight-delay/staging/0000000001.json") or b"")
    assert problems(make(heads=None)) == [(1, "moved")]
    sentence = make(heads=None).verify()[0].sentence
    assert sentence == "event 1 was written for the ledger flight-delay/staging"


def test_a_first_event_that_claims_a_predecessor(make: Make, store: Store, signer: Signer) -> None:
    ledger = make(heads=None)
    ledger.append(Noted(subject="x"), reason="", expect=0)
    record = json.loads(b64decode(json.loads(store.get(path(1)) or b"")["payload"]))
    store.put(path(1), seal({**record, "previous": "1" * 64}, EVENT_TYPE, signer))
    assert problems(ledger) == [(1, "altered")]
    assert ledger.verify()[0].sentence == "event 1 says that another event came before it"
    with pytest.raises(BrokenLedger, match="another event came before it"):
        ledger.state()


@pytest.mark.parametrize(
    "stray",
    [
        "notes.txt",
        "1.json",
        "00000000001.json",
        "0000000001.json.bak",
        "sub/0000000001.json",
        "000000000x.json",
    ],
)
def test_a_stray_file_is_named_and_does_no_harm(ledger: Ledger, store: Store, stray: str) -> None:
    store.put(f"ledger/flight-delay/production/{stray}", b"x")
    assert problems(ledger) == [(0, "stray")]
    assert stray in ledger.verify()[0].sentence
    assert ledger.state().sequence == EVENTS


def test_findings_come_in_order_of_sequence(ledger: Ledger, store: Store) -> None:
    store.put(path(5), b"")
    store.delete(path(3))
    store.put("ledger/flight-delay/production/x", b"")
    assert [number for number, _ in problems(ledger)] == [0, 3, 5]


def test_what_follows_an_altered_file_is_still_checked(ledger: Ledger, store: Store) -> None:
    store.put(path(2), b"")
    store.put(path(5), b"")
    assert problems(ledger) == [(2, "unreadable"), (5, "unreadable")]


def test_links_behind_a_flaw_are_still_checked(make: Make, store: Store) -> None:
    ledger = make(signer=None, verifier=None)
    for number in range(EVENTS):
        ledger.append(Noted(subject="x"), reason="", expect=number)
    store.put(path(2), b"")
    store.put(path(4), rewritten(store.get(path(4)), reason="something else"))
    assert problems(ledger) == [(2, "unreadable"), (4, "altered")]


def test_a_ledger_of_which_only_a_snapshot_is_left(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2, heads=None)
    for number in range(2):
        ledger.append(Noted(subject="x"), reason="", expect=number)
    store.delete(path(1))
    store.delete(path(2))
    assert problems(ledger) == [(2, "shortened")]


def test_a_snapshot_of_a_removed_event(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2, heads=None)
    for number in range(4):
        ledger.append(Noted(subject="x"), reason="", expect=number)
    store.delete(path(4))
    assert problems(ledger) == [(4, "shortened")]
    assert "a snapshot shows that it was there" in ledger.verify()[0].sentence


def test_an_event_altered_under_a_snapshot_is_found(make: Make, store: Store) -> None:
    """Whoever wrote the whole unsigned chain anew must still explain the snapshot."""
    ledger = make(snapshot_every=2, heads=None, signer=None, verifier=None)
    for number in range(2):
        ledger.append(Noted(subject="x"), reason="", expect=number)
    store.put(path(2), rewritten(store.get(path(2)), reason="another"))
    assert problems(ledger) == [(2, "snapshot")]
    with pytest.raises(BrokenLedger, match="not the one that a snapshot was made of"):
        ledger.state()
