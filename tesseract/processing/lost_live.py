"""What to declare when the live table was lost, and a new, empty one stands in its place, so that nobody is answered wrongly.

    lost with the table     what would go wrong                           what is declared
    day marks               readers leave out of the buffer a day that    `marks_since`: until the archive has all writes before it,
                            was written to lately                         readers take all days from the buffer
    aggregates, latest      a new record of a period that had some        an outage: every change marks its period stale, readers
                            would be taken for its first one              believe no item; at its end what it touched is computed
    the worklist            periods that wait would never be repaired     nothing: all that the archive has is marked again

The periods that have not been touched since the last snapshots are marked by `rebuild`, group by group; the outage lasts at least
until that is done.
"""

from __future__ import annotations

from datetime import datetime

from tesseract.storage.catalog import Catalog, Outage
from tesseract.utils.time_utils import to_micros

SECOND = 1_000_000  # µs


def declare(catalog: Catalog, now: datetime) -> None:
    """Say that everything that was put into the live table before `now` may be lost. Doing it twice only moves it forward."""
    moment = to_micros(now)
    catalog.extend_outage(Outage(catalog.progress().snapshot_through // SECOND, moment // SECOND + 1))
    catalog.advance("marks", moment)


def renew(catalog: Catalog, now: datetime) -> None:
    """Let the outage last until `now`: not everything is marked yet."""
    moment = to_micros(now) // SECOND + 1
    catalog.extend_outage(Outage(moment, moment))
