"""Rows into segments, and segments into manifests: what every writer of the archive shares."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import UNITS, Period, first_tier, tier_period
from tesseract.model import Applied, Manifest, Segment
from tesseract.storage import copies, parquet_writer
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import is_shared, join_group, partition_name, segment_object
from tesseract.storage.newest import HISTORY, LEVEL, Order, current, shared
from tesseract.utils.time_utils import from_micros, to_micros

RAW, REVISIONS = "raw", "revisions"
VALID_TIME, PERIOD_START = "valid_time", "period_start"
DAY = 86_400_000_000  # µs
THREADS = 8


@dataclass(frozen=True)
class Partition:
    """What one manifest covers: a group, or a bucket of groups (`name` is that of `keys.partition_name`).

    `level` is the partition's name of it: `raw`, `revisions` (every revision of `revisions: all`), `hourly`, or `hourly@…` for a
    later life.
    """

    dataset: Dataset
    level: str
    name: str

    @classmethod
    def of(cls, dataset: Dataset, level: str, group: str) -> Partition:
        """The partition that a group's rows lie in."""
        return cls(dataset, level, partition_name(dataset, group))

    @property
    def shared(self) -> bool:
        """Whether several groups lie in it."""
        return is_shared(self.name)

    @property
    def time_column(self) -> str:
        """The column that its rows are sorted by."""
        return VALID_TIME if self.level in (RAW, REVISIONS) else PERIOD_START

    @property
    def ladder(self) -> tuple[str, ...]:
        """The tiers that its rows are written to: none finer than a period of its level, such as a file a day for a row a month."""
        rank = UNITS[self.level.partition("@")[0]].rank if self.time_column == PERIOD_START else 0
        ladder = self.dataset.ladder
        return tuple(tier for tier in ladder if UNITS[tier].rank >= rank) or ladder[-1:]

    @property
    def order(self) -> Order:
        """Which of its rows share a key, and which of those is the newest."""
        order = HISTORY if self.level == REVISIONS else current(self.dataset) if self.level == RAW else LEVEL
        return shared(order, self.dataset) if self.shared else order


def micros(table: pa.Table, column: str) -> list[int]:
    """A timestamp column as µs since 1970."""
    values: list[int] = table[column].cast(pa.int64()).to_pylist()
    return values


def group_spans(partition: Partition, table: pa.Table) -> dict[str, tuple[int, int]]:
    """Group → first and last time (µs) of its rows in a partition that groups share, else nothing."""
    if not partition.shared:
        return {}
    names, time = list(partition.dataset.group_columns), partition.time_column
    spans = table.select([*names, time]).group_by(names).aggregate([(time, "min"), (time, "max")])
    ends = (spans[f"{time}_{end}"].cast(pa.int64()).to_pylist() for end in ("min", "max"))
    groups = (join_group(values) for values in zip(*(spans[name].to_pylist() for name in names), strict=True))
    return dict(sorted((group, (first, last)) for group, first, last in zip(groups, *ends, strict=True)))


def write_rows(objects: Objects, partition: Partition, table: pa.Table, window_end: int) -> tuple[Segment, ...]:
    """Write sorted rows as one segment per period of the finest tier that takes few; none crosses a period. In parallel."""
    if partition.shared:  # by time, so that a period's rows lie together; within one time by group
        table = table.sort_by([(partition.time_column, "ascending")])
    times = micros(table, partition.time_column)
    days = {from_micros(day * DAY) for day in {time // DAY for time in times}}
    ladder = partition.dataset.ladder
    tier = first_tier(partition.ladder, days).name
    pieces = []
    begin = 0
    while begin < len(times):
        period = tier_period(ladder, tier, from_micros(times[begin]))
        end = bisect_left(times, to_micros(period.end), lo=begin)
        piece = table.slice(begin, end - begin)
        if partition.shared:
            piece = piece.sort_by([(name, "ascending") for name in partition.order.key])
        pieces.append((period, piece))
        begin = end
    with ThreadPoolExecutor(min(THREADS, len(pieces) or 1)) as pool:
        return tuple(pool.map(lambda piece: write_segment(objects, partition, tier, piece[0], piece[1], window_end), pieces))


def write_segment(objects: Objects, partition: Partition, tier: str, period: Period, table: pa.Table, window_end: int) -> Segment:
    """Write sorted rows of one period as one object, under a name that is never used again."""
    key, about = named(partition, tier, period, window_end)
    file = parquet_writer.encode(table, about, bloom_columns(partition))
    objects.put(key, file.body)
    times = pc.min_max(table[partition.time_column].cast(pa.int64())).as_py()
    span = times["min"], times["max"]
    return described(key, tier, period, file, len(file.body), len(table), span, window_end, group_spans(partition, table))


def bloom_columns(partition: Partition) -> tuple[str, ...]:
    """The columns by which a reader can rule out row groups: those of the group, where several share a file."""
    return partition.dataset.group_columns if partition.shared else ()


def named(partition: Partition, tier: str, period: Period, window_end: int) -> tuple[str, dict[str, str]]:
    """A key that was never used for a segment of a period, and what its footer says of it."""
    dataset = partition.dataset
    unique = uuid4().hex  # a retried attempt writes another object: nobody ever reads half of one and half of the other
    key = segment_object(dataset.name, partition.level, partition.name, tier, UNITS[tier].label(period.start), unique)
    about = {"dataset": dataset.name, "level": partition.level, "group": partition.name, "tier": tier}
    times = {"start": to_micros(period.start), "end": to_micros(period.end), "window_end": window_end}
    renamed = {key: field.name for key, field in dataset.fields.items() if field.name}
    if renamed:
        about["names"] = msgspec.json.encode(renamed).decode()
    return key, about | {name: str(time) for name, time in times.items()} | {"config_version": str(dataset.version)}


def described(
    key: str,
    tier: str,
    period: Period,
    file: parquet_writer.File,
    size: int,
    rows: int,
    span: tuple[int, int],
    window_end: int,
    groups: dict[str, tuple[int, int]],
) -> Segment:
    """The manifest's entry of a file that was written."""
    return Segment(
        key=key,
        tier=tier,
        start=to_micros(period.start),
        end=to_micros(period.end),
        rows=rows,
        bytes=size,
        first=span[0],
        last=span[1],
        window_end=window_end,
        footer_offset=file.footer_offset,
        footer_length=file.footer_length,
        sha256=file.sha256,
        groups=groups,
    )


def is_committed(catalog: Catalog, partition: Partition, commit: str, window_end: int) -> bool:
    """Whether a commit has been made, or comes too late to be made."""
    manifest = catalog.manifest(partition.dataset.name, partition.level, partition.name)
    if added(manifest, (), commit, window_end, 0, "") is not None:
        return False
    copies.keep(catalog.objects, manifest)  # whoever made it may have died before
    return True


def commit_rows(
    catalog: Catalog,
    objects: Objects,
    partition: Partition,
    table: pa.Table,
    commit: str,
    window_end: int,
    through: int,
    operation: str,
    now: datetime,
) -> bool:
    """Write sorted rows as segments, and add them to the partition's manifest in one commit; False where it has them already."""
    segments = write_rows(objects, partition, table, window_end)

    def change(manifest: Manifest) -> Manifest | None:
        return added(manifest, segments, commit, window_end, through, operation)

    return catalog.commit(partition.dataset.name, partition.level, partition.name, change, now) is not None


def added(
    manifest: Manifest, segments: Sequence[Segment], commit: str, window_end: int, through: int, operation: str
) -> Manifest | None:
    """`manifest` with the segments of a window's commit; None where it has them already, or can no longer take them.

    `through` is how far the partition is complete. A manifest forgets a commit once it has closed the commit's window, and takes
    nothing of a closed window: a task delivered late cannot bring back what a compaction has purged.
    """
    if window_end <= manifest.closed_through or any(known.id == commit for known in manifest.applied):
        return None
    applied = (*manifest.applied, Applied(commit, window_end))
    return closed(replace(manifest, segments=(*manifest.segments, *segments), applied=applied, operation=operation), through)


def closed(manifest: Manifest, through: int) -> Manifest:
    """`manifest` with `closed_through` moved forward to `through`, and without the commits that it need not remember."""
    through = max(manifest.closed_through, through)
    applied = tuple(known for known in manifest.applied if known.window_end > through)
    return replace(manifest, closed_through=through, applied=applied)


def swapped(manifest: Manifest, inputs: Iterable[str], output: Segment | None, through: int, operation: str) -> Manifest | None:
    """`manifest` with the segments named `inputs` replaced by `output`; None where one of them has gone."""
    gone = set(inputs)
    kept = tuple(segment for segment in manifest.segments if segment.key not in gone)
    if len(kept) + len(gone) != len(manifest.segments):
        return None
    segments = kept if output is None else (*kept, output)
    return closed(replace(manifest, segments=segments, operation=operation), through)
