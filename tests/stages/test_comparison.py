"""The gate's numbers as checks, without any model: what passes, stops, or cannot be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops.contract.model import Metric, Slice
from mlops.decide.gate import alpha_for
from mlops.decide.metrics import Scored
from mlops.ledger.state import State
from mlops.pipeline.results import Answer, Check
from mlops.stages.comparison import Contest, as_metrics, decide, groups_of, payload

N = 2000
TRUTH = (np.random.default_rng(0).random(N) < 0.4).astype(int)


def model(noise: float, seed: int) -> Scored:
    raw = TRUTH + noise * np.random.default_rng(seed).normal(size=N)
    positive = 1 / (1 + np.exp(-2 * (raw - 0.5)))
    return Scored((positive >= 0.5).astype(int), np.column_stack([1 - positive, positive]))


def contest(candidate: Scored, champion: Scored | None, **metric: Any) -> Contest:
    return Contest(
        metric=Metric.model_validate({"name": "auc", **metric}),
        truth=TRUTH,
        train_truth=TRUTH,
        candidate=candidate,
        champion=champion,
        rows=pd.DataFrame({"half": np.where(np.arange(N) % 2, "odd", "even")}),
    )


GOOD, BAD = model(1.0, 1), model(2.0, 2)
PAIR = {"candidate": "a" * 64, "holdout": "h" * 64}


def only(outcome: Any, name: str) -> Check:
    return next(check for check in outcome.checks if check.name == name)


def test_better_and_worse_and_not_enough() -> None:
    assert only(decide(contest(GOOD, BAD), State(), **PAIR), "champion").answer is Answer.PASSED
    worse = only(decide(contest(BAD, GOOD), State(), **PAIR), "champion")
    assert worse.answer is Answer.FAILED
    assert worse.message.startswith("worse than the champion: auc 0.")
    assert worse.remedy
    unsure = only(decide(contest(GOOD, model(1.0, 3), margin=1e-4), State(), **PAIR), "champion")
    assert unsure.answer is Answer.INCONCLUSIVE
    assert "more holdout rows (now 2,000)" in unsure.remedy


def test_the_first_use_and_the_fifth_have_their_own_levels() -> None:
    state = State(holdouts={"h" * 64: {f"c{i}": 0.01 for i in range(4)}})
    first, fifth = (decide(contest(GOOD, BAD), each, **PAIR) for each in (State(), state))
    assert first.used is not None and fifth.used is not None  # noqa: PT018
    assert (first.used.alpha, fifth.used.alpha) == (alpha_for(1, 0.05), alpha_for(5, 0.05))
    assert first.overall is not None and fifth.overall is not None  # noqa: PT018
    assert fifth.overall.alpha == alpha_for(5, 0.05)
    assert payload(fifth, state) == (
        fifth.used,
        f"candidate {'a' * 12} compared: better (use 5 of this holdout)",
    )


def test_a_known_pair_keeps_its_level_and_is_not_recorded_again() -> None:
    state = State(holdouts={"h" * 64: {"b": 0.02, "a" * 64: 0.004}})
    outcome = decide(contest(GOOD, BAD), state, **PAIR)
    assert outcome.used is not None
    assert outcome.used.alpha == 0.004
    assert payload(outcome, state) is None


def test_a_spent_holdout_still_answers_for_a_pair_that_it_knows() -> None:
    uses = {f"c{i}": 0.001 for i in range(60)}
    refused = decide(contest(GOOD, BAD), State(holdouts={"h" * 64: uses}), **PAIR)
    assert [check.answer for check in refused.checks] == [Answer.INCONCLUSIVE]
    assert refused.checks[0].measured == 60
    assert payload(refused, State()) is None
    known = decide(contest(GOOD, BAD), State(holdouts={"h" * 64: {**uses, "a" * 64: 0.001}}), **PAIR)
    assert only(known, "champion").answer is Answer.PASSED


def test_floor_and_champion_are_both_asked() -> None:
    outcome = decide(contest(GOOD, BAD, floor=0.99), State(), **PAIR)
    assert [(check.name, check.answer) for check in outcome.checks] == [
        ("floor", Answer.FAILED),
        ("champion", Answer.PASSED),
    ]
    assert outcome.checks[0].threshold == 0.99
    alone = decide(contest(GOOD, None, floor=0.6), State(), **PAIR)
    assert [(check.name, check.answer) for check in alone.checks] == [("floor", Answer.PASSED)]
    assert alone.used is not None
    assert alone.used.verdict == "passed"
    assert alone.used.numbers == {}


def test_slices_of_every_column_are_compared_with_three_times_the_margin() -> None:
    outcome = decide(contest(GOOD, GOOD, margin=0.02, slices=[{"column": "half"}]), State(), **PAIR)
    check = only(outcome, "slices of half")
    assert check.answer is Answer.PASSED
    assert [each["name"] for each in check.evidence["slices"]] == ["half=even", "half=odd"]
    assert [each["margin"] for each in check.evidence["slices"]] == pytest.approx([0.06, 0.06])


def test_a_constant_must_be_beaten_clearly() -> None:
    noise = Scored(GOOD.prediction[::-1].copy(), model(1.0, 5).scores[::-1].copy())  # type: ignore[index]
    check = decide(contest(noise, None), State(), **PAIR).checks[0]
    assert check.name == "better than a constant"
    assert check.answer is not Answer.PASSED
    few = contest(GOOD, None, minimum_rows=5000)
    assert decide(few, State(), **PAIR).checks[0].answer is Answer.INCONCLUSIVE


def test_groups_are_values_or_bins_and_missing_is_one_of_them() -> None:
    rows = pd.DataFrame({"c": ["x", "y", None, "x"], "n": [1.0, 2.0, 3.0, np.nan]})
    groups = groups_of(rows, Slice(column="c"), 0.01)
    assert [(group.name, group.rows.tolist()) for group in groups] == [
        ("c=missing", [2]),
        ("c=x", [0, 3]),
        ("c=y", [1]),
    ]
    assert groups[0].margin == pytest.approx(0.03)
    binned = groups_of(rows, Slice(column="n", bins=2, margin=0.5), 0.01)
    assert [group.rows.tolist() for group in binned] == [[0, 1], [2], [3]]
    assert {group.margin for group in binned} == {0.5}


def test_of_very_many_values_the_most_frequent_ones_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.stages.comparison.MOST_SLICES", 2)
    rows = pd.DataFrame({"c": ["a", "b", "b", "c", "c", "c"]})
    assert [group.name for group in groups_of(rows, Slice(column="c"), 0.01)] == ["c=b", "c=c"]


def test_numbers_for_the_tracking_run() -> None:
    outcome = decide(contest(GOOD, BAD), State(), **PAIR)
    assert set(as_metrics(outcome)) == {
        "gate_candidate",
        "gate_champion",
        "gate_gain",
        "gate_gain_lower",
        "gate_gain_upper",
    }
    assert as_metrics(decide(contest(GOOD, None), State(), **PAIR)) == {}
