"""Computes aggregates anew: which periods to mark, and the marks. The archiver does the rest at the end of its next window.

Nothing but the archiver writes a recomputed state into a live item, since changes that are still in the stream would count twice.
So a rebuild may run at any time, beside the stream, twice, or be cut short: a mark is the same whoever made it, and how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import pyarrow.compute as pc

from tesseract.config import tiers
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import UNITS
from tesseract.model import Manifest
from tesseract.processing.marking import mark
from tesseract.processing.segments import DAY, PERIOD_START, RAW, micros
from tesseract.storage import segment_reader
from tesseract.storage.base import Backend, Key, Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import group_values, level_partition, live_pk, split_live_key, worklist_key
from tesseract.utils.time_utils import EPOCH, MAX_TIME, MICROSECOND, from_iso, from_micros, iso_seconds, to_micros

PARALLEL = 16
FIRST, LAST = to_micros(datetime.min.replace(tzinfo=EPOCH.tzinfo)), to_micros(MAX_TIME)
Say = Callable[[str], None]


class Span(NamedTuple):
    """[start, end) of valid time, µs since 1970; without bounds it is all of it."""

    start: int = FIRST
    end: int = LAST


Times = Callable[[Span], Iterable[int]]  # the valid times (µs) of a group's records, archive and buffer together


@dataclass
class Marks:
    """What a rebuild has marked: level → the keys of its items, in order. Periods before `first` (µs) keep their numbers."""

    keys: dict[str, list[Key]] = field(default_factory=dict)
    first: int = FIRST

    def ended(self, now: datetime) -> list[Key]:
        """Those whose period is over: the others may be written to before each window, and are computed when they are not."""
        return [key for level, keys in self.keys.items() for key in keys if UNITS[level].end(split_live_key(*key)[3]) <= now]

    def count(self) -> int:
        """Of all levels."""
        return sum(map(len, self.keys.values()))


def plan(kept: Mapping[str, Iterable[int]], times: Iterable[int], span: Span) -> dict[str, list[int]]:
    """Level → the starts (µs) of the periods to mark, in order: those that overlap `span` and are stored, or have a record.

    `kept` has for each level the starts of its stored periods, `times` are valid times. A period partly in the span counts whole.
    """
    times = set(times)
    found: dict[str, list[int]] = {}
    for level, stored in kept.items():
        length = tiers.LENGTHS[level] // MICROSECOND
        starts = {*stored, *(time // length * length for time in times)}
        found[level] = sorted(start for start in starts if span.start // length * length <= start < span.end)
    return found


def pieces(span: Span, manifest: Manifest) -> list[Span]:
    """A span in pieces of at most a month where segments have rows: each is planned alone, in bounded memory."""
    edges: list[int] = []
    if manifest.segments:
        first, last = min(s.first for s in manifest.segments), max(s.last for s in manifest.segments)
        edges = [to_micros(month.start) for month in UNITS["monthly"].periods(from_micros(first), from_micros(last))]
    return [Span(*pair) for pair in pairwise([span.start, *(edge for edge in edges if span.start < edge < span.end), span.end])]


def whole_days(span: Span) -> Span:
    """The span made wider to whole days: no period that is kept crosses one."""
    return Span(max(span.start // DAY * DAY, FIRST), min(-(-span.end // DAY) * DAY, LAST))


def run(
    backend: Backend,
    catalog: Catalog,
    dataset: Dataset,
    group: str,
    levels: Sequence[Level],
    span: Span,
    times: Times,
    clock: Callable[[], datetime],
    say: Say = lambda _: None,
) -> Marks:
    """Mark the periods of `levels` (of those that have items) that overlap `span`, and whose raw rows retention has left alone.

    `clock` must not be behind the stage's by more than a few seconds: what was written after it would be missing from the repair.
    """
    done = Marks({level.name: [] for level in levels}, rows_kept_from(dataset, RAW, catalog.progress().snapshot_through))
    span = Span(max(span.start, done.first), max(span.end, done.first))
    with ThreadPoolExecutor(PARALLEL) as pool:
        for piece in pieces(span, catalog.manifest_of(dataset, RAW, group)):
            kept = {level.name: set(stored(backend, catalog, dataset, group, level, piece)) for level in levels}
            wanted = plan(kept, times(whole_days(piece)), piece)
            for level in levels:
                pk = live_pk(dataset.name, group, level.name)
                keys = [(pk, iso_seconds(from_micros(start))) for start in wanted[level.name]]
                for _ in pool.map(lambda key, level=level: mark(backend.live, key, level, clock()), keys):
                    pass
                done.keys[level.name] += keys
            say(f"periods marked: {done.count():,}")
    return done


def stored(backend: Backend, catalog: Catalog, dataset: Dataset, group: str, level: Level, span: Span) -> Iterator[int]:
    """The starts (µs) of the periods of a level that overlap `span` and have a live item, or a row in the archive."""
    days = whole_days(span)
    low = None if span.start == FIRST else iso_seconds(from_micros(days.start))
    high = None if span.end == LAST else iso_seconds(from_micros(days.end))
    for item in backend.live.query(live_pk(dataset.name, group, level.name), low, high):
        yield to_micros(from_iso(item["sk"]))
    for segment in catalog.manifest_of(dataset, level_partition(level), group).segments:
        if segment.first < days.end and segment.last >= days.start:
            own = group_values(dataset, group)
            table = segment_reader.read(backend.objects, segment, PERIOD_START, None, None, [PERIOD_START, "rows"], own)
            yield from micros(table.filter(pc.greater(table["rows"], 0)), PERIOD_START)  # one without records hides an older one


def waiting(live: Table, keys: Iterable[Key]) -> list[Key]:
    """Those of `keys` whose repair is still on the worklist."""
    entries = {worklist_key(*key): key for key in keys}
    return [entries[found] for found in live.get_many(entries)]
