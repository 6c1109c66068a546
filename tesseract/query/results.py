"""From the slices of all sources to one table: newest row of each key, system columns off, columns in one order. Pure.

A result has the same schema whatever its rows come from: declared columns have their declared type even where it is empty, with
the declared unit as Arrow metadata of the field. A learned column without a single value in the result is text (of raw rows) or
double (of a level): Arrow's null type helps no reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import STATS, Dataset, Level
from tesseract.errors import InputError
from tesseract.query import display
from tesseract.query.estimates import Plan, estimated
from tesseract.query.plan import Range
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.columns import DELETED, WRITE_TIME, unify
from tesseract.storage.conform import conform, declared_kinds
from tesseract.storage.declared import no_rows
from tesseract.storage.metered import Reads
from tesseract.storage.newest import Order, newest
from tesseract.utils.time_utils import from_micros


@dataclass
class Stats:
    """What a query did. The three counts by source are of raw rows that are visible in the end, each key once.

    For a level they count the raw rows that periods were computed from; its own rows are `live_items` + `snapshot_rows` +
    `recomputed`.
    """

    rows: int = 0
    only_archive: int = 0
    only_buffer: int = 0
    both: int = 0
    segments: int = 0
    segment_bytes: int = 0
    buffer_queries: int = 0
    live_items: int = 0
    snapshot_rows: int = 0
    recomputed: int = 0
    dynamodb_requests: int = 0
    dynamodb_bytes: int = 0
    s3_requests: int = 0
    s3_bytes: int = 0

    def add(self, other: Stats) -> None:
        """Add the counts of another part of the same query."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def count(self, before: Reads, after: Reads) -> None:
        """Set what was read between two looks at a query's counts."""
        for name, first, last in zip(Reads._fields, before, after, strict=True):
            setattr(self, name, last - first)

    def as_dict(self) -> dict[str, int]:
        """Name → count."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Result(NamedTuple):
    """A table, how it came about, and the plans that were carried out."""

    table: pa.Table
    stats: Stats
    plans: tuple[object, ...]
    complete_through: datetime | None = None  # of a past state: all that was written before is in it, of later writes some may be

    def __repr__(self) -> str:
        return display.text(self.table)

    def _repr_html_(self) -> str:
        return display.html(self.table)

    @property
    def plan(self) -> Plan:
        """The slices that were read, with what they were estimated at: to be held against `stats`."""
        return estimated(self.plans, 0)


def merge_raw(
    archive: Sequence[pa.Table], buffer: pa.Table, ranges: Sequence[Range], order: Order, deleted: bool = False
) -> tuple[pa.Table, Stats]:
    """The visible rows of one group within `ranges`, by time, and how many came from where. `archive`: oldest window first.

    With `deleted`, tombstones too.
    """
    merged, below = newest([part for part in (*archive, buffer) if len(part)] or [buffer], order)
    from_buffer = pc.is_null(merged[WRITE_TIME])
    keep = within(merged["valid_time"], ranges)
    keep = keep if deleted else pc.and_(pc.invert(merged[DELETED]), keep)
    if pc.all(keep, skip_nulls=False).as_py() is not True:
        merged, below, from_buffer = merged.filter(keep), below.filter(keep), from_buffer.filter(keep)
    stats = Stats(
        rows=len(merged),
        only_archive=_count(pc.invert(from_buffer)),
        only_buffer=_count(pc.and_(from_buffer, pc.invert(below))),
        both=_count(pc.and_(from_buffer, below)),
    )
    return merged, stats


def within(times: pa.ChunkedArray, ranges: Sequence[Range]) -> pa.ChunkedArray:
    """Which of `times` lie in one of `ranges`."""
    inside = pc.is_null(times)  # none: a key has a time
    for part in ranges:
        start, end = (pa.scalar(from_micros(micros), TIMESTAMP) for micros in part)
        inside = pc.or_(inside, pc.and_(pc.greater_equal(times, start), pc.less(times, end)))
    return inside


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def all_declared(dataset: Dataset, level: Level | None, fields: Sequence[str] | None) -> bool:
    """Whether the columns of a result are known before its rows are: none of them is of a field that nobody declared."""
    if dataset.unknown_fields != "keep":
        return True
    columns = empty(dataset, level).column_names
    return fields is not None and all(name in columns or (level is not None and name in dataset.fields) for name in fields)


def empty(dataset: Dataset, level: Level | None) -> pa.Table:
    """A table without rows, with the declared columns."""
    return no_rows(dataset, level)


def shape(dataset: Dataset, level: Level | None, tables: Sequence[pa.Table], wanted: Sequence[str] | None) -> pa.Table:
    """The tables of all groups, in order, as the result: columns selected and ordered, types settled, units attached.

    `wanted` and the columns of the tables go by the fields' keys, those of the result by their names.
    """
    declared = empty(dataset, level)
    kinds = declared_kinds([name for name in declared.column_names if not name.startswith("__")], declared.schema)
    table = pa.concat_tables(unify([declared, *(conform(table, kinds) for table in tables)]))
    fixed = [*dataset.group_by, *(("valid_time", "ref_time") if level is None else ("period_start", "rows"))]
    values = [name for name in declared.column_names if name not in fixed and not name.startswith("__")]
    learned = [name for name in table.column_names if name not in (*fixed, *values) and not name.startswith("__")]
    if dataset.unknown_fields != "keep":
        learned = []  # of fields that were declared once, or kept: stored still, and hidden
    given = {field.name for field in dataset.fields.values()}  # also hidden: what was kept under a name that a field has now
    learned = [name for name in learned if (name.rpartition("_")[0] if level else name) not in given]
    values += sorted(learned, key=_stat_order if level else str)
    if wanted is not None:
        values = _selected(dataset, level, wanted, values)
    columns = [_settled(table, name, level) for name in (*fixed, *values)]
    metadata = {"tesseract.dataset": dataset.name, "tesseract.level": level.name if level else "raw"}
    schema = pa.schema([_field(dataset, level, name, column.type) for name, column in columns], metadata)
    return pa.Table.from_arrays([column for _, column in columns], schema=schema)


def keyed(dataset: Dataset, level: Level | None, wanted: Sequence[str] | None) -> list[str] | None:
    """The columns and fields that a user names, as files do. Raises InputError for a name that a field had formerly."""
    if wanted is None:
        return None
    keys = dataset.keys
    now = {former: dataset.label(key) for former, key in _formerly(dataset).items() if former not in keys}
    found = []
    for column in wanted:
        name, _, stat = ("", "", "") if level is None else column.rpartition("_")
        if (column if column in now else name) in now:
            is_now = now[column] if column in now else f"{now[name]}_{stat}"
            raise InputError(f"dataset {dataset.name} has no field {column!r} any more", hint=f"it is {is_now!r} now")
        found.append(keys[column] if column in keys else f"{keys[name]}_{stat}" if name in keys else column)
    return found


def _formerly(dataset: Dataset) -> dict[str, str]:
    """Former name → key of the declared fields that were renamed."""
    found = {key: key for key, field in dataset.fields.items() if field.name}
    return found | {path: key for path, key in dataset.former.items() if key in dataset.fields}


def renamed(dataset: Dataset, level: Level | None, column: str) -> str:
    """A column of a file as a result names it."""
    if level is None:
        return dataset.label(column)
    key, _, stat = column.rpartition("_")
    return f"{dataset.label(key)}_{stat}" if key in dataset.fields and stat in STATS else column


def check_fields(dataset: Dataset, level: Level | None, wanted: Sequence[str] | None) -> None:
    """Raises InputError where `wanted` names a column that can never be. Of learned columns that cannot be known."""
    if wanted is None or dataset.unknown_fields == "keep":
        return
    columns = {renamed(dataset, level, name) for name in empty(dataset, level).column_names if not name.startswith("__")}
    known = columns | {dataset.label(key) for key, field in dataset.fields.items() if level is None or field.numeric}
    for name in wanted:
        if name not in known:
            close = get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"fields: {', '.join(dataset.names)}"
            raise InputError(f"dataset {dataset.name} has no field {name!r}{f' at level {level.name}' if level else ''}", hint=hint)


def raw_columns(dataset: Dataset, wanted: Sequence[str] | None) -> list[str] | None:
    """The columns to read of a raw segment; None for all."""
    if wanted is None:
        return None
    return list(dict.fromkeys([*dataset.group_by, "valid_time", "ref_time", *wanted, WRITE_TIME, DELETED]))


def _selected(dataset: Dataset, level: Level | None, wanted: Sequence[str], values: Sequence[str]) -> list[str]:
    """The columns that `wanted` asks for: by their name, of a level also by the field's, which stands for all its statistics."""
    chosen: list[str] = []
    for name in wanted:
        own = [] if level is None else [f"{name}_{stat}" for stat in level.wanted(name)]
        found = [column for column in own if column in values]
        if name in values or not own or (not found and _is_statistic(level, name)):
            found = [name]
        chosen += found or own
    fixed = {*dataset.group_by, "valid_time", "ref_time"} if level is None else {*dataset.group_by, "period_start", "rows"}
    return [name for name in dict.fromkeys(chosen) if name not in fixed]


def _is_statistic(level: Level | None, name: str) -> bool:
    """Whether a name that no column has is that of a statistic of a learned field rather than of a field."""
    field, _, stat = name.rpartition("_")
    return level is not None and bool(field) and stat in level.wanted(field)


def _stat_order(column: str) -> tuple[str, int]:
    field, _, stat = column.rpartition("_")
    return field, STATS.index(stat) if stat in STATS else len(STATS)


def _settled(table: pa.Table, name: str, level: Level | None) -> tuple[str, pa.ChunkedArray]:
    counted = level is not None and name.endswith("_count")
    fallback = pa.int64() if counted else pa.string() if level is None else pa.float64()
    place = table.schema.get_field_index(name)  # `column_names` makes a list at each look: slow where there are thousands
    column = table.column(place) if place >= 0 else pa.chunked_array([pa.nulls(len(table), fallback)])
    column = column.cast(fallback) if pa.types.is_null(column.type) else column
    return name, pc.fill_null(column, 0) if counted else column  # a slice that never saw the field has counted none


def _field(dataset: Dataset, level: Level | None, name: str, kind: pa.DataType) -> pa.Field:
    field, _, stat = (name, "", "") if level is None else name.rpartition("_")
    unit = dataset.fields[field].unit if field in dataset.fields and stat != "count" else ""
    return pa.field(renamed(dataset, level, name), kind, metadata={"unit": unit} if unit else None)
