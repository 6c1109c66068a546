"""Raw rows of several groups at once: facts, plans, all slices in parallel, then one merge per group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.model import Item
from tesseract.query.catalog import Lookup, of_manifest
from tesseract.query.past import Past
from tesseract.query.plan import DaySlice, Facts, Range, RawPlan, SegmentSlice, day_text, raw_plan
from tesseract.query.results import Stats, merge_raw, raw_columns
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.conform import conform, declared_kinds
from tesseract.storage.items import records_of
from tesseract.storage.keys import group_values, raw_pk
from tesseract.storage.newest import current
from tesseract.storage.parquet_writer import read
from tesseract.utils.time_utils import from_micros, iso_micros

PARALLEL = 16
S = TypeVar("S")
T = TypeVar("T")


class Rows(NamedTuple):
    """The visible rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plan: RawPlan


class Source:
    """A stage's storage as queries read it: the tiers, and a pool of threads, since most of a query is waiting."""

    def __init__(
        self, backend: Backend, catalog: Catalog | Past, lookup: Lookup | Past, pool: ThreadPoolExecutor | None = None
    ) -> None:
        self.backend, self.catalog, self.lookup = backend, catalog, lookup
        self._pool = pool or ThreadPoolExecutor(PARALLEL, thread_name_prefix="tesseract-query")

    @property
    def is_past(self) -> bool:
        """Whether it shows a state of the past."""
        return isinstance(self.catalog, Past)

    def at(self, past: Past) -> Source:
        """The same storage as it was at a moment."""
        return Source(self.backend, past, past, self._pool)

    def map(self, function: Callable[[S], T], values: Iterable[S]) -> list[T]:
        """`function` of each value, in order; the first error stops it. Must not be called from within itself."""
        futures = [self._pool.submit(function, value) for value in values]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def segment(
        self, dataset: Dataset, group: str, part: SegmentSlice, time: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of a group in a segment's slice."""
        start = None if part.start <= part.segment.first else from_micros(part.start)
        end = None if part.end > part.segment.last else from_micros(part.end)
        return read(self.backend.objects, part.segment, time, start, end, columns, group_values(dataset, group))


def read_raw(
    source: Source, dataset: Dataset, wanted: Mapping[str, Sequence[Range]], facts: Facts, fields: Sequence[str] | None = None
) -> dict[str, Rows]:
    """The visible rows of each group within its ranges (sorted, disjoint), by time.

    `facts.through` must have been read before this is called: per group, the manifest comes next, then the marks, then the
    buffer. Data only ever moves from the buffer to the archive, so in this order no row is missed.
    """
    plans = source.map(lambda group: _plan(source, dataset, group, wanted[group], facts), wanted)
    days = [(plan.group, part) for plan in plans for part in plan.buffer]
    files = [(plan.group, part) for plan in plans for part in plan.archive]
    columns = raw_columns(dataset, fields)
    items = source.map(lambda job: _day(source, dataset, *job), days)
    tables = source.map(lambda job: source.segment(dataset, *job, "valid_time", columns), files)
    rows: dict[str, list[RawRow]] = {group: [] for group in wanted}
    for (group, _), found in zip(days, items, strict=True):
        rows[group] += (row for item in found for row in _rows(item, group))
    archive: dict[str, list[pa.Table]] = {group: [] for group in wanted}
    for (group, _), table in zip(files, tables, strict=True):
        archive[group].append(table)
    return {plan.group: _merge(dataset, plan, archive[plan.group], rows[plan.group], columns) for plan in plans}


def _plan(source: Source, dataset: Dataset, group: str, ranges: Sequence[Range], facts: Facts) -> RawPlan:
    if not ranges:
        return RawPlan(group, (), (), ())
    manifest = source.catalog.manifest_of(dataset, "raw", group)
    marks = source.lookup.marks(dataset, group, Range(ranges[0].start, ranges[-1].end))
    return raw_plan(group, ranges, manifest, of_manifest(facts, manifest.segments)._replace(marks=marks))


def _day(source: Source, dataset: Dataset, group: str, part: DaySlice) -> list[Item]:
    low, high = iso_micros(from_micros(part.start)), iso_micros(from_micros(part.end))
    return list(source.backend.raw.query(raw_pk(dataset.name, group, day_text(part.day)), low, high))


def _rows(item: Item, group: str) -> list[RawRow]:
    return [
        RawRow(record.valid_time, record.ref_time, record.fields, record.deleted, None, int(item["config_version"]))
        for record in records_of(item, group)
    ]


def _merge(
    dataset: Dataset, plan: RawPlan, archive: Sequence[pa.Table], rows: Sequence[RawRow], columns: Sequence[str] | None
) -> Rows:
    buffer = raw_table(dataset, plan.group, rows)
    if columns is not None:
        buffer = buffer.select([name for name in columns if name in buffer.column_names])
    kinds = declared_kinds(dataset.fields, raw_table(dataset, plan.group, []).schema)
    table, stats = merge_raw([conform(part, kinds) for part in archive], conform(buffer, kinds), plan.ranges, current(dataset))
    stats.segments = len(plan.archive)
    stats.segment_bytes = sum(part.segment.bytes for part in plan.archive)
    stats.buffer_queries = len(plan.buffer)
    return Rows(table, stats, plan)
