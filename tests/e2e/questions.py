"""Questions of every kind to a deployed stage that holds a year of an airport's weather, held against the file it came from.

The numbers are recomputed by DuckDB over the file, which knows nothing of tiers.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.laptop import ROOT, Demo

WEATHER = ROOT / "examples" / "data" / "nyc_weather_2013.csv.gz"
YEAR = ("--start", "2013-01-01", "--end", "2014-01-01")
FILE = f"""(select origin, time_hour::timestamptz as moment,
    try_cast(temp as double) as temp, try_cast(wind_speed as double) as wind
    from read_csv('{WEATHER}', all_varchar = true) where origin = 'JFK' and time_hour >= '2013' and time_hour < '2014')"""


def from_file(select: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers over the file; `{file}` is its rows."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(select.format(file=FILE)).fetchall()


def close(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> None:
    """Rows are equal, numbers to 1e-12."""
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-12)


def values_of_a_filter(demo: Demo, folder: Path) -> None:
    """Only the rows that pass, of a group by its pattern, the newest first."""
    found = demo.rows(
        "weather", "J*", *YEAR, "--where", "temp > 95 and wind_speed is not null", "--fields", "temp", "--order", "desc"
    )
    expected = from_file("select temp from {file} where temp > 95 and wind is not null order by moment desc")
    close([(row["temp"],) for row in found], expected)
    few = demo.rows("weather", "JFK", *YEAR, "--limit", "3", "--order", "desc")
    assert [row["valid_time"] for row in few] == sorted((row["valid_time"] for row in few), reverse=True)
    assert len(few) == 3


def levels_that_are_not_kept(demo: Demo, folder: Path) -> None:
    """Months and the year are merged from days, six hours from hours, ten minutes from the rows themselves."""
    for unit, level in (("month", "monthly"), ("year", "yearly"), ("week", "weekly")):
        found = demo.rows("weather", "JFK", *YEAR, "--level", level, "--fields", "temp")
        inside = "" if unit != "week" else "where date_trunc('week', moment) >= '2013-01-01'"
        expected = from_file(
            f"select count(temp), avg(temp), stddev_samp(temp), min(temp), max(temp) from {{file}} {inside} "
            f"group by date_trunc('{unit}', moment) order by date_trunc('{unit}', moment)"
        )
        names = [f"temp_{stat}" for stat in ("count", "avg", "std", "min", "max")]
        last = len(found) - 1 if unit == "week" else len(found)  # the last week goes on into the next year
        close([tuple(row[name] for name in names) for row in found][:last], expected[:last])


def any_interval(demo: Demo, folder: Path) -> None:
    """Six hours of July, gaps filled and marked; a day of New York from hours."""
    july = ("--start", "2013-07-01", "--end", "2013-08-01")
    found = demo.rows("weather", "JFK", *july, "--every", "6h", "--stats", "avg,count", "--fill", "null", "--fields", "temp")
    assert len(found) == 31 * 4
    expected = from_file(
        "select avg(temp), count(temp) from {file} where moment >= '2013-07-01' and moment < '2013-08-01' "
        "group by time_bucket(interval '6 hours', moment) order by time_bucket(interval '6 hours', moment)"
    )
    close([(row["temp_avg"], row["temp_count"]) for row in found if not row["filled"]], expected)
    days = demo.rows("weather", "JFK", *july, "--level", "daily", "--tz", "America/New_York", "--fields", "temp_avg")
    expected = from_file(
        "select avg(temp), count(*) from {file} where moment >= '2013-07-01 04:00' and moment < '2013-08-01 04:00' "
        "group by date_trunc('day', moment - interval '4 hours') order by date_trunc('day', moment - interval '4 hours')"
    )
    close([(row["temp_avg"], row["rows"]) for row in days], expected)


def sql_reads_what_it_needs(demo: Demo, folder: Path) -> None:
    """A join of raw rows and a level, grouped."""
    text = """select date_trunc('month', valid_time) as month, count(*) as n, avg(w.temp) as temp from weather w
        where origin = 'JFK' and valid_time >= '2013-03-01' and valid_time < '2013-06-01' group by 1 order by 1"""
    found = json.loads(demo.done("sql", text, "--format", "json"))
    expected = from_file(
        "select count(*), avg(temp) from {file} where moment >= '2013-03-01' and moment < '2013-06-01' "
        "group by date_trunc('month', moment) order by date_trunc('month', moment)"
    )
    close([(row["n"], row["temp"]) for row in found], expected)


def large_answers_go_to_files(demo: Demo, folder: Path) -> None:
    """Streamed: csv and Parquet of a year, the same rows."""
    import pyarrow.parquet as pq

    for name in ("year.csv", "year.parquet", "year.ndjson"):
        demo.done("query", "weather", "JFK", *YEAR, "-o", str(folder / name))
    table = pq.read_table(folder / "year.parquet")
    assert (table.num_rows,) == from_file("select count(*) from {file}")[0]
    assert table.schema.field("temp").metadata[b"unit"] == "°F".encode()
    with (folder / "year.csv").open(newline="") as lines:
        assert sum(1 for _ in csv.DictReader(lines)) == table.num_rows
    assert len((folder / "year.ndjson").read_text().splitlines()) == table.num_rows


def a_plan_comes_before_the_rows(demo: Demo, folder: Path) -> None:
    """--dry-run reads nothing, --explain says what was; both name the slices."""
    plan = demo.cli("query", "weather", "JFK", *YEAR, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "archive" in plan.stdout + plan.stderr
    explained = demo.cli("query", "weather", "JFK", *YEAR, "--explain", "--format", "csv")
    assert explained.returncode == 0, explained.stderr
    assert "archive" in explained.stderr
    assert len(explained.stdout.splitlines()) == from_file("select count(*) from {file}")[0][0] + 1


def pictures(demo: Demo, folder: Path) -> None:
    """A plot of a level, as svg."""
    demo.done("query", "weather", "JFK", *YEAR, "--level", "daily", "--fields", "temp", "--plot", str(folder / "temp.svg"))
    assert "<svg" in (folder / "temp.svg").read_text()


def the_store_gives_arrow_to_everybody(demo: Demo, folder: Path) -> None:
    """Polars, DuckDB and pandas take a scan and a table as they are; latest of one, several, all."""
    import duckdb
    import polars

    import tesseract

    with demo.here():
        store = tesseract.connect("local")
        span = ("2013-01-01", "2014-01-01")
        frame = polars.DataFrame(store.scan("weather", "JFK", *span))
        with duckdb.connect() as connection:
            connection.register("rows", store.scan("weather", "JFK", *span, fields=["temp"]))
            ((total,),) = connection.sql("select sum(temp) from rows").fetchall()
        assert store.query("weather", "JFK", *span).to_pandas()["temp"].sum() == pytest.approx(total, rel=1e-12)
        assert frame["temp"].sum() == pytest.approx(total, rel=1e-12)
        close([(total,)], from_file("select sum(temp) from {file}"))
        assert store.latest("weather", "JFK") == store.latest("weather", ["JFK"])
        assert store.latest("weather", "JFK")[0] in store.latest("weather")
        stats = store.read("weather", "JFK", "2013-03-01", "2013-03-02").stats
        assert (stats.dynamodb_requests, stats.s3_requests) <= (5, 2)


ALL = (
    values_of_a_filter,
    levels_that_are_not_kept,
    any_interval,
    sql_reads_what_it_needs,
    large_answers_go_to_files,
    a_plan_comes_before_the_rows,
    pictures,
    the_store_gives_arrow_to_everybody,
)
