"""Refused requests (4xx) in a rollout: counted per lane, compared with stable, kept in the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.rollout.observing import Blind, counted, difference, judged
from mlops.rollout.outcome import Progress
from mlops.rollout.ticks import Counted, Tick
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World, a_release, settings
from tests.rollout.test_observing import seen

BOTH, ALONE = ("green", "blue"), ("green",)


def look(
    earlier: Tick, green: tuple[int, int, int], blue: tuple[int, int, int], sides: tuple[str, ...] = BOTH
) -> Tick:
    """Return the next tick; per lane requests, errors and refused requests so far."""
    tick = replace(earlier, number=earlier.number + 1, weight=0.1, notes=())
    looks = {
        lane: replace(seen(lane, requests, errors), refused=refused)
        for lane, (requests, errors, refused) in (("green", green), ("blue", blue))
    }
    return counted(earlier, tick, looks, sides, settings())


def served_with(folder: Path, behaviour: Behaviour) -> World:
    """Return a world in which version 1 serves and behaves so."""
    world = World(folder / "world")
    assert world.roll_out(1, behaviour).progress is Progress.PROMOTED
    world.settle()
    return world


def test_a_candidate_that_refuses_a_fifth_is_rolled_back_by_the_judge(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(refused_rate=0.2))
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "judge")
    assert "% refused requests (4xx) in" in outcome.sentence
    assert ", stable 0 % in" in outcome.sentence
    served.settle()
    assert served.serves() == "1"


def test_the_record_of_the_rollback_has_the_refused_requests(served: World) -> None:
    served.roll_out(2, Behaviour(refused_rate=0.2))
    evidence = served.payload("rolled-back").evidence
    metric = evidence["metrics"]["refused"]
    assert metric["against"] > evidence["against"] >= evidence["against_needed"]
    assert evidence["refused"] == evidence["counted"]["candidate"]["refused"] == metric["candidate"]["events"]
    assert 0.1 < evidence["refused"] / evidence["requests"] < 0.3
    assert evidence["counted"]["stable"]["refused"] == metric["stable"]["events"] == 0


def test_mistakes_of_callers_are_the_same_for_both_sides_and_do_not_count(tmp_path: Path) -> None:
    world = served_with(tmp_path, Behaviour(refused_rate=0.03))
    outcome = world.roll_out(2, Behaviour(refused_rate=0.03))
    assert outcome.progress is Progress.PROMOTED, outcome.sentence
    metric = world.events("promoted")[-1].data["evidence"]["metrics"]["refused"]
    assert metric["candidate"]["events"] > 0
    assert metric["stable"]["events"] > 0


def test_rare_mistakes_do_not_block_for_ever(tmp_path: Path) -> None:
    """At the rate at which the evidence grows most slowly."""
    world = served_with(tmp_path, Behaviour(error_rate=0, refused_rate=0.0006))
    outcome = world.roll_out(2, Behaviour(error_rate=0, refused_rate=0.0006), tick_seconds=5)
    assert outcome.progress is Progress.PROMOTED, outcome.sentence


def test_a_candidate_that_refuses_less_than_stable_is_promoted(tmp_path: Path) -> None:
    world = served_with(tmp_path, Behaviour(refused_rate=0.2))
    assert world.roll_out(2).progress is Progress.PROMOTED


def test_twice_the_refused_requests_are_not_promoted(tmp_path: Path) -> None:
    world = served_with(tmp_path, Behaviour(refused_rate=0.03))
    outcome = world.roll_out(2, Behaviour(refused_rate=0.06), tick_seconds=5, deadline=300)
    assert outcome.progress is not Progress.PROMOTED


def test_without_refused_requests_the_evidence_is_that_of_errors(served: World) -> None:
    """So the metric slows nothing down."""
    silent = Behaviour(error_rate=0, slow_rate=0)
    served.platform.behave(a_release(1).digest, silent)
    outcome = served.roll_out(2, silent)
    evidence = served.events("promoted")[-1].data["evidence"]
    assert outcome.progress is Progress.PROMOTED
    assert evidence["metrics"]["refused"]["good"] == evidence["metrics"]["errors"]["good"]


def test_a_first_release_is_not_judged_by_what_it_refuses(world: World) -> None:
    """How often callers are mistaken nobody knows."""
    assert world.roll_out(1, Behaviour(refused_rate=0.3)).progress is Progress.PROMOTED
    evidence = world.payload("promoted").evidence
    assert "refused" not in evidence["metrics"]
    assert evidence["refused"] > 0


def test_refused_requests_are_counted_between_looks_on_both_sides() -> None:
    tick = look(look(Tick(), (50, 5, 7), (1000, 1, 30)), (150, 6, 27), (1900, 2, 50))
    evidence = tick.judge["refused"]
    assert (evidence["n_candidate"], evidence["k_candidate"]) == (100, 20)
    assert (evidence["n_stable"], evidence["k_stable"]) == (900, 20)
    assert tick.counted == {"green": Counted(100, 1, 20), "blue": Counted(900, 1, 20)}


def test_one_side_alone_has_no_evidence_on_refused_requests() -> None:
    tick = look(look(Tick(), (0, 0, 0), (0, 0, 0), ALONE), (500, 0, 400), (0, 0, 0), ALONE)
    assert "refused" not in tick.judge
    assert tick.counted["green"].refused == 400


def test_a_new_epoch_and_counts_that_go_backwards_begin_at_zero() -> None:
    now = replace(seen("green", 40, 1), refused=9)
    before = replace(seen("green", 30, 1), refused=10)
    assert difference(before, now, 1.0).refused == 9
    assert "backwards" in difference(before, now, 1.0).note
    assert difference(before, replace(now, epoch="2"), 1.0).refused == 9
    more = replace(seen("green", 35, 1), refused=16)  # six more refused of five more answers
    assert "backwards" in difference(before, more, 1.0).note
    assert difference(before, replace(more, refused=15), 1.0).refused == 5


@pytest.mark.parametrize("refused", [-1, 0.5, float("nan"), 100])
def test_refused_requests_that_make_no_sense_are_not_used(refused: float) -> None:
    broken = replace(seen("green", 100, 1), refused=refused)
    with pytest.raises(Blind, match="green"):
        counted(Tick(), Tick(), {"green": broken}, ALONE, settings())


def test_a_tick_of_an_earlier_version_sets_a_new_baseline_once() -> None:
    """Its counts have no refused requests: everything since the proxy began would count as new."""
    tick = look(look(Tick(), (0, 0, 0), (0, 0, 0)), (200, 1, 0), (1800, 2, 0))
    record = json.loads(json.dumps(tick.as_record()))
    for each in (*record["seen"].values(), *record["counted"].values()):
        del each["refused"]
    del record["judge"]["refused"]
    earlier = Tick.from_record(record)
    assert earlier.counted["green"] == Counted(200, 1, 0)
    first = look(earlier, (300, 1, 90), (2700, 2, 1500))
    assert first.judge["refused"]["k_stable"] == first.judge["refused"]["n_stable"] == 0
    assert first.judge["errors"]["n_candidate"] == 200
    assert judged(first, settings(), grant=1.0, first=False).verdict == "HOLD"
    second = look(first, (400, 1, 100), (3600, 2, 1510))
    evidence = second.judge["refused"]
    assert (evidence["n_candidate"], evidence["k_candidate"]) == (100, 10)
    assert (evidence["n_stable"], evidence["k_stable"]) == (900, 10)
    assert second.judge["errors"]["n_candidate"] == 300


def test_a_tick_comes_back_from_its_record_as_it_was() -> None:
    tick = look(look(Tick(), (0, 0, 0), (0, 0, 0)), (200, 1, 3), (1800, 2, 9))
    again = Tick.from_record(json.loads(json.dumps(tick.as_record())))
    assert (again.seen, again.counted) == (tick.seen, tick.counted)
