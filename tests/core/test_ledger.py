"""The ledger as its callers know it: append, decide, conflict, snapshots, heads, and what is refused."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.core.conftest import Place

from mlops.canonical import digest_bytes
from mlops.errors import InfrastructureError, UserError
from mlops.ledger import Author, BrokenLedger, Conflict, Ledger, StoreHeads, models
from mlops.ledger import ledger as ledger_module
from mlops.ledger.events import HoldoutUsed, Noted, Payload, Registered, RolloutStarted
from mlops.ledger.form import EVENT_TYPE, seal
from mlops.ledger.snapshots import Snapshots
from mlops.ledger.state import GENESIS, State, fold
from mlops.signing import Signer
from mlops.store import Store

Make = Callable[..., Ledger]


def note(subject: str = "something") -> Noted:
    return Noted(subject=subject, numbers={"n": 1})


def fill(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.decide(lambda _, number=number: (note(f"event {number}"), "to fill it"))


def path(sequence: int) -> str:
    return f"ledger/flight-delay/production/{sequence:010d}.json"


def test_an_empty_ledger_says_nothing(make: Make) -> None:
    ledger = make()
    assert ledger.state() == State()
    assert list(ledger.events()) == []
    assert ledger.verify() == []


def test_an_event_carries_who_when_why_and_what_came_before(make: Make, store: Store) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    ledger = make(clock=lambda: moment)
    first = ledger.append(note(), reason="because", expect=0)
    second = ledger.append(note("more"), reason="and so", expect=1)
    content = store.get(path(1))
    assert content is not None
    assert first.sequence == 1
    assert first.at == "2030-01-02T01:04:05.000006+00:00"
    assert (first.actor, first.build, first.commit) == ("ada", "https://ci.example/job/1", "c0ffee")
    assert first.reason == "because"
    assert (first.kind, first.data) == ("noted", {"subject": "something", "numbers": {"n": 1}})
    assert first.payload == note()
    assert first.previous == GENESIS
    assert first.hash == digest_bytes(content)
    assert second.previous == first.hash
    assert len(first.id) == 32
    assert first.id != second.id
    assert list(ledger.events()) == [first, second]
    assert list(ledger.events(2)) == [second]
    assert list(ledger.events(3)) == []
    assert list(ledger.events(9)) == []


def test_the_time_is_now_in_utc_unless_told_otherwise(make: Make) -> None:
    before = datetime.now(UTC)
    at = datetime.fromisoformat(make().append(note(), reason="now", expect=0).at)
    assert before <= at <= datetime.now(UTC)
    assert at.utcoffset() == timedelta(0)


def test_an_author_need_not_be_known(make: Make) -> None:
    event = make(author=None).append(note(), reason="", expect=0)
    assert (event.actor, event.build, event.commit) == ("unknown", "", "")


def test_files_are_signed_envelopes_with_padded_names(make: Make, store: Store, signer: Signer) -> None:
    fill(make(), 2)
    assert store.list("ledger") == [path(1), path(2)]
    envelope = json.loads(store.get(path(1)) or b"")
    assert envelope["payloadType"] == "application/vnd.mlops.event.v1+json"
    assert [each["keyid"] for each in envelope["signatures"]] == [signer.key_id]
    record = json.loads(b64decode(envelope["payload"]))
    assert record["ledger"] == "flight-delay/production"
    assert record["sequence"] == 1
    assert "hash" not in record


def test_an_unsigned_ledger_has_the_same_form(make: Make, store: Store) -> None:
    ledger = make(signer=None, verifier=None)
    fill(ledger, 3)
    assert json.loads(store.get(path(3)) or b"")["signatures"] == []
    assert ledger.state().sequence == 3
    assert ledger.verify() == []


def test_state_is_the_fold_of_the_events(make: Make) -> None:
    ledger = make(snapshot_every=3)
    for number in range(8):
        spent = HoldoutUsed(candidate=f"c{number}", holdout="h", alpha=0.01, verdict="better")
        ledger.append(spent, reason="gate", expect=number)
    state = make().state()
    assert state == fold(State(), ledger.events())
    assert state.sequence == 8
    assert len(state.holdouts["h"]) == 8


def test_append_refuses_what_was_decided_on_an_older_state(make: Make) -> None:
    ledger = make()
    fill(ledger, 2)
    with pytest.raises(Conflict, match="appended event 2 of flight-delay/production first") as conflict:
        ledger.append(note(), reason="late", expect=1)
    assert conflict.value.as_record() == {
        "category": "infrastructure",
        "exit_code": 3,
        "headline": "somebody else appended event 2 of flight-delay/production first",
        "expected": "event 2 to be free",
        "found": "an event with another id",
        "remedy": "read the state again and decide again",
        "where": path(2),
    }
    assert ledger.state().sequence == 2


def test_append_refuses_to_go_on_from_an_event_that_is_gone(make: Make) -> None:
    ledger = make(heads=None)
    fill(ledger, 2)
    with pytest.raises(BrokenLedger, match="event 3 was there and is missing") as broken:
        ledger.append(note(), reason="", expect=3)
    assert (broken.value.finding.sequence, broken.value.finding.problem) == (3, "shortened")


def test_decide_appends_what_is_decided_and_returns_the_state_after_it(make: Make) -> None:
    ledger = make()
    seen: list[State] = []

    def decision(state: State) -> tuple[Payload, str]:
        seen.append(state)
        return note(), "first"

    state, event = ledger.decide(decision)
    assert event is not None
    assert seen == [State()]
    assert (state.sequence, state.head) == (1, event.hash)
    assert event.reason == "first"
    assert state == ledger.state()


def test_decide_appends_nothing_when_there_is_nothing_to_do(make: Make) -> None:
    ledger = make()
    fill(ledger, 1)
    before = ledger.state()
    assert ledger.decide(lambda _: None) == (before, None)
    assert ledger.state() == before


def test_decide_asks_again_when_somebody_else_was_first(make: Make) -> None:
    ledger, other = make(), make(author=Author("bob"))
    asked: list[int] = []

    def decision(state: State) -> tuple[Payload, str] | None:
        asked.append(state.sequence)
        if len(asked) == 1:
            other.append(note("bob's"), reason="was faster", expect=0)
        return note("ada's"), f"after {state.sequence}"

    state, event = ledger.decide(decision)
    assert asked == [0, 1]
    assert event is not None
    assert (event.sequence, event.reason, state.sequence) == (2, "after 1", 2)
    assert [each.actor for each in ledger.events()] == ["bob", "ada"]
    assert ledger.verify() == []


def test_decide_gives_up_in_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_DECIDE_SECONDS", 0.2)
    ledger, other = make(heads=None), make(heads=None)

    def decision(state: State) -> tuple[Payload, str]:
        other.append(note(), reason="always faster", expect=state.sequence)
        return note(), ""

    before = time.monotonic()
    with pytest.raises(Conflict):
        ledger.decide(decision)
    assert time.monotonic() - before >= 0.2
    assert other.state().sequence >= 2, "it was tried again until the time was over"


def test_who_comes_too_late_waits_a_random_time_that_grows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen who all came too late must not come at the same moment again."""
    waits: list[tuple[float, float]] = []
    monkeypatch.setattr(ledger_module.random, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    ledger, other = make(heads=None), make(heads=None)

    def decision(state: State) -> tuple[Payload, str]:
        if len(waits) < 7:
            other.append(note(), reason="always faster", expect=state.sequence)
        return note(), ""

    ledger.decide(decision)
    assert waits == [(0, 0.01), (0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16), (0, 0.16), (0, 0.16)]


def test_an_event_that_no_state_can_be_made_of_is_never_written(make: Make, store: Store) -> None:
    ledger = make()
    with pytest.raises(BrokenLedger, match="lacks fields"):
        ledger.append(Registered(release={"model": "without a digest"}), reason="", expect=0)
    settings = {"rollback_window": "a day"}
    odd = RolloutStarted(
        rollout="r", release={"digest": "d"}, lane="blue", strategy="canary", settings=settings
    )
    with pytest.raises(BrokenLedger, match="lacks fields"):
        ledger.append(odd, reason="", expect=0)
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.append(Noted(subject="x", numbers={"n": float("nan")}), reason="", expect=0)
    assert store.list("ledger") == []


def test_signing_with_a_key_that_is_not_trusted_is_noticed_before_anything_is_written(
    make: Make, store: Store
) -> None:
    with pytest.raises(BrokenLedger, match="no valid signature"):
        make(signer=Signer.generate()).append(note(), reason="", expect=0)
    with pytest.raises(BrokenLedger, match="not signed"):
        make(signer=None).append(note(), reason="", expect=0)
    assert store.list("ledger") == []


def test_unsigned_events_are_refused_where_signatures_are_required(make: Make) -> None:
    fill(make(signer=None, verifier=None, heads=None), 1)
    with pytest.raises(BrokenLedger, match="event 1 is not signed") as broken:
        make().state()
    assert broken.value.exit_code == 1
    assert broken.value.category == "integrity"
    assert broken.value.found == "event 1: unsigned"
    assert broken.value.where == "ledger/flight-delay/production"
    assert "mlops ledger verify" in broken.value.remedy
    assert (
        broken.value.expected
        == "every event as it was written, in order, and signed where signatures are required"
    )


def test_foreign_events_are_refused(make: Make) -> None:
    stranger = make(signer=Signer.generate(), verifier=None, heads=None)
    stranger.append(note(), reason="", expect=0)
    with pytest.raises(BrokenLedger, match="event 1 has no valid signature of a trusted key"):
        make().state()
    with pytest.raises(BrokenLedger, match="no valid signature"):
        list(make().events())


def test_an_event_of_another_ledger_is_refused(make: Make, store: Store) -> None:
    """Both environments may trust the same key; what was decided for staging is not decided for production."""
    fill(make(environment="staging", heads=None), 1)
    content = store.get("ledger/flight-delay/staging/0000000001.json")
    assert content is not None
    store.put(path(1), content)
    with pytest.raises(BrokenLedger, match="was written for the ledger flight-delay/staging"):
        make(heads=None).state()


def test_unknown_kinds_and_fields_are_kept_and_skipped(make: Make, store: Store, signer: Signer) -> None:
    ledger = make(heads=None)
    event = ledger.append(note(), reason="", expect=0)
    newer: dict[str, Any] = {
        "sequence": 2,
        "id": "i",
        "at": "2030-01-01T00:00:00.000000+00:00",
        "actor": "a newer version",
        "reason": "",
        "build": "",
        "commit": "",
        "previous": event.hash,
        "kind": "paused",
        "data": {"until": "tomorrow"},
        "ledger": "flight-delay/production",
        "ticket": "a field of a newer version",
    }
    store.put(path(2), seal(newer, EVENT_TYPE, signer))
    state = ledger.state()
    assert state.sequence == 2
    assert [each.kind for each in ledger.events()] == ["noted", "paused"]
    assert [each.payload for each in ledger.events()] == [note(), None]
    assert ledger.verify() == []


@pytest.mark.parametrize("name", ["", "Flight", "a/b", "../x", ".hidden", "a b", "x#1"])
def test_names_that_could_leave_their_folder_are_refused(store: Store, name: str) -> None:
    for model, environment in ((name, "production"), ("model", name)):
        with pytest.raises(UserError, match="cannot name a ledger") as refused:
            Ledger(store, model, environment)
        assert refused.value.found == name


def test_models_lists_every_ledger(make: Make, store: Store) -> None:
    assert models(store) == []
    for model, environment in (("b", "staging"), ("a", "staging"), ("a", "production")):
        fill(make(model=model, environment=environment), 2)
    assert models(store) == [("a", "production"), ("a", "staging"), ("b", "staging")]


# Snapshots


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


# The signed head


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


# What answers mean when the store is not sure


class Unsure(Store):
    """A store of local files whose creates can be made to fail in chosen ways, one after the other."""

    def script(self, *answers: str) -> Unsure:
        self.answers: list[str]
        object.__setattr__(self, "answers", list(answers))
        return self

    def create(self, path: str, data: bytes) -> bool:
        answer = self.answers.pop(0) if path.startswith("ledger/") and self.answers else ""
        if answer == "landed, says it exists":
            super().create(path, data)
            return False
        if answer == "nothing, says it exists":
            return False
        if answer == "landed, no answer":
            super().create(path, data)
            raise InfrastructureError("no answer", remedy="")
        if answer == "nothing, no answer":
            raise InfrastructureError("no answer", remedy="")
        return super().create(path, data)


@pytest.fixture
def unsure(store: Store) -> Unsure:
    return Unsure(url=store.url, backend=store.backend, folder=store.folder).script()


@pytest.mark.parametrize(
    "answers",
    [
        ["landed, says it exists"],
        ["landed, no answer"],
        ["nothing, says it exists"],
        ["nothing, says it exists"] * 4,
    ],
)
def test_ones_own_event_is_known_by_its_content(make: Make, unsure: Unsure, answers: list[str]) -> None:
    event = make(store=unsure.script(*answers)).append(note(), reason="", expect=0)
    assert list(make().events()) == [event]


def test_no_answer_and_nothing_there_is_an_error(make: Make, unsure: Unsure) -> None:
    with pytest.raises(InfrastructureError, match="no answer"):
        make(store=unsure.script("nothing, no answer")).append(note(), reason="", expect=0)
    assert make().state().sequence == 0


def test_no_answer_and_nothing_to_read_is_the_first_error(
    make: Make, unsure: Unsure, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make(store=unsure.script("nothing, no answer"))

    def down(self: Store, path: str) -> bytes | None:
        raise InfrastructureError("cannot read either", remedy="")

    monkeypatch.setattr(Unsure, "get", down, raising=False)
    with pytest.raises(InfrastructureError, match="no answer"):
        ledger.append(note(), reason="", expect=0)
    with pytest.raises(InfrastructureError, match="cannot read either"):
        make(store=unsure.script("nothing, says it exists")).append(note(), reason="", expect=0)


def test_a_number_that_can_never_be_taken_ends_as_a_conflict(make: Make, unsure: Unsure) -> None:
    with pytest.raises(Conflict):
        make(store=unsure.script(*["nothing, says it exists"] * 5)).append(note(), reason="", expect=0)


def test_another_events_content_is_a_conflict(make: Make, unsure: Unsure) -> None:
    """Between the reading and the writing somebody else took the number."""
    ledger, other = make(store=unsure), make()

    def decision(state: State) -> tuple[Payload, str]:
        if state.sequence == 0:
            other.append(note(), reason="", expect=0)
            unsure.script("nothing, no answer")
        return note("ours"), ""

    state, event = ledger.decide(decision)
    assert event is not None
    assert (state.sequence, event.sequence) == (2, 2)


def test_the_ledger_keeps_its_promises_on_every_backend(place: Place, signer: Signer) -> None:
    ledger = Ledger(
        place.open(), "m", "production", signer=signer, verifier=signer.verifier(), snapshot_every=4
    )
    events = [ledger.append(note(str(number)), reason="", expect=number) for number in range(6)]
    assert list(ledger.events()) == events
    assert ledger.state().sequence == 6
    assert ledger.verify() == []
    assert place.open().list("snapshots") == ["snapshots/m/production/0000000004.json"]
    if place.proxy is not None:
        assert place.proxy.faults > 0
