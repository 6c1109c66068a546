"""The rules of a backfill: what goes where, and what its commit makes of a manifest. Pure.

A backfill writes segments beside the buffer. Three things could go wrong with that, and each has a rule:

    a newer write is hidden        The rows carry a write time that lies before the moment C at which it was looked whether the
                                   buffer has an item of their day. An item stays in the buffer for two days at least: so a write
                                   before C was seen, and its day goes through the buffer; one after C is the newer row.
    a deleted record comes back    A tombstone is purged once `closed_through` has passed its write. One that is newer than the rows
                                   and was written before C was seen in the buffer, so none has been purged while `closed_through`
                                   is before C. Else the commit is refused, and the unit is looked at anew. The segments'
                                   `window_end` is C: compaction takes them up once everything written before C is committed.
    it is done twice               Rows of the same content merge with themselves, whatever their write times: nobody sees it. To
                                   save the work a manifest remembers the commit until `closed_through` has passed C. A commit that
                                   it remembers is made again only where others have written beside it since: then it is the newer
                                   put of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import Period, tier_period
from tesseract.model import Applied, Manifest, Segment

SKEW = 600_000_000  # µs by which clocks may differ: a write that came right after the look must be newer than our rows
MARGIN = 3_600_000_000  # µs: a day is older than the buffer for every clock
DAY = 86_400_000_000  # µs


def home(ladder: tuple[str, ...], moment: datetime, now: datetime) -> tuple[str, Period]:
    """The tier and period that a row is written to: the coarsest that has ended by `now`, so that nothing must be merged later."""
    periods = [(tier, tier_period(ladder, tier, moment)) for tier in reversed(ladder)]
    return next(((tier, period) for tier, period in periods if period.end <= now), periods[-1])


def is_old(dataset: Dataset, day: int, moment: int) -> bool:
    """Whether a day (number since 1970) is older than the buffer at `moment` (µs): no record of it is kept for its age alone.

    A stream function takes no new record of such a day for the first one without a look at the manifest.
    """
    return (day + 1) * DAY + dataset.buffer_ttl // timedelta(microseconds=1) + MARGIN <= moment


def known(manifest: Manifest, commit: str, first: int, last: int) -> int | None:
    """When (µs) a commit was made that need not be made again; None for one that is to be made.

    [first, last] is where its rows lie: if others were written there since, it must be the newer put.
    """
    made = next((applied.window_end for applied in manifest.applied if applied.id == commit), None)
    if made is None:
        return None
    since = (part for part in manifest.segments if part.window_end > made and part.first <= last and part.last >= first)
    return None if any(since) else made


def backfilled(manifest: Manifest, segments: Sequence[Segment], commit: str, moment: int, operation: str) -> Manifest | None:
    """`manifest` with the segments of a commit that looked at the buffer at `moment` (µs); None where it comes too late."""
    if moment <= manifest.closed_through:
        return None
    others = tuple(applied for applied in manifest.applied if applied.id != commit)
    return replace(
        manifest,
        segments=(*manifest.segments, *segments),
        applied=(*others, Applied(commit, moment)),
        operation=operation,
    )


def level_order(closed: int) -> int:
    """The order of level rows computed from a manifest that was read after our commit, windows being closed up to `closed` (µs).

    A snapshot or a repair that may have missed our rows has begun before, so its order is at most `closed`. One of a later window
    has begun after, has our rows in it, and windows end on whole seconds: its order is greater.
    """
    return closed + 1
