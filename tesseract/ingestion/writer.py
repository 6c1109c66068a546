"""Validated records into the buffer: day marks first, then the raw items, in parallel, until a deadline.

Under write-time order the items go in batches, and the last put of a key is current. Under ref-time order the current item of a
key is put under a condition, one by one; where all revisions are kept, an item for the revision itself goes before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import DAILY
from tesseract.errors import ConditionFailed, Throttled
from tesseract.model import Item, Record
from tesseract.storage.base import Before, Counters, Key, Table
from tesseract.storage.items import history_item, raw_item
from tesseract.storage.keys import days_pk
from tesseract.storage.revisions import last_puts, newest, put_condition
from tesseract.utils.time_utils import from_iso, iso_day, to_micros

PARALLEL = 16
SHARE = 100  # items of one task: four BatchWriteItem calls
LATE = timedelta(hours=24)  # a day that ended longer ago than this is read from the buffer only where it is marked
RENEW = timedelta(minutes=10)
REMEMBERED = 10_000  # marks; with more, those due for renewal are forgotten
FRESH = timedelta(minutes=2)  # how old mark and expiry may be when a write is sent


class _Lot(msgspec.Struct):
    """What is still to be written of the records of one key. `history` holds the revisions to be kept."""

    indices: list[int]
    current: Record
    history: list[Record]


class Writer:
    """Writes records of any dataset to the raw table. Share one per process: it remembers the marks that it has put."""

    def __init__(self, raw: Table, live: Table, clock: Callable[[], datetime]) -> None:
        self._raw, self._live, self._clock = raw, live, clock
        self._marks: dict[Key, datetime] = {}
        self._pool = ThreadPoolExecutor(PARALLEL)
        self._counters = Counters()

    @property
    def counts(self) -> Counter[str]:
        """What happened since the process began.

        `attempts`: passes over what was still to be written; `superseded`: records accepted though a newer revision was there
        already; `throttled`: calls refused for throttling; `unprocessed`: items that BatchWriteItem gave back, written later or
        reported.
        """
        return self._counters.read() + self._raw.counters.read()

    def write(self, dataset: Dataset, records: Iterable[tuple[int, Record]], deadline: datetime) -> list[int]:
        """Write records, of those with one key the newest revision winning. Returns the indices of those not written by `deadline`.

        `dataset` must have been read after it was marked as used (Configs.use), or be of a version before that one. A record that
        lost to a newer one, of the same call or in the table, counts as written. Those of one key share their fate.
        """
        by_key: dict[tuple[str, datetime], tuple[list[int], list[Record]]] = {}
        for index, record in records:
            indices, own = by_key.setdefault((record.group, record.valid_time), ([], []))
            indices.append(index)
            own.append(record)
        kept = dataset.revisions == "all"
        left = [_Lot(i, newest(dataset, own), last_puts(own) if kept else []) for i, own in by_key.values()]
        while left and self._clock() < deadline:
            left = self._attempt(dataset, left, deadline)
        return sorted(index for lot in left for index in lot.indices)

    def _attempt(self, dataset: Dataset, pending: list[_Lot], deadline: datetime) -> list[_Lot]:
        """One pass. Marks and expiry are computed here and used for two minutes at most: an export must not slip between."""
        now = self._clock()
        until = min(deadline, now + FRESH)
        self._counters.add("attempts")
        self.mark_days(dataset, [lot.current for lot in pending], now)
        self._keep_history(dataset, pending, now, until)
        ready = [lot for lot in pending if not lot.history]
        put = self._put_newest if dataset.by_ref_time else self._put_last
        return [lot for lot in pending if lot.history] + put(dataset, ready, now, until)

    def _keep_history(self, dataset: Dataset, lots: list[_Lot], now: datetime, until: datetime) -> None:
        """Write the revisions that are to be kept, before any of them becomes current: a crash in between loses none."""
        pairs = [(lot, record) for lot in lots for record in lot.history]
        items = [history_item(dataset, record, now) for _, record in pairs]
        by_key = {(item["pk"], item["sk"]): pair for item, pair in zip(items, pairs, strict=True)}
        for lot in lots:
            lot.history = []
        for lot, record in (by_key[key] for key in self._put_many(items, until)):
            lot.history.append(record)

    def _put_last(self, dataset: Dataset, lots: list[_Lot], now: datetime, until: datetime) -> list[_Lot]:
        """Put each lot's record whatever is there; returns the lots that were not written."""
        items = [raw_item(dataset, lot.current, now) for lot in lots]
        by_key = {(item["pk"], item["sk"]): lot for item, lot in zip(items, lots, strict=True)}
        return [by_key[key] for key in self._put_many(items, until)]

    def _put_newest(self, dataset: Dataset, lots: list[_Lot], now: datetime, until: datetime) -> list[_Lot]:
        """Put each lot's record unless a newer revision is there; returns the lots that were not written."""

        def put(lot: _Lot) -> bool:
            try:
                self._raw.put(raw_item(dataset, lot.current, now), put_condition(lot.current), until)
            except ConditionFailed:
                self._counters.add("superseded")
            except Throttled:
                return False
            return True

        return [lot for lot, written in zip(lots, self._pool.map(put, lots), strict=True) if not written]

    def _put_many(self, items: Sequence[Item], until: datetime) -> list[Key]:
        """Put items in batches; returns the keys of those that were not written."""
        shares = [items[start : start + SHARE] for start in range(0, len(items), SHARE)]
        unwritten = self._pool.map(lambda share: self._raw.put_many(share, until), shares)
        return [(item["pk"], item["sk"]) for left in unwritten for item in left]

    def mark_days(self, dataset: Dataset, records: list[Record], now: datetime) -> None:
        """Put a mark on every day that ended more than a day ago and that these records write into.

        Readers take a day from the buffer only while the archive may lack it; the mark tells them that it changes again.
        """
        groups_days = {(record.group, iso_day(record.valid_time)) for record in records}
        due = [
            (days_pk(dataset.name, group), day)
            for group, day in groups_days
            if DAILY.end(from_iso(day)) <= now - LATE and self._mark_is_old((days_pk(dataset.name, group), day), now)
        ]
        if len(self._marks) > REMEMBERED:
            self._marks = {key: marked for key, marked in self._marks.items() if now - marked <= RENEW}
        list(self._pool.map(lambda key: self._mark(key, now), due))

    def _mark_is_old(self, key: Key, now: datetime) -> bool:
        marked = self._marks.get(key)
        return marked is None or now - marked > RENEW

    def _mark(self, key: Key, now: datetime) -> None:
        # two writers mark one day: the mark only ever moves forward, and a later one than ours serves us too
        with suppress(ConditionFailed):
            self._live.put({"pk": key[0], "sk": key[1], "marked_at": to_micros(now)}, Before("marked_at", to_micros(now)))
        self._marks[key] = now
