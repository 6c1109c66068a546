"""Retention: which segments are past what `retention` keeps, and manifests without them. Pure plan.

A manifest without a segment is all there is to it: the states of before stay readable for `history`, and then `gc` removes the
objects, as it does after a compaction.

What lies in one period goes together or not at all: a newer row (a correction, a tombstone) must not go before the older one that
it hides. So a day that came late waits for the year's file, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.config.retention import EVERY_TIER, RETIRED, before, limits_of, since
from tesseract.config.tiers import UNITS, tier_period
from tesseract.model import Manifest, Segment
from tesseract.processing.segments import RAW, REVISIONS, Partition
from tesseract.processing.verify import partitions_of
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import from_micros, to_micros


class Retired(msgspec.Struct, frozen=True):
    """What a run took off the manifests of one dataset, or would take."""

    segments: int = 0
    rows: int = 0


def plan(manifest: Manifest, dataset: Dataset, through: int) -> tuple[Segment, ...]:
    """The segments that are past the retention of the manifest's level. `through` (µs) is `snapshot_through`.

    The clock plays no part: of what is not yet archived and in every level nothing is counted as past.
    """
    level = level_of(manifest.level)
    limits = limits_of(dataset, level)
    moment = from_micros(through) - RETIRED if through else since(dataset)
    if not limits or moment <= since(dataset):
        return ()
    every = dataset.retention[level].get(EVERY_TIER)
    ends = {tier: to_micros(before(moment, span)) for tier in UNITS if (span := limits.get(tier, every))}
    due = [
        segment
        for segment in manifest.segments
        if segment.window_end <= through and segment.end <= ends.get(_tier(segment, dataset.ladder, moment), segment.start)
    ]
    return _whole(due, manifest.segments)


def level_of(partition_level: str) -> str:
    """The level whose setting counts for a partition: kept revisions go with raw rows, former lives with their level."""
    return RAW if partition_level == REVISIONS else partition_level.partition("@")[0]


def _tier(segment: Segment, ladder: Sequence[str], moment: datetime) -> str:
    """The tier that a segment belongs to: the coarsest whose period has ended, whether compaction has come to it or not."""
    for tier in reversed(ladder):
        if UNITS[tier].rank > UNITS[segment.tier].rank:
            period = tier_period(tuple(ladder), tier, from_micros(segment.start))
            if period.end <= moment and segment.end <= to_micros(period.end):
                return tier
    return segment.tier


def _whole(due: Sequence[Segment], segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Those of `due` whose periods overlap no segment that stays."""
    gone = {segment.key for segment in due}
    while True:
        stay = [(segment.start, segment.end) for segment in segments if segment.key not in gone]
        held = {s.key for s in due if s.key in gone and any(s.start < end and start < s.end for start, end in stay)}
        if not held:
            return tuple(segment for segment in due if segment.key in gone)
        gone -= held


def without(manifest: Manifest, dataset: Dataset, through: int) -> Manifest | None:
    """`manifest` without what is past; None where nothing is. It remembers its commits: none of them can come again."""
    gone = plan(manifest, dataset, through)
    if not gone:
        return None
    kept = tuple(segment for segment in manifest.segments if segment not in gone)
    return replace(manifest, segments=kept, operation=f"retire {len(gone)} segments, {sum(s.rows for s in gone)} rows")


def retire(
    catalog: Catalog,
    datasets: Iterable[Dataset],
    now: datetime,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Retired]:
    """Take what is past off the newest manifests of datasets; with `dry_run`, only plan. What was taken, by dataset. Repeatable."""
    through = catalog.progress().snapshot_through
    done: dict[str, Retired] = {}
    for dataset in datasets:
        found: list[Segment] = []
        for partition in partitions_of(catalog, dataset) if dataset.retention else ():
            say(f"{dataset.name} {partition.level} {partition.name}")
            found += _retire(catalog, partition, through, now, dry_run)
        done[dataset.name] = Retired(len(found), sum(segment.rows for segment in found))
    return done


def _retire(catalog: Catalog, partition: Partition, through: int, now: datetime, dry_run: bool) -> tuple[Segment, ...]:
    dataset, level, name = partition.dataset, partition.level, partition.name
    gone: tuple[Segment, ...] = plan(catalog.manifest(dataset.name, level, name), dataset, through)
    if dry_run or not gone:
        return gone

    def change(stored: Manifest) -> Manifest | None:
        nonlocal gone
        gone = plan(stored, dataset, through)  # a compaction may have merged some of them meanwhile
        return without(stored, dataset, through)

    catalog.commit(dataset.name, level, name, change, now)
    return gone
