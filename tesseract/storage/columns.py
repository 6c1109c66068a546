"""Records and aggregates as Arrow columns: one place decides types, for every tier and for the buffer. Pure.

Declared fields have the type that they declare. Undeclared ones are learned: int64 where every number is integral and fits,
else double; mixed with text or truth values, string. Slices that learned differently are widened when they meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset, Level
from tesseract.model import FieldValue
from tesseract.storage.codec import number_text, shortest
from tesseract.storage.keys import split_group

TIMESTAMP = pa.timestamp("us", tz="UTC")
WRITE_TIME, DELETED, CONFIG_VERSION = "__write_time", "__deleted", "__config_version"
STATE, ORDER, LIVE_FROM = "__state", "__order", "__live_from"
RAW_SYSTEM = {WRITE_TIME: TIMESTAMP, DELETED: pa.bool_(), CONFIG_VERSION: pa.int32()}
LEVEL_SYSTEM = {STATE: pa.binary(), ORDER: pa.int64(), LIVE_FROM: pa.int64()}
_DECLARED = {"int": pa.int64(), "float": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
_RANK = [pa.null(), pa.int64(), pa.float64(), pa.string()]
_INT64 = 2**63


class RawRow(msgspec.Struct, frozen=True):
    """A row of a raw segment, or of the buffer, whose `write_time` is None: DynamoDB does not tell it."""

    valid_time: datetime
    ref_time: datetime | None
    fields: dict[str, FieldValue]
    deleted: bool
    write_time: datetime | None
    config_version: int


class LevelRow(msgspec.Struct, frozen=True):
    """A row of an aggregate level. `numbers` is field → statistic → number; `order` says which of two rows is newer."""

    period_start: datetime
    rows: int
    numbers: dict[str, dict[str, int | Decimal | None]]
    state: bytes
    order: int
    live_from: int | None


def raw_table(dataset: Dataset, group: str, rows: Sequence[RawRow]) -> pa.Table:
    """Raw rows as columns: group_by, valid_time, ref_time, the fields, then the system columns. Order is kept."""
    names = list(dataset.fields) or sorted({name for row in rows for name in row.fields})
    names += sorted({name for row in rows for name in row.fields} - set(names)) if dataset.unknown_fields == "keep" else []
    columns: dict[str, pa.Array] = _group_columns(dataset, group, len(rows))
    columns["valid_time"] = pa.array([row.valid_time for row in rows], TIMESTAMP)
    columns["ref_time"] = pa.array([row.ref_time for row in rows], TIMESTAMP)
    for name in names:
        declared = dataset.fields.get(name)
        columns[name] = column([row.fields.get(name) for row in rows], _DECLARED[declared.type] if declared else None)
    columns[WRITE_TIME] = pa.array([row.write_time for row in rows], TIMESTAMP)
    columns[DELETED] = pa.array([row.deleted for row in rows], pa.bool_())
    columns[CONFIG_VERSION] = pa.array([row.config_version for row in rows], pa.int32())
    return pa.table(columns)


def level_table(dataset: Dataset, level: Level, group: str, rows: Sequence[LevelRow]) -> pa.Table:
    """Aggregate rows as columns: group_by, period_start, rows, `<field>_<stat>`, then the system columns."""
    names = list(dataset.fields) or sorted({name for row in rows for name in row.numbers})
    names += sorted({name for row in rows for name in row.numbers} - set(names))
    columns: dict[str, pa.Array] = _group_columns(dataset, group, len(rows))
    columns["period_start"] = pa.array([row.period_start for row in rows], TIMESTAMP)
    columns["rows"] = pa.array([row.rows for row in rows], pa.int64())
    for name in names:
        declared = dataset.fields.get(name)
        if declared and not declared.numeric:
            continue
        for stat in level.wanted(name):
            empty = 0 if stat == "count" else None  # a period without a value of the field has counted none
            values = [row.numbers.get(name, {}).get(stat, empty) for row in rows]
            columns[f"{name}_{stat}"] = column(values, _stat_type(declared.type if declared else "", stat))
    columns[STATE] = pa.array([row.state for row in rows], pa.binary())
    columns[ORDER] = pa.array([row.order for row in rows], pa.int64())
    columns[LIVE_FROM] = pa.array([row.live_from for row in rows], pa.int64())
    return pa.table(columns)


def _stat_type(kind: str, stat: str) -> pa.DataType | None:
    if stat == "count":
        return pa.int64()
    if stat in ("avg", "std") or kind == "float":
        return pa.float64()
    if kind == "int":
        return pa.decimal128(38, 0) if stat == "sum" else pa.int64()
    return None


def _group_columns(dataset: Dataset, group: str, count: int) -> dict[str, pa.Array]:
    values = split_group(group)
    return {name: pa.array([value] * count, pa.string()) for name, value in zip(dataset.group_by, values, strict=True)}


def column(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    """Values as one array of type `kind`, or of the narrowest type that holds them all where it is None."""
    kind = learned(values) if kind is None else kind
    if pa.types.is_floating(kind):
        return pa.array([None if value is None else float(value) for value in values], kind)
    if pa.types.is_string(kind):
        return pa.array([None if value is None else text(value) for value in values], kind)
    return pa.array(values, kind)


def learned(values: Iterable[Any]) -> pa.DataType:
    """The narrowest type that holds `values`: null, bool, int64, double or string."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return pa.null()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds <= {"int", "float"}:
        return pa.float64() if "float" in kinds else pa.int64()
    return pa.string()


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    return "int" if isinstance(value, int) and -_INT64 <= value < _INT64 else "float"


def text(value: Any) -> str:
    """A value of a field that is text elsewhere: the same text from the buffer and from every file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number_text(shortest(value))
    return value if isinstance(value, str) else number_text(value)


def unify(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Tables with the same columns in the same order: absent ones are null, learned types are widened."""
    kinds: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            kinds[field.name] = wider(kinds[field.name], field.type) if field.name in kinds else field.type
    order = sorted(kinds, key=_system_last)
    return [pa.table({name: _cast(table, name, kinds[name]) for name in order}) for table in tables]


def _system_last(name: str) -> bool:
    return name.startswith("__")


def wider(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The type that holds the values of both."""
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if left in _RANK and right in _RANK:
        return _RANK[max(_RANK.index(left), _RANK.index(right))]
    return pa.string()


def _cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), kind)])
    values = table[name]
    if values.type == kind:
        return values
    if pa.types.is_string(kind) and not pa.types.is_null(values.type):
        return pa.chunked_array([pa.array([None if v is None else text(v) for v in values.to_pylist()], kind)])
    return pc.cast(values, kind, safe=False)  # int64 → double rounds, as a double in the buffer would have
