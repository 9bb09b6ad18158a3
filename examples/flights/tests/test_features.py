import numpy as np
import pandas as pd
import pytest

from features import CATEGORIES, FEATURES, NUMBERS, build, minute_of_day


@pytest.fixture
def rows():
    random = np.random.default_rng(7)
    n = 400
    frame = pd.DataFrame({name: random.normal(size=n) for name in NUMBERS})
    for name in CATEGORIES:
        frame[name] = random.choice(["AA", "BB", "CC"], size=n)
    frame["late"] = (frame["sched_dep_minute"] + random.normal(scale=0.3, size=n) > 0).astype(int)
    return frame


@pytest.mark.parametrize(("clock", "minute"), [(0, 0), (5, 5), (515, 315), (2359, 1439)])
def test_clock_becomes_minutes(clock, minute):
    assert minute_of_day(clock) == minute


def test_nothing_is_used_that_is_known_only_after_departure():
    forbidden = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    assert not forbidden & set(FEATURES)


def test_pipeline_learns(rows):
    pipeline = build(iterations=20, learning_rate=0.2).fit(rows[FEATURES], rows["late"])
    assert pipeline.score(rows[FEATURES], rows["late"]) > 0.85


def test_unknown_category_and_missing_values_are_predicted(rows):
    pipeline = build(iterations=5, learning_rate=0.2).fit(rows[FEATURES], rows["late"])
    strange = rows[FEATURES].head(3).copy()
    strange["carrier"] = "ZZ"
    strange[NUMBERS] = np.nan
    assert np.isfinite(pipeline.predict_proba(strange)).all()
