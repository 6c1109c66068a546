"""An outage of the stream functions: a stream keeps its records for 24 hours, and what is not read by then is lost without a word.

An outage is declared before that can happen, by the function that is given a batch so old. While it lasts, every change marks its
periods stale instead of being folded, and readers believe no live item. Once the archive holds every write of the outage, the
archiver marks stale all that it may have touched, and ends it: what is marked is then computed from the archive.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tesseract.model import Change
from tesseract.processing.live import DELTA
from tesseract.storage.catalog import Catalog, Outage
from tesseract.utils.time_utils import to_micros

OLD = 20 * 3600  # seconds: four hours before the first record can be lost
AHEAD = 60  # seconds that a declaration reaches ahead, so that not every batch makes one
SECOND = 1_000_000  # µs


def declare(catalog: Catalog, changes: Iterable[Change], now: datetime) -> None:
    """Declare an outage, or extend it, where a batch is so old that changes before or after it may be lost.

    It begins where the live items were last compared with the archive: what was lost before this batch came, nobody else can tell.
    """
    oldest = min((change.created for change in changes), default=None)
    moment = to_micros(now) // SECOND
    if oldest is None or moment - oldest < OLD:
        return
    known = catalog.outage()
    if known is None or known.end < moment:
        compared = catalog.progress().snapshot_through // SECOND
        catalog.extend_outage(Outage(min(oldest - DELTA, compared), moment + AHEAD))
