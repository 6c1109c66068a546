"""Validated records into the buffer: day marks first, then the raw items, in batches and in parallel, until a deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import DAILY
from tesseract.errors import ConditionFailed
from tesseract.model import Item, Record
from tesseract.storage.base import Before, Key, Table
from tesseract.storage.items import raw_item
from tesseract.storage.keys import days_pk
from tesseract.utils.time_utils import from_iso, iso_day, to_micros

PARALLEL = 8
SHARE = 100  # items of one task: four BatchWriteItem calls
LATE = timedelta(hours=24)  # a day that ended longer ago than this is read from the buffer only where it is marked
RENEW = timedelta(minutes=10)
REMEMBERED = 10_000  # marks; with more, those due for renewal are forgotten
FRESH = timedelta(minutes=2)  # how old mark and expiry may be when a write is sent


class Writer:
    """Writes records of any dataset to the raw table. Share one per process: it remembers the marks that it has put."""

    def __init__(self, raw: Table, live: Table, clock: Callable[[], datetime]) -> None:
        self._raw, self._live, self._clock = raw, live, clock
        self._marks: dict[Key, datetime] = {}
        self._pool = ThreadPoolExecutor(PARALLEL)

    def write(self, dataset: Dataset, records: Iterable[tuple[int, Record]], deadline: datetime) -> list[int]:
        """Write records, the later of two with one key winning. Returns the indices of those not written by `deadline`.

        A record that lost to a later one of the same call shares its fate.
        """
        pending: dict[Key, tuple[Record, list[int]]] = {}
        for index, record in records:
            key = (record.group, record.valid_time.isoformat())
            indices = pending[key][1] if key in pending else []
            indices.append(index)
            pending[key] = (record, indices)
        left = list(pending.values())
        while left and self._clock() < deadline:
            left = self._attempt(dataset, left, deadline)
        return sorted(index for _, indices in left for index in indices)

    def _attempt(
        self, dataset: Dataset, pending: list[tuple[Record, list[int]]], deadline: datetime
    ) -> list[tuple[Record, list[int]]]:
        """One pass. Marks and expiry are computed here and used for two minutes at most: an export must not slip between."""
        now = self._clock()
        self.mark_days(dataset, [record for record, _ in pending], now)
        by_key: dict[Key, tuple[Record, list[int]]] = {}
        items: list[Item] = []
        for record, indices in pending:
            item = raw_item(dataset, record, now)
            by_key[item["pk"], item["sk"]] = (record, indices)
            items.append(item)
        until = min(deadline, now + FRESH)
        shares = [items[start : start + SHARE] for start in range(0, len(items), SHARE)]
        unwritten = self._pool.map(lambda share: self._raw.put_many(share, until), shares)
        return [by_key[item["pk"], item["sk"]] for left in unwritten for item in left]

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
