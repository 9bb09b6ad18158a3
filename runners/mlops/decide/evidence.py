"""What a rollout knows of its candidate: settings, one interval of counts, and the running evidence of one
metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from mlops.decide.eprocess import (
    RATIOS,
    SPLIT_ODDS,
    log_above,
    log_good_ratio,
    log_split,
    log_worse,
    odds_times,
)

_SINGLE_FLOATS = ("alpha", "beta", "alpha_split", "objective_error_rate", "objective_slow_rate")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one metric is held to: the promise to users, and the rate below which nobody would notice.

    Without a promise (``objective`` None) the metric is judged by comparison with stable alone.
    """

    objective: float | None
    negligible: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The constants of the judge; fixed for the whole of one rollout.

    Three metrics are known: ``errors`` (requests answered with an error), ``latency`` (requests slower than
    the objective's bucket) and ``refused`` (requests answered 4xx). A negligible error rate is a tenth of
    the objective, because a healthy service stays far below its promise and ten times worse than usual must
    not pass as negligible. A negligible share of slow requests is the objective's own: the promise already
    says "99 % within so many ms", and below that nobody has been promised more.

    Refused requests have no objective: most are mistakes of the callers, of which there may be any number,
    and which reach both sides alike, because each request is sent to one side at random, however the
    mistakes cluster. A candidate that refuses what stable takes stands out against that. Its negligible rate
    is that of errors, since a valid request that is refused is lost to its caller like one that fails. So:

    - Nobody refuses anything: the evidence is that of errors without an error, and no rollout gets slower.
    - Both refuse at the same rate: the ratio is excluded, the sooner the higher the rate is.
    - Both refuse rarely, around the negligible rate, where neither the rate nor the ratio is soon excluded:
      that takes longest, with the defaults about 44,000 requests of the candidate at half the traffic
      (4,500 without any), but it ends: of "the rate is negligible" and "the ratio to stable is small" at
      least one gathers evidence at every rate. Errors of that rate on both sides take as long.
    """

    alpha: float = 0.01
    """Probability of ever rolling back a candidate that is no worse than stable or within the objective."""
    beta: float = 0.05
    """Probability of ever granting more traffic to a candidate as bad as the grant excludes."""
    r_bad: float = 2.0
    """Ratio to stable that the final promotion excludes."""
    r_gross: float = 5.0
    """Ratio to stable that a raise to a partial share excludes."""
    gross_scale: float = 2.5
    """For a partial share, "negligible" is this many times larger, as ``r_gross`` is to ``r_bad``."""
    objective_error_rate: float = 0.01
    objective_slow_rate: float = 0.01
    negligible_error_rate: float | None = None
    """A tenth of the objective when None."""
    negligible_slow_rate: float | None = None
    """The objective itself when None."""
    alpha_split: float = 0.001
    """Probability of ever calling a correct traffic split wrong."""
    deflation: float = 1.0
    """Size of the bursts that failures come in, measured on stable against stable; 1 for independent
    requests."""

    def __post_init__(self) -> None:
        for name in _SINGLE_FLOATS:
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if not 1.0 < self.r_bad <= self.r_gross < float("inf"):
            raise ValueError(f"1 < r_bad <= r_gross is needed, not {self.r_bad} and {self.r_gross}")
        for name in ("deflation", "gross_scale"):
            if not 1.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 1 and finite, not {getattr(self, name)}")
        for metric in ("errors", "latency"):
            limits = self.limits(metric)
            if limits.objective is None or not 0.0 < limits.negligible <= limits.objective:
                raise ValueError(f"the negligible rate of {metric} must be above 0 and at most its objective")

    def limits(self, metric: str) -> Limits:
        """Return what the metric is held to; ValueError for a metric that the judge does not know."""
        errors = Limits(
            self.objective_error_rate,
            _given_or(self.negligible_error_rate, self.objective_error_rate / 10),
        )
        latency = Limits(
            self.objective_slow_rate, _given_or(self.negligible_slow_rate, self.objective_slow_rate)
        )
        known = {"errors": errors, "latency": latency, "refused": Limits(None, errors.negligible)}
        if metric not in known:
            raise ValueError(f"the judge knows the metrics errors, latency and refused, not {metric!r}")
        return known[metric]

    def as_record(self) -> dict[str, float | None]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Settings:
        """Rebuild from the JSON form."""
        return cls(**record)


@dataclass(frozen=True, slots=True)
class Interval:
    """Counts between two looks: requests ``n`` and events ``k`` of the candidate and of stable (zeros where
    there is none).

    ``share`` is the candidate's intended share of the traffic, if it was the same during the whole interval;
    without it the split is not tested. ``sequence`` numbers the intervals of one rollout from 1; without it
    every interval is new. Raises ValueError for a count that is negative, fractional, NaN or larger than its
    requests.
    """

    n_candidate: int
    k_candidate: int
    n_stable: int = 0
    k_stable: int = 0
    share: float | None = None
    sequence: int | None = None

    def __post_init__(self) -> None:
        for side in ("candidate", "stable"):
            n, k = getattr(self, f"n_{side}"), getattr(self, f"k_{side}")
            for count in (n, k):
                if not isfinite(count) or count != int(count) or count < 0:
                    raise ValueError(f"a count of {side} must be a whole number from 0, not {count}")
            if k > n:
                raise ValueError(f"{side} has more events ({k}) than requests ({n})")
        if self.share is not None and not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share must be between 0 and 1, not {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The running evidence on one metric: totals and logs (nats) of running products, never reset between
    weights."""

    metric: str = "errors"
    sequence: int = 0
    """Number of the last interval that was counted."""
    n_candidate: int = 0
    k_candidate: int = 0
    n_stable: int = 0
    k_stable: int = 0
    share: float = 0.0
    """The candidate's share of the requests in the last interval that had any."""
    worse: tuple[float, ...] = (0.0,) * len(RATIOS)
    """Against "no worse than stable", one per alternative in ``RATIOS``."""
    breach: tuple[float, ...] = (0.0,) * len(RATIOS)
    """Against "within the objective, or no worse than stable", one per alternative."""
    good: tuple[float, float] = (0.0, 0.0)
    """Against "at least r times stable", for ``r_bad`` and ``r_gross``."""
    split: tuple[float, ...] = (0.0,) * len(SPLIT_ODDS)
    """Against "the traffic is split as intended", one per alternative in ``SPLIT_ODDS``."""

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        record = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> State:
        """Rebuild from the JSON form; ValueError when a number in it is not finite."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        state = cls(**fields)
        if not all(isfinite(each) for each in (*state.worse, *state.breach, *state.good, *state.split)):
            raise ValueError("the evidence holds a number that is not finite")
        return state


def _given_or(given: float | None, usual: float) -> float:
    return usual if given is None else given


def update(state: State, interval: Interval, settings: Settings) -> State:
    """Return the state after one more interval; the same interval delivered again changes nothing.

    Raises ValueError for an interval older than the last one. An interval without events or without requests
    on a side moves only what it bears on.
    """
    sequence = state.sequence + 1 if interval.sequence is None else interval.sequence
    if sequence == state.sequence:
        return state
    if sequence < state.sequence:
        raise ValueError(f"interval {sequence} comes after interval {state.sequence} was counted")
    n_c, k_c = int(interval.n_candidate), int(interval.k_candidate)
    n_b, k_b = int(interval.n_stable), int(interval.k_stable)
    d = settings.deflation
    worse = tuple(_worse(psi, (n_c, k_c, n_b, k_b), d) for psi in RATIOS)
    breach = _breach(settings.limits(state.metric).objective, (n_c, k_c, n_b), worse, d)
    good = (
        state.good[0] + log_good_ratio(settings.r_bad, n_c, k_c, n_b, k_b) / d,
        state.good[1] + log_good_ratio(settings.r_gross, n_c, k_c, n_b, k_b) / d,
    )
    return replace(
        state,
        sequence=sequence,
        n_candidate=state.n_candidate + n_c,
        k_candidate=state.k_candidate + k_c,
        n_stable=state.n_stable + n_b,
        k_stable=state.k_stable + k_b,
        share=n_c / (n_c + n_b) if n_c + n_b else state.share,
        worse=_add(state.worse, worse),
        breach=_add(state.breach, breach),
        good=good,
        split=_add(state.split, _split(interval.share, n_c, n_b, d)),
    )


def _add(left: tuple[float, ...], right: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _worse(psi: float, counts: tuple[int, int, int, int], deflation: float) -> float:
    # The exact form draws single requests, so it is not valid for bursts: then the binomial form serves at
    # every rate.
    return log_worse(psi, *counts, exact=deflation == 1.0) / deflation


def _breach(
    objective: float | None, counts: tuple[int, int, int], worse: tuple[float, ...], deflation: float
) -> tuple[float, ...]:
    """Return the log factors against "within the objective, or no worse than stable in this interval".

    Where stable served too, a breach that it shares is not the candidate's fault: the smaller of the two
    e-values is one for the union of the two hypotheses. Where it did not, the objective alone decides.
    Without an objective there is no such evidence.
    """
    if objective is None:
        return (0.0,) * len(RATIOS)
    n_c, k_c, n_b = counts
    alone = tuple(log_above(odds_times(psi, objective), objective, n_c, k_c) / deflation for psi in RATIOS)
    return tuple(map(min, alone, worse)) if n_b else alone


def _split(share: float | None, n_c: int, n_b: int, deflation: float) -> tuple[float, ...]:
    if share is None or not 0.0 < share < 1.0:
        return (0.0,) * len(SPLIT_ODDS)
    return tuple(log_split(odds, share, n_c, n_b) / deflation for odds in SPLIT_ODDS)
