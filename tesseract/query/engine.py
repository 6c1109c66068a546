"""The query engine: one call over buffer, archive, live items and snapshots, with the same columns from every tier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.errors import NotFoundError
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.query.levels import read_level, read_partition
from tesseract.query.past import AFTER_ALL, Past
from tesseract.query.plan import EVERYTHING, TIME_MAX, TIME_MIN, Facts, Range
from tesseract.query.raw import Source, read_raw
from tesseract.query.results import Result, Stats, check_fields, keyed, shape
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import to_micros

# how far back the latest row of a group is looked for, step by step, before everything is read
STEPS = (timedelta(days=2), timedelta(days=60))


class Question(NamedTuple):
    """What is asked: groups by their keys (None: all), [start, end) of valid time or of period starts (None: open)."""

    dataset: Dataset
    groups: Sequence[str] | None
    start: datetime | None = None
    end: datetime | None = None
    level: Level | None = None  # None: raw
    fields: Sequence[str] | None = None
    as_of: datetime | None = None  # the archive alone, as it was then; None: everything, as it is now


class Engine:
    """Reads of one stage. Safe to share between threads. Errors are those of storage, and of a question that cannot be answered."""

    def __init__(self, backend: Backend, catalog: Catalog, lookup: Lookup) -> None:
        self._catalog, self._lookup = catalog, lookup
        self._source = Source(backend, catalog, lookup)

    def read(self, question: Question, now: datetime) -> Result:
        """The rows asked for, sorted by group, then time.

        Raises InputError for a field that the dataset cannot have, NotFoundError for a named group that nobody has written to.
        """
        try:
            return self._read(question, now)
        except NotFoundError as error:
            if not error.operation or question.as_of is not None:
                raise
            # an erasure has removed an object between our look at the manifest and the read: the next look names what is there
            return self._read(question, now)

    def _read(self, question: Question, now: datetime) -> Result:
        dataset, level = question.dataset, question.level
        fields = keyed(dataset, level, question.fields)
        check_fields(dataset, level, question.fields)
        # before everything else: what is archived after this moment is found twice, never missed
        progress = self._catalog.progress().to_readers()
        wanted = _range(question.start, question.end)
        raw = self._lookup.bounds(dataset, progress.archived_through, wanted.start == TIME_MIN, now)
        settled = progress.snapshot_through
        trusted = self._catalog.outage() is None if level else True
        live = raw._replace(through=settled, trusted=trusted, settled=settled) if level else raw
        names = self._lookup.groups(dataset) if question.groups is None else question.groups
        groups = sorted(dict.fromkeys(names), key=group_order)
        source = self._source
        if question.as_of is not None:
            levels = ["raw", *([read_partition(dataset, level)] if level else [])]
            source = source.at(Past(self._catalog, dataset, levels, groups, question.as_of))
            raw = live = Facts(AFTER_ALL, {}, settled=settled)
        if level is None:
            tables, stats, plans = _raw(source, dataset, groups, wanted, raw, fields)
        else:
            tables, stats, plans = _level(source, dataset, level, groups, wanted, live, raw)
        if question.groups is not None:
            self._check_groups(dataset, [g for g, table in zip(groups, tables, strict=True) if not len(table)], now)
        return Result(shape(dataset, level, tables, fields), stats, plans)

    def last(self, dataset: Dataset, groups: Sequence[str], now: datetime) -> dict[str, pa.Table]:
        """The newest visible raw row of each group as a table of one row, without rows where there is none.

        Looks at the last days before the end of its data first; a group whose rows there are all gone is read further back.
        """
        found: dict[str, pa.Table] = {}
        for step in (*STEPS, None):
            progress = self._catalog.progress().to_readers()
            facts = self._lookup.bounds(dataset, progress.archived_through, True, now)
            left = [group for group in groups if group not in found or not len(found[group])]
            wanted = {group: [self._tail(dataset, group, step, now)] for group in left}
            for group, rows in read_raw(self._source, dataset, wanted, facts).items():
                found[group] = shape(dataset, None, [rows.table.slice(max(len(rows.table) - 1, 0))], None)
        return found

    def _tail(self, dataset: Dataset, group: str, step: timedelta | None, now: datetime) -> Range:
        if step is None:
            return EVERYTHING
        manifest = self._catalog.manifest_of(dataset, "raw", group)
        newest = max((segment.last for segment in manifest.segments), default=to_micros(now))
        return Range(max(TIME_MIN, newest - step // timedelta(microseconds=1)), TIME_MAX)

    def _check_groups(self, dataset: Dataset, groups: Sequence[str], now: datetime) -> None:
        """Raises NotFoundError for the first of `groups`, which gave no row, that has none at any other time either."""
        for group in groups:
            if self._lookup.is_known(dataset, group):
                continue
            facts = self._lookup.bounds(dataset, self._catalog.progress().to_readers().archived_through, True, now)
            if not len(read_raw(self._source, dataset, {group: [EVERYTHING]}, facts)[group].table):
                known = [group_name(other) for other in self._lookup.groups(dataset)]
                name = group_name(group)
                raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, known))


def _range(start: datetime | None, end: datetime | None) -> Range:
    return Range(TIME_MIN if start is None else to_micros(start), TIME_MAX if end is None else to_micros(end))


def _raw(
    source: Source, dataset: Dataset, groups: Sequence[str], wanted: Range, facts: Facts, fields: Sequence[str] | None
) -> tuple[list[pa.Table], Stats, tuple[object, ...]]:
    ranges = [wanted] if wanted.start < wanted.end else []
    rows = read_raw(source, dataset, dict.fromkeys(groups, ranges), facts, fields)
    stats = Stats()
    for part in rows.values():
        stats.add(part.stats)
    return [rows[group].table for group in groups], stats, tuple(rows[group].plan for group in groups)


def _level(
    source: Source, dataset: Dataset, level: Level, groups: Sequence[str], wanted: Range, live: Facts, raw: Facts
) -> tuple[list[pa.Table], Stats, tuple[object, ...]]:
    rows = read_level(source, dataset, level, groups, wanted, live, raw)
    stats = Stats()
    for part in rows.values():
        stats.add(part.stats)
    return [rows[group].table for group in groups], stats, tuple(plan for group in groups for plan in rows[group].plans)
