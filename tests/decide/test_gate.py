"""The champion gate: its four words, its budget of error over a holdout, its slices and its floor."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mlops.decide import gate
from mlops.decide.gate import (
    Group,
    Rule,
    Word,
    alpha_for,
    benjamini_hochberg,
    compare,
    compare_slices,
    default_margin,
    reaches,
    spent,
    trivial,
)
from mlops.decide.metrics import METRICS, Scored, evaluate


def classifier(truth: Any, noise: Any, seed: int) -> Any:
    """Return a model that sees the truth through noise."""
    random = np.random.default_rng(seed)
    raw = truth + noise * random.normal(size=len(truth))
    positive = 1 / (1 + np.exp(-2 * (raw - 0.5)))
    return Scored((positive >= 0.5).astype(int), np.column_stack([1 - positive, positive]))


def truths(n: int, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).random(n) < 0.4).astype(int)


TRUTH = truths(4000)
GOOD, ALIKE, BAD = (classifier(TRUTH, noise, seed) for noise, seed in ((1.0, 1), (1.0, 2), (2.0, 3)))


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "accuracy", "f1"])
def test_the_words_of_the_gate(name: str) -> None:
    assert compare(name, TRUTH, GOOD, BAD).verdict is Word.BETTER
    assert compare(name, TRUTH, BAD, GOOD).verdict is Word.WORSE
    assert compare(name, TRUTH, ALIKE, GOOD, Rule(margin=0.2)).verdict is Word.AS_GOOD
    assert compare(name, TRUTH, ALIKE, GOOD, Rule(margin=1e-6)).verdict is Word.NOT_ENOUGH_DATA


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_the_words_of_the_gate_for_numbers(name: str) -> None:
    random = np.random.default_rng(4)
    truth = random.normal(size=2000)
    good, alike, bad = (Scored(truth + s * random.normal(size=2000)) for s in (1.0, 1.0, 1.5))
    assert compare(name, truth, good, bad).verdict is Word.BETTER
    assert compare(name, truth, bad, good).verdict is Word.WORSE
    assert compare(name, truth, alike, good, Rule(margin=0.2)).verdict is Word.AS_GOOD
    assert compare(name, truth, alike, good, Rule(margin=1e-6)).verdict is Word.NOT_ENOUGH_DATA


def test_gain_is_turned_so_that_more_is_better() -> None:
    for name, sign in (("auc", 1), ("log_loss", -1)):
        result = compare(name, TRUTH, GOOD, BAD)
        assert result.candidate == evaluate(METRICS[name], TRUTH, GOOD)
        assert result.champion == evaluate(METRICS[name], TRUTH, BAD)
        assert result.gain == pytest.approx(sign * (result.candidate - result.champion))
        assert 0 < result.lower < result.gain < result.upper


def test_the_result_carries_what_it_was_decided_by() -> None:
    result = compare("auc", TRUTH, GOOD, BAD, Rule(margin=0.03, alpha=0.02, minimum_rows=100))
    assert (result.margin, result.alpha, result.rows, result.metric, result.name) == (
        0.03,
        0.02,
        4000,
        "auc",
        "",
    )
    assert json.loads(json.dumps(result.as_record(), allow_nan=False))["verdict"] == "better"
    narrow = compare("auc", TRUTH, GOOD, BAD, Rule(alpha=0.2))
    assert narrow.upper - narrow.lower < result.upper - result.lower


def test_boundaries_of_the_words() -> None:
    assert gate._word(1e-9, 0.1, 0.01) is Word.BETTER
    assert gate._word(0.0, 0.1, 0.01) is Word.AS_GOOD
    assert gate._word(-0.01, 0.1, 0.01) is Word.AS_GOOD
    assert gate._word(-0.0101, -0.0099, 0.01) is Word.NOT_ENOUGH_DATA
    assert gate._word(-0.02, -0.01, 0.01) is Word.NOT_ENOUGH_DATA
    assert gate._word(-0.02, -0.0101, 0.01) is Word.WORSE


def test_the_default_margin() -> None:
    assert default_margin(METRICS["auc"], 0.8) == 0.01
    assert default_margin(METRICS["rmse"], -50.0) == 1.0
    assert compare("auc", TRUTH, GOOD, BAD).margin == 0.01
    assert compare("log_loss", TRUTH, GOOD, BAD).margin == pytest.approx(
        0.02 * evaluate(METRICS["log_loss"], TRUTH, BAD)
    )


def test_too_few_rows_is_not_enough_data_whatever_they_say() -> None:
    rows = np.arange(200)
    part = (TRUTH[rows], BAD.take(rows), GOOD.take(rows))
    assert compare("brier", *part, Rule(minimum_rows=201)).verdict is Word.NOT_ENOUGH_DATA
    assert compare("brier", *part, Rule(minimum_rows=200)).verdict is Word.WORSE


@pytest.mark.parametrize(("positives", "enough"), [(9, False), (10, True), (290, True), (291, False)])
def test_auc_needs_rows_of_both_classes(positives: Any, enough: Any) -> None:
    truth = np.zeros(300, dtype=int)
    truth[:positives] = 1
    scores = np.column_stack([1 - truth, truth]).astype(float)
    perfect, useless = Scored(truth, scores), Scored(truth, scores[::-1])
    found = compare("auc", truth, perfect, useless).verdict
    assert (found is Word.BETTER) is enough
    assert compare("accuracy", truth, perfect, useless).verdict is not Word.WORSE


def test_one_class_only_has_no_numbers_but_a_record() -> None:
    truth = np.ones(300, dtype=int)
    result = compare("auc", truth, GOOD.take(np.arange(300)), BAD.take(np.arange(300)))
    assert result.verdict is Word.NOT_ENOUGH_DATA
    assert (result.gain, result.lower, result.p_worse, result.candidate) == (None, None, None, None)
    json.dumps(result.as_record(), allow_nan=False)


def test_identical_answers_are_as_good() -> None:
    for name in ("auc", "log_loss", "f1", "accuracy"):
        assert compare(name, TRUTH, GOOD, GOOD).verdict is Word.AS_GOOD


@pytest.mark.parametrize("side", [0, 1])
def test_predictions_that_are_not_numbers_are_refused_on_both_sides(side: Any) -> None:
    spoiled = Scored(GOOD.prediction, np.where(np.arange(4000)[:, None] == 7, np.nan, GOOD.scores))
    pair = (spoiled, GOOD) if side == 0 else (GOOD, spoiled)
    with pytest.raises(ValueError, match="not finite"):
        compare("auc", TRUTH, *pair)
    with pytest.raises(ValueError, match="not finite"):
        compare_slices("auc", TRUTH, *pair, [])
    with pytest.raises(ValueError, match="not finite"):
        reaches("auc", TRUTH, spoiled, 0.5)


def test_the_error_rates_of_all_uses_add_up_to_alpha() -> None:
    assert alpha_for(1, 0.05) == pytest.approx(0.05 * 6 / math.pi**2)
    assert alpha_for(3, 0.05) == pytest.approx(alpha_for(1, 0.05) / 9)
    total = sum(alpha_for(k, 0.05) for k in range(1, 200_000))
    assert 0.0499 < total < 0.05
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="count from 1"):
            alpha_for(wrong, 0.05)


def test_a_holdout_is_spent_when_its_intervals_are_twice_as_wide() -> None:
    uses = [k for k in range(1, 100) if not spent(k, 0.05)]
    assert uses == list(range(1, 46))
    assert alpha_for(46, 0.05) > 1e-5
    assert not spent(1, 0.4)


@pytest.mark.slow
def test_equal_models_are_hardly_ever_called_better_over_all_uses_of_a_holdout() -> None:
    """Twenty equal candidates in a row on one holdout, 300 holdouts: any "better" at all in at most alpha = 10 %."""
    random = np.random.default_rng(8)
    any_better = 0
    for _ in range(300):
        truth = (random.random(300) < 0.4).astype(int)
        signal = truth + random.normal(size=300)
        models = [_of(signal + 0.3 * random.normal(size=300)) for _ in range(21)]
        any_better += any(
            compare("brier", truth, model, models[0], Rule(alpha=alpha_for(use, 0.1))).verdict is Word.BETTER
            for use, model in enumerate(models[1:], start=1)
        )
    assert any_better <= 30


@pytest.mark.slow
def test_without_the_budget_equal_models_would_be_called_better_too_often() -> None:
    """The control of the test above: at a constant level most holdouts call one of twenty equal models better."""
    random = np.random.default_rng(8)
    any_better = 0
    for _ in range(60):
        truth = (random.random(300) < 0.4).astype(int)
        signal = truth + random.normal(size=300)
        models = [_of(signal + 0.3 * random.normal(size=300)) for _ in range(21)]
        any_better += any(
            compare("brier", truth, model, models[0], Rule(alpha=0.1)).verdict is Word.BETTER
            for model in models[1:]
        )
    assert any_better >= 15


def _of(raw: Any) -> Any:
    positive = 1 / (1 + np.exp(-2 * (raw - 0.5)))
    return Scored((positive >= 0.5).astype(int), np.column_stack([1 - positive, positive]))


def groups(count: Any, margin: Any = 0.03, n: int = 4000) -> Any:
    return [Group(f"g={i}", np.flatnonzero(np.arange(n) % count == i), margin) for i in range(count)]


def test_a_slice_that_is_worse_is_found_and_only_it() -> None:
    scores = GOOD.scores.copy()
    third = np.arange(4000) % 4 == 3
    scores[third] = scores[third][:, ::-1]
    results = compare_slices("auc", TRUTH, Scored(GOOD.prediction, scores), GOOD, groups(4))
    assert [result.verdict for result in results] == [Word.AS_GOOD] * 3 + [Word.WORSE]
    assert [result.name for result in results] == ["g=0", "g=1", "g=2", "g=3"]
    assert results[3].p_worse < 1e-6
    assert results[3].margin == 0.03
    assert results[0].rows == 1000


def test_a_small_slice_says_nothing_and_takes_no_part() -> None:
    small = [Group("small", np.arange(49), 0.0), Group("enough", np.arange(50), 0.0)]
    results = compare_slices("brier", TRUTH, BAD, GOOD, small)
    assert (results[0].verdict, results[0].method, results[0].rows) == (Word.NOT_ENOUGH_DATA, "none", 49)
    record = results[0].as_record()
    assert {record[name] for name in ("gain", "lower", "upper", "candidate", "champion", "p_worse")} == {None}
    assert [result.name for result in results] == ["small", "enough"]
    assert results[1].method == "paired t"


def test_slices_are_compared_without_the_bootstrap() -> None:
    part = [Group("part", np.arange(300), 0.1)]
    assert compare_slices("f1", TRUTH, BAD, GOOD, part)[0].method == "jackknife"
    assert compare("f1", TRUTH, BAD, GOOD).method == "BCa bootstrap"


def test_a_small_slice_leaves_the_correction_of_the_others_alone() -> None:
    """With alpha = 0.05 a p-value of 0.03 alone is enough; it would not be among two."""
    group = Group("some", np.arange(400), 0.0)
    tiny = [Group(f"tiny {i}", np.arange(10), 0.0) for i in range(50)]
    alone = compare_slices("brier", TRUTH, BAD, GOOD, [group])[0]
    assert alone.p_worse is not None
    level = alone.p_worse * 1.5
    assert compare_slices("brier", TRUTH, BAD, GOOD, [group], alpha=level)[0].verdict is Word.WORSE
    among = compare_slices("brier", TRUTH, BAD, GOOD, [*tiny, group], alpha=level)
    assert among[-1].verdict is Word.WORSE
    assert {result.verdict for result in among[:-1]} == {Word.NOT_ENOUGH_DATA}


def test_a_slice_of_one_class_says_nothing_about_auc() -> None:
    only = Group("one class", np.flatnonzero(TRUTH == 1), 0.01)
    result = compare_slices("auc", TRUTH, BAD, GOOD, [only])[0]
    assert (result.verdict, result.method) == (Word.NOT_ENOUGH_DATA, "none")


def test_no_slices_no_results() -> None:
    assert compare_slices("auc", TRUTH, BAD, GOOD, []) == ()


@pytest.mark.slow
def test_many_healthy_slices_raise_no_alarm() -> None:
    """Forty slices of an equal model: without correction about one in twenty would be called worse now and then."""
    alarms = 0
    for seed in range(40):
        truth = truths(4000, seed)
        shared = truth + np.random.default_rng(seed).normal(size=4000)
        one, two = (
            _of(shared + 0.2 * np.random.default_rng(1000 + seed + i).normal(size=4000)) for i in range(2)
        )
        found = compare_slices("brier", truth, one, two, groups(40, margin=0.0))
        alarms += any(result.verdict is Word.WORSE for result in found)
    assert alarms <= 6


def test_worse_by_its_own_interval_alone_is_not_worse() -> None:
    """A p-value of 0.02 among 40 does not survive the correction, though the slice's own interval says worse."""
    one = gate.GateResult(
        metric="auc",
        verdict=Word.WORSE,
        rows=100,
        candidate=0.5,
        champion=0.6,
        gain=-0.1,
        lower=-0.2,
        upper=-0.02,
        margin=0.01,
        alpha=0.05,
        method="DeLong",
        p_worse=0.02,
        name="s",
    )
    assert gate._corrected(one, 0.001).verdict is Word.NOT_ENOUGH_DATA
    assert gate._corrected(one, 0.02).verdict is Word.WORSE
    assert gate._corrected(one, 0.02).name == "s"
    fine = gate.GateResult(**{**one.as_record(), "verdict": Word.AS_GOOD})
    assert gate._corrected(fine, 0.001) is fine


def test_benjamini_and_hochberg_is_that_of_scipy() -> None:
    random = np.random.default_rng(3)
    for _ in range(50):
        p = np.r_[random.random(15), random.random(5) * 0.01]
        rejected = false_discovery_control(p) <= 0.05
        limit = benjamini_hochberg(list(p), 0.05)
        assert ((p <= limit) == rejected).all()
    assert benjamini_hochberg([], 0.05) == -1.0
    assert benjamini_hochberg([0.9, 0.8], 0.05) == -1.0
    assert benjamini_hochberg([0.04, 0.05], 0.05) == 0.05


def test_the_p_value_is_against_being_within_the_margin() -> None:
    result = compare_slices("brier", TRUTH, BAD, GOOD, [Group("all", np.arange(4000), 0.01)])[0]
    error = (result.upper - result.lower) / 2 / 1.9605
    from scipy.stats import t

    assert result.p_worse == pytest.approx(t.cdf((result.gain + 0.01) / error, 3999), rel=0.05)


def test_p_values_of_no_spread() -> None:
    same = gate.Estimate(0.0, 0.0, 0.0, 0.0, "x")
    assert gate._p_worse(-0.2, same, 0.1) == 0.0
    assert gate._p_worse(-0.1, same, 0.1) == 1.0
    assert gate._p_worse(float("nan"), same, 0.1) is None


def test_a_floor_is_reached_missed_or_cannot_be_told() -> None:
    value = evaluate(METRICS["auc"], TRUTH, GOOD)
    assert reaches("auc", TRUTH, GOOD, value - 0.01).reached is True
    assert reaches("auc", TRUTH, GOOD, value).reached is True
    assert reaches("auc", TRUTH, GOOD, value + 0.1).reached is False
    unsure = reaches("auc", TRUTH, GOOD, value + 0.001)
    assert unsure.reached is None
    assert unsure.lower < unsure.value < unsure.upper
    assert unsure.floor == value + 0.001


def test_a_floor_of_a_loss_is_a_ceiling() -> None:
    value = evaluate(METRICS["log_loss"], TRUTH, GOOD)
    assert reaches("log_loss", TRUTH, GOOD, value + 0.01).reached is True
    assert reaches("log_loss", TRUTH, GOOD, value - 0.1).reached is False
    assert reaches("log_loss", TRUTH, GOOD, value - 0.001).reached is None


def test_a_floor_cannot_be_told_from_few_rows_or_one_class() -> None:
    rows = np.arange(100)
    assert reaches("auc", TRUTH[rows], GOOD.take(rows), 0.1).reached is None
    assert reaches("auc", TRUTH[rows], GOOD.take(rows), 0.1, minimum_rows=100).reached is True
    ones = np.ones(300, dtype=int)
    result = reaches("auc", ones, GOOD.take(np.arange(300)), 0.1)
    assert (result.reached, result.value) == (None, None)


def test_two_hundred_rows_are_enough_for_a_floor() -> None:
    rows = np.arange(200)
    assert reaches("f1", TRUTH[rows], GOOD.take(rows), 0.1).reached is True
    assert reaches("f1", TRUTH[rows[1:]], GOOD.take(rows[1:]), 0.1).reached is None


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "accuracy", "f1"])
def test_a_model_beats_the_trivial_prediction_and_noise_does_not(name: str) -> None:
    constant = trivial(name, TRUTH, 4000)
    noise = classifier(np.zeros(4000), 1.0, 9)
    assert compare(name, TRUTH, GOOD, constant, Rule(margin=0.0)).verdict is Word.BETTER
    assert compare(name, TRUTH, noise, constant, Rule(margin=0.0)).verdict is not Word.BETTER


def test_the_trivial_prediction() -> None:
    truth = np.array([0, 0, 1, 2, 2, 2])
    constant = trivial("log_loss", truth, 3, classes=4)
    assert constant.scores == pytest.approx(np.tile([2 / 6, 1 / 6, 3 / 6, 0.0], (3, 1)))
    assert list(constant.prediction) == [2, 2, 2]
    assert constant.classes == 4
    assert list(trivial("f1", np.array([0, 0, 1]), 2).prediction) == [1, 1]
    assert list(trivial("f1", truth, 2, classes=3).prediction) == [2, 2]
    assert list(trivial("accuracy", np.array([0, 0, 1]), 2).prediction) == [0, 0]
    numbers = np.array([1.0, 2.0, 9.0])
    assert list(trivial("mae", numbers, 2).prediction) == [2.0, 2.0]
    assert list(trivial("rmse", numbers, 2).prediction) == [4.0, 4.0]
