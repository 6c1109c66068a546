"""Thirty daily files of 1 Hz data into one monthly file: rows a second against polars and DuckDB, and the peak of a fresh process.

All three read the same files, sort them by group and time, and write one Parquet file with zstd at level 1, to the same disk; only
ours looks for rows of one key. Each measures itself in a process of its own, in turns. The small month is one sensor's; in the
large one twelve sensors share each file, sorted by sensor, so that all thirty files lie open at once.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from benchmarks.archive_samples import DATASET, START, Folder, day
from benchmarks.figures import Figure
from tesseract.config.tiers import UNITS, tier_period
from tesseract.model import Segment
from tesseract.processing.merge_files import merge_segments
from tesseract.processing.merge_plan import Merge
from tesseract.processing.segments import Partition, write_segment
from tesseract.storage.parquet_writer import encode

ROOT = Path(__file__).resolve().parents[1]
DAYS, SHARED, ROUNDS = 30, 12, 3
MONTH = UNITS["monthly"].period(START)
LIST = "segments.json"


def run() -> Iterator[Figure]:
    """One sensor, then twelve."""
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as name:
        yield from _small(_month(Path(name), 1))
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as name:
        folder = _month(Path(name), SHARED)
        rows, seconds, peak = _child("ours", folder)
        text = f"{DAYS} files of {SHARED} sensors, {rows / seconds / 1e6:.2f} M rows/s"
        yield Figure(f"memory: merge of {rows:,} rows", peak, "MB", text, bar=300)


def _small(folder: Path) -> Iterator[Figure]:
    runs = [{who: _child(who, folder) for who in WAYS} for _ in range(ROUNDS + 1)][1:]
    seconds = {who: statistics.median(run[who][1] for run in runs) for who in WAYS}
    peaks = {who: max(run[who][2] for run in runs) for who in WAYS}
    rows = runs[0]["ours"][0]
    best = min(("polars", "duckdb"), key=lambda who: seconds[who])
    rates = ", ".join(f"{who} {rows / seconds[who] / 1e6:.2f} M rows/s at {peaks[who]:.0f} MB" for who in WAYS)
    name = f"merge of {DAYS} daily files of 1 Hz"
    yield Figure(name, seconds[best] / seconds["ours"], "×", rates, 0.8, more_is_better=True)
    yield Figure(f"{name}, rate", rows / seconds["ours"] / 1e6, "M rows/s", "3 would do in place of the ratio")
    yield Figure(f"memory: merge of {rows:,} rows", peaks["ours"], "MB", "VmHWM of a fresh process", bar=300)


def _month(root: Path, sensors: int) -> Path:
    """The segments of a month's days in a folder, and the list of them."""
    partition, objects, segments = _partition(sensors), Folder(root), []
    for number in range(DAYS):
        table = pa.concat_tables([day(sensor, number) for sensor in range(sensors)]).combine_chunks()
        period = tier_period(DATASET.ladder, "daily", table["valid_time"][0].as_py())
        segments.append(write_segment(objects, partition, "daily", period, table, 1 + number))
    (root / LIST).write_bytes(msgspec.json.encode(segments))
    return root


def _partition(sensors: int) -> Partition:
    if sensors == 1:
        return Partition(DATASET, "raw", "s-0000")
    return Partition(msgspec.structs.replace(DATASET, partitions=1), "raw", "*0000")


def _child(who: str, folder: Path) -> tuple[int, float, float]:
    """(rows, seconds, peak MB) of a merge."""
    command = [sys.executable, "-m", "benchmarks.archive_merge", who, str(folder)]
    rows, seconds, peak = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.split()
    return int(rows), float(seconds), float(peak)


def _ours(folder: Path, segments: list[Segment]) -> None:
    merge = Merge("monthly", MONTH, tuple(segments))
    partition = _partition(len(segments[0].groups) or 1)
    objects = Folder(folder)
    output = merge_segments(objects, partition, merge, lambda: None).output
    if output is None or output.rows != merge.rows:
        raise AssertionError(output)
    objects.delete(output.key)


def _polars(folder: Path, segments: list[Segment]) -> None:
    import polars

    files = [folder / segment.key for segment in segments]
    rows = polars.scan_parquet(files, hive_partitioning=False).sort("sensorId", "valid_time")
    rows.sink_parquet(folder / "polars.parquet", compression="zstd", compression_level=1)


def _duckdb(folder: Path, segments: list[Segment]) -> None:
    import duckdb

    files = [str(folder / segment.key) for segment in segments]
    duckdb.sql(
        f'COPY (SELECT * FROM read_parquet({files}, hive_partitioning = false) ORDER BY "sensorId", valid_time) '
        f"TO '{folder}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


WAYS: dict[str, Callable[[Path, list[Segment]], None]] = {"ours": _ours, "polars": _polars, "duckdb": _duckdb}


def _warm_ours() -> None:
    encode(pa.table({"a": [1]}), {})


def _warm_polars() -> None:
    import polars

    polars.LazyFrame({"a": [1]}).sort("a").sink_parquet(io.BytesIO())


def _warm_duckdb() -> None:
    import duckdb

    duckdb.sql("SELECT 1").fetchall()


WARM: dict[str, Callable[[], None]] = {"ours": _warm_ours, "polars": _warm_polars, "duckdb": _warm_duckdb}


def _main(who: str, folder: Path) -> None:
    segments = msgspec.json.decode((folder / LIST).read_bytes(), type=list[Segment])
    WARM[who]()  # what a library loads at its first use is no part of a merge
    begun = time.perf_counter()
    WAYS[who](folder, segments)
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    print(sum(segment.rows for segment in segments), seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
