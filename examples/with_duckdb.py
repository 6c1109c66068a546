"""DuckDB: SQL over datasets and levels, and a join with a table of one's own."""

from __future__ import annotations

import duckdb
import pyarrow as pa
from sample import open_store

import tesseract

RAINIEST = """
    select origin, period_start, precip_sum, wind_speed_max
    from weather_daily
    where period_start < '2013-02-01' and precip_sum > 0
    order by precip_sum desc, origin, period_start
    limit 5
"""
MEANS = """
    select name, round((avg(temp) - 32) / 1.8, 2) as celsius
    from weather join airports using (origin)
    group by name
    order by name
"""


def main(store: tesseract.Store) -> tuple[pa.Table, pa.Table]:
    """The five rainiest days, by the store's own SQL; and mean temperatures in °C by the names of airports."""
    rainiest = store.sql(RAINIEST)
    connection = duckdb.connect()
    connection.register("airports", pa.table({"origin": ["EWR", "JFK", "LGA"], "name": ["Newark", "Kennedy", "LaGuardia"]}))
    connection.register(
        "weather", store.scan("weather", None, "2013-01-01", "2013-02-01", fields=["temp"])
    )  # read as it streams in
    return rainiest, connection.sql(MEANS).to_arrow_table()


if __name__ == "__main__":
    for answer in main(open_store()):
        print(answer.to_pandas())
