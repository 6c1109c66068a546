"""Erasure from the tables: tombstones and kept revisions by DeleteItem, and what live table says of a group without records.

This is the one place that removes raw items. A tombstone goes only after it has been archived and the rows that it hides have been
erased from the archive, and only if it is still the tombstone. What was written again since stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import UNITS
from tesseract.errors import ConditionFailed
from tesseract.model import Item
from tesseract.processing.erase import Subject, partitions, plan
from tesseract.processing.segments import RAW, micros
from tesseract.storage import segment_reader
from tesseract.storage.base import Backend, Is, Key, Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import (
    days_between,
    days_pk,
    group_values,
    history_valid_time,
    is_history,
    is_latest_pk,
    latest_key,
    live_pk,
    raw_key,
    raw_pk,
    split_live_key,
)
from tesseract.utils.time_utils import MAX_TIME, from_iso, from_micros, iso_day, iso_micros, to_micros

PARALLEL = 16
SLACK = timedelta(days=9)  # by which TTL may be late, and a tombstone later than its day
SKEW = timedelta(minutes=15) // timedelta(microseconds=1)  # a mark counts until the archive is so far behind it, in µs
Row = tuple[int, int | None]  # (valid time, ref time), µs since 1970
Removal = tuple[Key, Is]  # an item, and what must still hold of it


def days(catalog: Catalog, live: Table, subject: Subject, now: datetime) -> list[str]:
    """The UTC days on which the buffer can have items of the range: the last ones, by the longest TTL, and those with a mark."""
    versions = catalog.versions(subject.dataset.name)
    ttl = max(timedelta(hours=version.buffer_ttl_hours) for version in versions)
    future = max(timedelta(seconds=version.max_future_seconds) for version in versions)
    start, end = from_micros(subject.start), from_micros(subject.end)
    begin = from_micros(0) if now - from_micros(0) < ttl + SLACK else now - ttl - SLACK
    found = set(days_between(max(start, begin), min(end, now + future + timedelta(days=1))))
    marks = live.query(days_pk(subject.dataset.name, subject.group), iso_day(start))
    return sorted(found | {item["sk"] for item in marks if from_iso(item["sk"]) < end})


def raw_items(backend: Backend, subject: Subject, day: str) -> list[Item]:
    """The items of a day, current ones and kept revisions, whose valid time lies in the range."""
    items = backend.raw.query(raw_pk(subject.dataset.name, subject.group, day))
    return [item for item in items if subject.start <= to_micros(_valid_time(item)) < subject.end]


def removable(items: Iterable[Item], archived: frozenset[int]) -> list[Removal]:
    """Which raw items of a day go. Pure.

    A tombstone, and the revisions of its valid time; of one that was written again, only the revisions that are tombstones.
    `archived` are the valid times (µs) of rows that the archive has still: a tombstone among them hides one of those.
    """
    items = list(items)
    buried = {item["sk"] for item in items if item.get("deleted") and not is_history(item["sk"])}
    buried -= {iso_micros(from_micros(at)) for at in archived}
    found: list[Removal] = []
    for item in items:
        current = item["sk"] in buried
        revision = is_history(item["sk"]) and (iso_micros(_valid_time(item)) in buried or bool(item.get("deleted")))
        if current or revision:
            same = Is("deleted", True) if item.get("deleted") else Is("fields", item["fields"])
            found.append(((item["pk"], item["sk"]), same))
    return found


def remove_raw(backend: Backend, catalog: Catalog, subject: Subject, now: datetime) -> tuple[int, set[int]]:
    """Remove the tombstones and revisions of the range, day by day; how many items, and the valid times (µs) of tombstones."""
    archived = frozenset(_archived(backend, catalog, subject))
    count, times = 0, set[int]()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for day in days(catalog, backend.live, subject, now):
            removals = removable(raw_items(backend, subject, day), archived)
            # of a valid time the tombstone goes last: a run that was cut short finds the rest by it
            for revisions in (True, False):
                lot = [removal for removal in removals if is_history(removal[0][1]) == revisions]
                count += sum(pool.map(lambda removal: _remove(backend.raw, removal), lot))
                times |= set() if revisions else {to_micros(from_iso(key[1])) for key, _ in lot}
    return count, times


def returned(backend: Backend, subject: Subject, times: set[int], visible: Iterable[Sequence[Row]]) -> Iterator[list[Row]]:
    """Of the visible rows those whose tombstone was removed though it was not archived: they are in the archive alone.

    Somebody wrote the row after the cut and deleted it while the erasure ran, and a window ended between the two. Its tombstone is
    the same item as the one that had to go. A row that was only written again is in the buffer, too.
    """
    for batch in visible:
        found = [row for row in batch if row[0] in times and not _is_there(backend.raw, subject, row[0])]
        if found:
            yield found


def _is_there(raw: Table, subject: Subject, at: int) -> bool:
    return raw.get(raw_key(subject.dataset.name, subject.group, from_micros(at))) is not None


def _archived(backend: Backend, catalog: Catalog, subject: Subject) -> Iterator[int]:
    """The valid times of what the archive has of the range."""
    own = group_values(subject.dataset, subject.group)
    (partition,) = (one for one in partitions(catalog, subject) if one.level == RAW)
    for segment in plan(catalog.manifest(subject.dataset.name, RAW, partition.name), subject):
        start, end = from_micros(subject.start), min(from_micros(subject.end), MAX_TIME)
        yield from micros(
            segment_reader.read(backend.objects, segment, "valid_time", start, end, ["valid_time"], own), "valid_time"
        )


def remove_live(backend: Backend, catalog: Catalog, subject: Subject) -> int:
    """Of a whole group: remove what the live table says of periods without records, and that there is no latest one.

    Of a range too: the periods in it whose records retention may have removed. Nothing else would ever take the rows out of these.
    """
    first = rows_kept_from(subject.dataset, RAW, catalog.progress().snapshot_through)
    found = [
        ((item["pk"], item["sk"]), Is("version", item["version"]))
        for item in live_items(backend, catalog, subject)
        if (subject.whole and _is_empty(item)) or (not is_latest_pk(item["pk"]) and _is_settled(item, subject, first))
    ]
    return sum(_remove(backend.live, one) for one in found)


def _is_empty(item: Item) -> bool:
    return bool(item.get("none")) if is_latest_pk(item["pk"]) else item.get("rows") == 0


def _is_settled(item: Item, subject: Subject, first: int) -> bool:
    """Whether an aggregate is of a period that overlaps what is erased, and that nobody computes any more."""
    start = from_iso(item["sk"])
    end = UNITS[split_live_key(item["pk"], item["sk"])[2]].end(start)
    return subject.start < to_micros(end) and to_micros(start) < min(subject.end, first)


def remove_marks(backend: Backend, catalog: Catalog, subject: Subject) -> int:
    """Of a whole group: remove the day marks of days without raw items. One that readers and writers still go by stays."""
    through = catalog.progress().archived_through
    found: list[Removal] = []
    for item in backend.live.query(days_pk(subject.dataset.name, subject.group)):
        idle = item["marked_at"] + SKEW <= through
        if idle and not raw_items(backend, subject, item["sk"]):
            found.append(((item["pk"], item["sk"]), Is("marked_at", item["marked_at"])))
    return sum(_remove(backend.live, one) for one in found)


def live_items(backend: Backend, catalog: Catalog, subject: Subject) -> Iterator[Item]:
    """The aggregate items of the group, of every level it ever had, and its latest value."""
    levels: Sequence[str] = sorted({level.name for version in catalog.versions(subject.dataset.name) for level in version.levels})
    for level in levels:
        yield from backend.live.query(live_pk(subject.dataset.name, subject.group, level))
    latest = backend.live.get(latest_key(subject.dataset.name, subject.group))
    if latest is not None:
        yield latest


def _valid_time(item: Item) -> datetime:
    return history_valid_time(item["sk"]) if is_history(item["sk"]) else from_iso(item["sk"])


def _remove(table: Table, removal: Removal) -> int:
    # a producer writes the key again: it finds the tombstone or none, and its record is there either way; ours is refused
    with suppress(ConditionFailed):
        table.delete(*removal)
        return 1
    return 0
