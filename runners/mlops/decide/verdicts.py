"""From the running evidence of all metrics to one verdict, the numbers behind it, and a sentence for a
person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, exp, log, log1p
from typing import Any

from mlops.decide.eprocess import (
    RATIOS,
    SHRINKS,
    log_mean_exp,
    log_negligible,
    odds_times,
    weighted_log_mean,
)
from mlops.decide.evidence import Settings, State

WEIGHTS = {"ratio": 0.9, "objective": 0.1}
"""Shares of the two e-values against a candidate in their mean; fixed before any data. The ratio to stable
gets most because it decides whenever there is a stable side; alone, the objective then needs ten times the
evidence, which a breach soon gives."""

_LARGEST_LOG = 600.0
_NOUNS = {"errors": "errors", "latency": "slow answers"}


_SENTENCES = {
    "worse": "The candidate is worse: {rates}; evidence {against} of {needed} needed.",
    "no candidate": "Nothing is known of the candidate: it has not answered a request yet.",
    "no stable": "Nothing can be compared: stable has not answered a request yet.",
    "split": "The traffic is not split as intended, so the two sides cannot be compared.",
    "good": "The candidate may have {grant} of the traffic: {rates}; {bar} is excluded.",
    "open": "Not decided yet: {rates}; evidence against {bar} is {good} of {enough} needed; {next}.",
}


class Verdict(StrEnum):
    """The three answers: more traffic, none, or wait."""

    PROMOTE = "PROMOTE"
    ROLLBACK = "ROLLBACK"
    HOLD = "HOLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How many more candidate requests the next verdict needs if the rates and the split stay as observed."""

    verdict: Verdict
    candidate_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its evidence (JSON-safe numbers, never NaN or infinite) and one sentence for a
    person."""

    verdict: Verdict
    evidence: Mapping[str, Any]
    message: str
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class _Bar:
    """What a grant must exclude, for one metric: at least ``ratio`` times stable, and at least ``rate`` in
    itself."""

    ratio: float
    rate: float
    index: int
    """Which of the state's good-enough processes belongs to the ratio."""


def judge(states: Mapping[str, State], settings: Settings, *, grant: float, first: bool = False) -> Judgement:
    """Decide whether the candidate may have the share ``grant``, must go, or must wait.

    ROLLBACK when the mean, over all metrics with equal weights, of the e-values against "no worse than
    stable" (0.9) and against "within the objective, or no worse than stable" (0.1) reaches 1/alpha. If the
    candidate is in truth no worse than stable, or there is no stable and it keeps its objective, in every
    metric, the probability that this ever happens is at most alpha.

    PROMOTE when for *every* metric the mean of the e-values against "at least r times stable" and against
    "at least delta" reaches 1/beta. A candidate for which both are true in any metric is granted more with a
    probability of at most beta, however often it is looked at. The evidence asked for is in proportion to
    what is granted: a partial share (``grant`` < 1) excludes r_gross and 2.5 times the negligible rate, the
    whole traffic excludes r_bad and the negligible rate itself.

    ``first`` says that there is no stable release: then only "at least the objective" is to be excluded.
    HOLD otherwise, and without data, with one side missing, or when the traffic is not split as intended.
    Raises ValueError for no metrics or a grant outside (0, 1].
    """
    if not states:
        raise ValueError("there is no metric to judge")
    if not 0.0 < grant <= 1.0:
        raise ValueError(f"grant must be above 0 and at most 1, not {grant}")
    bars = {name: _bar(state, settings, grant, first) for name, state in states.items()}
    worse = {name: _log_worse(state) for name, state in states.items()}
    good = {name: _log_good(state, bars[name], settings, first) for name, state in states.items()}
    against = log_mean_exp(worse.values())
    split = log_mean_exp(log_mean_exp(state.split) for state in states.values())
    verdict, cause = _decide(states, settings, first, (against, split, min(good.values())))
    forecast = _forecast(states, bars, settings, first, (against, good)) if verdict is Verdict.HOLD else None
    evidence = {
        "grant": grant,
        "first": first,
        "against": _number(against),
        "against_needed": 1.0 / settings.alpha,
        "good_needed": 1.0 / settings.beta,
        "split": _number(split),
        "split_limit": 1.0 / settings.alpha_split,
        "weights": dict(WEIGHTS),
        "metrics": {
            name: _metric_numbers(state, bars[name], worse[name], good[name])
            for name, state in states.items()
        },
        "forecast": None
        if forecast is None
        else {"verdict": str(forecast.verdict), "candidate_requests": forecast.candidate_requests},
    }
    sentence = _SENTENCES[cause]
    culprit = (
        max(worse, key=lambda name: worse[name])
        if cause == "worse"
        else min(good, key=lambda name: good[name])
    )
    message = sentence.format(
        rates=_rates_in_words(states[culprit]),
        grant=f"{grant:.0%}",
        against=_in_words(against),
        needed=f"{1 / settings.alpha:,.0f}",
        bar=_bar_in_words(states[culprit], bars[culprit], first),
        good=_in_words(good[culprit]),
        enough=f"{1 / settings.beta:,.0f}",
        next=_forecast_in_words(forecast),
    )
    return Judgement(verdict=verdict, evidence=evidence, message=message, forecast=forecast)


def _bar(state: State, settings: Settings, grant: float, first: bool) -> _Bar:
    limits = settings.limits(state.metric)
    rate = limits.objective if first else limits.negligible
    if grant >= 1.0:
        return _Bar(settings.r_bad, rate, 0)
    return _Bar(settings.r_gross, odds_times(settings.gross_scale, rate), 1)


def _log_worse(state: State) -> float:
    parts = [log_mean_exp(state.worse), log_mean_exp(state.breach)]
    return weighted_log_mean(parts, [WEIGHTS["ratio"], WEIGHTS["objective"]])


def _log_good(state: State, bar: _Bar, settings: Settings, first: bool) -> float:
    d = settings.deflation
    negligible = log_negligible(bar.rate, state.n_candidate / d, state.k_candidate / d)
    return negligible if first else log_mean_exp([state.good[bar.index], negligible])


def _decide(
    states: Mapping[str, State], settings: Settings, first: bool, logs: tuple[float, float, float]
) -> tuple[Verdict, str]:
    against, split, least_good = logs
    if against >= -log(settings.alpha):
        return Verdict.ROLLBACK, "worse"
    if any(state.n_candidate == 0 for state in states.values()):
        return Verdict.HOLD, "no candidate"
    if not first and any(state.n_stable == 0 for state in states.values()):
        return Verdict.HOLD, "no stable"
    if split >= -log(settings.alpha_split):
        return Verdict.HOLD, "split"
    if least_good >= -log(settings.beta):
        return Verdict.PROMOTE, "good"
    return Verdict.HOLD, "open"


def _number(value: float) -> float:
    """Return exp(value), cut off where a float would overflow, with six significant digits."""
    return float(f"{exp(min(value, _LARGEST_LOG)):.6g}")


def _metric_numbers(state: State, bar: _Bar, worse: float, good: float) -> dict[str, Any]:
    return {
        "candidate": {"requests": state.n_candidate, "events": state.k_candidate},
        "stable": {"requests": state.n_stable, "events": state.k_stable},
        "against": _number(worse),
        "against_ratio": _number(log_mean_exp(state.worse)),
        "against_objective": _number(log_mean_exp(state.breach)),
        "good": _number(good),
        "excludes_ratio": bar.ratio,
        "excludes_rate": bar.rate,
    }


def _forecast(
    states: Mapping[str, State],
    bars: Mapping[str, _Bar],
    settings: Settings,
    first: bool,
    logs: tuple[float, Mapping[str, float]],
) -> Forecast | None:
    """Return the nearer of the two verdicts, by the expected growth of the evidence per candidate request;
    None if none nears."""
    if any(state.n_candidate == 0 for state in states.values()):
        return None
    against, good = logs
    promote = [
        _requests(-log(settings.beta) - good[name], _good_growth(state, bars[name], settings, first))
        for name, state in states.items()
    ]
    rollback = [
        _requests(-log(settings.alpha) - against, _worse_growth(state, settings)) for state in states.values()
    ]
    options = [
        *(
            [(max(each for each in promote if each is not None), Verdict.PROMOTE)]
            if None not in promote
            else []
        ),
        *((each, Verdict.ROLLBACK) for each in rollback if each is not None),
    ]
    if not options:
        return None
    requests, verdict = min(options)
    return Forecast(verdict=verdict, candidate_requests=requests)


def _requests(missing: float, growth: float) -> int | None:
    return ceil(max(missing, 0.0) / growth) if growth > 1e-12 else None


def _rates(state: State) -> tuple[float, float]:
    """Return the rates of candidate and stable, shrunk towards their common rate by the weight of one
    event."""
    k, n = state.k_candidate + state.k_stable, state.n_candidate + state.n_stable
    common = (k + 0.5) / (n + 1.0)
    return (
        (state.k_candidate + 1.0) / (state.n_candidate + 1.0 / common),
        (state.k_stable + 1.0) / (state.n_stable + 1.0 / common),
    )


def _good_growth(state: State, bar: _Bar, settings: Settings, first: bool) -> float:
    """Return the expected growth of the good-enough evidence per candidate request, in nats."""
    p_c, p_b = _rates(state)
    growths = [
        p_c * log(shrink) + (1.0 - p_c) * (log1p(-shrink * bar.rate) - log1p(-bar.rate)) for shrink in SHRINKS
    ]
    if not first and 0.0 < state.share < 1.0:
        events = p_c + p_b * (1.0 - state.share) / state.share
        growths.append(events * log1p((bar.ratio - 1.0) * state.share) - p_c * log(bar.ratio))
    return max(growths) / settings.deflation


def _worse_growth(state: State, settings: Settings) -> float:
    """Return the expected growth of the evidence against the candidate per candidate request, in nats."""
    p_c, p_b = _rates(state)
    if 0.0 < state.share < 1.0:
        events = p_c + p_b * (1.0 - state.share) / state.share
        growths = [p_c * log(psi) - events * log1p(state.share * (psi - 1.0)) for psi in RATIOS]
    else:
        p_0 = settings.limits(state.metric).objective
        bets = [(odds_times(psi, p_0), p_0) for psi in RATIOS]
        growths = [p_c * log(p_1 / p_0) + (1.0 - p_c) * (log1p(-p_1) - log1p(-p_0)) for p_1, p_0 in bets]
    return max(growths) / settings.deflation


def _rates_in_words(state: State) -> str:
    noun = _NOUNS[state.metric]
    candidate = f"{_share(state.k_candidate, state.n_candidate)} {noun} in {state.n_candidate:,} requests"
    if state.n_stable == 0:
        return candidate
    return f"{candidate}, stable {_share(state.k_stable, state.n_stable)} in {state.n_stable:,}"


def _share(events: int, requests: int) -> str:
    return f"{100 * events / requests:.3g} %" if requests else "no"


def _bar_in_words(state: State, bar: _Bar, first: bool) -> str:
    rate = f"{100 * bar.rate:.3g} % {_NOUNS[state.metric]}"
    return (
        f"a rate of {rate} or more" if first else f"{bar.ratio:g} times stable's rate (and at least {rate})"
    )


def _in_words(value: float) -> str:
    number = exp(min(value, _LARGEST_LOG))
    return f"{number:.2g}" if number < 1e6 else "over a million"


def _forecast_in_words(forecast: Forecast | None) -> str:
    if forecast is None:
        return "at the present rates it will not be decided"
    requests = f"about {forecast.candidate_requests:,} more candidate requests"
    return f"{requests} until {forecast.verdict} at the present rates"
