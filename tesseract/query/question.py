"""What is asked of a dataset, and what is known before rows are read. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from tesseract.config.dataset import Dataset, Level
from tesseract.query.plan import Facts, Range

if TYPE_CHECKING:
    from tesseract.query.buckets import Buckets
    from tesseract.query.source import Source
    from tesseract.query.where import Where


class Question(NamedTuple):
    """Groups by their keys (None: all), [start, end) of valid time or of period starts (None: open), columns and rows."""

    dataset: Dataset
    groups: Sequence[str] | None
    start: datetime | None = None
    end: datetime | None = None
    level: Level | None = None  # None: raw
    fields: Sequence[str] | None = None
    as_of: datetime | None = None  # the archive alone, as it was then; None: everything, as it is now
    known_at: datetime | None = None  # raw rows as they were known at that ref time; None: the newest revisions
    where: Where | None = None
    limit: int | None = None  # the first rows of the result alone
    newest_first: bool = False  # within each group
    timeout: float | None = None  # seconds
    buckets: Buckets | None = None  # the periods of the level where they are not those of the calendar, in UTC
    zone: str = ""  # whose times the result shows; "": UTC
    unchecked: bool = False  # a group that nobody has written to has no rows; else that is an error


class Reading(NamedTuple):
    """A question that is being answered: where it is read, and the watermarks that were read before everything else.

    `raw.through` is `archived_through`, `live.through` is `snapshot_through`.
    """

    source: Source
    dataset: Dataset
    groups: Sequence[str]
    wanted: Range
    raw: Facts
    live: Facts
