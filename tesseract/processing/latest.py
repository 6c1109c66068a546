"""Latest values: one item per group, the newest valid time, right again soon after a correction or a delete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event

import msgspec

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset
from tesseract.config.tiers import DAILY
from tesseract.errors import ConditionFailed, RetryError, TesseractError
from tesseract.model import Change, Item, RawImage
from tesseract.processing.live import DELTA
from tesseract.processing.outage import Watch
from tesseract.processing.worklist import entry
from tesseract.storage.base import Absent, Is, Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import HISTORY, latest_key, raw_pk
from tesseract.utils.time_utils import from_iso, iso_day, iso_micros, to_micros

ATTEMPTS = 20
LOOK_BACK = 10  # days
FEW = 16
PARALLEL = 8

logger = logging.getLogger(__name__)


class Reading(msgspec.Struct, frozen=True):
    """What a latest item holds of a record."""

    valid_time: str
    ref_time: str | None
    fields: dict[str, object]


class Wanted(msgspec.Struct, frozen=True):
    """What a batch asks of one group's item: `newest` is its newest visible record, `seen` all valid times it touches.

    `created` is when the last of its changes was made, in seconds since 1970; `unread` the latest valid time whose image could not
    be read: the table may tell what the stream did not.
    """

    newest: Reading | None
    seen: frozenset[str]
    created: int
    unread: str = ""


def wanted(changes: list[Change]) -> Wanted:
    """What the changes of one group, in order, ask of its latest item. Pure."""
    final = {change.time: change.new for change in changes}
    visible = {time: image for time, image in final.items() if image is not None and not image.deleted}
    newest = max(visible, default=None)
    reading = None if newest is None else _reading(newest, visible[newest])
    unread = max((time for time, image in final.items() if image is None), default="")
    return Wanted(reading, frozenset(final), max(change.created for change in changes), unread)


def decide(item: Item | None, want: Wanted) -> Reading | None:
    """The reading that the batch itself makes the latest, None where it does not. Pure."""
    if want.newest is None or (item is not None and want.newest.valid_time <= item["valid_time"]):
        return None
    return want.newest


class LatestProcessor:
    """Keeps the latest items of a stage. `ages`: how old the new latest readings of the last batch were, seconds by dataset."""

    def __init__(self, raw: Table, live: Table, catalog: Catalog, configs: Configs, clock: Callable[[], datetime]) -> None:
        self._raw, self._live, self._catalog, self._configs, self._clock = raw, live, catalog, configs, clock
        self.ages: dict[str, list[float]] = {}
        self._watch = Watch(catalog, "latest")
        self._pool = ThreadPoolExecutor(PARALLEL)

    def process(self, changes: list[Change], held: Sequence[Change] = ()) -> str | None:
        """Apply a batch; `held` as for aggregates.

        Returns the lowest sequence number that is not durably applied, None where all are.
        """
        self._watch.begin([*changes, *held], self._clock())
        self.ages = {}
        groups: dict[tuple[str, str], list[Change]] = {}
        for change in changes:
            groups.setdefault((change.dataset, change.group), []).append(change)
        items = self._live.get_many(latest_key(*place) for place in groups)
        stop = Event()

        def update(place: tuple[str, str]) -> bool:
            own = groups[place]
            try:
                version = max((change.new.config_version for change in own if change.new), default=0)
                if stop.is_set():
                    return False
                self._update(self._configs.get(place[0], version), place[1], wanted(own), items.get(latest_key(*place)))
            except TesseractError as error:  # what was not written is delivered again; the log says why
                logger.warning("a latest value was not written: %s", error)
                stop.set()
                return False
            return True

        done = self._pool.map(update, groups)
        left = [own for own, is_done in zip(groups.values(), done, strict=True) if not is_done]
        if not left and not held:
            self._watch.end(self._clock())
        return min((change.sequence for own in left for change in own), key=int, default=None)

    def _update(self, dataset: Dataset, group: str, want: Wanted, item: Item | None) -> None:
        key = latest_key(dataset.name, group)
        for attempt in range(ATTEMPTS):
            item = self._live.get(key) if attempt else item
            own = decide(item, want)
            if want.unread > max("" if item is None else item["valid_time"], "" if own is None else own.valid_time):
                own, at = None, want.unread
                reading = self._look_up(dataset, group, at)
            elif own is not None:
                at = own.valid_time
                if item is not None and at <= item.get("until", ""):  # others have looked beyond it: it may have been deleted since
                    reading = self._look_up(dataset, group, at)
                else:
                    reading = self._unless_archived(dataset, group, own) if dataset.by_ref_time else own
            elif item is not None and item["valid_time"] in want.seen:
                # a change at the very time that the item holds may be an older one that comes again: raw knows better
                at = item["valid_time"]
                reading = self._look_up(dataset, group, at)
            elif item is not None and item.get("stale") and item["stale_at"] < want.created + DELTA:
                # the archiver computes it as of a window's end: not of one that does not have this change
                at, reading = item["valid_time"], None
            else:
                return
            if not self._write(key, item, at, reading, want.created):
                continue
            if reading is not None:
                age = (self._clock() - from_iso(reading.valid_time)).total_seconds()
                self.ages.setdefault(dataset.name, []).append(age)
            # what was looked up may have changed meanwhile; and a process that was given up long ago may come to its write only
            # now: then what its batch brought may have been deleted since
            if reading is None or self._look_up(dataset, group, reading.valid_time) == reading:
                return
            want = Wanted(None, frozenset({reading.valid_time}), want.created)  # raw changed under our hands: look again
        raise RetryError("the latest item changed under every attempt", operation="latest", key=" ".join(key))

    def _look_up(self, dataset: Dataset, group: str, valid_time: str) -> Reading | None:
        """The newest visible record at or before `valid_time`, None where the archive would have to be asked."""
        day, high = DAILY.floor(from_iso(valid_time)), valid_time + "~"
        oldest = self._clock() - dataset.shortest_ttl
        for _ in range(LOOK_BACK):
            found = self._last_of_day(raw_pk(dataset.name, group, iso_day(day)), high)
            if found is not None:
                return self._unless_archived(dataset, group, found)
            if day <= oldest:  # of an earlier day the buffer may lack records
                break
            day, high = day - timedelta(days=1), HISTORY
        return None

    def _last_of_day(self, pk: str, high: str) -> Reading | None:
        """The last visible record of a day before `high`: among the last few items as a rule, else among all."""
        for limit in (FEW, 0):
            items = list(self._raw.query(pk, None, high, reverse=True, limit=limit))
            visible = next((item for item in items if not item.get("deleted") and isinstance(item.get("fields"), dict)), None)
            if visible is not None or len(items) < limit:
                return None if visible is None else _of_item(visible)
        return None

    def _unless_archived(self, dataset: Dataset, group: str, found: Reading) -> Reading | None:
        """What was found in the buffer, None where the archive may have what is no longer there: a later record, or under ref-time
        order a newer revision of this one, whose item has expired so that an older one could take its place.
        """
        at = from_iso(found.valid_time)
        if at > self._clock() - dataset.shortest_ttl:
            return found  # nothing of that time, or later, can have expired
        # read after the buffer: what had gone from there by then is here
        segments = self._catalog.manifest_of(dataset, "raw", group).segments
        newer = to_micros(at) + (0 if dataset.by_ref_time else 1)
        return None if any(segment.last >= newer for segment in segments) else found

    def _write(self, key: tuple[str, str], old: Item | None, at: str, reading: Reading | None, created: int) -> bool:
        """Whether the item was written: `reading`, or a mark that the latest value is not known, but none is later than `at`."""
        version = 0 if old is None else int(old["version"])
        item: Item = {"pk": key[0], "sk": key[1], "version": version + 1, "updated_at": iso_micros(self._clock())}
        if reading is None:  # our readers resolve it until the archiver has; others see no numbers rather than wrong ones
            item |= {"stale": True, "valid_time": at, "stale_at": max(created + DELTA, old.get("stale_at", 0) if old else 0)}
            self._live.put(entry(key, self._clock()))  # before the mark
        else:
            item |= {"valid_time": reading.valid_time, "fields": reading.fields}
            item |= {"ref_time": reading.ref_time} if reading.ref_time else {}
        until = max(at, old.get("until", "") if old else "")  # a process that was given up may still bring what was deleted
        item |= {"until": until} if until > item["valid_time"] else {}
        try:
            # batches of two shards meet in one group: both read version n, only one writes n+1, the other looks again
            self._live.put(item, Absent() if old is None else Is("version", version))
        except ConditionFailed:
            return False
        return True


def _reading(valid_time: str, image: RawImage) -> Reading:
    return Reading(valid_time, image.ref_time, dict(image.fields))


def _of_item(item: Item) -> Reading:
    return Reading(item["sk"], item.get("ref_time"), item["fields"])
