"""Ends an outage of the stream functions, once the archive holds every write of it: what it may have touched is marked stale."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS
from tesseract.processing import touched as notes
from tesseract.processing.live_item import LiveItem, decode_item, live_levels
from tesseract.processing.marking import mark, mark_latest
from tesseract.processing.outage import SECOND
from tesseract.processing.touched import HOUR, Touched, of_window, pending_of
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog, Outage
from tesseract.storage.keys import latest_key, live_key
from tesseract.utils.time_utils import from_micros

PARALLEL = 16


def heal(backend: Backend, catalog: Catalog, now: datetime) -> int:
    """End an outage whose every write is archived; the number of items that were marked stale. Doing it twice is harmless."""
    outage = catalog.outage()
    if outage is None or catalog.progress().archived_through < outage.end * SECOND:
        return 0
    marked = 0
    for (name, group), hours in sorted(_touched(backend, catalog, outage).items()):
        dataset = catalog.sound(name)
        if dataset is not None:
            marked += _mark(backend, dataset, group, hours, outage, now)
    catalog.end_outage(outage)
    return marked


def _touched(backend: Backend, catalog: Catalog, outage: Outage) -> Touched:
    """What the windows of an outage wrote, and what had not ended before it: a period may have been begun then."""
    windows = [window for window in catalog.windows() if window.state == "closed"]
    before = [window for window in windows if window.end <= outage.start * SECOND and window.snapshot_at]
    parts = [of_window(catalog, backend.objects, window) for window in windows if window.end > outage.start * SECOND]
    if before:
        parts.append(pending_of(backend.objects, before[-1]))
    return notes.merged(parts)


def _mark(backend: Backend, dataset: Dataset, group: str, hours: Iterable[int], outage: Outage, now: datetime) -> int:
    keys = {
        live_key(dataset.name, group, UNITS[level.name], at): level
        for level in live_levels(dataset)
        for hour in hours
        for at in _starts(level.name, hour)
    }
    found = backend.live.get_many(keys)
    # those of a run that was cut short are marked already: the next one goes on from there
    left = [key for key, level in keys.items() if key not in found or not _holds(decode_item(found[key]), level, outage)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        marked = sum(pool.map(lambda key: mark(backend.live, key, keys[key], now), left))
    return marked + mark_latest(backend.live, latest_key(dataset.name, group), now)


def _holds(item: LiveItem, level: Level, outage: Outage) -> bool:
    """Whether an item was, or is to be, computed from an archive that holds every write of an outage."""
    through = item.repaired_through if item.stale_at is None else item.stale_at
    return item.live_from == level.live_from and through is not None and through >= outage.end


def _starts(level: str, hour: int) -> list[datetime]:
    """The starts of a level's periods within an hour, or of the one that holds it."""
    start, end = from_micros(hour * HOUR), from_micros((hour + 1) * HOUR)
    unit = UNITS[level]
    return [period.start for period in unit.periods(unit.floor(start), end)]
