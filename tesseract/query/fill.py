"""The intervals without a record, as rows of their own: marked, and filled in one of four ways. Pure.

`filled` says which rows were added. Their `rows` and counts are 0, and they have no deviation: nothing was measured. Their other
statistics are null, or those of the row before that has one (`previous`), or on the line between the rows before and after
(`linear`, by the starts of the intervals, rounded to the digits of the column), or one number. Within a range whose ends are given
that holds before a group's first row and after its last one, too; there `previous` has nothing to begin with, and `linear` no
second point, so they leave null. A row that is there keeps what it has, a null among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import STATS
from tesseract.errors import InputError
from tesseract.query.buckets import Buckets
from tesseract.query.fold_results import exact_array
from tesseract.query.integers import Ints, int64_of, integers_of
from tesseract.query.plan import TIME_MAX, TIME_MIN, Range
from tesseract.query.resample import Fill
from tesseract.storage.arrow_types import exact, value_as

MOST = 20_000_000  # rows of a group
MEASURED = ("rows", "count")


class _Places(NamedTuple):
    """Where the rows of a group lie among those that there will be."""

    starts: Ints  # of all intervals
    present: Ints  # whether one has a row
    row: Ints  # which one; of the others anything


def filled(table: pa.Table, groups: Sequence[str], buckets: Buckets, wanted: Range, fill: Fill) -> pa.Table:
    """A result (by group, then time; `groups` are its group columns) with a row for every interval that starts within `wanted`.

    Where an end of the range is open, from a group's first row to its last one. A group without rows gets none. Raises InputError
    where `fill` is a number that a column cannot hold, or where there would be too many rows.
    """
    if fill == "none":
        return table
    number = None if isinstance(fill, str) else fill
    kinds = {name: _constant(table.schema.field(name), number) for name in table.column_names if _filled_by(name, groups)}
    parts = [_group(part, groups, buckets, wanted, fill, kinds) for part in _by_group(table, groups)]
    schema = table.schema.append(pa.field("filled", pa.bool_()))
    return pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in parts)])


def _by_group(table: pa.Table, groups: Sequence[str]) -> list[pa.Table]:
    table = table.combine_chunks()
    count = len(table)
    changes = np.zeros(max(count - 1, 0), bool)
    for name in groups:
        values = table[name].combine_chunks()
        changes |= pc.not_equal(values.slice(1), values.slice(0, max(count - 1, 0))).to_numpy(zero_copy_only=False).astype(bool)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), count]
    return [table.slice(low, high - low) for low, high in pairwise(edges) if low < high]


def _filled_by(name: str, groups: Sequence[str]) -> bool:
    """Whether a column is of statistics that may be filled."""
    stat = name.rpartition("_")[2]
    return name not in (*groups, "period_start", "rows") and stat in STATS and stat not in ("count", "std")


def _constant(field: pa.Field, number: float | Decimal | None) -> pa.Scalar:
    """What a column is filled with; null where it is none that is given."""
    value = None if number is None else value_as(exact(number), field.type)
    if value is None and number is not None:
        raise InputError(f"fill {number} does not fit into {field.name}", hint=f"it holds {field.type}")
    return pa.scalar(value, field.type)


def _group(
    table: pa.Table, groups: Sequence[str], buckets: Buckets, wanted: Range, fill: Fill, kinds: dict[str, pa.Scalar]
) -> pa.Table:
    places = _places(int64_of(table["period_start"].combine_chunks()), buckets, wanted)
    absent = pa.array(~places.present)
    columns = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in groups:
            columns.append(pa.repeat(column[0], len(places.starts)))
        elif name == "period_start":
            columns.append(pa.array(places.starts).cast(pa.timestamp("us", "UTC")).cast(column.type))
        elif name in kinds:
            columns.append(_column(column, places, fill, kinds[name]))
        else:
            zero = pa.scalar(0, column.type) if name.rpartition("_")[2] in MEASURED else pa.scalar(None, column.type)
            columns.append(pc.if_else(absent, zero, column.take(pa.array(places.row))))
    return pa.table([*columns, absent], names=[*table.column_names, "filled"])


def _places(found: Ints, buckets: Buckets, wanted: Range) -> _Places:
    first = int(found[0]) if wanted.start == TIME_MIN else buckets.ceiling(wanted.start)
    end = int(found[-1]) + 1 if wanted.end == TIME_MAX else buckets.ceiling(wanted.end)
    if (end - first) // buckets.length > MOST:
        raise InputError(
            f"filling gaps would make {(end - first) // buckets.length:,} rows of a group",
            hint="ask for a shorter range or a longer interval, or leave the gaps with fill none",
        )
    starts = buckets.within(first, end)
    row = np.searchsorted(found, starts)
    present = found[np.minimum(row, len(found) - 1)] == starts
    return _Places(starts, present, np.minimum(row, len(found) - 1))


def _column(column: pa.Array, places: _Places, fill: Fill, constant: pa.Scalar) -> pa.Array:
    """A column of statistics over all intervals."""
    own = column.take(pa.array(places.row))
    absent = pa.array(~places.present)
    filling = pa.repeat(constant, len(own))
    if fill in ("previous", "linear") and column.null_count < len(column):
        filling = _neighbours(column, places, fill == "linear")
    return pc.if_else(absent, filling, own)


def _neighbours(column: pa.Array, places: _Places, linear: bool) -> pa.Array:
    """Of each interval what the rows around it that have a value make of it: the one before, or the line between both."""
    count = len(places.starts)
    known = np.flatnonzero(places.present & column.is_valid().to_numpy(zero_copy_only=False)[places.row])
    after = np.searchsorted(known, np.arange(count), side="right")
    before = after - 1
    outside = (before < 0) | (after >= len(known)) if linear else before < 0
    left, right = known[np.maximum(before, 0)], known[np.minimum(after, len(known) - 1)]
    values = column.take(pa.array(places.row[left]))
    if not linear:
        return pc.if_else(pa.array(outside), pa.scalar(None, column.type), values)
    passed, whole = places.starts - places.starts[left], np.maximum(places.starts[right] - places.starts[left], 1)
    return _line(values, column.take(pa.array(places.row[right])), passed, whole, outside)


def _line(left: pa.Array, right: pa.Array, passed: Ints, whole: Ints, outside: Ints) -> pa.Array:
    """left + (right − left) · passed / whole."""
    if pa.types.is_floating(left.type):
        low, high = (side.to_numpy(zero_copy_only=False) for side in (left, right))
        return pa.array(low + (high - low) * (passed / whole), mask=outside)
    low, high = (integers_of(side).astype(object) for side in (left, right))
    rounded = (2 * (high - low) * passed + whole) // (2 * whole)
    scale = left.type.scale if pa.types.is_decimal(left.type) else 0
    return exact_array(low + rounded, scale, left.type, outside)
