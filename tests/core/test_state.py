"""The fold: what each kind of event does to the state."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from mlops.ledger.events import (
    KINDS,
    HoldoutUsed,
    Noted,
    Payload,
    Registered,
    Retired,
    WeightSet,
    payload_of,
)
from mlops.ledger.state import Placement, State, fold
from tests.core.histories import after, back, event, promoted, release, started


def at(sequence: int) -> str:
    return f"2030-01-01T00:00:{sequence:02d}.000000+00:00"


SERVING_A = (started("r1", "A", "blue"), promoted("r1"))
SERVING_B = (*SERVING_A, started("r2", "B", "green"), promoted("r2"))


def test_no_events_change_nothing() -> None:
    state = after(*SERVING_A)
    assert fold(state, []) == state


def test_each_event_moves_the_head() -> None:
    state = after(Noted(subject="a"), Noted(subject="b"))
    assert (state.sequence, state.head) == (2, f"{2:064x}")
    assert state == State(sequence=2, head=f"{2:064x}")


def test_registered_releases_are_kept_in_order() -> None:
    state = after(
        Registered(release=release("B")), Registered(release=release("A")), Registered(release=release("B"))
    )
    assert list(state.releases) == ["B", "A"]
    assert state.releases["A"] == release("A")


def test_each_pair_of_candidate_and_holdout_counts_once() -> None:
    use = HoldoutUsed(candidate="c1", holdout="h1", alpha=0.01, verdict="better")
    state = after(use, replace(use, candidate="c2", alpha=0.02), replace(use, holdout="h2"), use)
    assert state.holdouts == {"h1": {"c1": 0.01, "c2": 0.02}, "h2": {"c1": 0.01}}


def test_a_rollout_begins_without_traffic() -> None:
    state = after(started("r1", "A", "blue", replicas=3, rollback_window=60, steps=[0.1, 1]))
    assert state.rollout is not None
    assert state.rollout.id == "r1"
    assert state.rollout.strategy == "canary"
    assert state.rollout.settings == {"replicas": 3, "rollback_window": 60, "steps": [0.1, 1]}
    assert state.rollout.started == at(1)
    assert (state.rollout.step, state.rollout.weight) == (-1, 0.0)
    assert state.rollout.candidate == Placement(release("A"), "blue", at(1), 3, 60.0)
    assert state.serving is None
    assert state.weights() == {"blue": 0.0}


def test_a_rollout_without_settings_has_one_replica_and_a_day() -> None:
    state = after(started("r1", "A", "blue"))
    assert state.rollout is not None
    assert (state.rollout.candidate.replicas, state.rollout.candidate.window_seconds) == (1, 86400.0)
    assert Placement(release("A"), "blue", at(1)) == state.rollout.candidate


def test_weights_of_an_empty_ledger_are_none() -> None:
    assert State().weights() == {}


def test_a_weight_is_the_candidates_share_the_rest_is_stable() -> None:
    state = after(
        *SERVING_A,
        started("r2", "B", "green"),
        WeightSet(rollout="r2", step=1, weight=0.25, verdict="PROMOTE"),
    )
    assert state.rollout is not None
    assert (state.rollout.step, state.rollout.weight) == (1, 0.25)
    assert state.weights() == {"blue": 0.75, "green": 0.25}


def test_promotion_serves_the_candidate_and_keeps_the_former_warm() -> None:
    state = after(*SERVING_B)
    assert state.serving == Placement(release("B"), "green", at(4))
    assert state.warm == Placement(release("A"), "blue", at(4))
    assert state.rollout is None
    assert state.draining == ()
    assert state.weights() == {"green": 1.0}


def test_the_first_promotion_leaves_nothing_warm() -> None:
    state = after(*SERVING_A)
    assert state.warm is None
    assert state.serving == Placement(release("A"), "blue", at(2))


def test_a_rollout_that_is_rolled_back_drains_its_candidate() -> None:
    state = after(*SERVING_A, started("r2", "B", "green"), back("r2", "B", "A"))
    assert state.rollout is None
    assert state.serving == Placement(release("A"), "blue", at(2))
    assert state.draining == (Placement(release("B"), "green", at(4)),)
    assert state.weights() == {"blue": 1.0}


def test_the_first_rollout_rolled_back_leaves_nothing_serving() -> None:
    state = after(started("r1", "A", "blue"), back("r1", "A", ""))
    assert (state.serving, state.warm, state.rollout, state.weights()) == (None, None, None, {})
    assert [each.lane for each in state.draining] == ["blue"]


def test_a_rollback_changes_places_and_can_be_undone() -> None:
    state = after(*SERVING_B, back("", "B", "A"))
    assert state.serving == Placement(release("A"), "blue", at(5))
    assert state.warm == Placement(release("B"), "green", at(5))
    again = after(back("", "A", "B"), state=state)
    assert again.serving is not None
    assert again.warm is not None
    assert (again.serving.digest, again.warm.digest) == ("B", "A")


def test_a_cold_release_that_was_started_again_takes_over_by_a_rollback() -> None:
    cold = (*SERVING_B, Retired(lane="blue", release="A"), started("r3", "A", "blue"))
    state = after(*cold, back("r3", "B", "A"))
    assert state.serving == Placement(release("A"), "blue", at(7))
    assert state.warm == Placement(release("B"), "green", at(7))
    assert (state.rollout, state.draining) == (None, ())


def test_a_candidate_equal_to_what_serves_is_rolled_back_all_the_same() -> None:
    state = after(*SERVING_A, started("r2", "A", "green"), back("r2", "A", "A"))
    assert state.serving is not None
    assert state.serving.lane == "blue"
    assert [each.lane for each in state.draining] == ["green"]


@pytest.mark.parametrize(
    "payloads",
    [
        (back("", "B", "A"),),
        (*SERVING_A, back("", "A", "")),
        (*SERVING_B, back("", "B", "C")),
        (*SERVING_A, back("r1", "A", "")),
        (*SERVING_A, promoted("r1")),
        (*SERVING_A, WeightSet(rollout="r1", step=0, weight=0.5, verdict="PROMOTE")),
        (*SERVING_A, started("r2", "B", "green"), promoted("r1")),
        (*SERVING_A, started("r2", "B", "green"), back("r1", "A", "")),
        (
            *SERVING_A,
            started("r2", "B", "green"),
            WeightSet(rollout="r1", step=0, weight=1.0, verdict="PROMOTE"),
        ),
        (*SERVING_A, Retired(lane="blue", release="A")),
        (*SERVING_B, Retired(lane="blue", release="B")),
        (*SERVING_B, Retired(lane="green", release="A")),
        (*SERVING_B, started("r3", "C", "green")),
    ],
    ids=str,
)
def test_an_event_that_does_not_fit_changes_nothing(payloads: tuple[Payload, ...]) -> None:
    before, state = after(*payloads[:-1]), after(*payloads)
    assert state == replace(before, sequence=state.sequence, head=state.head)


def test_a_new_candidate_takes_the_lane_of_the_warm_release() -> None:
    state = after(*SERVING_B, started("r3", "C", "blue"))
    assert state.warm is None
    assert state.draining == ()
    assert state.serving is not None
    assert state.serving.lane == "green"


def test_a_new_candidate_in_another_lane_leaves_the_warm_release() -> None:
    state = after(*SERVING_B, started("r3", "C", "red"))
    assert state.warm is not None
    assert state.warm.digest == "A"


def test_a_promotion_from_a_third_lane_drains_what_was_warm() -> None:
    """Otherwise the servers of the oldest release would run for ever, known to nobody."""
    state = after(*SERVING_B, started("r3", "C", "red"), promoted("r3"))
    assert state.draining == (Placement(release("A"), "blue", at(6)),)
    assert state.warm is not None
    assert state.warm.digest == "B"


def test_a_new_candidate_takes_a_lane_that_was_draining() -> None:
    drained = (*SERVING_A, started("r2", "B", "green"), back("r2", "B", "A"))
    assert after(*drained, started("r3", "C", "green")).draining == ()
    assert len(after(*drained, started("r3", "C", "red")).draining) == 1


def test_a_rollout_that_is_followed_by_another_is_abandoned() -> None:
    state = after(*SERVING_A, started("r2", "B", "green"), started("r3", "C", "red"))
    assert state.rollout is not None
    assert state.rollout.id == "r3"
    assert state.draining == (Placement(release("B"), "green", at(4)),)
    same_lane = after(*SERVING_A, started("r2", "B", "green"), started("r3", "C", "green"))
    assert same_lane.draining == ()


def test_a_retired_lane_is_forgotten() -> None:
    state = after(*SERVING_B, Retired(lane="blue", release="A"))
    assert state.warm is None
    assert state.serving is not None
    drained = (*SERVING_A, started("r2", "B", "green"), back("r2", "B", "A"))
    assert after(*drained, Retired(lane="green", release="B")).draining == ()
    assert len(after(*drained, Retired(lane="green", release="C")).draining) == 1
    assert len(after(*drained, Retired(lane="blue", release="B")).draining) == 1


def test_retiring_one_lane_keeps_what_is_warm_in_another() -> None:
    state = after(
        *SERVING_B, started("r3", "C", "red"), back("r3", "C", "B"), Retired(lane="red", release="C")
    )
    assert state.draining == ()
    assert state.warm is not None
    assert state.warm.digest == "A"


def test_unknown_kinds_change_nothing() -> None:
    state = after(*SERVING_A)
    unknown = replace(event(3, Noted(subject="x")), kind="from-the-future", data={"a": 1})
    assert unknown.payload is None
    assert fold(state, [unknown]) == replace(state, sequence=3, head=unknown.hash)


def test_a_release_without_a_digest_cannot_be_placed() -> None:
    with pytest.raises(ValueError, match="without its digest"):
        Placement({"model": "m"}, "blue", at(1))


def test_states_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        State().sequence = 3  # type: ignore[misc]


def test_fields_added_later_are_ignored() -> None:
    assert payload_of("noted", {"subject": "x", "from_the_future": 1}) == Noted(subject="x")
    assert payload_of("retired", {"lane": "a", "release": "b"}) == Retired(lane="a", release="b")
    assert payload_of("no-such-kind", {}) is None
    with pytest.raises(TypeError):
        payload_of("noted", {})


def test_kinds_are_words_of_their_own() -> None:
    assert sorted(KINDS) == [
        "holdout-used",
        "noted",
        "promoted",
        "registered",
        "retired",
        "rolled-back",
        "rollout-started",
        "weight-set",
    ]
    assert all(payload.kind == kind for kind, payload in KINDS.items())
