"""Deletes as the ingestion function takes them: a tombstone for each row named, by the road of every put.

A request is `{"dataset": NAME, "delete": {"group": ["VALUE", …], "rows": [[valid time, ref time or null], …]}}`, times in µs since
1970. It is for rows that the asker has seen: a tombstone carries the ref time of the row that it hides. Rows that `retention` no
longer takes are refused, since their aggregates cannot be computed anew, unless the request says `"erase": true`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.retention import kept_from
from tesseract.errors import InputError
from tesseract.model import Record
from tesseract.storage.keys import join_group
from tesseract.storage.revisions import tombstone
from tesseract.utils.time_utils import from_micros, iso_seconds, to_micros

Row = tuple[int, int | None]  # (valid time, ref time), µs since 1970
FORM = 'a delete is {"group": ["VALUE", …], "rows": [[valid time, ref time or null], …]}, times in µs since 1970'


class Rows(msgspec.Struct, frozen=True):
    """What is to be deleted of one group."""

    group: list[str]
    rows: list[Row]
    erase: bool = False  # an erasure, which takes the aggregates of their periods as well


def read_rows(asked: Any) -> Rows:
    """The rows that a direct event names. Raises InputError for what is no such request."""
    try:
        found = msgspec.convert(asked, Rows)
        for micros in (micros for row in found.rows for micros in row if micros is not None):
            from_micros(micros)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InputError(f"{FORM}: {error}") from error
    return found


def tombstones(dataset: Dataset, asked: Rows, now: datetime) -> list[tuple[int, Record]]:
    """The records that delete rows, each by its place.

    Raises InputError where the group is none of the dataset, and for rows past its retention.
    """
    if len(asked.group) != len(dataset.group_by) or not all(asked.group):
        raise InputError(f"a group of dataset {dataset.name} has a value for each of {', '.join(dataset.group_by)}")
    oldest = None if asked.erase else kept_from(dataset, now)
    if oldest is not None and any(at < to_micros(oldest) for at, _ in asked.rows):
        raise InputError(
            f"rows before {iso_seconds(oldest)} are past retention.raw: their aggregates would keep them",
            hint="delete from there on; the others are removed by themselves, and --erase takes both at once",
        )
    group = join_group(asked.group)
    rows = (Record(group, from_micros(at), None if ref is None else from_micros(ref), {}) for at, ref in asked.rows)
    return [(index, tombstone(row)) for index, row in enumerate(rows)]
