"""From the running evidence of all metrics to one verdict, the numbers behind it, and a sentence for a
person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Any

from mlops.decide import sentences
from mlops.decide.cases import WEIGHTS, Case
from mlops.decide.eprocess import as_number, log_mean_exp
from mlops.decide.evidence import Settings, State
from mlops.decide.forecasts import Nearing, nearing


class Verdict(StrEnum):
    """The three answers: more traffic, none, or wait."""

    PROMOTE = "PROMOTE"
    ROLLBACK = "ROLLBACK"
    HOLD = "HOLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its evidence (JSON-safe numbers, never NaN or infinite) and one sentence for a
    person."""

    verdict: Verdict
    evidence: Mapping[str, Any]
    message: str
    forecast: Nearing
    """Candidate requests that each verdict still needs."""


def judge(states: Mapping[str, State], settings: Settings, *, grant: float, first: bool = False) -> Judgement:
    """Decide whether the candidate may have the share ``grant``, must go, or must wait.

    ROLLBACK when the mean, over all metrics with equal weights, of the e-values against "no worse than
    stable" (0.9) and against "within the objective, or no worse than stable" (0.1) reaches 1/alpha. With
    errors, latency and refused requests each metric weighs 1/3, without a latency 1/2. A metric without an
    objective (refused requests) brings the first of the two e-values alone. If the
    candidate is in truth no worse than stable, or there is no stable and it keeps its objective, in every
    metric, the probability that this ever happens is at most alpha.

    PROMOTE when for *every* metric the mean of the e-values against "at least r times stable" and against
    "at least delta" reaches 1/beta. A candidate for which both are true in any metric is granted more with a
    probability of at most beta, however often it is looked at. The evidence asked for is in proportion to
    what is granted: a partial share (``grant`` < 1) excludes r_gross and 2.5 times the negligible rate, the
    whole traffic excludes r_bad and the negligible rate itself.

    ``first`` says that there is no stable release: then only "at least the objective" is to be excluded, and
    a metric without an objective is left out. HOLD otherwise, and without data, with one side missing, or
    when the traffic is not split as intended. Raises ValueError for no metrics that can be judged or a grant
    outside (0, 1].
    """
    if not 0.0 < grant <= 1.0:
        raise ValueError(f"grant must be above 0 and at most 1, not {grant}")
    every = {name: Case(state, settings, grant, first) for name, state in states.items()}
    cases = {name: case for name, case in every.items() if not case.is_blank}
    if not cases:
        raise ValueError("there is no metric to judge")
    against = log_mean_exp(case.against for case in cases.values())
    split = log_mean_exp(case.split for case in cases.values())
    near = nearing(list(cases.values()), against)
    verdict, message = _decide(list(cases.values()), against, split, near)
    evidence = {
        "grant": grant,
        "first": first,
        "against": as_number(against),
        "against_needed": 1.0 / settings.alpha,
        "good_needed": 1.0 / settings.beta,
        "split": as_number(split),
        "split_limit": 1.0 / settings.alpha_split,
        "weights": dict(WEIGHTS),
        "metrics": {name: case.numbers() for name, case in cases.items()},
        "forecast": {"promotion_requests": near.promotion, "rollback_requests": near.rollback},
    }
    return Judgement(verdict=verdict, evidence=evidence, message=message, forecast=near)


def _decide(cases: Sequence[Case], against: float, split: float, near: Nearing) -> tuple[Verdict, str]:
    settings, first = cases[0].settings, cases[0].first
    slowest = min(cases, key=lambda case: case.good)
    if against >= -log(settings.alpha):
        return Verdict.ROLLBACK, sentences.worse(max(cases, key=lambda case: case.against), against)
    if any(case.state.n_candidate == 0 for case in cases):
        return Verdict.HOLD, sentences.no_candidate()
    if not first and any(case.state.n_stable == 0 for case in cases):
        return Verdict.HOLD, sentences.no_stable()
    if split >= -log(settings.alpha_split):
        return Verdict.HOLD, sentences.wrong_split()
    if slowest.good >= -log(settings.beta):
        return Verdict.PROMOTE, sentences.good(slowest)
    return Verdict.HOLD, sentences.undecided(slowest, near)
