"""What a ledger tells people."""

from __future__ import annotations

import json

import pytest

from mlops.ledger.events import HoldoutUsed, Noted, Payload, Registered
from mlops.rollout.history import History, history_of
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World, a_release


def told(world: World) -> History:
    return history_of(world.ledger.events())


def test_an_empty_ledger_has_nothing_to_tell(world: World) -> None:
    history = told(world)
    assert history.as_text() == "Nothing has been decided yet."
    assert history.delivery.success is None


@pytest.fixture
def eventful(served: World) -> World:
    """Version 2 promoted, 3 taken back by the judge, then 2 rolled back to 1."""
    served.roll_out(2)
    served.roll_out(3, Behaviour(error_rate=0.05))
    served.engine.rollback("complaints", again=True)
    return served


def test_each_release_has_a_fate(eventful: World) -> None:
    fates = {line.version: line.fate for line in told(eventful).releases.values()}
    assert fates == {"1": "serves", "2": "taken back by a person", "3": "taken back by the judge"}


def test_the_timeline_reads_as_sentences_with_reasons(eventful: World) -> None:
    sentences = [moment.sentence for moment in told(eventful).moments]
    assert any("rollout of version 2" in each and "canary" in each for each in sentences)
    assert any("gets 10% of the traffic" in each for each in sentences)
    assert any("version 2" in each and "is promoted and serves" in each for each in sentences)
    assert any("taken back by the judge" in each and "serves on" in each for each in sentences)
    assert any("is started again, to return to it" in each for each in sentences)
    assert any("taken back by a person" in each and "version 1" in each for each in sentences)
    assert any("leaves lane" in each for each in sentences)
    text = told(eventful).as_text()
    assert "The candidate is worse" in text
    assert "complaints" not in sentences


def test_deliveries_are_measured(eventful: World) -> None:
    delivery = told(eventful).delivery
    assert delivery.rollouts == 3
    assert delivery.success == pytest.approx(2 / 3)
    assert delivery.change_failure_rate == pytest.approx(2 / 3)
    assert delivery.deploy_seconds is not None
    assert delivery.deploy_seconds > 0
    assert delivery.rollback_seconds is not None
    assert delivery.rollback_seconds > 0


def test_a_rollout_that_nobody_met_is_no_failed_change(served: World) -> None:
    served.roll_out(2, Behaviour(fails_to_start=True))
    delivery = told(served).delivery
    assert (delivery.success, delivery.change_failure_rate) == (0.5, 0.0)


def test_a_first_release_taken_back_leaves_nothing(world: World) -> None:
    world.roll_out(1, Behaviour(error_rate=0.05))
    assert any("nothing serves" in moment.sentence for moment in told(world).moments)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (Registered(release=a_release(7).as_record()), "version 7"),
        (HoldoutUsed(candidate="a" * 64, holdout="b" * 64, alpha=0.01, verdict="better"), "better"),
        (Noted(subject="the disk was full"), "the disk was full"),
    ],
)
def test_every_kind_of_event_is_told(world: World, payload: Payload, words: str) -> None:
    world.ledger.append(payload, reason="", expect=0)
    (moment,) = told(world).moments
    assert words in moment.sentence


def test_it_is_json(eventful: World) -> None:
    record = json.loads(json.dumps(told(eventful).as_record()))
    assert set(record) == {"releases", "timeline", "delivery"}
