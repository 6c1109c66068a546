"""Segments into one: rows stream from local copies into a local file, or lie in memory where they are few."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tesseract.config.dataset import STATS
from tesseract.model import Segment
from tesseract.processing.merge_plan import Merge
from tesseract.processing.segments import RAW, REVISIONS, Partition, bloom_columns, described, group_spans, named, write_segment
from tesseract.storage import parquet_writer, segment_reader
from tesseract.storage.arrow_types import arrow_type, stat_type
from tesseract.storage.base import Objects
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.keys import join_group
from tesseract.storage.merging import Key, MisfitError, Source, Types, merged, place_columns

MEMORY_ROWS = 100_000  # fewer are merged in memory, without a local file
MEMORY_BYTES = 4 * 2**20
BATCH_ROWS = 128 * 1024  # read at once, of all inputs that lie open together

Spans = dict[str, tuple[int, int]]


@dataclass
class Purge:
    """Which tombstones a merge may leave out, and those that it has left out.

    A tombstone may go once everything before `through` is committed, it is older than that, and no segment of `outside` can
    hold its key: then no older row of the key is left to come back.
    """

    partition: Partition
    through: int
    outside: Sequence[Segment]
    gone: dict[str, array[int]] = field(default_factory=dict)  # group (of a partition that groups share) → times, µs, in order

    @property
    def count(self) -> int:
        """How many were left out."""
        return sum(map(len, self.gone.values()))

    def __call__(self, table: pa.Table) -> pa.Table:
        """A table without them. Tables come in the order of their rows."""
        old = pc.less(table[WRITE_TIME].cast(pa.int64()), self.through)
        candidates = pc.fill_null(pc.and_(pc.fill_null(table[DELETED], False), old), False).combine_chunks()
        if not pc.any(candidates).as_py():
            return table
        rows = pc.indices_nonzero(candidates)
        found = table.select([*self._names, "valid_time"]).take(rows)
        times = found["valid_time"].cast(pa.int64()).combine_chunks()
        groups = self._groups(found)
        held = pa.array([False] * len(times), pa.bool_())
        for segment in self.outside:
            held = pc.or_(held, _within(segment, groups, times))
        leaving = pc.invert(held)
        for group, time in zip(groups.filter(leaving).to_pylist(), times.filter(leaving).to_pylist(), strict=True):
            self.gone.setdefault(group, array("q")).append(time)
        return table.filter(pc.invert(pc.replace_with_mask(candidates, candidates, leaving)))

    def held_by(self, segment: Segment) -> bool:
        """Whether a segment can hold a key that was left out."""
        return any(_holds(span, self.gone.get(group)) for group, span in (segment.groups or {"": _span(segment)}).items())

    @property
    def _names(self) -> tuple[str, ...]:
        return bloom_columns(self.partition)

    def _groups(self, found: pa.Table) -> pa.Array:
        if not self._names:
            return pa.array([""] * len(found), pa.string())
        values = zip(*(found[name].to_pylist() for name in self._names), strict=True)
        return pa.array([join_group(value) for value in values], pa.string())


def _span(segment: Segment) -> tuple[int, int]:
    return segment.first, segment.last


def _holds(span: tuple[int, int], times: array[int] | None) -> bool:
    if not times:
        return False
    at = bisect_left(times, span[0])
    return at < len(times) and times[at] <= span[1]


def _within(segment: Segment, groups: pa.Array, times: pa.Array) -> pa.Array:
    """Which keys a segment can hold."""
    between = [
        pc.and_(pc.and_(pc.greater_equal(times, first), pc.less_equal(times, last)), pc.equal(groups, group))
        for group, (first, last) in (segment.groups or {"": _span(segment)}).items()
    ]
    found = between[0]
    for other in between[1:]:
        found = pc.or_(found, other)
    return found


def declared(partition: Partition) -> dict[str, pa.DataType]:
    """The types that the configuration gives the columns of rows."""
    fields = partition.dataset.fields.items()
    if partition.level in (RAW, REVISIONS):
        return {key: arrow_type(found) for key, found in fields}
    return {f"{key}_{stat}": stat_type(found, stat) for key, found in fields if found.numeric for stat in STATS}


def merge_segments(objects: Objects, partition: Partition, merge: Merge, purge: Callable[[], Purge | None]) -> Merged:
    """The rows of a merge as one new segment; `purge` is asked for a fresh one whenever the merge starts over."""
    few = merge.rows <= MEMORY_ROWS and sum(segment.bytes for segment in merge.inputs) <= MEMORY_BYTES
    return _in_memory(objects, partition, merge, purge) if few else _on_disk(objects, partition, merge, purge)


@dataclass(frozen=True)
class Merged:
    """What a merge gave: no segment where every row was purged."""

    output: Segment | None
    purge: Purge | None


def _in_memory(objects: Objects, partition: Partition, merge: Merge, purge: Callable[[], Purge | None]) -> Merged:
    tables = [segment_reader.read(objects, segment, partition.time_column) for segment in merge.inputs]
    sources = [Source(table.schema, None, partial(_once, table)) for table in tables]

    def whole(schema: pa.Schema, rows: Iterator[pa.Table]) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *rows])

    table, used = _fitting(sources, partition, purge, whole)
    end = _window_end(merge)
    return Merged(write_segment(objects, partition, merge.tier, merge.period, table, end) if len(table) else None, used)


def _once(table: pa.Table) -> Iterator[pa.Table]:
    return iter((table,))


def _on_disk(objects: Objects, partition: Partition, merge: Merge, purge: Callable[[], Purge | None]) -> Merged:
    end = _window_end(merge)
    key, about = named(partition, merge.tier, merge.period, end)
    with TemporaryDirectory(prefix="tesseract-merge-") as folder:
        sources = [_source(objects, partition, segment, Path(folder, str(n)), merge) for n, segment in enumerate(merge.inputs)]
        path = Path(folder, "merged")

        def write(schema: pa.Schema, rows: Iterator[pa.Table]) -> tuple[parquet_writer.File, int, Spans]:
            spans: Spans = {}
            with parquet_writer.Writer(path, schema, about, bloom_columns(partition)) as writer, ThreadPoolExecutor(1) as pool:
                written: Future[None] | None = None
                for table in rows:  # the next rows are merged while these are encoded
                    if written:
                        written.result()
                    written = pool.submit(writer.write, table)
                    _widen(spans, partition, table)
                if written:
                    written.result()
                return writer.finish(), writer.rows, spans

        (file, rows, spans), used = _fitting(sources, partition, purge, write)
        if not rows:
            return Merged(None, used)
        objects.upload(key, path)
        span = min(first for first, _ in spans.values()), max(last for _, last in spans.values())
        groups = dict(sorted(spans.items())) if partition.shared else {}
        return Merged(described(key, merge.tier, merge.period, file, path.stat().st_size, rows, span, end, groups), used)


def _window_end(merge: Merge) -> int:
    return max(segment.window_end for segment in merge.inputs)


def _fitting(
    sources: Sequence[Source],
    partition: Partition,
    purge: Callable[[], Purge | None],
    sink: Callable[[pa.Schema, Iterator[pa.Table]], Any],
) -> tuple[Any, Purge | None]:
    """What `sink` makes of the merged rows under the first types that hold every value."""
    types = Types((source.schema for source in sources), declared(partition))
    while True:
        used = purge()
        rows = merged(sources, partition.order, types.schema)
        try:
            return sink(types.schema, rows if used is None else map(used, rows)), used
        except MisfitError as misfit:
            types.reject(misfit)


def _widen(spans: Spans, partition: Partition, table: pa.Table) -> None:
    """Take up the times of the groups in sorted rows."""
    if not len(table):
        return
    names = bloom_columns(partition)
    one = all(table[name][0] == table[name][-1] for name in names)
    for group, (first, last) in (
        {_group_of(table, names): _ends(table, partition)} if one else group_spans(partition, table)
    ).items():
        known = spans.get(group, (first, last))
        spans[group] = min(known[0], first), max(known[1], last)


def _group_of(table: pa.Table, names: Sequence[str]) -> str:
    return join_group([table[name][0].as_py() for name in names]) if names else ""


def _ends(table: pa.Table, partition: Partition) -> tuple[int, int]:
    times = table[partition.time_column]
    return times[0].value, times[-1].value


def _source(objects: Objects, partition: Partition, segment: Segment, path: Path, merge: Merge) -> Source:
    objects.download(segment.key, path)
    file = parquet_writer.opened(segment, path)
    schema = file.schema_arrow.remove_metadata()
    together = len(merge.inputs) if partition.shared else _open_together(merge.inputs, segment)
    groups = max(1, BATCH_ROWS // parquet_writer.ROW_GROUP // together)
    return Source(schema, _low(partition, segment, file), partial(_pieces, segment, path, groups))


def _open_together(inputs: Sequence[Segment], segment: Segment) -> int:
    return sum(other.first <= segment.last and segment.first <= other.last for other in inputs)


def _pieces(segment: Segment, path: Path, groups: int) -> Iterator[pa.Table]:
    with parquet_writer.opened(segment, path) as file:
        for start in range(0, file.num_row_groups, groups):
            numbers = list(range(start, min(start + groups, file.num_row_groups)))
            # the other core encodes
            yield file.read_row_groups(numbers, use_threads=False).replace_schema_metadata(None)


def _low(partition: Partition, segment: Segment, file: pq.ParquetFile) -> Key | None:
    """A place that no row of a segment stands before: the least time, behind the least value of each column of the group."""
    low: list[int | str] = []
    for name in place_columns(partition.order)[:-1]:
        column = file.schema_arrow.get_field_index(name)
        found = [file.metadata.row_group(n).column(column).statistics for n in range(file.num_row_groups)]
        if not all(statistics is not None and statistics.has_min_max for statistics in found):
            return None
        low.append(min(statistics.min for statistics in found))
    return (*low, segment.first)
