"""The judge in simulated rollouts, seeds fixed: how often it is wrong, how often right. (Longer: benchmarks/decide.py.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops.decide.canary import Interval, Settings, State, Verdict, judge, update

pytestmark = pytest.mark.slow

SETTINGS = Settings()
ROLLOUTS = 150


def play(
    p_c: float,
    p_b: float,
    *,
    seed: int,
    per_minute: int = 1000,
    minutes: int = 60,
    grant: float = 1.0,
    settings: Settings = SETTINGS,
    burst: int = 1,
) -> list[float]:
    """Return the first verdict other than HOLD of each rollout; a tenth of the traffic, after half the time a half."""
    random = np.random.default_rng(seed)
    ends = []
    for _ in range(ROLLOUTS):
        state, verdict = State(), Verdict.HOLD
        for minute in range(minutes):
            share = 0.1 if minute < minutes // 2 else 0.5
            n_c = random.binomial(per_minute // burst, share) * burst
            n_b = per_minute - n_c
            k_c = random.binomial(n_c // burst, p_c) * burst
            k_b = random.binomial(n_b // burst, p_b) * burst
            state = update(state, Interval(n_c, k_c, n_b, k_b), settings)
            verdict = judge({"errors": state}, settings, grant=grant).verdict
            if verdict is not Verdict.HOLD:
                break
        ends.append(verdict)
    return [sum(end is verdict for end in ends) / ROLLOUTS for verdict in Verdict]


@pytest.mark.parametrize(("rate", "per_minute"), [(0.0005, 1000), (0.005, 100), (0.005, 1000), (0.08, 300)])
def test_a_healthy_candidate_is_rarely_rolled_back(rate: Any, per_minute: Any) -> None:
    settings = Settings(beta=1e-9)  # nothing is promoted, so that every rollout is looked at sixty times
    _, rolled_back, _ = play(rate, rate, seed=1, per_minute=per_minute, settings=settings)
    assert rolled_back <= 0.02


def test_five_times_the_errors_are_found() -> None:
    _, rolled_back, _ = play(0.025, 0.005, seed=2, minutes=20)
    assert rolled_back >= 0.98


@pytest.mark.parametrize("rate", [0.005, 0.08])
def test_a_candidate_twice_as_bad_is_rarely_promoted(rate: Any) -> None:
    promoted, _, _ = play(2 * rate, rate, seed=3, settings=Settings(alpha=1e-9))
    assert promoted <= 0.05 + 0.03


def test_a_grossly_bad_candidate_is_rarely_given_more() -> None:
    promoted, _, _ = play(0.025, 0.005, seed=4, grant=0.5, settings=Settings(alpha=1e-9))
    assert promoted <= 0.05 + 0.03


def test_a_healthy_candidate_is_promoted_within_the_hour() -> None:
    promoted, _, _ = play(0.005, 0.005, seed=5)
    assert promoted >= 0.95


def test_a_healthy_candidate_is_given_half_within_minutes() -> None:
    promoted, _, _ = play(0.005, 0.005, seed=6, grant=0.5, minutes=16)
    assert promoted >= 0.95


def test_bursts_roll_healthy_candidates_back_unless_they_are_calibrated_for() -> None:
    """Requests fail ten at a time. The control (no calibration) shows that the calibration is what helps."""
    patient = {"beta": 1e-9, "objective_error_rate": 0.05}
    _, plain, _ = play(0.01, 0.01, seed=7, burst=10, settings=Settings(**patient))
    _, calibrated, _ = play(0.01, 0.01, seed=7, burst=10, settings=Settings(**patient, deflation=10.0))
    assert plain >= 0.1
    assert calibrated <= 0.02
