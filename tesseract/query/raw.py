"""Raw rows of several groups at once: facts, plans, all slices in parallel, then one merge per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.query.catalog import of_manifest
from tesseract.query.days import Day
from tesseract.query.plan import TIME_MIN, DaySlice, Facts, Range, RawPlan, SegmentSlice, hot_days, raw_plan, segment_slices
from tesseract.query.results import Stats, merge_raw, raw_columns
from tesseract.query.source import Source
from tesseract.query.where import Where, prunes
from tesseract.storage.columns import unify
from tesseract.storage.conform import conform
from tesseract.storage.declared import no_rows, raw_kinds
from tesseract.storage.keys import HISTORY as HISTORY_SK
from tesseract.storage.newest import HISTORY, current


class Of(NamedTuple):
    """Which rows of a dataset: their partition in the archive, how their sort keys in the buffer begin, and tombstones or not."""

    partition: str = "raw"
    prefix: str = ""
    deleted: bool = False


VISIBLE, CURRENT, KEPT = Of(), Of(deleted=True), Of("revisions", HISTORY_SK, deleted=True)


class _Parts(NamedTuple):
    """A plan that is being carried out."""

    plan: RawPlan
    days: list[Day]
    files: list[Future[pa.Table]]


_Name = tuple[str, int, int]  # of a segment's slice


class _Begun(NamedTuple):
    """What is being read of a group while its manifest is asked for."""

    marks: Future[dict[int, int]]
    days: dict[DaySlice, Day]


class Rows(NamedTuple):
    """The rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plan: RawPlan


def read_raw(
    source: Source,
    dataset: Dataset,
    wanted: Mapping[str, Sequence[Range]],
    facts: Facts,
    fields: Sequence[str] | None = None,
    where: Where | None = None,
    of: Of = VISIBLE,
) -> dict[str, Rows]:
    """The visible rows of each group within its ranges (sorted, disjoint), by time; `of` says of others which. With `where`, some
    that do not pass it may be left out.

    `facts.through` must have been read before this is called; then manifest, marks and buffer may be read in any order:

    - a row that the buffer no longer has was committed long before it went, and is in any manifest that is read now;
    - a mark that is older than the watermark, or not there, stands for rows that were committed before the watermark was.

    So all is asked for at once: the days that are hot whatever the marks say, and the segments that the manifest named when it was
    last seen. They are immutable; the manifest of now says which of them count.
    """
    columns = raw_columns(dataset, fields)
    asked = {group: ranges for group, ranges in wanted.items() if ranges}
    # first, as they are decoded meanwhile; with a condition the plan says which row groups need not be read
    early = {group: {} if where else _early(source, dataset, group, ranges, columns, of) for group, ranges in asked.items()}
    manifests = source.manifests(dataset, of.partition, asked)
    begun = {group: _begin(source, dataset, group, ranges, facts, of) for group, ranges in asked.items()}
    found: dict[str, _Parts] = {}
    for group, (marks, days) in begun.items():
        manifest = manifests[group]()
        marked = source.result(marks)
        own = of_manifest(facts, manifest.segments)._replace(marks=marked)
        plan = raw_plan(group, wanted[group], manifest, own)
        for part in plan.buffer:
            if part not in days:
                days[part] = Day(source, dataset, group, part, of.prefix)
        may, files = None if where is None else prunes(where, plan), early[group]
        for piece in plan.archive:
            if _name(piece) not in files:
                files[_name(piece)] = source.submit(source.segment, dataset, group, piece, "valid_time", columns, may)
        chosen = [files.pop(_name(piece)) for piece in plan.archive]
        for none in files.values():  # of segments that count no more
            none.cancel()
        found[group] = _Parts(plan, [days[part] for part in plan.buffer], chosen)
    return {group: _rows_of(source, dataset, group, found.get(group), columns, of) for group in wanted}


def _begin(source: Source, dataset: Dataset, group: str, ranges: Sequence[Range], facts: Facts, of: Of) -> _Begun:
    """The marks of a group, and the days of the buffer that are read whatever they are: asked for, not waited for."""
    marks: Future[dict[int, int]] = source.submit(source.lookup.marks, dataset, group, Range(ranges[0].start, ranges[-1].end))
    days = hot_days(ranges, facts) if facts.floor == TIME_MIN else []
    return _Begun(marks, {part: Day(source, dataset, group, part, of.prefix) for part in days})


def _early(
    source: Source, dataset: Dataset, group: str, ranges: Sequence[Range], columns: Sequence[str] | None, of: Of
) -> dict[_Name, Future[pa.Table]]:
    """The segments that the manifest named when it was last seen: as a rule it names them still."""
    last = source.last_manifest(dataset, of.partition, group)
    parts = () if last is None else segment_slices(ranges, last)
    return {_name(part): source.submit(source.segment, dataset, group, part, "valid_time", columns) for part in parts}


def _name(part: SegmentSlice) -> _Name:
    return part.segment.key, part.start, part.end


def _rows_of(source: Source, dataset: Dataset, group: str, parts: _Parts | None, columns: Sequence[str] | None, of: Of) -> Rows:
    if parts is None:
        return _merge(dataset, RawPlan(group, (), (), ()), [], [], columns, of)
    buffer = [table for day in parts.days for table in day.tables()]
    return _merge(dataset, parts.plan, [source.result(file) for file in parts.files], buffer, columns, of)


def _merge(
    dataset: Dataset, plan: RawPlan, archive: Sequence[pa.Table], days: Sequence[pa.Table], columns: Sequence[str] | None, of: Of
) -> Rows:
    kinds = raw_kinds(dataset)
    parts = [conform(part, kinds) for part in days or [no_rows(dataset)]]
    buffer = parts[0] if len(parts) == 1 else pa.concat_tables(unify(parts))
    if columns is not None:
        buffer = buffer.select([name for name in columns if name in buffer.column_names])
    order = HISTORY if of.partition == KEPT.partition else current(dataset)
    table, stats = merge_raw([conform(part, kinds) for part in archive], buffer, plan.ranges, order, of.deleted)
    stats.segments = len(plan.archive)
    stats.segment_bytes = sum(part.segment.bytes for part in plan.archive)
    stats.buffer_queries = len(plan.buffer)
    return Rows(table, stats, plan)
