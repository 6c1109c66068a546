"""Rows of a backfill sorted in bounded memory: sorted runs in local files, merged as a stream, cut into units.

A unit is what is checked and committed at once: the rows of one partition whose segments begin in one calendar year. They come
segment by segment, and in each by group and time. Of rows with one key the last one of the input is kept (under ref-time order the
one with the greatest ref time; where all revisions are kept, the last one of each ref time).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tesseract.config.dataset import Dataset
from tesseract.model import Record
from tesseract.processing.backfill_commit import DAY, home
from tesseract.processing.segments import VALID_TIME, micros
from tesseract.storage.arrow_types import arrow_type
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.keys import join_group, partition_name, split_group
from tesseract.storage.merging import Key, MisfitError, Source, Types, fitted, merged, place_columns
from tesseract.storage.newest import HISTORY, Order, current, key_column, newest, shared
from tesseract.utils.time_utils import from_micros, to_micros

UNIT, PERIOD, LINE = "__unit", "__period", "__line"
OWN = (UNIT, PERIOD, LINE)  # columns that no segment has
RUN_ROWS = 4096  # of a row group: what is held of each run while runs are merged
TOGETHER = 64  # runs that are merged at once
SPOOL_ROWS = 16_384


class Run(NamedTuple):
    """A sorted file. `low` is the place of its first row."""

    path: Path
    low: Key
    rows: int


@dataclass
class Unit:
    """Rows to be checked and committed at once, in a local file. `days`: group → the days (since 1970) that have rows."""

    partition: str
    year: int
    path: Path
    rows: int = 0
    days: dict[str, set[int]] = field(default_factory=dict)
    digest: str = ""


class Homes:
    """Where rows go: partition and year, and the start of the segment's period (µs), by group and day."""

    def __init__(self, dataset: Dataset, now: datetime) -> None:
        self._dataset, self._now = dataset, now
        self._starts: dict[int, tuple[int, int]] = {}
        self._names: dict[str, str] = {}

    def of(self, record: Record) -> tuple[str, int]:
        """(unit, start of the period) of a record."""
        day = to_micros(record.valid_time) // DAY
        if day not in self._starts:
            start = home(self._dataset.ladder, from_micros(day * DAY), self._now)[1].start
            self._starts[day] = start.year, to_micros(start)
        if record.group not in self._names:
            self._names[record.group] = partition_name(self._dataset, record.group)
        year, start_micros = self._starts[day]
        return f"{self._names[record.group]} {year:04d}", start_micros


def order_of(dataset: Dataset) -> Order:
    """The order of rows in runs: by unit, segment, group and time, then by age."""
    order = shared(HISTORY if dataset.revisions == "all" else current(dataset), dataset)
    return order._replace(key=(UNIT, PERIOD, *order.key))


def table_of(dataset: Dataset, records: Sequence[tuple[Record, bytes]], homes: Homes) -> pa.Table:
    """Validated records (at least one), each with the JSON that it came as, as columns. They have no write time yet."""
    rows = [RawRow(r.valid_time, r.ref_time, r.fields, r.deleted, None, dataset.version) for r, _ in records]
    table = raw_table(dataset, records[0][0].group, rows)
    groups = [split_group(record.group) for record, _ in records]
    for place, name in enumerate(dataset.group_columns):
        table = table.set_column(
            table.schema.get_field_index(name), name, pa.array([group[place] for group in groups], pa.string())
        )
    places = [homes.of(record) for record, _ in records]
    table = table.append_column(UNIT, pa.array([unit for unit, _ in places], pa.string()))
    table = table.append_column(PERIOD, pa.array([start for _, start in places], pa.int64()))
    return table.append_column(LINE, pa.array([line for _, line in records], pa.binary()))


def spill(tables: Sequence[pa.Table], order: Order, path: Path) -> Run:
    """Write tables (in the order of the input, with at least one row) as one sorted run."""
    table, _ = newest(tables, order)
    pq.write_table(table, path, row_group_size=RUN_ROWS, compression="zstd", compression_level=1)
    return Run(path, _low(table, order), len(table))


def _low(table: pa.Table, order: Order) -> Key:
    return tuple(key_column(table[name].slice(0, 1), name)[0].as_py() for name in place_columns(order))


def sorted_rows(dataset: Dataset, runs: Sequence[Run], folder: Path) -> Iterator[pa.Table]:
    """The rows of runs (in the order of the input), each key once, in order. Runs that had to be merged first are removed."""
    order, made = order_of(dataset), 0
    while len(runs) > TOGETHER:
        fewer: list[Run] = []
        for start in range(0, len(runs), TOGETHER):
            together = runs[start : start + TOGETHER]
            path = folder / f"merged-{made}"
            made += 1
            fewer.append(_merged_run(dataset, together, order, path))
            for run in together:
                run.path.unlink()
        runs = fewer
    yield from _merged(dataset, runs, order)


def _merged_run(dataset: Dataset, runs: Sequence[Run], order: Order, path: Path) -> Run:
    writer: _Writer | None = None
    for table in _merged(dataset, runs, order):
        writer = writer or _Writer(path, table.schema, RUN_ROWS)
        writer.write(table)
    assert writer is not None  # every run has a row
    writer.close()
    return Run(path, min(run.low for run in runs), writer.rows)


class _Writer:
    """A local file, written in row groups of `group` rows however small the tables are that come."""

    def __init__(self, path: Path, schema: pa.Schema, group: int) -> None:
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        self._group, self._held, self._waiting, self.rows = group, [schema.empty_table()], 0, 0

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._waiting += len(table)
        self.rows += len(table)
        if self._waiting >= self._group:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(pa.concat_tables(self._held), self._group)
        self._held, self._waiting = self._held[:1], 0

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._file.close()


def _merged(dataset: Dataset, runs: Sequence[Run], order: Order) -> Iterator[pa.Table]:
    schemas = [pq.read_schema(run.path).remove_metadata() for run in runs]
    schema = _schema(dataset, runs, schemas)
    sources = [Source(own, run.low, partial(_pieces, run.path)) for run, own in zip(runs, schemas, strict=True)]
    return merged(sources, order, schema)


def _pieces(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns).replace_schema_metadata(None)


def _schema(dataset: Dataset, runs: Sequence[Run], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Types that hold the values of all runs. Those that runs have learned differently are tried out first."""
    declared = {name: arrow_type(found) for name, found in dataset.fields.items()}
    types = Types(schemas, declared)
    while True:
        schema = types.schema
        try:
            for run, own in zip(runs, schemas, strict=True):
                other = [f.name for f in schema if own.get_field_index(f.name) >= 0 and own.field(f.name).type != f.type]
                for piece in _pieces(run.path, other) if other else ():
                    fitted(piece, pa.schema([schema.field(name) for name in other]))
            return schema
        except MisfitError as misfit:
            types.reject(misfit)


def units(dataset: Dataset, tables: Iterable[pa.Table], folder: Path) -> Iterator[Unit]:
    """Sorted rows as units, one local file each, which whoever takes the unit removes."""
    spool: _Spool | None = None
    for table in tables:
        for start, end in stretches(table, (UNIT,)):
            part = table.slice(start, end - start)
            name = part[UNIT][0].as_py()
            if spool is not None and spool.name != name:
                yield spool.done()
                spool = None
            spool = spool or _Spool(dataset, name, folder, part.schema)
            spool.add(part)
    if spool is not None:
        yield spool.done()


class _Spool:
    """A unit that is being written down."""

    def __init__(self, dataset: Dataset, name: str, folder: Path, schema: pa.Schema) -> None:
        self.name, self._dataset = name, dataset
        partition, _, year = name.rpartition(" ")
        path = folder / f"unit-{blake2b(name.encode(), digest_size=12).hexdigest()}"
        self._unit = Unit(partition, int(year), path)
        self._writer = _Writer(path, schema, SPOOL_ROWS)
        self._content = blake2b(f"{dataset.name} {dataset.version} {name}".encode(), digest_size=12)

    def add(self, table: pa.Table) -> None:
        self._writer.write(table)
        for line in table[LINE].to_pylist():
            self._content.update(line + b"\n")
        for group, days in days_of(self._dataset, table).items():
            self._unit.days.setdefault(group, set()).update(days)

    def done(self) -> Unit:
        self._writer.close()
        self._unit.rows = self._writer.rows
        self._unit.digest = self._content.hexdigest()
        return self._unit


def rows_of(unit: Unit) -> Iterator[pa.Table]:
    """The rows of a unit, in order."""
    yield from _pieces(unit.path)


def current_rows(dataset: Dataset, unit: Unit) -> Iterator[pa.Table]:
    """The rows of a unit that are current: one for each group and time."""
    if dataset.revisions != "all":
        yield from rows_of(unit)
        return
    held: list[pa.Table] = []  # rows from the last key on: more of its revisions may follow
    order = shared(current(dataset), dataset)
    for table in rows_of(unit):
        table = pa.concat_tables([*held, table])
        last = stretches(table, order.key)[-1][0]
        if last:
            yield newest([table.slice(0, last)], order)[0]
        held = [table.slice(last)]
    if held:
        yield newest(held, order)[0]


def days_of(dataset: Dataset, table: pa.Table) -> dict[str, set[int]]:
    """Group → the days (since 1970) that have rows."""
    names = list(dataset.group_columns)
    days = pa.array([at // DAY for at in micros(table, VALID_TIME)], pa.int64())
    found = table.select(names).append_column("day", days).group_by([*names, "day"]).aggregate([])
    groups: dict[str, set[int]] = {}
    for *values, day in zip(*(found[name].to_pylist() for name in (*names, "day")), strict=True):
        groups.setdefault(join_group(values), set()).add(day)
    return groups


def stretches(table: pa.Table, names: Sequence[str]) -> list[tuple[int, int]]:
    """[start, end) of the rows that follow each other with equal values of the columns `names`, none of them null."""
    count = len(table)
    if not count:
        return []
    edges: pa.Array | None = None
    for name in names:
        values = table[name].combine_chunks()
        differs = pc.not_equal(values.slice(1), values.slice(0, count - 1))
        edges = differs if edges is None else pc.or_(edges, differs)
    starts = [0, *(place + 1 for place in pc.indices_nonzero(edges).to_pylist())]
    return list(zip(starts, [*starts[1:], count], strict=True))
