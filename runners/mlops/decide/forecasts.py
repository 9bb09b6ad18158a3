"""How much longer: the expected growth of the evidence at the observed rates, by formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, log1p

from mlops.decide.cases import Case
from mlops.decide.eprocess import RATIOS, SHRINKS, odds_times
from mlops.decide.evidence import State

_STANDSTILL = 1e-12


@dataclass(frozen=True, slots=True)
class Nearing:
    """Candidate requests that a verdict still needs; None when the evidence for it does not grow."""

    promotion: int | None
    rollback: int | None


def nearing(cases: Sequence[Case], against: float) -> Nearing:
    """Return how many more candidate requests each verdict needs if rates and split stay as observed.

    ``against`` is the log of the evidence against the candidate over all metrics. Promotion waits for the
    slowest metric, rollback needs one. Nothing is known before the candidate's first request.
    """
    if any(case.state.n_candidate == 0 for case in cases):
        return Nearing(None, None)
    settings = cases[0].settings
    promotion = [_requests(-log(settings.beta) - case.good, _good_growth(case)) for case in cases]
    rollback = [_requests(-log(settings.alpha) - against, _worse_growth(case)) for case in cases]
    known = [each for each in promotion if each is not None]
    return Nearing(
        promotion=max(known) if len(known) == len(promotion) else None,
        rollback=min((each for each in rollback if each is not None), default=None),
    )


def _requests(missing: float, growth: float) -> int | None:
    return ceil(max(missing, 0.0) / growth) if growth > _STANDSTILL else None


def rates(state: State) -> tuple[float, float]:
    """Return the rates of candidate and stable, each shrunk towards their common rate by the weight of one
    event."""
    k, n = state.k_candidate + state.k_stable, state.n_candidate + state.n_stable
    common = (k + 0.5) / (n + 1.0)
    return (
        (state.k_candidate + 1.0) / (state.n_candidate + 1.0 / common),
        (state.k_stable + 1.0) / (state.n_stable + 1.0 / common),
    )


def _good_growth(case: Case) -> float:
    """Return the expected growth of the good-enough evidence per candidate request, in nats."""
    p_c, p_b = rates(case.state)
    bar, share = case.bar, case.state.share
    growths = [_alone(p_c, shrink * bar.rate, bar.rate) for shrink in SHRINKS]
    if not case.first and 0.0 < share < 1.0:
        growths.append(_events(p_c, p_b, share) * log1p((bar.ratio - 1.0) * share) - p_c * log(bar.ratio))
    return max(growths) / case.settings.deflation


def _worse_growth(case: Case) -> float:
    """Return the expected growth of the evidence against the candidate per candidate request, in nats."""
    p_c, p_b = rates(case.state)
    share = case.state.share
    if 0.0 < share < 1.0:
        events = _events(p_c, p_b, share)
        growths = [p_c * log(psi) - events * log1p(share * (psi - 1.0)) for psi in RATIOS]
    elif (objective := case.limits.objective) is not None:
        growths = [_alone(p_c, odds_times(psi, objective), objective) for psi in RATIOS]
    else:
        return 0.0
    return max(growths) / case.settings.deflation


def _events(p_c: float, p_b: float, share: float) -> float:
    """Return the events of both sides per candidate request."""
    return p_c + p_b * (1.0 - share) / share


def _alone(p: float, p_1: float, p_0: float) -> float:
    """Return the expected log of the likelihood ratio p_1 : p_0 per request at the rate p."""
    return p * log(p_1 / p_0) + (1.0 - p) * (log1p(-p_1) - log1p(-p_0))
