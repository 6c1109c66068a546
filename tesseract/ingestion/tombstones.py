"""Deletes as the ingestion function takes them: a tombstone for each row named, by the road of every put.

A request is `{"dataset": NAME, "delete": {"group": ["VALUE", …], "rows": [[valid time, ref time or null], …]}}`, times in µs since
1970. It is for rows that the asker has seen: a tombstone carries the ref time of the row that it hides.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Record
from tesseract.storage.keys import join_group
from tesseract.storage.revisions import tombstone
from tesseract.utils.time_utils import from_micros

Row = tuple[int, int | None]  # (valid time, ref time), µs since 1970
FORM = 'a delete is {"group": ["VALUE", …], "rows": [[valid time, ref time or null], …]}, times in µs since 1970'


class Rows(msgspec.Struct, frozen=True):
    """What is to be deleted of one group."""

    group: list[str]
    rows: list[Row]


def read_rows(asked: Any) -> Rows:
    """The rows that a direct event names. Raises InputError for what is no such request."""
    try:
        found = msgspec.convert(asked, Rows)
        for micros in (micros for row in found.rows for micros in row if micros is not None):
            from_micros(micros)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InputError(f"{FORM}: {error}") from error
    return found


def tombstones(dataset: Dataset, asked: Rows) -> list[tuple[int, Record]]:
    """The records that delete rows, each by its place. Raises InputError where the group is none of the dataset."""
    if len(asked.group) != len(dataset.group_by) or not all(asked.group):
        raise InputError(f"a group of dataset {dataset.name} has a value for each of {', '.join(dataset.group_by)}")
    group = join_group(asked.group)
    rows = (Record(group, from_micros(at), None if ref is None else from_micros(ref), {}) for at, ref in asked.rows)
    return [(index, tombstone(row)) for index, row in enumerate(rows)]
