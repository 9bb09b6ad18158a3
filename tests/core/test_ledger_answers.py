"""What the answers of a store mean when it is not sure: ours, another's, or nobody's."""

from __future__ import annotations

import pytest

from mlops.errors import InfrastructureError
from mlops.ledger import Conflict
from mlops.ledger.events import Payload
from mlops.ledger.state import State
from mlops.store import Store
from tests.core.ledgers import Make, note


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
