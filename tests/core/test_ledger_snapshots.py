"""Snapshots: reading starts there, and none is trusted on its own word."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from mlops.errors import InfrastructureError
from mlops.ledger import BrokenLedger
from mlops.ledger.form import EVENT_TYPE, seal
from mlops.ledger.snapshots import Snapshots
from mlops.ledger.state import State
from mlops.signing import Signer
from mlops.store import Store
from tests.core.ledgers import Make, fill, path


def snapshots_of(store: Store) -> list[str]:
    return [each.rpartition("/")[2] for each in store.list("snapshots/flight-delay/production")]


def test_a_snapshot_is_written_every_so_many_events(make: Make, store: Store) -> None:
    fill(make(snapshot_every=3), 7)
    assert snapshots_of(store) == ["0000000003.json", "0000000006.json"]
    assert make().verify() == []


def test_snapshots_come_every_32_events_by_default(make: Make, store: Store) -> None:
    fill(make(), 31)
    assert snapshots_of(store) == []
    fill(make(), 1)
    assert snapshots_of(store) == ["0000000032.json"]


def test_reading_starts_at_the_snapshot(make: Make, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(make(snapshot_every=5), 7)
    asked: list[Any] = []
    lists, gets = Store.list, Store.get

    def listing(self: Store, prefix: str, after: str | None = None) -> list[str]:
        asked.append((prefix, after))
        return lists(self, prefix, after)

    def getting(self: Store, name: str) -> bytes | None:
        asked.append(name)
        return gets(self, name)

    monkeypatch.setattr(Store, "list", listing)
    monkeypatch.setattr(Store, "get", getting)
    assert make(heads=None).state().sequence == 7
    assert ("ledger/flight-delay/production", path(5)) in asked
    assert path(4) not in asked, "events before the snapshot are not read"
    assert path(5) in asked, "the snapshot is held against the event it was made of"
    assert path(6) in asked


def test_a_snapshot_of_another_fold_is_not_used(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make(snapshot_every=2), 3)
    monkeypatch.setattr("mlops.ledger.snapshots.FOLD_VERSION", 2)
    monkeypatch.setattr("mlops.ledger.snapshots.State.from_record", lambda _: pytest.fail("it was used"))
    assert make().state().sequence == 3


def _snapshot_saying(store: Store, sequence: int, **changes: Any) -> dict[str, Any]:
    """Return the record in a snapshot with a lie in its state."""
    content = store.get(f"snapshots/flight-delay/production/{sequence:010d}.json")
    record = json.loads(b64decode(json.loads(content or b"")["payload"]))
    return {**record, "state": {**record["state"], **changes}}


def test_a_snapshot_that_lies_is_passed_over(make: Make, store: Store, signer: Signer) -> None:
    from mlops.canonical import canonical_json, digest_json
    from mlops.ledger.form import SNAPSHOT_TYPE

    ledger = make(snapshot_every=2)
    fill(ledger, 5)
    good = ledger.state()
    where = "snapshots/flight-delay/production/0000000004.json"
    whole = store.get(where) or b""
    lie = _snapshot_saying(store, 4, holdouts={"h": {"c": 1.0}})
    consistent = {**lie, "digest": digest_json(lie["state"])}
    stranger = Signer.generate()
    strange = {
        "foreign": seal(consistent, SNAPSHOT_TYPE, stranger),
        "unsigned": seal(consistent, SNAPSHOT_TYPE, None),
        "its digest does not fit": seal(lie, SNAPSHOT_TYPE, signer),
        "of another ledger": seal({**consistent, "ledger": "x/y"}, SNAPSHOT_TYPE, signer),
        "of another fold": seal({**consistent, "fold": 99}, SNAPSHOT_TYPE, signer),
        "an event": seal(consistent, EVENT_TYPE, signer),
        "cut off": whole[:100],
        "empty": b"",
        "no envelope": b"[]",
        "no record": canonical_json({"payload": "MQ==", "payloadType": SNAPSHOT_TYPE, "signatures": []}),
        "no state": seal({**lie, "state": {}, "digest": digest_json({})}, SNAPSHOT_TYPE, signer),
    }
    for how, content in strange.items():
        store.put(where, content)
        assert make().state() == good, how
        found = make().verify()
        assert [(each.sequence, each.problem) for each in found] == [(4, "snapshot")], how
        assert "is not used" in found[0].sentence


def test_a_signed_snapshot_that_lies_is_found(make: Make, store: Store, signer: Signer) -> None:
    """Who has the key can write a wrong snapshot; verify folds all events and sees it."""
    from mlops.canonical import digest_json
    from mlops.ledger.form import SNAPSHOT_TYPE

    fill(make(snapshot_every=2), 3)
    lie = _snapshot_saying(store, 2, holdouts={"h": {"c": 1.0}})
    signed = seal({**lie, "digest": digest_json(lie["state"])}, SNAPSHOT_TYPE, signer)
    store.put("snapshots/flight-delay/production/0000000002.json", signed)
    found = make().verify()
    assert [(each.sequence, each.problem) for each in found] == [(2, "snapshot")]
    assert "not what the events say" in found[0].sentence


def test_a_snapshot_under_another_number_is_not_used(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2)
    fill(ledger, 5)
    content = store.get("snapshots/flight-delay/production/0000000002.json") or b""
    store.put("snapshots/flight-delay/production/0000000005.json", content)
    assert ledger.state().sequence == 5
    assert [(each.sequence, each.problem) for each in ledger.verify()] == [(5, "snapshot")]


def test_files_that_are_no_snapshots_are_left_alone(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2)
    fill(ledger, 3)
    store.put("snapshots/flight-delay/production/notes.txt", b"x")
    assert ledger.state().sequence == 3
    assert ledger.verify() == []


def test_a_sound_snapshot_shows_that_its_event_was_changed_or_removed(make: Make, store: Store) -> None:
    ledger = make(snapshot_every=2, heads=None)
    fill(ledger, 2)
    content = store.get(path(2)) or b""
    store.delete(path(2))
    with pytest.raises(
        BrokenLedger, match="event 2 is missing, and a snapshot shows that it was there"
    ) as gone:
        ledger.state()
    assert (gone.value.finding.sequence, gone.value.finding.problem) == (2, "missing")
    store.put(path(2), content + b" ")
    with pytest.raises(BrokenLedger, match="not the one that a snapshot was made of") as other:
        ledger.state()
    assert (other.value.finding.sequence, other.value.finding.problem) == (2, "altered")


def test_a_snapshot_that_cannot_be_written_stops_nobody(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Store.create

    def full(self: Store, path: str, data: bytes) -> bool:
        if path.startswith("snapshots/"):
            raise InfrastructureError("the disk is full", remedy="")
        return real(self, path, data)

    monkeypatch.setattr(Store, "create", full)
    fill(make(snapshot_every=2), 3)
    assert "no snapshot was written" in caplog.text
    assert snapshots_of(store) == []
    monkeypatch.undo()
    fill(make(snapshot_every=2), 1)
    assert snapshots_of(store) == ["0000000004.json"], "the next append does it"


def test_a_snapshot_that_is_there_already_stays(make: Make, store: Store, signer: Signer) -> None:
    ledger = make(snapshot_every=2)
    fill(ledger, 2)
    where = "snapshots/flight-delay/production/0000000002.json"
    before = store.get(where)
    Snapshots(ledger._files).write(State(sequence=2, head="x"), signer)
    assert store.get(where) == before
