"""The command: what it prints and answers when the rollback is done and the tidying is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops import wiring
from mlops.cli import looking
from mlops.cli.rollback import rollback
from mlops.cli.status import _undo
from tests.rollout.conftest import World


class House:
    """As much of a house as the command asks for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def engine(self, model: str) -> Any:
        return self._world.engine

    def ledger(self, model: str) -> Any:
        return self._world.ledger

    def mirror_if_up(self, model: str) -> str:
        return ""


@pytest.fixture
def canary(served: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with a canary at 10 %, which the command finds."""
    monkeypatch.setattr(wiring, "open_house", lambda: House(served))
    monkeypatch.setattr(looking, "known_model", lambda house, model: model)
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    return served


def run(**changes: Any) -> int:
    assert rollback.callback is not None
    answer = rollback.callback(
        **{"model": "flights", "reason": "", "again": False, "as_json": False, **changes}
    )
    return int(answer)


def test_status_names_the_undo_that_works(canary: World) -> None:
    canary.engine.watch()
    assert _undo(canary.ledger, canary.state) == "mlops rollback flights"
    canary.engine.rollback("bad")
    assert _undo(canary.ledger, canary.state) == "mlops rollback flights --again"
    canary.platform.sleep(90_000)
    canary.settle()
    assert _undo(canary.ledger, canary.state) is None


@pytest.mark.parametrize("as_json", [False, True])
def test_a_done_rollback_stays_done_when_the_tidying_fails(
    canary: World, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    canary.platform.fail("ready", "the socket is gone")
    assert run(as_json=as_json) == 0
    said = capsys.readouterr()
    assert "the socket is gone" in said.err
    if as_json:
        assert json.loads(said.out)["progress"] == "rolled back"
    canary.platform.heal()
    canary.settle()
    assert canary.serves() == "1"


def test_typed_twice_it_is_one_way_back_and_succeeds(
    canary: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert canary.state.draining == (), "the servers of the candidate have ended"
    assert run() == 0
    assert "Already back: version 1" in capsys.readouterr().out
    assert canary.serves() == "1"
