"""A year: hourly averages from raw rows once a second against Polars, and hourly values that are kept.

Ours reads the year from S3 (MiniStack), asks DynamoDB for what is newer, and adds exactly; Polars adds doubles, over the same files
on the local disk, by the faster of its two ways.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from benchmarks import query_scan
from benchmarks.figures import Figure, medians
from benchmarks.query_samples import EACH_SECOND, KEPT, YEAR, made, sensor
from benchmarks.query_stage import Stage, stages, store, timed, turns
from tesseract.store import Store

END = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS, SECONDS = 3, 365 * 86_400
ONE, ALL = ("temp",), ("temp", "hum", "wind", "pressure")


def run() -> Iterator[Figure]:
    """With the tables on MiniStack: few requests are made."""
    with stages(EACH_SECOND, KEPT) as found:
        stage = found["MiniStack"]
        for fields, bar in ((ONE, 0.8), (ALL, None)):
            yield _averages(stage, fields, bar)
        yield from _hours(stage)
        yield query_scan.figure(stage)


def _averages(stage: Stage, fields: tuple[str, ...], bar: float | None) -> Figure:
    reader, files = store(stage.backend), sorted((made(EACH_SECOND) / "archive").rglob("*.parquet"))
    ours = partial(reader.resample, EACH_SECOND.name, sensor(0), YEAR, END, every="1h", fields=fields, stats=["avg"])
    theirs = [partial(way, files, fields) for way in (_dynamic, _truncated)]
    _same(ours(), theirs[0](), fields)
    seconds = medians(ROUNDS, *(partial(timed, work) for work in (ours, *theirs)))
    told = f"ours {seconds[0]:.2f} s, {SECONDS / seconds[0] / 1e6:.1f} M rows/s; Polars {min(seconds[1:]):.2f} s"
    name = f"hourly averages over a year of 1 Hz, {len(fields)} field{'s' if len(fields) > 1 else ''}: of Polars on local files"
    return Figure(name, min(seconds[1:]) / seconds[0], "×", told, bar, more_is_better=True)


def _dynamic(files: list[Path], fields: tuple[str, ...]) -> pl.DataFrame:
    rows = pl.scan_parquet(files, hive_partitioning=False).set_sorted("valid_time")
    return rows.group_by_dynamic("valid_time", every="1h").agg(pl.col(fields).mean()).collect()


def _truncated(files: list[Path], fields: tuple[str, ...]) -> pl.DataFrame:
    rows = pl.scan_parquet(files, hive_partitioning=False)
    hours = rows.group_by(pl.col("valid_time").dt.truncate("1h")).agg(pl.col(fields).mean())
    return hours.sort("valid_time").collect()


def _same(ours: pa.Table, theirs: pl.DataFrame, fields: tuple[str, ...]) -> None:
    assert len(ours) == len(theirs) == SECONDS // 3600
    for name in fields:
        pairs = zip(ours[f"{name}_avg"].to_pylist(), theirs[name].cast(pl.Float64).to_list(), strict=True)
        assert all(abs(float(left) - right) <= 1e-9 * max(abs(right), 1) for left, right in pairs)


def _hours(stage: Stage) -> Iterator[Figure]:
    def ask(reader: Store) -> None:
        found = reader.query(KEPT.name, sensor(0), YEAR, END, level="hourly")
        assert len(found) == SECONDS // 3600

    warm_reader = store(stage.backend)
    cold, warm = (statistics.median(found) for found in turns(5, lambda: ask(store(stage.backend)), lambda: ask(warm_reader)))
    stats = warm_reader.read(KEPT.name, sensor(0), YEAR, END, level="hourly").stats
    told = f"{stats.dynamodb_requests} requests to DynamoDB, {stats.s3_requests} to S3"
    yield Figure("a year of hourly values of one group: cold", cold, "s", told, bar=5)
    yield Figure("a year of hourly values of one group: warm", warm, "s", told, bar=0.5)
