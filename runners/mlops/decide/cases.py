"""One metric before the judge: its evidence, what the grant must exclude, and how far the evidence has
come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlops.decide.eprocess import as_number, log_mean_exp, log_negligible, odds_times, weighted_log_mean
from mlops.decide.evidence import Limits, Settings, State

WEIGHTS = {"ratio": 0.9, "objective": 0.1}
"""Shares of the two e-values against a candidate in their mean; fixed before any data. The ratio to stable
gets most because it decides whenever there is a stable side; alone, the objective then needs ten times the
evidence, which a breach soon gives."""
WEIGHTS_WITHOUT_OBJECTIVE = {"ratio": 1.0}
"""The same for a metric that is judged by comparison with stable alone."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a grant must exclude, for one metric: at least ``ratio`` times stable, and at least ``rate`` in
    itself."""

    ratio: float
    rate: float
    index: int
    """Which of the state's good-enough processes belongs to the ratio."""


@dataclass(frozen=True)
class Case:
    """One metric, for one grant. ``first``: there is no stable release, so the objective alone decides."""

    state: State
    settings: Settings
    grant: float
    first: bool

    @cached_property
    def limits(self) -> Limits:
        """What the metric is held to."""
        return self.settings.limits(self.state.metric)

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to judge the metric by: neither an objective nor a stable release."""
        return self.first and self.limits.objective is None

    @property
    def weights(self) -> Mapping[str, float]:
        """Shares of the two e-values against the candidate in their mean."""
        return WEIGHTS_WITHOUT_OBJECTIVE if self.limits.objective is None else WEIGHTS

    @cached_property
    def bar(self) -> Bar:
        """What the grant must exclude: the less is granted, the worse it may still be."""
        limits = self.limits
        rate = limits.objective if self.first and limits.objective is not None else limits.negligible
        if self.grant >= 1.0:
            return Bar(self.settings.r_bad, rate, 0)
        return Bar(self.settings.r_gross, odds_times(self.settings.gross_scale, rate), 1)

    @cached_property
    def against_ratio(self) -> float:
        """Log e-value against "no worse than stable"."""
        return log_mean_exp(self.state.worse)

    @cached_property
    def against_objective(self) -> float:
        """Log e-value against "within the objective, or no worse than stable"."""
        return log_mean_exp(self.state.breach)

    @cached_property
    def against(self) -> float:
        """Log of the weighted mean of the two, which is an e-value against "both"."""
        logs = {"ratio": self.against_ratio, "objective": self.against_objective}
        return weighted_log_mean([logs[each] for each in self.weights], list(self.weights.values()))

    @cached_property
    def good(self) -> float:
        """Log e-value against "at least ``bar.ratio`` times stable, and at least ``bar.rate``"."""
        d, bar = self.settings.deflation, self.bar
        negligible = log_negligible(bar.rate, self.state.n_candidate / d, self.state.k_candidate / d)
        return negligible if self.first else log_mean_exp([self.state.good[bar.index], negligible])

    @cached_property
    def split(self) -> float:
        """Log e-value against "the traffic is split as intended"."""
        return log_mean_exp(self.state.split)

    def numbers(self) -> dict[str, Any]:
        """Return the evidence as JSON-safe numbers."""
        state, bar = self.state, self.bar
        return {
            "candidate": {"requests": state.n_candidate, "events": state.k_candidate},
            "stable": {"requests": state.n_stable, "events": state.k_stable},
            "against": as_number(self.against),
            "against_ratio": as_number(self.against_ratio),
            "against_objective": as_number(self.against_objective),
            "weights": dict(self.weights),
            "good": as_number(self.good),
            "excludes_ratio": bar.ratio,
            "excludes_rate": bar.rate,
        }
