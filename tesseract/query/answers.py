"""The answer to a question: rows of every kind read, those that pass the filter kept, in the order asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from tesseract.query.known import read_known
from tesseract.query.levels import read_level
from tesseract.query.plan import Range
from tesseract.query.question import Question, Reading
from tesseract.query.raw import read_raw
from tesseract.query.results import Stats, shape
from tesseract.storage.columns import unify
from tesseract.storage.keys import group_values


class Answer(NamedTuple):
    """The rows of each group, in order, system columns still on, and how they came about."""

    groups: Sequence[str]
    tables: list[pa.Table]
    stats: Stats
    plans: tuple[object, ...]


class _Rows(Protocol):
    """The rows of one group."""

    @property
    def table(self) -> pa.Table: ...

    @property
    def stats(self) -> Stats: ...


def answer(reading: Reading, question: Question, fields: list[str] | None) -> Answer:
    """What a question asks for, of the groups of the reading. `fields` go by their keys, None for all."""
    wanted = needed(question, fields)
    if question.level is not None:
        rows = read_level(reading, question.level, wanted, question.buckets)
        plans: Iterable[object] = (plan for group in reading.groups for plan in rows[group].plans)
        return _arranged(question, _answer(reading, rows, plans))
    if question.known_at is not None:
        known = read_known(reading, question.known_at, wanted)
        return _arranged(question, _answer(reading, known, (plan for group in reading.groups for plan in known[group].plans)))
    ranges: list[Range] = [reading.wanted] if reading.wanted.start < reading.wanted.end else []
    raw = read_raw(reading.source, reading.dataset, dict.fromkeys(reading.groups, ranges), reading.raw, wanted, question.where)
    return _arranged(question, _answer(reading, raw, (raw[group].plan for group in reading.groups)))


def groups_that_can_pass(question: Question, groups: Sequence[str]) -> list[str]:
    """The groups of which the filter, where there is one, may let rows through."""
    where = question.where
    if where is None:
        return list(groups)

    def possible(group: str) -> bool:
        values = group_values(question.dataset, group)
        return where.possible({name: (value, value, 0, 1) for name, value in values.items()})

    return [group for group in groups if possible(group)]


def shaped(question: Question, tables: Sequence[pa.Table], fields: Sequence[str] | None) -> pa.Table:
    """Tables as the result, its times in the zone asked for."""
    table = shape(question.dataset, question.level, tables, fields)
    if not question.zone:
        return table
    kind = pa.timestamp("us", question.zone)
    times = ("valid_time", "ref_time", "period_start")
    return table.cast(
        pa.schema([field.with_type(kind) if field.name in times else field for field in table.schema], table.schema.metadata)
    )


def _answer(reading: Reading, rows: Mapping[str, _Rows], plans: Iterable[object]) -> Answer:
    stats = Stats()
    for part in rows.values():
        stats.add(part.stats)
    return Answer(reading.groups, [rows[group].table for group in reading.groups], stats, tuple(plans))


def needed(question: Question, fields: list[str] | None) -> list[str] | None:
    """The fields to read: those asked for, and those that the filter looks at."""
    if fields is None or question.where is None:
        return fields
    return list(dict.fromkeys([*fields, *question.where.columns]))


def _arranged(question: Question, whole: Answer) -> Answer:
    """The rows that pass the filter, in the order asked for."""
    tables = whole.tables
    if question.where is not None:
        # what a column that nobody declared holds may differ by group: the filter is of what the result shows
        tables = unify(tables) if question.dataset.unknown_fields == "keep" else tables
        tables = [question.where.filter(table) for table in tables]
        whole.stats.rows = sum(map(len, tables))
    if question.newest_first:
        tables = [table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64())) for table in tables]
    return whole._replace(tables=tables)
