"""What follows the close of export windows: snapshots of the aggregate levels, repairs of stale items, and the progress of both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tesseract.errors import DamagedError
from tesseract.processing import healing, mismatches, repair, snapshots
from tesseract.processing.mismatches import Seen
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog


@dataclass(frozen=True)
class Outcome:
    """What one run did.

    `missed` are live items that had missed a change for good, `healed` counts those marked at the end of an outage.
    """

    windows: list[snapshots.Report]
    repairs: repair.Report
    missed: list[Seen]
    healed: int


def run(backend: Backend, catalog: Catalog, now: datetime) -> Outcome:
    """Snapshot the windows that have closed, repair the worklist as of the last of them. Repeatable; a run cut short goes on.

    `snapshot_through` moves only when both are done: readers take from there on what these wrote.
    """
    missed = mismatches.look_again(backend, catalog, now)
    healed = healing.heal(backend, catalog, now)
    try:
        reports = snapshots.run(backend, catalog, now)
    except DamagedError:
        repair.run(backend, catalog, now)  # what waits in other datasets does not wait for this one
        raise
    repairs = repair.run(backend, catalog, now)
    snapshots.settle(catalog, repairs.through)
    return Outcome(reports, repairs, missed, healed)
