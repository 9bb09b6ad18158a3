"""Finds a strategy by its name."""

from __future__ import annotations

from functools import cache

from mlops import plugins
from mlops.rollout.strategies.port import Strategy
from mlops.rollout.strategies.returning import Returning


@cache  # looking through what is installed takes longer than all the rest of a tick
def strategy_named(name: str) -> Strategy:
    """Return the strategy; raises UserError with the nearest known name."""
    if name == Returning.name:
        return Returning()
    found: Strategy = plugins.load(plugins.STRATEGIES, name, where="mlops.yaml: rollout.strategy")()
    return found
