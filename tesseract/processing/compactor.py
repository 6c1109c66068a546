"""Compaction: the merges that manifests are due (`merge_plan`), carried out (`merge_files`) and committed.

A merge takes the segments of one period into one sorted segment of the period's tier; the newest row of a key wins
(`storage.newest`). What was merged stays in older manifests, so a reader that began before is not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import TypedDict

from tesseract.config.dataset import Dataset
from tesseract.model import Manifest, Segment
from tesseract.processing.merge_files import Purge, merge_segments
from tesseract.processing.merge_plan import Merge, plan
from tesseract.processing.segments import RAW, REVISIONS, Partition, swapped
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import level_partition

ROWS_A_SECOND = 500_000  # a merge takes no longer, with its way from and to the bucket
SPARE_SECONDS = 20


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


def compact(
    catalog: Catalog,
    objects: Objects,
    datasets: Iterable[Dataset],
    now: datetime,
    say: Callable[[Merged], None] = lambda _: None,
    seconds_left: Callable[[], float] = lambda: inf,
    whole: bool = False,
) -> list[Merged]:
    """Carry out the merges that are due, raw rows and aggregate levels, the most urgent first; `say` hears of each.

    None is begun that may take longer than `seconds_left()`: the next run goes on where this one ended. `whole` leaves one segment
    a period. A merge that lost a race is left to the next run.
    """
    partitions = list(_partitions(catalog, datasets))
    done: list[Merged] = []
    given_up: set[tuple[str, ...]] = set()
    while partitions:
        due = []
        for partition, through in partitions:
            manifest = catalog.manifest(partition.dataset.name, partition.level, partition.name)
            merges = plan(manifest, partition.dataset.ladder, now, through, whole)
            due += [(merge, partition, manifest, through) for merge in merges if _names(merge) not in given_up]
        again: dict[tuple[str, str, str], tuple[Partition, int]] = {}
        for merge, partition, manifest, through in sorted(due, key=lambda one: -one[0].urgency(now)):
            if merge.rows / ROWS_A_SECOND + SPARE_SECONDS > seconds_left():
                continue
            merged = execute(catalog, objects, partition, merge, manifest, now, through)
            if merged is None:
                given_up.add(_names(merge))
            else:
                say(merged)
                done.append(merged)
            again[partition.dataset.name, partition.level, partition.name] = partition, through
        partitions = list(again.values())
    return done


def _partitions(catalog: Catalog, datasets: Iterable[Dataset]) -> Iterable[tuple[Partition, int]]:
    """Every partition with how far it is complete."""
    progress = catalog.progress()
    for dataset in datasets:
        levels = dict.fromkeys((RAW, REVISIONS) if dataset.by_ref_time else (RAW,), progress.archived_through)
        levels |= {level_partition(level): progress.snapshot_through for level in dataset.levels}
        for level, through in levels.items():
            for name in catalog.partitions(dataset, level):
                yield Partition(dataset, level, name), through


def _names(merge: Merge) -> tuple[str, ...]:
    return tuple(segment.key for segment in merge.inputs)


def execute(
    catalog: Catalog, objects: Objects, partition: Partition, merge: Merge, manifest: Manifest, now: datetime, through: int
) -> Merged | None:
    """Carry out one merge, planned on `manifest`; None where somebody has taken an input or added what forbids a purge."""
    inputs = _names(merge)
    outside = _outside(manifest, inputs)
    # under ref-time order a tombstone stays: an older revision than it may still come, at any time, and must not be seen
    purges = partition.level == RAW and not partition.dataset.by_ref_time
    found = merge_segments(objects, partition, merge, lambda: Purge(partition, through, outside) if purges else None)

    def change(stored: Manifest) -> Manifest | None:
        # segments may have come since: one that can hold a purged key makes the purge wrong, and the merge is given up
        if found.purge and any(found.purge.held_by(segment) for segment in _outside(stored, inputs)):
            return None
        return swapped(stored, inputs, found.output, through, f"compact {merge.label}")

    committed = catalog.commit(partition.dataset.name, partition.level, partition.name, change, now)
    rows = found.output.rows if found.output else 0
    return None if committed is None else Merged(partition, merge, rows, found.purge.count if found.purge else 0)


def _outside(manifest: Manifest, inputs: Sequence[str]) -> list[Segment]:
    gone = set(inputs)
    return [segment for segment in manifest.segments if segment.key not in gone]
