"""Marks live items stale from outside the stream: for a rebuild, after an outage, where an item differs from its records."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from tesseract.config.dataset import Level
from tesseract.errors import ConditionFailed, RetryError
from tesseract.processing.live import DELTA, marked_stale
from tesseract.processing.live_item import LiveItem, decode_item, encode_item
from tesseract.processing.worklist import entry
from tesseract.storage.base import Absent, Is, Key, Table
from tesseract.utils.time_utils import EPOCH, MAX_TIME, from_iso, iso_micros

ATTEMPTS = 20


def mark(live: Table, key: Key, level: Level, now: datetime, version: int | None = None) -> bool:
    """Mark an aggregate item stale, and put it on the worklist; one that is absent is made. It is repaired with the next window.

    With `version`, only that version is marked: False where there is another by now.
    """
    for _ in range(ATTEMPTS):
        stored = live.get(key)
        # before the mark, so that a crash in between leaves an entry too many; after the read, so that a repair which answers this
        # entry makes a new version, and the mark is refused
        live.put(entry(key, now))
        item = LiveItem(*key, live_from=level.live_from) if stored is None else decode_item(stored)
        if version is not None and item.version != version:
            return False
        new = marked_stale(item, level, _seconds(now) + DELTA)
        try:
            # the stream writes the item at the same time: of one version only one writes the next, the other looks again
            new = replace(new, version=item.version + 1)
            live.put(encode_item(new, level, now), Absent() if stored is None else Is("version", item.version))
        except ConditionFailed:
            continue
        return True
    raise RetryError("the item changed under every attempt", operation="mark", key=" ".join(key))


def mark_latest(live: Table, key: Key, now: datetime, version: int | None = None) -> bool:
    """Mark a latest item stale, and put it on the worklist; `version` as for `mark`.

    It may have missed a later record, so no change of the stream replaces it before it is repaired.
    """
    for _ in range(ATTEMPTS):
        stored = live.get(key) or {"version": 0}
        live.put(entry(key, now))
        if version is not None and stored["version"] != version:
            return False
        # what it holds may have come after `now` was read: a repair must not take a window's end in between
        written = from_iso(stored.get("updated_at", iso_micros(now)))
        at = max(_seconds(max(now, written)) + DELTA, stored.get("stale_at", 0))
        item = {"pk": key[0], "sk": key[1], "valid_time": iso_micros(MAX_TIME), "updated_at": iso_micros(now), "stale": True}
        try:
            condition = Is("version", stored["version"]) if stored["version"] else Absent()
            live.put(item | {"stale_at": at, "version": stored["version"] + 1}, condition)
        except ConditionFailed:
            continue
        return True
    raise RetryError("the item changed under every attempt", operation="mark", key=" ".join(key))


def _seconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)
