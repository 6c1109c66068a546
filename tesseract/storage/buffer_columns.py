"""Items of the buffer as Arrow columns. Pure. `plain` is the definition; `buffer_table` is equal to it, type for type, and fast."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.storage.codec import item_from_wire
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.items import records_of


def buffer_table(dataset: Dataset, group: str, items: Sequence[msgspec.Raw]) -> pa.Table:
    """The items of a group, current ones and revisions, as `columns.raw_table` has their records. Order is kept.

    `items` are JSON in DynamoDB's wire form, as `Table.pages` gives them.
    """
    return plain(dataset, group, items)


def plain(dataset: Dataset, group: str, items: Sequence[msgspec.Raw]) -> pa.Table:
    """`buffer_table`, item by item."""
    rows = [
        RawRow(record.valid_time, record.ref_time, record.fields, record.deleted, None, int(item["config_version"]))
        for item in map(item_from_wire, items)
        for record in records_of(item, group)
    ]
    return raw_table(dataset, group, rows)
