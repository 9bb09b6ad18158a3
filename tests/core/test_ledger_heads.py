"""The signed head in a second place: a shortened ledger is noticed, and a place that is down stops nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops.errors import InfrastructureError
from mlops.ledger import BrokenLedger, StoreHeads
from mlops.ledger.form import EVENT_TYPE, seal
from mlops.signing import Signer
from mlops.store import Store
from tests.core.conftest import Place
from tests.core.ledgers import Make, fill, note, path


class Broken(StoreHeads):
    """A second place that is down."""

    def read(self, ledger: str) -> bytes | None:
        raise InfrastructureError("the tracking server is down", remedy="start it")

    def write(self, ledger: str, content: bytes) -> None:
        raise InfrastructureError("the tracking server is down", remedy="start it")


def test_the_head_follows_every_event(make: Make, heads: StoreHeads, signer: Signer) -> None:
    ledger = make()
    assert heads.read("flight-delay/production") is None
    for number in range(3):
        event = ledger.append(note(), reason="", expect=number)
        envelope = json.loads(heads.read("flight-delay/production") or b"")
        record = json.loads(signer.verifier().verify(envelope, "application/vnd.mlops.head.v1+json"))
        assert record == {"ledger": "flight-delay/production", "sequence": number + 1, "hash": event.hash}


def test_a_second_place_that_is_down_stops_nobody(
    make: Make, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = make(heads=Broken(store))
    event = ledger.append(note(), reason="a rollback at night", expect=0)
    assert ledger.state().head == event.hash
    assert "the signed head was not written" in caplog.text
    assert "the signed head cannot be read" in caplog.text
    found = ledger.verify()
    assert [(each.sequence, each.problem) for each in found] == [(1, "head")]
    assert found[0].sentence == "the signed head cannot be read: the tracking server is down"
    make().append(note(), reason="it is up again", expect=1)
    assert make().verify() == []


def test_a_shortened_ledger_is_refused_and_found(make: Make, store: Store) -> None:
    ledger = make()
    fill(ledger, 4)
    store.delete(path(4))
    store.delete(path(3))
    for act in (ledger.state, lambda: ledger.append(note(), reason="", expect=2), lambda: fill(ledger, 1)):
        with pytest.raises(
            BrokenLedger, match="ends at event 2, and its signed head shows that event 4"
        ) as broken:
            act()
        assert (broken.value.finding.sequence, broken.value.finding.problem) == (4, "shortened")
    found = ledger.verify()
    assert [(each.sequence, each.problem) for each in found] == [(3, "shortened")]
    assert found[0].sentence == "it ends at event 2, and its signed head shows that event 4 was there"


def test_a_ledger_removed_whole_is_found(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2)
    fill(ledger, 2)
    for each in (*store.list("ledger"), *store.list("snapshots")):
        store.delete(each)
    with pytest.raises(BrokenLedger, match="ends at event 0"):
        ledger.state()
    assert [(each.sequence, each.problem) for each in ledger.verify()] == [(1, "shortened")]


def test_a_last_event_that_was_replaced_by_one_of_the_same_signer_is_found(make: Make, store: Store) -> None:
    """The signature is right and the link is right; only the head remembers another one."""
    ledger = make()
    fill(ledger, 2)
    store.delete(path(2))
    make(heads=None).append(note("another"), reason="history as I like it", expect=1)
    with pytest.raises(BrokenLedger, match="event 2 is not the one that the signed head names") as broken:
        ledger.state()
    assert (broken.value.finding.sequence, broken.value.finding.problem) == (2, "altered")
    found = ledger.verify()
    assert [(each.sequence, each.problem) for each in found] == [(2, "altered")]
    assert found[0].sentence == "event 2 is not the one that the signed head names"


def test_a_head_that_lags_is_no_harm(make: Make, heads: StoreHeads) -> None:
    ledger = make()
    fill(ledger, 1)
    old = heads.read("flight-delay/production") or b""
    fill(ledger, 2)
    heads.write("flight-delay/production", old)
    assert ledger.state().sequence == 3
    assert ledger.verify() == []
    fill(ledger, 1)
    assert b"" != old != heads.read("flight-delay/production")


def test_a_head_before_the_snapshot_is_no_harm(make: Make, heads: StoreHeads) -> None:
    ledger = make(snapshot_every=2)
    fill(ledger, 1)
    old = heads.read("flight-delay/production") or b""
    fill(ledger, 3)
    heads.write("flight-delay/production", old)
    assert ledger.state().sequence == 4


def test_a_head_that_cannot_be_trusted_is_refused(make: Make, heads: StoreHeads, signer: Signer) -> None:
    from mlops.ledger.form import HEAD_TYPE

    ledger = make()
    fill(ledger, 2)
    good = {"ledger": "flight-delay/production", "sequence": 2, "hash": ledger.state().head}
    strange = {
        "has no valid signature": seal(good, HEAD_TYPE, Signer.generate()),
        "is not signed": seal(good, HEAD_TYPE, None),
        "written for the ledger flight-delay/staging": seal(
            {**good, "ledger": "flight-delay/staging"}, HEAD_TYPE, signer
        ),
        "not a whole file": b"{",
        "holds 'application/vnd.mlops.event": seal(good, EVENT_TYPE, signer),
        "lacks its number": seal({**good, "sequence": "2"}, HEAD_TYPE, signer),
        "lacks its number or its hash": seal({**good, "hash": None}, HEAD_TYPE, signer),
    }
    for sentence, content in strange.items():
        heads.write("flight-delay/production", content)
        with pytest.raises(BrokenLedger, match=f"the head .*{sentence}") as broken:
            ledger.state()
        assert (broken.value.finding.sequence, broken.value.finding.problem) == (0, "head")
        found = ledger.verify()
        assert [(each.sequence, each.problem) for each in found] == [(2, "head")], sentence
        assert sentence in found[0].sentence


def test_an_absent_head_is_said(make: Make, store: Store, tmp_path: Path) -> None:
    ledger = make()
    fill(ledger, 1)
    elsewhere = StoreHeads(Place(f"file://{tmp_path}/elsewhere").open())
    other = make(heads=elsewhere)
    assert other.state().sequence == 1
    found = other.verify()
    assert [(each.sequence, each.problem) for each in found] == [(1, "head")]
    absent = "there is no signed head: the first append was interrupted, or somebody removed it"
    assert found[0].sentence == absent
