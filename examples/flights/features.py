"""The features: only what is known before departure (schedule, route, plane, weather at the origin)."""

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    "sched_dep_minute",
    "sched_arr_minute",
    "weekday",
    "distance",
    "plane_year",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]
FEATURES = CATEGORIES + NUMBERS


def minute_of_day(clock):
    """Turn a clock such as 1345 (13:45) into minutes since midnight; works on a number and on a column."""
    return clock // 100 * 60 + clock % 100


def build(iterations, learning_rate):
    """Return the untrained pipeline. An unknown category becomes a missing value, which the trees can handle."""
    encode = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=float("nan"), encoded_missing_value=float("nan")
    )
    columns = ColumnTransformer(
        [("categories", encode, CATEGORIES), ("numbers", "passthrough", NUMBERS)],
        verbose_feature_names_out=False,
    )
    trees = HistGradientBoostingClassifier(
        max_iter=iterations,
        learning_rate=learning_rate,
        categorical_features=list(range(len(CATEGORIES))),
        random_state=13,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
