"""What a row must look like before anybody trains on it."""

import pandera.pandas as pa

_number = {"nullable": True, "coerce": True}

flights = pa.DataFrameSchema(
    {
        "flight_id": pa.Column(int, unique=True),
        "departure": pa.Column("datetime64[ns, UTC]", coerce=True),
        "late": pa.Column(int, pa.Check.isin([0, 1])),
        "carrier": pa.Column(str, pa.Check.str_length(2, 2)),
        "origin": pa.Column(str, pa.Check.isin(["EWR", "JFK", "LGA"])),
        "dest": pa.Column(str, pa.Check.str_length(3, 3)),
        "sched_dep_minute": pa.Column(float, pa.Check.in_range(0, 1440), coerce=True),
        "sched_arr_minute": pa.Column(float, pa.Check.in_range(0, 1440), coerce=True),
        "weekday": pa.Column(float, pa.Check.in_range(0, 6), coerce=True),
        "distance": pa.Column(float, pa.Check.in_range(10, 6000), coerce=True),
        "plane_year": pa.Column(float, pa.Check.in_range(1950, 2014), **_number),
        "temp": pa.Column(float, pa.Check.in_range(-20, 120), **_number),
        "dewp": pa.Column(float, pa.Check.in_range(-40, 100), **_number),
        "humid": pa.Column(float, pa.Check.in_range(0, 100), **_number),
        "wind_dir": pa.Column(float, pa.Check.in_range(0, 360), **_number),
        "wind_speed": pa.Column(float, pa.Check.in_range(0, 120), **_number),
        "wind_gust": pa.Column(float, pa.Check.in_range(0, 160), **_number),
        "precip": pa.Column(float, pa.Check.in_range(0, 5), **_number),
        "pressure": pa.Column(float, pa.Check.in_range(950, 1060), **_number),
        "visib": pa.Column(float, pa.Check.in_range(0, 15), **_number),
    },
    strict=True,
)
