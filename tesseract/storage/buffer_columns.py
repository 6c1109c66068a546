"""Items of the buffer as Arrow columns. Pure. `plain` is the definition; `buffer_table` is equal to it, type for type, and fast."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.storage import wire_alike, wire_json
from tesseract.storage.codec import item_from_wire
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.items import records_of
from tesseract.storage.wire_rows import OtherLines, Run, WireRows, tables

FEW = 64  # items that are as fast one by one
MAX_CELLS = 8_000_000  # items × fields, hundreds of MB as columns; what has more goes item by item


class _Map(msgspec.Struct):
    M: dict[str, msgspec.Raw]


class _Fields(msgspec.Struct):
    """What of an item names its fields."""

    fields: _Map


_fields = msgspec.json.Decoder(_Fields).decode


def buffer_table(dataset: Dataset, group: str, items: Sequence[msgspec.Raw]) -> pa.Table:
    """The items of a group, current ones and revisions, as `columns.raw_table` has their records. Order is kept.

    `items` are JSON in DynamoDB's wire form, as `Table.pages` gives them.
    """
    if len(items) > FEW:
        try:
            rows = _rows(dataset, items)
        except (OtherLines, pa.ArrowException, ValueError):
            return plain(dataset, group, items)
        made = tables(dataset, [Run(group, 0, len(items))], rows)
        if made is not None:
            return next(made)
    return plain(dataset, group, items)


def plain(dataset: Dataset, group: str, items: Sequence[msgspec.Raw]) -> pa.Table:
    """`buffer_table`, item by item."""
    rows = [
        RawRow(record.valid_time, record.ref_time, record.fields, record.deleted, None, int(item["config_version"]))
        for item in map(item_from_wire, items)
        for record in records_of(item, group)
    ]
    return raw_table(dataset, group, rows)


def _rows(dataset: Dataset, items: Sequence[msgspec.Raw]) -> WireRows:
    """Raises OtherLines, ArrowException or ValueError where the plain road must be taken."""
    body = b"\n".join([*items, b""])
    try:
        return wire_alike.rows(wire_alike.texts(body))
    except (OtherLines, pa.ArrowException, ValueError):
        pass
    declared = {name: "N" if field.numeric else "BOOL" if field.type == "bool" else "S" for name, field in dataset.fields.items()}
    try:
        return _read(body, len(items), declared)
    except OtherLines as other:
        if not other.left_out and not other.odd:
            raise
    names = sorted({name for item in items for name in _fields(item).fields.M})
    return _read(body, len(items), dict.fromkeys(names, ""))


def _read(body: bytes, count: int, kinds: dict[str, str]) -> WireRows:
    if len(kinds) * count > MAX_CELLS:
        raise OtherLines("more fields than columns are good for")
    rows, marks = wire_json.rows(wire_json.read(body, count, pa.schema(list(wire_json.item_type(kinds)))))
    wire_json.check_marks(body, marks)
    return rows
