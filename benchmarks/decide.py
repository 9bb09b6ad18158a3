"""How often the canary judge is wrong, how often it is right, and how soon: by simulation with the judge
itself.

    python benchmarks/decide.py [repetitions]

Sixty looks, a minute apart; the candidate has 10 % of the traffic for 30 minutes, then 50 %. Requests fail
independently. "Promoted" means that the judge would hand over the whole traffic; "rolled back" counts within
the hour even after that. Seeds are fixed. Prints a table and writes build/bench/decide.json.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np
from figures import Figure, publish

from mlops.decide.canary import Interval, Settings, State, Verdict, judge, update

MINUTES = 60
SETTINGS = Settings()
BASES = (0.005, 0.0005)
PER_MINUTE = (100, 1000)
FACTORS = (1.0, 2.0, 3.0, 5.0, 20.0)


@dataclass(frozen=True)
class Asked:
    """What is asked of a factor at 0.5 % errors and 1,000 requests a minute."""

    percent: float | None = None
    minutes: float | None = None
    requests: float | None = None


ASKED = {2.0: Asked(percent=99, minutes=35), 5.0: Asked(percent=100, minutes=4, requests=400)}


@dataclass(frozen=True)
class Cell:
    """One condition: stable's error rate, requests per minute, how many times worse the candidate is."""

    base: float
    per_minute: int
    factor: float


@dataclass(frozen=True)
class Row:
    """What happened in one condition, over all repetitions."""

    cell: Cell
    rolled_back_percent: float
    promoted_percent: float
    rollback_requests: float | None
    rollback_minutes: float | None
    promotion_requests: float | None


@dataclass(frozen=True)
class End:
    """When a verdict came first, as (candidate requests, minute); None when it did not come within the
    hour."""

    rollback: tuple[int, int] | None
    promotion: tuple[int, int] | None


def rollout(cell: Cell, random: np.random.Generator) -> End:
    """Play one hour. Both verdicts are looked for to its end, as if the first had not been acted on."""
    state = State()
    first: dict[Verdict, tuple[int, int]] = {}
    for minute in range(MINUTES):
        share = 0.1 if minute < MINUTES // 2 else 0.5
        n_c = int(random.binomial(cell.per_minute, share))
        n_b = cell.per_minute - n_c
        k_c = int(random.binomial(n_c, min(cell.factor * cell.base, 1.0)))
        k_b = int(random.binomial(n_b, cell.base))
        state = update(state, Interval(n_c, k_c, n_b, k_b, share=share), SETTINGS)
        verdict = judge({"errors": state}, SETTINGS, grant=1.0).verdict
        first.setdefault(verdict, (state.n_candidate, minute + 1))
    rollback, promotion = first.get(Verdict.ROLLBACK), first.get(Verdict.PROMOTE)
    if rollback and promotion and rollback[1] < promotion[1]:
        promotion = None
    return End(rollback, promotion)


def measure(cell: Cell, repetitions: int) -> Row:
    """Repeat one condition."""
    seed = [int(cell.base * 1e6), cell.per_minute, int(cell.factor * 10)]
    random = np.random.default_rng(seed)
    ends = [rollout(cell, random) for _ in range(repetitions)]
    back = [end.rollback for end in ends if end.rollback]
    promoted = [end.promotion for end in ends if end.promotion]
    return Row(
        cell=cell,
        rolled_back_percent=100 * len(back) / repetitions,
        promoted_percent=100 * len(promoted) / repetitions,
        rollback_requests=median(end[0] for end in back) if back else None,
        rollback_minutes=median(end[1] for end in back) if back else None,
        promotion_requests=median(end[0] for end in promoted) if promoted else None,
    )


def figures(row: Row) -> list[Figure]:
    """Return the figures of one row, with what was asked of them."""
    cell = row.cell
    at = f"base {cell.base:.2%}, {cell.per_minute}/min, x{cell.factor:g}"
    if cell.factor == 1.0:
        healthy = [
            Figure(f"false rollback: {at}", row.rolled_back_percent, "%", 100 * SETTINGS.alpha, "<="),
            Figure(f"healthy promoted: {at}", row.promoted_percent, "%"),
        ]
        return [*healthy, *_median("promotion", row.promotion_requests, "requests", at)]
    asked = ASKED.get(cell.factor, Asked()) if (cell.base, cell.per_minute) == (0.005, 1000) else Asked()
    detected = row.rolled_back_percent
    return [
        Figure(f"detected: {at}", detected, "%", asked.percent, ">=" if asked.percent else ""),
        *_median("rollback", row.rollback_requests, "requests", at, asked.requests),
        *_median("rollback", row.rollback_minutes, "min", at, asked.minutes),
        Figure(f"wrongly promoted: {at}", row.promoted_percent, "%", 100 * SETTINGS.beta, "<="),
    ]


def _median(what: str, value: float | None, unit: str, at: str, bar: float | None = None) -> list[Figure]:
    name = (
        f"median candidate {unit} to {what}: {at}" if unit == "requests" else f"median time to {what}: {at}"
    )
    return [] if value is None else [Figure(name, value, unit, bar, "<=" if bar else "")]


def main() -> None:
    """Measure every condition, print the table, write the figures."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    cells = [Cell(base, rate, factor) for base in BASES for rate in PER_MINUTE for factor in FACTORS]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(measure, cells, [repetitions] * len(cells)))
    print(f"{repetitions} rollouts per line; alpha {SETTINGS.alpha:g}, beta {SETTINGS.beta:g}")
    print(
        f"{'base':>6} {'req/min':>8} {'worse':>6} {'rolled back %':>14} {'median min':>11} {'requests':>9}",
        end="",
    )
    print(f" {'promoted %':>11} {'requests':>9}")
    for row in rows:
        cell = row.cell
        shown = [row.rollback_minutes, row.rollback_requests, row.promotion_requests]
        minutes, back, promotion = ("-" if value is None else f"{value:,.0f}" for value in shown)
        print(f"{cell.base:>6.2%} {cell.per_minute:>8} {'x' + format(cell.factor, 'g'):>6}", end="")
        print(f" {row.rolled_back_percent:>14.1f} {minutes:>11} {back:>9}", end="")
        print(f" {row.promoted_percent:>11.1f} {promotion:>9}")
    print()
    publish("decide", [figure for row in rows for figure in figures(row)])


if __name__ == "__main__":
    main()
