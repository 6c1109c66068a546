"""1 % late rows in 864,000: until a read of all rows has them, and until they lie in one sorted file with the others.

Ten days of 1 Hz, one sensor. 8,640 readings come again, spread over all days, newer by their write time. `visible` is the time
from the late rows in memory to an Arrow table of all 864,000 newest rows in order; `compacted` goes on to the single file of zstd
level 1 that replaces the others. DuckDB works over Parquet files as we do, an anti-join in place of our merge; deltalake merges
and optimizes, pyiceberg upserts (it has no compaction), each with its own commit. pyiceberg is given a tenth of the late rows,
once: it takes ten seconds for them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, WriterProperties, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from benchmarks.archive_samples import DATASET, START, Folder, day, rows
from benchmarks.figures import Figure
from tesseract.processing.compactor import compact
from tesseract.processing.segments import Partition, commit_rows
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import memory_backend
from tesseract.store import Store
from tesseract.utils.time_utils import to_micros

DAYS, ROUNDS = 10, 3
SENSOR = "s-0000"
NOW = START + timedelta(days=60)
SORTED = ("sensorId", "valid_time")
SHOWN = (*SORTED, "ref_time", *DATASET.fields)
ZSTD = WriterProperties(compression="ZSTD", compression_level=1)


class Times(dict[str, float]):
    """Seconds until `visible`, and until `compacted`."""


def run() -> Iterator[Figure]:
    """All in turns, after one round that does not count."""
    base = pa.concat_tables([day(0, number) for number in range(DAYS)]).combine_chunks()
    late = _late(base)
    ways = {"ours": _ours, "DuckDB": _duckdb, "deltalake": _deltalake}
    runs = [{who: _in_folder(way, base, late) for who, way in ways.items()} for _ in range(ROUNDS + 1)][1:]
    iceberg = _in_folder(_iceberg, base, late.slice(0, len(late) // 10))
    for until in ("visible", "compacted"):
        seconds = {who: statistics.median(run[who][until] for run in runs) for who in ways}
        seconds["pyiceberg"] = iceberg["visible"]
        told = ", ".join(f"{who} {found:.2f} s" for who, found in seconds.items())
        yield Figure(f"1 % late rows {until}, of DuckDB's time", seconds["ours"] / seconds["DuckDB"], "×", told, bar=1.5)
        for who in ("deltalake", "pyiceberg"):
            yield Figure(f"1 % late rows {until}, of {who}'s time", seconds["ours"] / seconds[who], "×", told, bar=1)


def _late(base: pa.Table) -> pa.Table:
    dice = np.random.Generator(np.random.PCG64(2))
    times = base["valid_time"].cast(pa.int64()).to_numpy()
    chosen = np.sort(dice.choice(times, len(times) // 100, replace=False))
    return rows(0, chosen, np.full(len(chosen), to_micros(START + timedelta(days=DAYS))), dice)


def _in_folder(way: Callable[[Path, pa.Table, pa.Table], Times], base: pa.Table, late: pa.Table) -> Times:
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as folder:
        return way(Path(folder), base, late)


def _timed(late: pa.Table, write: Callable[[], Any], read: Callable[[], pa.Table], compacted: Callable[[], Any]) -> Times:
    begun = time.perf_counter()
    write()
    found = read()
    visible = time.perf_counter() - begun
    compacted()
    took = time.perf_counter() - begun
    for table in (found, read()):
        of_late = table.filter(pc.is_in(table["valid_time"], late["valid_time"]))
        if len(table) != DAYS * 86_400 or not of_late["temp"].equals(late["temp"]):
            raise AssertionError("the late rows are not there")
    return Times(visible=visible, compacted=took)


def _ours(folder: Path, base: pa.Table, late: pa.Table) -> Times:
    memory = memory_backend()
    backend = Backend(memory.raw, memory.live, memory.catalog, Folder(folder))
    catalog, partition = Catalog(backend.catalog, backend.objects), Partition(DATASET, "raw", SENSOR)
    catalog.put_dataset(DATASET, START)
    ends = [to_micros(START + timedelta(days=days)) for days in (DAYS + 2, DAYS + 3)]
    catalog.advance("archived", ends[0])
    commit_rows(catalog, backend.objects, partition, base, "base", ends[0], 0, "base", NOW)
    compact(catalog, backend.objects, [DATASET], NOW, whole=True)
    store = Store(backend, clock=lambda: NOW)

    def write() -> None:
        commit_rows(catalog, backend.objects, partition, late, "late", ends[1], 0, "late", NOW)
        catalog.advance("archived", ends[1])

    def read() -> pa.Table:
        return store.query("d", SENSOR, START, START + timedelta(days=DAYS))

    return _timed(late, write, read, lambda: compact(catalog, backend.objects, [DATASET], NOW, whole=True))


def _duckdb(folder: Path, base: pa.Table, late: pa.Table) -> Times:
    first, second, merged = (folder / f"{name}.parquet" for name in ("base", "late", "merged"))
    pq.write_table(base, first, compression="zstd", compression_level=1)
    connection, options = duckdb.connect(), "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    files = [first, second]

    def newest(columns: str) -> str:
        if len(files) == 1:
            return f"SELECT {columns} FROM '{files[0]}'"
        old = f"SELECT {columns} FROM '{first}' ANTI JOIN '{second}' USING (\"sensorId\", valid_time)"
        return f"{old} UNION ALL SELECT {columns} FROM '{second}' ORDER BY \"sensorId\", valid_time"

    def write() -> None:
        connection.register("late", late)
        connection.execute(f"COPY late TO '{second}' {options}")

    def compacted() -> None:
        connection.execute(f"COPY ({newest('*')}) TO '{merged}' {options}")
        files[:] = [merged]

    return _timed(late, write, lambda: connection.sql(newest(", ".join(f'"{name}"' for name in SHOWN))).to_arrow_table(), compacted)


def _deltalake(folder: Path, base: pa.Table, late: pa.Table) -> Times:
    write_deltalake(folder, base, writer_properties=ZSTD)
    table = DeltaTable(folder)
    same = " AND ".join(f"old.{name} = new.{name}" for name in SORTED).replace("sensorId", '"sensorId"')

    def write() -> None:
        merge = table.merge(late, same, source_alias="new", target_alias="old", writer_properties=ZSTD)
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def read() -> pa.Table:
        return table.to_pyarrow_table(columns=list(SHOWN)).sort_by("valid_time")

    return _timed(late, write, read, lambda: table.optimize.z_order(["valid_time"], writer_properties=ZSTD))


def _iceberg(folder: Path, base: pa.Table, late: pa.Table) -> Times:
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("bench")
    table = catalog.create_table("bench.rows", base.schema, properties={"write.parquet.compression-level": "1"})
    table.append(base)
    return _timed(
        late,
        lambda: table.upsert(late, list(SORTED)),
        lambda: table.scan(selected_fields=SHOWN).to_arrow().sort_by("valid_time"),
        lambda: None,
    )
