"""A verdict in one sentence for a person."""

from __future__ import annotations

from math import exp

from mlops.decide.cases import Case
from mlops.decide.eprocess import LARGEST_LOG
from mlops.decide.forecasts import Nearing

_NOUNS = {"errors": "errors", "latency": "slow answers", "refused": "refused requests (4xx)"}


def worse(case: Case, against: float) -> str:
    """Say why the candidate goes."""
    needed = f"{1 / case.settings.alpha:,.0f}"
    return f"The candidate is worse: {_rates(case)}; evidence {_evidence(against)}, {needed} was needed."


def no_candidate() -> str:
    """Say that the candidate has had no traffic."""
    return "Nothing is known of the candidate: it has not answered a request yet."


def no_stable() -> str:
    """Say that the other side of the comparison is missing."""
    return "Nothing can be compared: stable has not answered a request yet."


def wrong_split() -> str:
    """Say that the traffic is not split as intended."""
    return "The traffic is not split as intended, so the two sides cannot be compared."


def good(case: Case) -> str:
    """Say why the candidate may have more."""
    return (
        f"The candidate may have {case.grant:.0%} of the traffic: {_rates(case)}; {_bar(case)} is excluded."
    )


def undecided(case: Case, nearing: Nearing) -> str:
    """Say how far the evidence has come, and how much longer it will take."""
    enough = f"{1 / case.settings.beta:,.0f}"
    progress = f"evidence against {_bar(case)} is {_evidence(case.good)}, {enough} is needed"
    return f"Not decided yet: {_rates(case)}; {progress}; {_remaining(nearing)}."


def _rates(case: Case) -> str:
    state = case.state
    share = _share(state.k_candidate, state.n_candidate)
    candidate = f"{share} {_NOUNS[state.metric]} in {state.n_candidate:,} requests"
    if state.n_stable == 0:
        return candidate
    return f"{candidate}, stable {_share(state.k_stable, state.n_stable)} in {state.n_stable:,}"


def _share(events: int, requests: int) -> str:
    return f"{100 * events / requests:.3g} %"


def _bar(case: Case) -> str:
    bar = case.bar
    rate = f"{100 * bar.rate:.3g} % {_NOUNS[case.state.metric]}"
    if case.first:
        return f"a rate of {rate} or more"
    return f"{bar.ratio:g} times stable's rate (and at least {rate})"


def _evidence(value: float) -> str:
    number = exp(min(value, LARGEST_LOG))
    return f"{number:.2g}" if number < 1e6 else "over a million"


def _remaining(nearing: Nearing) -> str:
    options = {"promoted": nearing.promotion, "rolled back": nearing.rollback}
    known = {word: requests for word, requests in options.items() if requests is not None}
    if not known:
        return "at the present rates it will not be decided"
    word = min(known, key=lambda each: known[each])
    return f"at the present rates it is {word} after about {known[word]:,} more candidate requests"
