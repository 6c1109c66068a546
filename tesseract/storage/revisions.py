"""The total order of revisions: which of two records of one key is the newer. All who put, merge or read records go by it. Pure.

Under write-time order (`last_write`) the later put wins. Under ref-time order (`latest_ref`, `all`) the greater ref time wins, and
of equal ones the later put; a record without a ref time is older than any with one. A row of the buffer has no write time: it is
the current state of its key, so it is newer than an archived row of the same ref time (under write-time order: than any).
A tombstone is a revision like any other.

`storage.newest` is the same order over Arrow tables; this module loads no pyarrow, since ingestion and streams call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.model import Record
from tesseract.storage.base import NotAfter
from tesseract.utils.time_utils import iso_micros

REF_TIME = "ref_time"
_OLDEST = datetime.min.replace(tzinfo=UTC)


def newest(dataset: Dataset, records: Iterable[Record]) -> Record:
    """The one of `records` (of one key, in the order of their puts, at least one) that is current after all are put."""
    *_, last = sorted(records, key=_age) if dataset.by_ref_time else records
    return last


def last_puts(records: Iterable[Record]) -> list[Record]:
    """The last put of each ref time among `records` (of one key, in the order of their puts): what a history keeps."""
    return list({record.ref_time: record for record in records}.values())


def put_condition(record: Record) -> NotAfter:
    """What must hold of the stored item for `record` to become the current one under ref-time order.

    Without it, of two writers of one key the one that is slower wins, whatever its ref time:

        writer of ref time 1      the item            writer of ref time 2
        ──────────────────────────────────────────────────────────────────
        sends its put                                 sends its put
          (throttled, tries again)      ◀──────────── written
                                    ref time 2
        written ────────────────▶   ref time 1        the newer revision has gone, for good

    With it, the second put is refused: the record counts as accepted, superseded before it came.
    """
    return NotAfter(REF_TIME, None if record.ref_time is None else iso_micros(record.ref_time))


def tombstone(row: Record) -> Record:
    """The record that deletes `row`, the visible one of its key.

    It carries the row's ref time: under ref-time order a record written again with the same or a newer ref time is visible, an
    older one is not.
    """
    return replace(row, fields={}, deleted=True)


def _age(record: Record) -> datetime:
    return record.ref_time or _OLDEST
