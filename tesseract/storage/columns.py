"""Records and aggregates as Arrow columns, for every tier and for the buffer. Pure. What type a column has, arrow_types says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset, Level
from tesseract.model import FieldValue
from tesseract.storage.arrow_types import TIMESTAMP, column, exact_column, stat_type, wider
from tesseract.storage.codec import shortest
from tesseract.storage.keys import split_group

WRITE_TIME, DELETED, CONFIG_VERSION = "__write_time", "__deleted", "__config_version"
STATE, ORDER, LIVE_FROM, FIELDS_FROM = "__state", "__order", "__live_from", "__fields_from"


class RawRow(msgspec.Struct, frozen=True):
    """A row of a raw segment, or of the buffer, whose `write_time` is None: DynamoDB does not tell it."""

    valid_time: datetime
    ref_time: datetime | None
    fields: dict[str, FieldValue]
    deleted: bool
    write_time: datetime | None
    config_version: int


class LevelRow(msgspec.Struct, frozen=True):
    """A row of an aggregate level. `numbers` is field → statistic → number; `order` says which of two rows is newer.

    `fields_from` (µs) is None for a row that has the fields of its period's start, else it has all that the level had got by then.
    """

    period_start: datetime
    rows: int
    numbers: dict[str, dict[str, int | Decimal | None]]
    state: bytes
    order: int
    live_from: int | None
    fields_from: int | None = None


def raw_table(dataset: Dataset, group: str, rows: Sequence[RawRow]) -> pa.Table:
    """Raw rows as columns: group_by, valid_time, ref_time, the fields, then the system columns. Order is kept."""
    # a field that is no longer declared is kept as well: readers hide it, the archive must not lose it
    names = [*dataset.fields, *sorted(set().union(*(row.fields for row in rows)) - set(dataset.fields))]
    columns: dict[str, pa.Array] = _group_columns(dataset, group, len(rows))
    columns["valid_time"] = pa.array([row.valid_time for row in rows], TIMESTAMP)
    columns["ref_time"] = pa.array([row.ref_time for row in rows], TIMESTAMP)
    for name in names:
        columns[name] = exact_column([row.fields.get(name) for row in rows], dataset.fields.get(name))
    columns[WRITE_TIME] = pa.array([row.write_time for row in rows], TIMESTAMP)
    columns[DELETED] = pa.array([row.deleted for row in rows], pa.bool_())
    columns[CONFIG_VERSION] = pa.array([row.config_version for row in rows], pa.int32())
    return pa.table(columns)


def level_table(dataset: Dataset, level: Level, group: str, rows: Sequence[LevelRow]) -> pa.Table:
    """Aggregate rows as columns: group_by, period_start, rows, `<field>_<stat>`, then the system columns.

    States may hold fields that the configuration shows no more, since it no longer declares them, or no longer as numbers.
    """
    names = [*dataset.fields, *sorted({name for row in rows for name in row.numbers} - set(dataset.fields))]
    columns: dict[str, pa.Array] = _group_columns(dataset, group, len(rows))
    columns["period_start"] = pa.array([row.period_start for row in rows], TIMESTAMP)
    columns["rows"] = pa.array([row.rows for row in rows], pa.int64())
    for name in names:
        declared = dataset.fields.get(name)
        for stat in level_stats(dataset, level, name):
            empty = 0 if stat == "count" else None  # a period without a value of the field has counted none
            values = [row.numbers.get(name, {}).get(stat, empty) for row in rows]
            columns[f"{name}_{stat}"] = column(values, stat_type(declared, stat) if declared else None)
    columns[STATE] = pa.array([row.state for row in rows], pa.binary())
    columns[ORDER] = pa.array([row.order for row in rows], pa.int64())
    columns[LIVE_FROM] = pa.array([row.live_from for row in rows], pa.int64())
    columns[FIELDS_FROM] = pa.array([row.fields_from for row in rows], pa.int64())
    return pa.table(columns)


def level_stats(dataset: Dataset, level: Level, field: str) -> tuple[str, ...]:
    """The statistics of a field that a level shows: none of one that is not a number, or is hidden."""
    declared = dataset.fields.get(field)
    shown = declared.numeric if declared else dataset.unknown_fields == "keep"
    return level.wanted(field) if shown else ()


def _group_columns(dataset: Dataset, group: str, count: int) -> dict[str, pa.Array]:
    values = split_group(group)
    return {name: pa.array([value] * count, pa.string()) for name, value in zip(dataset.group_by, values, strict=True)}


def unify(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Tables with the same columns in the same order: absent ones are null, types are widened."""
    kinds = kinds_of(table.schema for table in tables)
    columns = {name: _unified(tables, name, kind) for name, kind in kinds.items()}
    return [pa.table({name: parts[place] for name, parts in columns.items()}) for place in range(len(tables))]


def kinds_of(schemas: Iterable[pa.Schema]) -> dict[str, pa.DataType]:
    """The columns of files read together, in order, each with the type that holds the types of all."""
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kinds[field.name] = wider(kinds[field.name], field.type) if field.name in kinds else field.type
    return {name: kinds[name] for name in sorted(kinds, key=_system_last)}


def _unified(tables: Sequence[pa.Table], name: str, kind: pa.DataType) -> list[pa.ChunkedArray]:
    try:
        return [as_kind(table, name, kind) for table in tables]
    except pa.ArrowInvalid:  # numbers that need more digits together than a column has: their text has them
        return [as_kind(table, name, pa.string()) for table in tables]


def _system_last(name: str) -> bool:
    return name.startswith("__")


def as_kind(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """A column with type `kind`, of nulls where it is absent. Raises ArrowInvalid where a value would lose digits."""
    place = table.schema.get_field_index(name)
    if place < 0:
        return pa.chunked_array([pa.nulls(len(table), kind)])
    values = table.column(place)
    if values.type == kind:
        return values
    if pa.types.is_string(kind) and not pa.types.is_null(values.type):
        return pa.chunked_array([column(values.to_pylist(), kind)])
    if pa.types.is_decimal(values.type) and pa.types.is_floating(kind):
        return pa.chunked_array([_doubles(values)])
    if pa.types.is_int64(values.type) and pa.types.is_floating(kind) and not _small(values):
        return pa.chunked_array([_doubles(values)])
    return pc.cast(values, kind)


def _small(values: pa.ChunkedArray) -> bool:
    """Whether integers are all within those that a double counts."""
    low, high = pc.min_max(values).as_py().values()
    return low is None or bool(low >= -(2**53) and high <= 2**53)


def _doubles(values: pa.ChunkedArray) -> pa.Array:
    """Decimals or integers as doubles. Raises ArrowInvalid where one has digits that no double has."""
    found = [None if value is None else float(value) for value in values.to_pylist()]
    if any(double is not None and shortest(double) != value for double, value in zip(found, values.to_pylist(), strict=True)):
        raise pa.ArrowInvalid("a number has more digits than a double")
    return pa.array(found, pa.float64())
