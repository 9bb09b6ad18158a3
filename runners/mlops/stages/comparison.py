"""Candidate against champion on the same rows: the gate's numbers as checks, and the use of the holdout in
the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops.contract.model import Metric, Slice
from mlops.decide import gate
from mlops.decide.gate import FloorResult, GateResult, Group, Rule, Word
from mlops.decide.metrics import METRICS, Scored, Truth
from mlops.ledger.events import HoldoutUsed, Payload
from mlops.ledger.state import State
from mlops.pipeline.results import Answer, Check

if TYPE_CHECKING:
    import pandas as pd

SLICE_MARGIN = 3.0
"""A slice may lose so many times the metric's margin: it has fewer rows, and its share of all rows is
small."""
MOST_SLICES = 200
"""Values of one column that are compared; of a column with more, the most frequent ones."""
_WORDS = {
    Word.BETTER: "better than",
    Word.AS_GOOD: "as good as",
    Word.WORSE: "worse than",
    Word.NOT_ENOUGH_DATA: "not yet distinguishable from",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Everything that a comparison needs, in memory. ``champion`` is None where nothing is served yet."""

    metric: Metric
    truth: Truth
    train_truth: Truth
    """The target of the training rows, which a constant prediction is taken from."""
    candidate: Scored
    champion: Scored | None
    rows: pd.DataFrame
    """The holdout, for slices."""
    same: bool = False
    """The champion is the candidate."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the gate says: the checks, and the record for the ledger (None when the holdout is spent)."""

    checks: tuple[Check, ...]
    used: HoldoutUsed | None
    overall: GateResult | None = None


def decide(contest: Contest, state: State, *, candidate: str, holdout: str) -> Outcome:
    """Compare at the error rate that this use of the holdout has left; a pair that was compared before
    spends nothing.

    A pure function of the ledger's state, so it can be asked again when another candidate was recorded first.
    """
    earlier = state.holdouts.get(holdout, {})
    alpha = contest.metric.alpha
    if contest.same:
        return _compared(contest, alpha)
    if candidate not in earlier and gate.spent(len(earlier) + 1, alpha):
        return Outcome((_spent(len(earlier)),), None)
    level = earlier.get(candidate, gate.alpha_for(len(earlier) + 1, alpha))
    outcome = _compared(contest, level)
    use = HoldoutUsed(
        candidate=candidate,
        holdout=holdout,
        alpha=level,
        verdict=_verdict(outcome),
        numbers={} if outcome.overall is None else outcome.overall.as_record(),
    )
    return Outcome(outcome.checks, use, outcome.overall)


def payload(outcome: Outcome, state: State) -> tuple[Payload, str] | None:
    """Return what the ledger must learn, and why; None for a pair that it knows and for a spent holdout."""
    used = outcome.used
    if used is None or used.candidate in state.holdouts.get(used.holdout, {}):
        return None
    count = len(state.holdouts.get(used.holdout, {})) + 1
    return used, f"candidate {used.candidate[:12]} compared: {used.verdict} (use {count} of this holdout)"


def _verdict(outcome: Outcome) -> str:
    if outcome.overall is not None:
        return str(outcome.overall.verdict)
    return str(outcome.checks[0].answer) if outcome.checks else "none"


def _compared(contest: Contest, level: float) -> Outcome:
    metric = contest.metric
    checks: list[Check] = []
    if metric.floor is not None:
        checks.append(_floor_check(_reaches(contest, metric.floor, level), metric))
    if contest.champion is None:
        if metric.floor is not None:
            return Outcome(tuple(checks), None)
        return Outcome((_trivial_check(_against_trivial(contest, level), metric),), None)
    overall = _overall(contest, contest.champion, level)
    checks += [
        _champion_check(overall, same=contest.same),
        *_slice_checks(contest, contest.champion, overall),
    ]
    return Outcome(tuple(checks), None, overall)


def _overall(contest: Contest, champion: Scored, level: float) -> GateResult:
    metric = contest.metric
    rule = Rule(margin=metric.margin, alpha=level, minimum_rows=metric.minimum_rows)
    return gate.compare(metric.name, contest.truth, contest.candidate, champion, rule)


def _reaches(contest: Contest, floor: float, level: float) -> FloorResult:
    metric = contest.metric
    return gate.reaches(
        metric.name, contest.truth, contest.candidate, floor, alpha=level, minimum_rows=metric.minimum_rows
    )


def _against_trivial(contest: Contest, level: float) -> GateResult:
    metric = contest.metric
    constant = gate.trivial(metric.name, contest.train_truth, len(contest.truth), contest.candidate.classes)
    rule = Rule(margin=0.0, alpha=level, minimum_rows=metric.minimum_rows)
    return gate.compare(metric.name, contest.truth, contest.candidate, constant, rule)


def _spent(uses: int) -> Check:
    return Check(
        name="holdout",
        answer=Answer.INCONCLUSIVE,
        message=f"this holdout has compared {uses} candidates: it is spent, and what it says now may be luck",
        measured=uses,
        remedy="new holdout: point `data.holdout` to rows that no candidate has been compared on",
    )


def _floor_check(result: FloorResult, metric: Metric) -> Check:
    answers = {True: Answer.PASSED, False: Answer.FAILED, None: Answer.INCONCLUSIVE}
    words = {True: "reaches", False: "misses", None: "cannot be told from"}
    return Check(
        name="floor",
        answer=answers[result.reached],
        message=f"{metric.name} {_number(result.value)} {words[result.reached]} the floor {_number(result.floor)}"
        f" ({_between(result.lower, result.upper)})",
        measured=result.value,
        threshold=result.floor,
        remedy=""
        if result.reached
        else "improve the model, or take more holdout rows; the floor is the contract's promise",
        evidence={"lower": result.lower, "upper": result.upper},
    )


def _trivial_check(result: GateResult, metric: Metric) -> Check:
    """With neither champion nor floor a model must at least beat a constant."""
    answer = Answer.PASSED if result.verdict is Word.BETTER else Answer.INCONCLUSIVE
    enough = result.verdict is not Word.NOT_ENOUGH_DATA or result.rows >= metric.minimum_rows
    if answer is Answer.INCONCLUSIVE and enough and _at_most_trivially_better(result):
        answer = Answer.FAILED
    return Check(
        name="better than a constant",
        answer=answer,
        message=f"{metric.name} {_number(result.candidate)}, of a constant prediction {_number(result.champion)}"
        f" (gain {_between(result.lower, result.upper)})",
        measured=result.candidate,
        threshold=result.champion,
        remedy=""
        if answer is Answer.PASSED
        else "the model says no more than the target's average does: look at features and target",
        evidence=result.as_record(),
    )


def _at_most_trivially_better(result: GateResult) -> bool:
    margin = gate.default_margin(METRICS[result.metric], result.champion or 0.0)
    return result.upper is not None and result.upper < margin


def _champion_check(result: GateResult, *, same: bool) -> Check:
    good = same or result.verdict in {Word.BETTER, Word.AS_GOOD}
    bad = Answer.FAILED if result.verdict is Word.WORSE else Answer.INCONCLUSIVE
    word = "the same package as" if same else _WORDS[result.verdict]
    remedies = {
        Answer.PASSED: "",
        Answer.FAILED: "compare the two models on the rows in predictions.parquet",
        Answer.INCONCLUSIVE: f"more holdout rows (now {result.rows:,}), or a wider `metric.margin`",
    }
    answer = Answer.PASSED if good else bad
    return Check(
        name="champion",
        answer=answer,
        message=f"{word} the champion: {result.metric} {_number(result.candidate)} against {_number(result.champion)};"
        f" gain {_between(result.lower, result.upper)}, margin {result.margin:.4g}",
        measured=result.candidate,
        threshold=result.champion,
        remedy=remedies[answer],
        evidence=result.as_record(),
    )


def _slice_checks(contest: Contest, champion: Scored, overall: GateResult) -> list[Check]:
    """One check per column; the correction for many slices runs over those of all columns."""
    sliced = {each.column: groups_of(contest.rows, each, overall.margin) for each in contest.metric.slices}
    groups = [group for each in sliced.values() for group in each]
    results = gate.compare_slices(
        contest.metric.name, contest.truth, contest.candidate, champion, groups, alpha=contest.metric.alpha
    )
    by_name = {result.name: result for result in results}
    return [
        _slice_check(column, [by_name[group.name] for group in groups]) for column, groups in sliced.items()
    ]


def _slice_check(column: str, results: Sequence[GateResult]) -> Check:
    worse = [result for result in results if result.verdict is Word.WORSE]
    few = sum(result.p_worse is None for result in results)
    named = ", ".join(
        f"{each.name} ({_number(each.candidate)} against {_number(each.champion)})" for each in worse
    )
    compared = f"{len(results) - few} slices compared" + (f", {few} have too few rows" if few else "")
    return Check(
        name=f"slices of {column}",
        answer=Answer.FAILED if worse else Answer.PASSED,
        message=f"worse in {named}; {compared}" if worse else f"no slice is worse; {compared}",
        measured=len(worse),
        threshold=0,
        remedy="look at these rows in predictions.parquet" if worse else "",
        evidence={"slices": [result.as_record() for result in results]},
    )


def groups_of(rows: pd.DataFrame, sliced: Slice, margin: float) -> list[Group]:
    """Return the slices that a column makes: its values (missing is one of them), or quantile bins of a
    number."""
    import numpy as np
    import pandas as pd

    column = rows[sliced.column]
    if sliced.bins is not None:
        column = pd.qcut(column, sliced.bins, duplicates="drop").astype(str)
    names = column.astype(object).where(column.notna(), "missing").astype(str)
    allowed = SLICE_MARGIN * margin if sliced.margin is None else sliced.margin
    frequent = names.value_counts().index[:MOST_SLICES]
    positions = {
        str(name): np.asarray(places, dtype=np.int64) for name, places in names.groupby(names).indices.items()
    }
    return [Group(f"{sliced.column}={name}", positions[name], allowed) for name in sorted(frequent)]


def as_metrics(outcome: Outcome) -> Mapping[str, float]:
    """Return the numbers that are worth a line in the tracking run."""
    overall: Any = outcome.overall
    if overall is None:
        return {}
    found = {
        "gate_candidate": overall.candidate,
        "gate_champion": overall.champion,
        "gate_gain": overall.gain,
        "gate_gain_lower": overall.lower,
        "gate_gain_upper": overall.upper,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _between(lower: float | None, upper: float | None) -> str:
    return f"{_number(lower)} to {_number(upper)}"
