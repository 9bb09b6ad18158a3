"""What holds for the state after every sequence of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.canonical import canonical_json
from mlops.ledger.events import (
    Event,
    Payload,
    Promoted,
    RolledBack,
    WeightSet,
    payload_of,
)
from mlops.ledger.state import State, fold
from tests.core.histories import event, histories, payloads


def through_json(value: Any) -> Any:
    return json.loads(canonical_json(value))


@given(histories, st.integers(0, 25))
@settings(max_examples=300, deadline=None)
def test_a_snapshot_and_the_rest_give_the_state_of_all(history: list[Event], cut: int) -> None:
    snapshot = State.from_record(through_json(fold(State(), history[:cut]).as_record()))
    assert fold(snapshot, history[cut:]) == fold(State(), history)


@given(histories)
@settings(max_examples=300, deadline=None)
def test_a_lane_has_one_tenant_at_most_and_none_is_lost(history: list[Event]) -> None:
    state = State()
    for each in history:
        before, state = state, fold(state, [each])
        tenants = [
            state.serving,
            state.warm,
            state.rollout.candidate if state.rollout else None,
            *state.draining,
        ]
        occupied = [tenant.lane for tenant in tenants if tenant is not None]
        assert len(occupied) == len(set(occupied))
        was = _lanes(before)
        gone = was - set(occupied)
        assert not gone or each.kind == "retired", "a lane in use is only given up by retiring it"


def _lanes(state: State) -> set[str]:
    tenants = [state.serving, state.warm, state.rollout.candidate if state.rollout else None, *state.draining]
    return {tenant.lane for tenant in tenants if tenant is not None}


@given(histories)
@settings(max_examples=200, deadline=None)
def test_weights_add_up_to_one_when_something_serves(history: list[Event]) -> None:
    state = fold(State(), history)
    weights = state.weights()
    assert all(0 <= weight <= 1 for weight in weights.values())
    if state.serving is not None:
        assert sum(weights.values()) == pytest.approx(1)


@given(histories, payloads)
@settings(max_examples=300, deadline=None)
def test_events_of_other_rollouts_are_ignored(history: list[Event], payload: Payload) -> None:
    if not isinstance(payload, WeightSet | Promoted | RolledBack):
        return
    state = fold(State(), history)
    foreign = event(len(history) + 1, replace(payload, rollout="another"))
    assert fold(state, [foreign]) == replace(state, sequence=foreign.sequence, head=foreign.hash)


@given(histories)
@settings(max_examples=100, deadline=None)
def test_folding_is_pure(history: list[Event]) -> None:
    copy = deepcopy(history)
    first = fold(State(), history)
    assert first == fold(State(), history)
    assert history == copy


@given(payloads)
def test_a_payload_comes_back_from_json(payload: Payload) -> None:
    record: Mapping[str, Any] = through_json(payload.as_record())
    assert payload_of(payload.kind, record) == payload
    assert event(1, payload).payload == payload


@given(histories)
def test_a_state_comes_back_from_json(history: list[Event]) -> None:
    state = fold(State(), history)
    assert State.from_record(through_json(state.as_record())) == state
