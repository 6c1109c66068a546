"""The query engine: one call over buffer, archive, live items and snapshots, with the same columns from every tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.query import answers, known, past
from tesseract.query.answers import Answer, groups_that_can_pass, needed, shaped
from tesseract.query.asking import range_of
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.query.dry_run import planned
from tesseract.query.estimates import Plan
from tesseract.query.level_bases import read_partitions
from tesseract.query.plan import EVERYTHING, TIME_MAX, TIME_MIN, Facts, Range
from tesseract.query.question import Question, Reading
from tesseract.query.raw import read_raw
from tesseract.query.results import Result, Stats, all_declared, check_fields, keyed, shape
from tesseract.query.scan import CELLS, FEWEST, ahead, firsts, parts
from tesseract.query.source import Source, counting
from tesseract.query.watermark import Watermark, confirms
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog, Outage, Progress
from tesseract.utils.time_utils import from_micros, to_micros

BATCH = 65_536  # rows of a record batch at most
# how far back the latest row of a group is looked for, step by step, before everything is read
STEPS = (timedelta(days=2), timedelta(days=60))
T = TypeVar("T")


class Engine:
    """Reads of one stage. Safe to share between threads. Errors are those of storage, and of a question that cannot be answered."""

    def __init__(self, backend: Backend, clock: Callable[[], datetime]) -> None:
        backend = counting(backend)
        self._catalog = Catalog(backend.catalog, backend.objects)
        self._lookup = Lookup(backend, self._catalog)
        self._source = Source(backend, self._catalog, self._lookup)
        self._watermark = Watermark(self._catalog)
        self._clock = clock  # for how long a scan takes; what a question means goes by the moment it was asked

    def read(self, question: Question, now: datetime) -> Result:
        """The rows asked for, sorted by group, then time.

        Raises InputError for a field that the dataset cannot have, NotFoundError for a named group that nobody has written to,
        RetryError where it takes longer than it may.
        """
        fields = self._checked(question)
        whole = question.limit is None
        found = [self._whole(question, fields, now)] if whole else self._parts(question, fields, 0, now)
        tables: list[pa.Table] = []
        stats, left = Stats(), question.limit
        plans: list[object] = []
        for answer in found:
            stats.add(answer.stats)
            plans += answer.plans
            tables += answer.tables if left is None else firsts(answer.tables, left - sum(map(len, tables)))
        through = None if question.as_of is None else self._complete_through(question, question.as_of)
        return Result(shaped(question, tables, fields), stats, tuple(plans), through)

    def _complete_through(self, question: Question, as_of: datetime) -> datetime | None:
        through = past.complete_through(self._catalog.windows(), to_micros(as_of), question.level is not None)
        return from_micros(through) if through else None

    def revisions(self, question: Question, now: datetime) -> pa.Table:
        """Every revision of the records asked for, tombstones too; with `known_at` those that were known then.

        Raises InputError where the dataset keeps none.
        """
        fields = self._checked(question)
        known.require(self._catalog.versions(question.dataset.name), None)
        source = self._source.within(question.timeout)

        def read() -> dict[str, known.Revisions]:
            return known.read_revisions(self._reading(source, question, self._watermark.ask(now), now), fields, question.known_at)

        try:
            rows = _looking_again(read)
        finally:
            source.cancel()
        self._check_groups(question, [group for group, part in rows.items() if not len(part.table)], now)
        return known.shaped(question.dataset, [part.table for part in rows.values()], fields)

    def scan(self, question: Question, now: datetime) -> pa.RecordBatchReader:
        """The same rows as record batches, in bounded memory: the parts are read one after the other, one ahead.

        Columns that the dataset does not declare are only known once all rows are read: where they are asked for, the answer is
        made whole before the first batch is given.
        """
        fields = self._checked(question)
        empty = shaped(question, [], fields)
        if not all_declared(question.dataset, question.level, needed(question, fields)):
            return self.read(question, now).table.to_reader()
        return pa.RecordBatchReader.from_batches(empty.schema, self._batches(question, fields, empty.num_columns, now))

    def plan(self, question: Question, now: datetime) -> Plan:
        """What `read` would read, about: only the catalog and the marks are looked at."""
        self._checked(question)
        source = self._source.within(question.timeout)
        try:
            return planned(self._reading(source, question, self._watermark.ask(now), now), question)
        finally:
            source.cancel()

    def _batches(self, question: Question, fields: list[str] | None, columns: int, now: datetime) -> Iterator[pa.RecordBatch]:
        left = question.limit
        for answer in ahead(self._parts(question, fields, columns, now)):
            tables = answer.tables if left is None else firsts(answer.tables, left)
            left = None if left is None else left - sum(map(len, tables))
            table = shaped(question, tables, fields)
            del answer, tables
            yield from (batch for batch in table.to_batches(max_chunksize=BATCH) if len(batch))
            del table
            pa.default_memory_pool().release_unused()  # else it keeps what threads have freed, several times what is in use

    def _parts(self, question: Question, fields: list[str] | None, columns: int, now: datetime) -> Iterator[Answer]:
        """The answer part by part, until there are as many rows as asked for. `columns` 0: in small parts, and the time that the
        question may take is for all of them."""
        source = self._source.within(None if columns else question.timeout)
        left = question.limit
        try:
            reading = source.counted(self._reading, source, question, self._watermark.ask(now), now)
            rows = 0 if columns and left is None else max(min(left or 0, CELLS // (columns or 8)), FEWEST)
            empty = set(reading.groups)
            for part in parts(reading, question.level, columns or 8, question.newest_first, rows):
                own = self._source.within(question.timeout) if columns else source
                try:
                    answer = self._again(own, part.question(question), fields, self._clock())
                finally:
                    own.cancel()
                empty -= {group for group, table in zip(part.groups, answer.tables, strict=True) if len(table)}
                yield answer
                left = None if left is None else left - sum(map(len, answer.tables))
                if left is not None and left <= 0:
                    return
            self._check_groups(question, sorted(empty, key=group_order), now)
        finally:
            source.cancel()

    def _whole(self, question: Question, fields: list[str] | None, now: datetime) -> Answer:
        """The answer at once."""
        source = self._source.within(question.timeout)
        try:
            answer = self._again(source, question, fields, now)
            groups = answer.groups
            self._check_groups(question, [group for group, rows in zip(groups, answer.tables, strict=True) if not len(rows)], now)
            return answer
        finally:
            source.cancel()

    def _again(self, source: Source, question: Question, fields: list[str] | None, now: datetime) -> Answer:
        read = partial(self._confirmed, source, question, fields, now)
        return read() if question.as_of is not None else _looking_again(read)

    def _confirmed(self, source: Source, question: Question, fields: list[str] | None, now: datetime) -> Answer:
        before = source.reads
        raw = question.level is None and question.as_of is None
        seen = self._watermark.known(now) if raw else None
        asked = source.submit(self._watermark.ask, now)
        progress = seen or source.result(asked)
        answer = self._answer(source, question, progress, fields, now)
        if not confirms(source.result(asked), progress):
            answer = self._answer(source, question, source.result(asked), fields, now)
        answer.stats.count(before, source.reads)
        return answer

    def _answer(self, source: Source, question: Question, progress: Progress, fields: list[str] | None, now: datetime) -> Answer:
        reading = source.counted(self._reading, source, question, progress, now)
        return source.counted(answers.answer, reading, question, fields)

    def _reading(self, source: Source, question: Question, progress: Progress, now: datetime) -> Reading:
        """What is known before rows are read. `progress` is from before: what is archived after it is found twice, never missed."""
        dataset, level = question.dataset, question.level
        progress = progress.to_readers()
        outage = source.submit(self._catalog.outage) if level else None
        wanted = range_of((question.start, question.end))
        names = self._lookup.groups(dataset, source.map) if question.groups is None else question.groups
        groups = groups_that_can_pass(question, sorted(dict.fromkeys(names), key=group_order))
        raw = self._lookup.bounds(dataset, progress.archived_through, wanted.start == TIME_MIN, now)
        settled = progress.snapshot_through
        if question.as_of is not None:
            levels = [RAW, *(read_partitions(dataset, level, question.buckets) if level else [])]
            levels += [REVISIONS] if question.known_at is not None else []
            then = past.Past(self._catalog, dataset, levels, groups, question.as_of, source.map)
            facts = Facts(past.AFTER_ALL, {}, settled=settled)
            return Reading(source.at(then), dataset, groups, wanted, facts, facts)
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
            source = self._source.within(None)
            for group, rows in _looking_again(partial(read_raw, source, dataset, wanted, facts)).items():
                found[group] = shape(dataset, None, [rows.table.slice(max(len(rows.table) - 1, 0))], None)
        return found

    def _tail(self, dataset: Dataset, group: str, step: timedelta | None, now: datetime) -> Range:
        if step is None:
            return EVERYTHING
        manifest = self._catalog.manifest_of(dataset, "raw", group)
        newest = max((segment.last for segment in manifest.segments), default=to_micros(now))
        return Range(max(TIME_MIN, newest - step // timedelta(microseconds=1)), TIME_MAX)

    def _checked(self, question: Question) -> list[str] | None:
        """The fields asked for, by their keys. Raises InputError for one that the dataset cannot have, or a past that it did not
        keep."""
        fields = keyed(question.dataset, question.level, question.fields)
        check_fields(question.dataset, question.level, question.fields)
        if question.known_at is not None:
            known.require(self._catalog.versions(question.dataset.name), question.known_at)
        return fields

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
                others = [group_name(other) for other in self._lookup.groups(dataset)]
                name = group_name(group)
                raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, others))


def _looking_again(read: Callable[[], T]) -> T:
    """What `read` gives, at a second look where an object has gone: an erasure removed it between our look at the manifest and the
    read, and the next look names what is there."""
    try:
        return read()
    except NotFoundError as error:
        if not error.operation:
            raise
        return read()


def _trusted(source: Source, outage: Future[Outage | None] | None) -> bool:
    return outage is None or source.result(outage) is None
