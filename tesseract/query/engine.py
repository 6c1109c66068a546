"""The query engine: one call over buffer, archive, live items and snapshots, with the same columns from every tier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.query.dry_run import planned
from tesseract.query.estimates import Plan
from tesseract.query.levels import read_level, read_partition
from tesseract.query.past import AFTER_ALL, Past
from tesseract.query.plan import EVERYTHING, TIME_MAX, TIME_MIN, Facts, Range
from tesseract.query.question import Question, Reading
from tesseract.query.raw import read_raw
from tesseract.query.results import Result, Stats, all_declared, check_fields, keyed, shape
from tesseract.query.scan import CELLS, FEWEST, ahead, firsts, parts
from tesseract.query.source import Source, counting
from tesseract.query.watermark import Watermark, confirms
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog, Outage, Progress
from tesseract.utils.time_utils import to_micros

BATCH = 65_536  # rows of a record batch at most
# how far back the latest row of a group is looked for, step by step, before everything is read
STEPS = (timedelta(days=2), timedelta(days=60))


class _Answer(NamedTuple):
    """The rows of each group, in order, system columns still on, and how they came about."""

    groups: Sequence[str]
    tables: list[pa.Table]
    stats: Stats
    plans: tuple[object, ...]


class Engine:
    """Reads of one stage. Safe to share between threads. Errors are those of storage, and of a question that cannot be answered."""

    def __init__(self, backend: Backend) -> None:
        backend = counting(backend)
        self._catalog = Catalog(backend.catalog, backend.objects)
        self._lookup = Lookup(backend, self._catalog)
        self._source = Source(backend, self._catalog, self._lookup)
        self._watermark = Watermark(self._catalog)

    def read(self, question: Question, now: datetime) -> Result:
        """The rows asked for, sorted by group, then time.

        Raises InputError for a field that the dataset cannot have, NotFoundError for a named group that nobody has written to,
        RetryError where it takes longer than it may.
        """
        fields = _checked(question)
        answers = self._parts(question, fields, 0, now) if question.limit is not None else [self._whole(question, fields, now)]
        tables: list[pa.Table] = []
        stats, left = Stats(), question.limit
        plans: list[object] = []
        for answer in answers:
            stats.add(answer.stats)
            plans += answer.plans
            tables += answer.tables if left is None else firsts(answer.tables, left - sum(map(len, tables)))
        return Result(shape(question.dataset, question.level, tables, fields), stats, tuple(plans))

    def scan(self, question: Question, now: datetime) -> pa.RecordBatchReader:
        """The same rows as record batches, in bounded memory: the parts are read one after the other, one ahead.

        Columns that the dataset does not declare are only known once all rows are read: where they are asked for, the answer is
        made whole before the first batch is given.
        """
        fields = _checked(question)
        empty = shape(question.dataset, question.level, [], fields)
        if not all_declared(question.dataset, question.level, fields):
            return self.read(question, now).table.to_reader()
        return pa.RecordBatchReader.from_batches(empty.schema, self._batches(question, fields, empty.num_columns, now))

    def plan(self, question: Question, now: datetime) -> Plan:
        """What `read` would read, about: only the catalog and the marks are looked at."""
        _checked(question)
        source = self._source.within(question.timeout)
        try:
            return planned(self._reading(source, question, self._watermark.ask(), now), question)
        finally:
            source.cancel()

    def _batches(self, question: Question, fields: list[str] | None, columns: int, now: datetime) -> Iterator[pa.RecordBatch]:
        left = question.limit
        for answer in ahead(self._parts(question, fields, columns, now)):
            tables = answer.tables if left is None else firsts(answer.tables, left)
            left = None if left is None else left - sum(map(len, tables))
            yield from shape(question.dataset, question.level, tables, fields).to_batches(max_chunksize=BATCH)

    def _parts(self, question: Question, fields: list[str] | None, columns: int, now: datetime) -> Iterator[_Answer]:
        """The answer part by part, until there are as many rows as asked for. `columns` 0: in small parts."""
        source = self._source.within(question.timeout)
        left = question.limit
        try:
            reading = source.counted(self._reading, source, question, self._watermark.ask(), now)
            rows = 0 if columns and left is None else max(min(left or 0, CELLS // (columns or 8)), FEWEST)
            empty = set(reading.groups)
            for part in parts(reading, question.level, columns or 8, question.newest_first, rows):
                answer = self._again(source, part.question(question), fields, now)
                empty -= {group for group, table in zip(part.groups, answer.tables, strict=True) if len(table)}
                yield answer
                left = None if left is None else left - sum(map(len, answer.tables))
                if left is not None and left <= 0:
                    return
            self._check_groups(question, sorted(empty, key=group_order), now)
        finally:
            source.cancel()

    def _whole(self, question: Question, fields: list[str] | None, now: datetime) -> _Answer:
        """The answer at once."""
        source = self._source.within(question.timeout)
        try:
            answer = self._again(source, question, fields, now)
            groups = answer.groups
            self._check_groups(question, [group for group, rows in zip(groups, answer.tables, strict=True) if not len(rows)], now)
            return answer
        finally:
            source.cancel()

    def _again(self, source: Source, question: Question, fields: list[str] | None, now: datetime) -> _Answer:
        try:
            return self._confirmed(source, question, fields, now)
        except NotFoundError as error:
            if not error.operation or question.as_of is not None:
                raise
            # an erasure has removed an object between our look at the manifest and the read: the next look names what is there
            return self._confirmed(source, question, fields, now)

    def _confirmed(self, source: Source, question: Question, fields: list[str] | None, now: datetime) -> _Answer:
        before = source.reads
        known = self._watermark.known() if question.level is None and question.as_of is None else None
        asked = source.submit(self._watermark.ask)
        answer = self._answer(source, question, known or source.result(asked), fields, now)
        if known is not None and not confirms(source.result(asked), known):
            answer = self._answer(source, question, source.result(asked), fields, now)
        answer.stats.count(before, source.reads)
        return answer

    def _answer(self, source: Source, question: Question, progress: Progress, fields: list[str] | None, now: datetime) -> _Answer:
        reading = source.counted(self._reading, source, question, progress, now)
        read = _raw if question.level is None else _level
        return _arranged(question, read(reading, question, _needed(question, fields)))

    def _reading(self, source: Source, question: Question, progress: Progress, now: datetime) -> Reading:
        """What is known before rows are read. `progress` is from before: what is archived after it is found twice, never missed."""
        dataset, level = question.dataset, question.level
        progress = progress.to_readers()
        outage = source.submit(self._catalog.outage) if level else None
        wanted = _range(question.start, question.end)
        names = self._lookup.groups(dataset, source.map) if question.groups is None else question.groups
        groups = sorted(dict.fromkeys(names), key=group_order)
        raw = self._lookup.bounds(dataset, progress.archived_through, wanted.start == TIME_MIN, now)
        settled = progress.snapshot_through
        if question.as_of is not None:
            levels = ["raw", *([read_partition(dataset, level)] if level else [])]
            past = Past(self._catalog, dataset, levels, groups, question.as_of)
            facts = Facts(AFTER_ALL, {}, settled=settled)
            return Reading(source.at(past), dataset, groups, wanted, facts, facts)
        trusted = _trusted(source, outage)
        live = raw._replace(through=settled, trusted=trusted, settled=settled)
        return Reading(source, dataset, groups, wanted, raw, live)

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
            for group, rows in read_raw(self._source.within(None), dataset, wanted, facts).items():
                found[group] = shape(dataset, None, [rows.table.slice(max(len(rows.table) - 1, 0))], None)
        return found

    def _tail(self, dataset: Dataset, group: str, step: timedelta | None, now: datetime) -> Range:
        if step is None:
            return EVERYTHING
        manifest = self._catalog.manifest_of(dataset, "raw", group)
        newest = max((segment.last for segment in manifest.segments), default=to_micros(now))
        return Range(max(TIME_MIN, newest - step // timedelta(microseconds=1)), TIME_MAX)

    def _check_groups(self, question: Question, groups: Sequence[str], now: datetime) -> None:
        """Raises NotFoundError for the first of `groups`, which gave no row, that was named and has none at any time."""
        dataset = question.dataset
        if question.groups is None or question.unchecked:
            return
        for group in groups:
            if self._lookup.is_known(dataset, group):
                continue
            facts = self._lookup.bounds(dataset, self._catalog.progress().to_readers().archived_through, True, now)
            if not len(read_raw(self._source.within(None), dataset, {group: [EVERYTHING]}, facts)[group].table):
                known = [group_name(other) for other in self._lookup.groups(dataset)]
                name = group_name(group)
                raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, known))


def _checked(question: Question) -> list[str] | None:
    """The fields asked for, by their keys. Raises InputError for one that the dataset cannot have."""
    fields = keyed(question.dataset, question.level, question.fields)
    check_fields(question.dataset, question.level, question.fields)
    return fields


def _range(start: datetime | None, end: datetime | None) -> Range:
    return Range(TIME_MIN if start is None else to_micros(start), TIME_MAX if end is None else to_micros(end))


def _trusted(source: Source, outage: Future[Outage | None] | None) -> bool:
    return outage is None or source.result(outage) is None


def _needed(question: Question, fields: list[str] | None) -> list[str] | None:
    """The fields to read: those asked for, and those that the filter looks at."""
    if fields is None or question.where is None:
        return fields
    return list(dict.fromkeys([*fields, *question.where.columns]))


def _arranged(question: Question, answer: _Answer) -> _Answer:
    """The rows that pass the filter, in the order asked for."""
    tables = answer.tables
    if question.where is not None:
        tables = [question.where.filter(table) for table in tables]
        answer.stats.rows = sum(map(len, tables))
    if question.newest_first:
        tables = [table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64())) for table in tables]
    return answer._replace(tables=tables)


def _raw(reading: Reading, question: Question, fields: Sequence[str] | None) -> _Answer:
    ranges = [reading.wanted] if reading.wanted.start < reading.wanted.end else []
    rows = read_raw(reading.source, reading.dataset, dict.fromkeys(reading.groups, ranges), reading.raw, fields, question.where)
    stats = Stats()
    for part in rows.values():
        stats.add(part.stats)
    return _Answer(
        reading.groups, [rows[group].table for group in reading.groups], stats, tuple(rows[group].plan for group in reading.groups)
    )


def _level(reading: Reading, question: Question, fields: Sequence[str] | None) -> _Answer:
    assert question.level is not None
    source, dataset, groups, wanted, raw, live = reading
    rows = read_level(source, dataset, question.level, groups, wanted, live, raw)
    stats = Stats()
    for part in rows.values():
        stats.add(part.stats)
    plans = tuple(plan for group in groups for plan in rows[group].plans)
    return _Answer(groups, [rows[group].table for group in groups], stats, plans)
