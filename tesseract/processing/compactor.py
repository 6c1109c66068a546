"""Compaction: a pure plan of merges from a manifest, and what carries one out.

A merge takes the segments of one period into one sorted segment of the period's tier; the newest row of a key wins
(`storage.newest`). What was merged stays in older manifests, so a reader that began before is not disturbed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import UNITS, Period, tier_period
from tesseract.model import Manifest, Segment
from tesseract.processing.segments import RAW, REVISIONS, Partition, micros, swapped, write_segment
from tesseract.storage import parquet_writer
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.keys import level_partition
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros


@dataclass(frozen=True)
class Merge:
    """Segments to be merged into one of `tier` and `period`, oldest window first."""

    tier: str
    period: Period
    inputs: tuple[Segment, ...]

    @property
    def step(self) -> str:
        """`daily→monthly`, or `monthly` where only segments of the tier itself are merged."""
        finer = sorted({segment.tier for segment in self.inputs} - {self.tier}, key=lambda tier: UNITS[tier].rank)
        return f"{'+'.join(finer)}{'→' if finer else ''}{self.tier}"

    @property
    def label(self) -> str:
        """`daily→monthly 2013-01`."""
        return f"{self.step} {UNITS[self.tier].label(self.period.start)}"


@dataclass(frozen=True)
class Merged:
    """A merge that was committed."""

    partition: Partition
    merge: Merge
    rows: int
    purged: int  # tombstones that were left out for good


class Sum(TypedDict):
    """The merges of one step of one level of one dataset, added up."""

    dataset: str
    level: str
    step: str
    merges: int
    inputs: int
    rows: int
    purged: int


def summary(done: Iterable[Merged]) -> list[Sum]:
    """Merges added up by dataset, level and step, in the order in which they first came."""
    sums: dict[tuple[str, str, str], Sum] = {}
    for merged in done:
        name, level, step = merged.partition.dataset.name, merged.partition.level, merged.merge.step
        empty: Sum = {"dataset": name, "level": level, "step": step, "merges": 0, "inputs": 0, "rows": 0, "purged": 0}
        found = sums.setdefault((name, level, step), empty)
        found["merges"] += 1
        found["inputs"] += len(merged.merge.inputs)
        found["rows"] += merged.rows
        found["purged"] += merged.purged
    return list(sums.values())


def plan(manifest: Manifest, ladder: Sequence[str], now: datetime, through: int) -> list[Merge]:
    """The merges that a manifest is due, fine tiers first; no segment is an input of two.

    A period of a coarser tier takes what finer tiers hold of it once it has ended; a period of any tier that gathered several
    segments is merged into one. Only segments of windows that end by `through` take part: nothing older can still come.
    """
    free = {segment.key: segment for segment in manifest.segments if segment.window_end <= through}
    merges: list[Merge] = []
    for tier in ladder:
        groups: dict[Period, list[Segment]] = {}
        for segment in free.values():
            period = _period(segment, tier, tuple(ladder), now)
            if period is not None:
                groups.setdefault(period, []).append(segment)
        for period, found in sorted(groups.items()):
            finer = any(segment.tier != tier for segment in found)
            # several of the tier itself: where the period above has ended too, that merge takes them all, and once is enough
            if finer or (len(found) > 1 and not _rises(found[0], tuple(ladder), now)):
                merges.append(Merge(tier, period, tuple(sorted(found, key=lambda segment: (segment.window_end, segment.key)))))
                for segment in found:
                    del free[segment.key]
    return merges


def _rises(segment: Segment, ladder: tuple[str, ...], now: datetime) -> bool:
    """Whether a coarser tier takes `segment` up."""
    coarser = (tier for tier in ladder if UNITS[tier].rank > UNITS[segment.tier].rank)
    return any(_period(segment, tier, ladder, now) is not None for tier in coarser)


def _period(segment: Segment, tier: str, ladder: tuple[str, ...], now: datetime) -> Period | None:
    """The period of `tier` that `segment` is to be filed under, if it is."""
    start, end = from_micros(segment.start), from_micros(segment.end)
    if segment.tier == tier:
        return Period(start, end)
    if UNITS[segment.tier].rank > UNITS[tier].rank:
        return None
    period = tier_period(ladder, tier, start)
    return period if period.end <= now and end <= period.end else None


def compact(
    catalog: Catalog, objects: Objects, datasets: Iterable[Dataset], now: datetime, say: Callable[[Merged], None] = lambda _: None
) -> list[Merged]:
    """Carry out all merges that are due, raw rows and aggregate levels, one at a time; `say` hears of each."""
    progress = catalog.progress()
    done: list[Merged] = []
    for dataset in datasets:
        levels = dict.fromkeys((RAW, REVISIONS) if dataset.by_ref_time else (RAW,), progress.archived_through)
        levels |= {level_partition(level): progress.snapshot_through for level in dataset.levels}
        for level, through in levels.items():
            for name in catalog.partitions(dataset, level):
                for merged in compact_partition(catalog, objects, Partition(dataset, level, name), now, through):
                    say(merged)
                    done.append(merged)
    return done


def compact_partition(catalog: Catalog, objects: Objects, partition: Partition, now: datetime, through: int) -> Iterable[Merged]:
    """The merges of one partition, until none is due; one that lost a race is left to the next run."""
    given_up: set[tuple[str, ...]] = set()
    while True:
        manifest = catalog.manifest(partition.dataset.name, partition.level, partition.name)
        merges = plan(manifest, partition.dataset.ladder, now, through)
        due = [merge for merge in merges if tuple(segment.key for segment in merge.inputs) not in given_up]
        if not due:
            return
        for merge in due:
            merged = execute(catalog, objects, partition, merge, manifest, now, through)
            if merged is None:
                given_up.add(tuple(segment.key for segment in merge.inputs))
            else:
                yield merged


def execute(
    catalog: Catalog, objects: Objects, partition: Partition, merge: Merge, manifest: Manifest, now: datetime, through: int
) -> Merged | None:
    """Carry out one merge, planned on `manifest`; None where somebody has taken an input or added what forbids a purge."""
    inputs = [segment.key for segment in merge.inputs]
    table, _ = newest([parquet_writer.read(objects, segment, partition.time_column) for segment in merge.inputs], partition.order)
    purged: list[int] = []
    # under ref-time order a tombstone stays: an older revision than it may still come, at any time, and must not be seen
    if partition.level == RAW and not partition.dataset.by_ref_time:
        table, purged = purge(table, through, _outside(manifest, inputs))
    window_end = max(segment.window_end for segment in merge.inputs)
    output = write_segment(objects, partition, merge.tier, merge.period, table, window_end) if len(table) else None

    def change(stored: Manifest) -> Manifest | None:
        # segments may have come since: one that can hold a purged key makes the purge wrong, and the merge is given up
        if any(_holds(segment, purged) for segment in _outside(stored, inputs)):
            return None
        return swapped(stored, inputs, output, through, f"compact {merge.label}")

    committed = catalog.commit(partition.dataset.name, partition.level, partition.name, change, now)
    return None if committed is None else Merged(partition, merge, len(table), len(purged))


def purge(table: pa.Table, through: int, outside: Sequence[Segment]) -> tuple[pa.Table, list[int]]:
    """A table without the tombstones that hide nothing any more, and the times (µs) of those that were left out.

    A tombstone may go once everything before `through` is committed, it is older than that, and no segment of `outside` can
    hold its key: then no older row of the key is left to come back.
    """
    deleted = pc.fill_null(table[DELETED], False)
    old = pc.less(table[WRITE_TIME].cast(pa.int64()), through)
    candidates = pc.and_(deleted, old).to_pylist()
    if not any(candidates):
        return table, []
    times = micros(table, "valid_time")
    gone = [bool(c) and not any(_holds(segment, [t]) for segment in outside) for c, t in zip(candidates, times, strict=True)]
    return table.filter(pa.array([not g for g in gone])), [t for g, t in zip(gone, times, strict=True) if g]


def _outside(manifest: Manifest, inputs: Sequence[str]) -> list[Segment]:
    gone = set(inputs)
    return [segment for segment in manifest.segments if segment.key not in gone]


def _holds(segment: Segment, times: Sequence[int]) -> bool:
    """Whether a segment can hold a row at one of `times`, which are in order."""
    at = bisect_left(times, segment.first)
    return at < len(times) and times[at] <= segment.last
