"""What is to be done about damaged segments: from what each can be made again, or what of it is lost. Pure.

    the rows of a segment come from             they are there still, where
    the segments that a compaction merged       an older version of the manifest names them, and they are sound
    the files of an export window               the bucket has the export, for 14 days
    the buffer                                  no row of the segment can have expired
    raw rows (of an aggregate level)            retention has not removed any of its periods

The first two give the very rows that were there; an input that is damaged itself may be made again in the same way. The buffer has
the rows as they are by now, which is what wins anyway. What an erasure wrote is made again from nothing: its inputs hold what was
to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import LIVE_LEVELS, MERGED_LEVELS
from tesseract.model import Manifest, Segment
from tesseract.processing.segments import RAW, REVISIONS, Partition
from tesseract.storage.keys import level_partition
from tesseract.utils.time_utils import to_micros

COMPACT, ARCHIVE, REPAIR = "compact ", "archive ", "repair from "  # how the operations of such commits begin
HOUR = 3_600_000_000  # µs: clocks may differ, and TTL is in seconds
DAY, MONTH = 24 * HOUR, 31 * 24 * HOUR
Action = Literal["restore", "compute", "merge", "lost"]


class Facts(NamedTuple):
    """What the plan looks at, of one partition.

    `versions` are those of its manifest, newest first; `damaged` are segments of the newest. `sound` are the keys of older segments
    that were read and found whole, `files` the commits whose export file is there. Raw rows before `raw_from` (µs), and rows of a
    merged level's base before `base_from`, may have been removed by retention.
    """

    partition: Partition
    versions: tuple[Manifest, ...]
    damaged: tuple[Segment, ...]
    sound: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    raw_from: int = -(2**63)


class Step(NamedTuple):
    """What to do about one segment.

    `restore`: from `segments`, export `files` (as commits name them), and the `buffer`. `compute`: a level's rows from raw rows.
    `merge`: those of weeks and months from the rows of their days. `lost`: as `restore`, but not all of its rows are there.
    """

    partition: Partition
    action: Action
    segment: Segment
    segments: tuple[Segment, ...] = ()
    files: tuple[str, ...] = ()
    buffer: bool = False


class _Found(NamedTuple):
    """What there is of a segment, and whether it is all."""

    whole: bool
    segments: tuple[Segment, ...] = ()
    files: tuple[str, ...] = ()


def candidates(versions: Sequence[Manifest], damaged: Iterable[Segment]) -> list[Segment]:
    """The segments of older versions from which a damaged one may have been made."""
    newest = {segment.key for segment in versions[0].segments}
    older = {segment.key: segment for manifest in versions[1:] for segment in manifest.segments if segment.key not in newest}
    lost = list(damaged)
    return [own for own in older.values() if any(own.start < one.end and own.end > one.start for one in lost)]


def commits(versions: Sequence[Manifest]) -> set[str]:
    """The commits of export files by which the versions came."""
    return {name for newer, older in _steps(versions) for name in _applied(newer, older) if newer.operation.startswith(ARCHIVE)}


def plan(facts: Facts, now: datetime) -> list[Step]:
    """One step per damaged segment."""
    return [_step(facts, segment, now) for segment in facts.damaged]


def _step(facts: Facts, segment: Segment, now: datetime) -> Step:
    partition = facts.partition
    found = _sources(facts, segment, frozenset())
    if found.whole:
        return Step(partition, "restore", segment, found.segments, found.files)
    if partition.level == RAW and in_buffer(partition.dataset, segment, now):
        return Step(partition, "restore", segment, (), (), True)
    if partition.level not in (RAW, REVISIONS):
        level = partition.level.partition("@")[0]
        present = any(level_partition(one) == partition.level for one in partition.dataset.levels)
        if present and level in LIVE_LEVELS and segment.first >= facts.raw_from:
            return Step(partition, "compute", segment)
        if present and level in MERGED_LEVELS:
            return Step(partition, "merge", segment)
    return Step(partition, "lost", segment, found.segments, found.files, partition.level == RAW)


def spoils(lost: Step, step: Step) -> bool:
    """Whether a step would compute from rows that another has lost."""
    if step.action not in ("compute", "merge") or lost.partition.name != step.partition.name:
        return False
    below = lost.partition.level == RAW if step.action == "compute" else lost.partition.level not in (RAW, REVISIONS)
    reach = DAY if step.action == "compute" else MONTH  # the length of a period, at most
    return below and lost.segment.first < step.segment.last + reach and lost.segment.last + DAY > step.segment.first


def in_buffer(dataset: Dataset, segment: Segment, now: datetime) -> bool:
    """Whether no row of a segment can have left the buffer: its own age would not let it go before."""
    ttl = int(dataset.shortest_ttl.total_seconds()) * 1_000_000
    return segment.first + ttl > to_micros(now) + HOUR


def _sources(facts: Facts, segment: Segment, above: frozenset[str]) -> _Found:
    """From what a segment can be made again: itself, if it is sound and older, else from what made it."""
    if segment.key in facts.sound:
        return _Found(True, (segment,))
    for newer, older in _steps(facts.versions):
        if segment.key in _keys(older) or segment.key not in _keys(newer):
            continue
        if newer.operation.startswith(ARCHIVE):
            files = tuple(name for name in _applied(newer, older) if name in facts.files)
            return _Found(bool(files), (), files)
        if newer.operation.startswith((COMPACT, REPAIR)) and segment.key not in above:
            gone = _keys(newer)
            inputs = [own for own in older.segments if own.key not in gone]
            parts = [_sources(facts, own, above | {segment.key}) for own in inputs]
            files = tuple(dict.fromkeys(name for part in parts for name in part.files))
            whole = bool(parts) and all(part.whole for part in parts)
            return _Found(whole, tuple(own for part in parts for own in part.segments), files)
    return _Found(False)


def _steps(versions: Sequence[Manifest]) -> Iterable[tuple[Manifest, Manifest]]:
    """(a version, the one before it) of those that are kept; before the first one there was nothing. Versions may be missing."""
    newest = versions[0]
    first = [Manifest(newest.dataset, newest.level, newest.group)] if versions[-1].version == 1 else []
    return [(newer, older) for newer, older in pairwise([*versions, *first]) if newer.version == older.version + 1]


def _keys(manifest: Manifest) -> set[str]:
    return {segment.key for segment in manifest.segments}


def _applied(newer: Manifest, older: Manifest) -> list[str]:
    known = {applied.id for applied in older.applied}
    return [applied.id for applied in newer.applied if applied.id not in known]
