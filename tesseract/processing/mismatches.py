"""Live items that differed from raw rows at a snapshot: looked at again later, since the stream may only have been behind.

One that is unchanged then has missed a change for good: it is marked stale, and repaired with the next window. The stage's metric
counts it, since it must never happen while the stream works.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.processing.marking import mark, mark_latest
from tesseract.storage.base import Backend, Key, Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import MISMATCHES, is_latest_pk, mismatches_object, split_latest_pk, split_live_key
from tesseract.utils.time_utils import from_micros, to_micros

logger = logging.getLogger(__name__)
AGAIN = timedelta(hours=1)  # a stream that works is not as far behind: its alarm would ring


class Seen(msgspec.Struct, frozen=True):
    """A live item that differed, by its key and the version that did."""

    pk: str
    sk: str
    version: int

    @property
    def key(self) -> Key:
        """(pk, sk)."""
        return self.pk, self.sk


class _Note(msgspec.Struct):
    seen_at: int  # µs since 1970
    items: list[Seen]


def note(objects: Objects, window: str, items: Sequence[Seen], now: datetime) -> None:
    """Keep what the snapshots of a window saw; where that is nothing, nothing is written."""
    if items:
        objects.put(mismatches_object(window), msgspec.json.encode(_Note(to_micros(now), list(items))))


def look_again(backend: Backend, catalog: Catalog, now: datetime) -> list[Seen]:
    """Mark the items that were seen long ago and have not changed since; returns them.

    The change that made a new version is exported with a later window, whose snapshots compare the item again.
    """
    marked: list[Seen] = []
    for info in list(backend.objects.list(MISMATCHES)):
        found = msgspec.json.decode(backend.objects.get(info.key), type=_Note)
        if now - from_micros(found.seen_at) < AGAIN:
            continue
        marked += [seen for seen in found.items if _mark(backend, catalog, seen, now)]
        backend.objects.delete(info.key)
    for seen in marked:
        logger.error("a live item had missed a change: %s %s", seen.pk, seen.sk)
    return marked


def _mark(backend: Backend, catalog: Catalog, seen: Seen, now: datetime) -> bool:
    latest = is_latest_pk(seen.pk)
    name = split_latest_pk(seen.pk) if latest else split_live_key(*seen.key)[0]
    dataset: Dataset | None = catalog.sound(name)
    if latest:
        return dataset is not None and mark_latest(backend.live, seen.key, now, seen.version)
    level = dataset.level(split_live_key(*seen.key)[2]) if dataset else None
    return level is not None and mark(backend.live, seen.key, level, now, seen.version)
