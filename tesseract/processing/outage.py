"""An outage of the stream functions: a stream keeps its records for 24 hours, and what is not read by then is lost without a word.

An outage is declared before that can happen, by the function that is given a batch so old; or, where no batch came for as long, by
the first that comes again, if anything was written meanwhile. While it lasts, every change marks its periods stale instead of being
folded, and readers believe no live item. Once the archive holds every write of the outage, the archiver marks stale all that it may
have touched, and ends it (`healing`): what is marked is then computed from the archive.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tesseract.model import Change
from tesseract.processing.live import DELTA
from tesseract.storage.catalog import Catalog, Outage
from tesseract.utils.time_utils import to_micros

OLD = 20 * 3600  # seconds: four hours before the first record can be lost
KEPT = 24 * 3600  # seconds that a stream keeps its records
LAG = 2 * 3600  # seconds by which the archive of a daily cadence may be behind a day
AHEAD = 60  # seconds that a declaration reaches ahead, so that not every batch makes one
NOTED = 600  # seconds between two notes of a function's progress
SECOND = 1_000_000  # µs


class Watch:
    """One stream function's look at outages, batch by batch."""

    def __init__(self, catalog: Catalog, function: str) -> None:
        self._catalog, self._function = catalog, function
        self._reached: int | None = None

    def begin(self, changes: Iterable[Change], now: datetime) -> bool:
        """Before a batch: whether there is an outage. Declares one, or extends it, where changes before or after may be lost."""
        moment = to_micros(now) // SECOND
        streams = self._catalog.streams()
        self._reached = streams.reached.get(self._function)
        oldest = min((change.created for change in changes), default=moment)
        since = self._silent_since(moment)
        if moment - oldest < OLD and since is None:
            return streams.outage is not None
        if streams.outage is None or streams.outage.end < moment:
            # what was lost before this batch nobody can tell: back to where live items were last compared with the archive
            compared = self._catalog.progress().snapshot_through // SECOND
            start = min(oldest - DELTA, compared, moment if since is None else since - DELTA)
            self._catalog.extend_outage(Outage(start, moment + AHEAD))
        return True

    def end(self, now: datetime) -> None:
        """After a batch that was applied whole."""
        moment = to_micros(now) // SECOND
        if self._reached is None or moment - self._reached >= NOTED:
            self._catalog.reached(self._function, moment)
            self._reached = moment

    def _silent_since(self, moment: int) -> int | None:
        """When the function last applied a batch, if that is so long ago that what was written since may be lost.

        A stage where nothing was written is only quiet: the archive knows, up to a little less than the time that a stream keeps.
        One that is further behind does not. A function that never has applied one is silent since the beginning.
        """
        reached, lost = self._reached or 0, moment - KEPT
        if reached > lost:
            return None
        through = self._catalog.progress().archived_through
        if not through:
            return None
        if self._reached is not None and through < (lost - LAG) * SECOND:
            return reached
        windows = [window for window in self._catalog.windows() if window.state == "closed"]
        later = [w for w in windows if w.end > reached * SECOND and w.start < (lost + DELTA) * SECOND]
        written = max(map(self._catalog.last_write, later), default=0) > (reached + DELTA) * SECOND
        return reached if written else None
