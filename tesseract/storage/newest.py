"""The newest row of each key, over Arrow tables: what compaction, snapshots and queries merge by. Pure.

The order is that of `storage.revisions`; of aggregate rows the one that was computed for the later window is the newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.storage.columns import ORDER, WRITE_TIME, unify
from tesseract.storage.revisions import REF_TIME

_FIRST, _LAST = -(2**63), 2**63 - 1


class Order(NamedTuple):
    """The columns that rows of one key share, and those that say which of them is the newest, the first one first."""

    key: tuple[str, ...]
    age: tuple[str, ...]


HISTORY = Order(("valid_time", REF_TIME), (WRITE_TIME,))  # every revision is a row of its own
LEVEL = Order(("period_start",), (ORDER,))


def current(dataset: Dataset) -> Order:
    """The order of the raw rows of one group of a dataset."""
    return Order(("valid_time",), (REF_TIME, WRITE_TIME) if dataset.by_ref_time else (WRITE_TIME,))


def shared(order: Order, dataset: Dataset) -> Order:
    """The same order where rows of several groups lie together."""
    return order._replace(key=(*dataset.group_columns, *order.key))


def newest(tables: Sequence[pa.Table], order: Order) -> tuple[pa.Table, pa.ChunkedArray]:
    """The newest row of each key as one table sorted by key, and for each row whether older ones lay below it.

    `tables` (at least one) come oldest window first: of rows that are equally new, the one of the later table is kept. A null
    write time is newer than any other, a null ref time older.
    """
    parts = unify(tables)
    table = pa.concat_tables([part for part in parts if len(part)] or parts[:1])
    edge = pa.array([False], pa.bool_())
    if rises(table, order):
        return table.combine_chunks(), pa.chunked_array([pa.repeat(edge[0], len(table))])
    places = pa.table({name: _numbers(table[name], name) for name in (*order.key, *order.age)}).combine_chunks()
    indices = pc.sort_indices(places, sort_keys=[(name, "ascending") for name in places.column_names])  # stable
    keys = places.select(order.key).take(indices).combine_chunks()
    count = len(table)
    columns = [column.combine_chunks() for column in keys.columns]
    same = reduce(pc.and_, [pc.equal(column.slice(1), column.slice(0, count - 1)) for column in columns])
    last = pc.invert(pa.chunked_array([same, edge], pa.bool_()))
    kept = table.take(indices.filter(last.combine_chunks())).combine_chunks()
    return kept, pa.chunked_array([edge, same], pa.bool_()).filter(last)


def rises(table: pa.Table, order: Order) -> bool:
    """Whether each row's key is greater than that of the row before."""
    count = len(table) - 1
    if count < 1:
        return True
    found: pa.Array | None = None
    for name in reversed(order.key):
        values = key_column(table[name], name).combine_chunks()
        before, after = values.slice(0, count), values.slice(1)
        less = pc.less(before, after)
        found = less if found is None else pc.or_(less, pc.and_(pc.equal(before, after), found))
    return bool(pc.all(found).as_py())


def _numbers(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column to sort by, without nulls."""
    return _ranks(column) if pa.types.is_string(column.type) else key_column(column, name)


def key_column(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column whose values compare as the order says: texts as they are, anything else as integers without nulls."""
    if pa.types.is_string(column.type):
        return column
    return pc.fill_null(column.cast(pa.int64()), _LAST if name == WRITE_TIME else _FIRST)


def _ranks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as numbers of the same order."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    return pa.chunked_array([pc.sort_indices(order).take(encoded.indices).cast(pa.int64())])
