"""The ledger as its callers know it: what an event carries, append, decide, conflict, and what is refused."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mlops.canonical import digest_bytes
from mlops.errors import UserError
from mlops.ledger import Author, BrokenLedger, Conflict, Ledger, models
from mlops.ledger import ledger as ledger_module
from mlops.ledger.events import HoldoutUsed, Noted, Payload, Registered, RolloutStarted
from mlops.ledger.form import EVENT_TYPE, seal
from mlops.ledger.state import GENESIS, State, fold
from mlops.signing import Signer
from mlops.store import Store
from tests.core.conftest import Place
from tests.core.ledgers import Make, fill, note, path


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


def test_decide_gives_up_in_the_end(make: Make, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.2 if store.folder else 2.0
    monkeypatch.setattr(ledger_module, "_DECIDE_SECONDS", seconds)
    ledger, other = make(heads=None), make(heads=None)

    def decision(state: State) -> tuple[Payload, str]:
        other.append(note(), reason="always faster", expect=state.sequence)
        return note(), ""

    before = time.monotonic()
    with pytest.raises(Conflict):
        ledger.decide(decision)
    assert time.monotonic() - before >= seconds
    assert other.state().sequence >= 2, "it was tried again until the time was over"


def test_who_comes_too_late_waits_a_random_time_that_grows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen who all came too late must not come at the same moment again."""
    waits: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        if low == 0:  # the store's own waits begin above that
            waits.append((low, high))
        return 0.0

    monkeypatch.setattr(ledger_module.random, "uniform", uniform)
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
