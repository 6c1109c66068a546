"""Bytes a row of our files against those of pyarrow, DuckDB and deltalake: the same rows, columns and order, zstd at level 1.

The peers write with their defaults otherwise. A Delta table counts its Parquet files only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import WriterProperties, write_deltalake

from benchmarks import samples
from benchmarks.archive_samples import DATASET, START, Folder, day
from benchmarks.figures import Figure
from tesseract.config.tiers import UNITS
from tesseract.ingestion.validators import Validator
from tesseract.processing.segments import Partition, write_segment
from tesseract.storage.columns import RawRow, raw_table

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run() -> Iterator[Figure]:
    """A month of the generator, and the day of radiation that the examples have."""
    month = pa.concat_tables([day(0, number) for number in range(30)]).combine_chunks()
    yield _figure("a month of 1 Hz", Partition(DATASET, "raw", "s-0000"), "monthly", month, START)
    yield _figure("the radiation day", *_radiation())


def _figure(name: str, partition: Partition, tier: str, table: pa.Table, start: datetime) -> Figure:
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as folder:
        period = UNITS[tier].period(start)
        ours = write_segment(Folder(Path(folder, "ours")), partition, tier, period, table, 1).bytes / len(table)
        sizes = {who: write(table, Path(folder, who)) / len(table) for who, write in PEERS.items()}
    told = ", ".join(f"{who} {size:.2f}" for who, size in sizes.items())
    return Figure(f"bytes a row: {name}", ours / min(sizes.values()), "×", f"ours {ours:.2f}, {told}", bar=1.05)


def _radiation() -> tuple[Partition, str, pa.Table, datetime]:
    """The day as the archive holds it: one write time a row, a second apart."""
    dataset, lines = samples.both()["surfrad"]
    decoded = Validator(dataset).decode(lines, NOW)
    records = [record for _, record in decoded.records]
    written = (NOW + timedelta(seconds=second) for second in range(len(records)))
    rows = [RawRow(record.valid_time, None, record.fields, False, at, 1) for record, at in zip(records, written, strict=True)]
    group, day_start = records[0].group, UNITS["daily"].floor(records[0].valid_time)
    return Partition(dataset, "raw", group), "daily", raw_table(dataset, group, rows), day_start


def _pyarrow(table: pa.Table, path: Path) -> int:
    pq.write_table(table, path, compression="zstd", compression_level=1)
    return path.stat().st_size


def _duckdb(table: pa.Table, path: Path) -> int:
    connection = duckdb.connect()
    connection.register("rows", table)
    connection.execute(f"COPY rows TO '{path}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
    return path.stat().st_size


def _deltalake(table: pa.Table, path: Path) -> int:
    write_deltalake(path, table, writer_properties=WriterProperties(compression="ZSTD", compression_level=1))
    return sum(file.stat().st_size for file in path.rglob("*.parquet"))


PEERS: dict[str, Callable[[pa.Table, Path], int]] = {"pyarrow": _pyarrow, "DuckDB": _duckdb, "deltalake": _deltalake}
