"""Erasure from the archive: segments are written again without the rows, and what still names or holds the old ones goes at once.

It comes after the rows are deleted, the tombstones are archived, and every window up to `cut` is closed. From then on nothing that
was written before `cut` is visible, nor can it come back: what is visible in the range was written later, and stays. Erased are
rows and tombstones alike, of every tier and level, and with them the states of the past that hold them: the one exception to
`history`. Each step may be repeated, and one that was cut short is continued by running it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.model import Manifest, Segment
from tesseract.processing.gc import GRACE
from tesseract.processing.merge_files import Purge, merge_segments
from tesseract.processing.merge_plan import Merge
from tesseract.processing.rebuild import FIRST, LAST
from tesseract.processing.segments import RAW, REVISIONS, Partition, swapped
from tesseract.processing.verify import partition_levels
from tesseract.storage import copies, keys
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import ORDER, WRITE_TIME
from tesseract.storage.keys import group_values

LONGEST = timedelta(days=366) // timedelta(microseconds=1)  # of a period, in µs
LENGTHS = {"hourly": 3_600_000_000, "daily": 86_400_000_000, "weekly": 7 * 86_400_000_000}
Say = Callable[[str], None]


class Subject(NamedTuple):
    """What is erased: the rows of a group in [start, end), µs since 1970, that were written before `cut`."""

    dataset: Dataset
    group: str
    cut: int
    start: int = FIRST
    end: int = LAST

    @property
    def whole(self) -> bool:
        """Whether it is all of the group."""
        return self.start == FIRST and self.end == LAST


@dataclass
class Erased:
    """What was done."""

    segments: int = 0
    rows: int = 0
    versions: int = 0
    objects: int = 0


def partitions(catalog: Catalog, subject: Subject) -> Iterator[Partition]:
    """Where rows of the group can lie: one partition of each level, of former lives, too."""
    for level in partition_levels(catalog, subject.dataset):
        yield Partition.of(subject.dataset, level, subject.group)


def plan(manifest: Manifest, subject: Subject) -> list[Segment]:
    """The segments of a manifest that can hold what is erased. Pure."""
    reach = 0 if manifest.level in (RAW, REVISIONS) else _length(manifest.level)
    found = []
    for segment in manifest.segments:
        span = segment.groups.get(subject.group) if segment.groups else (segment.first, segment.last)
        if span is not None and span[0] < subject.end and span[1] + reach >= subject.start:
            found.append(segment)
    return found


def _length(level: str) -> int:
    return LENGTHS.get(level.partition("@")[0], LONGEST)


@dataclass
class Without(Purge):
    """Leaves out the rows that are erased; `left_out` counts them."""

    subject: Subject = field(kw_only=True)
    left_out: int = 0

    def __call__(self, table: pa.Table) -> pa.Table:
        """A table without them."""
        gone = erasable(table, self.partition, self.subject)
        self.left_out += pc.sum(gone).as_py() or 0
        return table.filter(pc.invert(gone))


def erasable(table: pa.Table, partition: Partition, subject: Subject) -> pa.ChunkedArray:
    """Which rows of a segment's table are erased."""
    raw = partition.level in (RAW, REVISIONS)
    time = table[partition.time_column].cast(pa.int64())
    last = time if raw else pc.add(time, _length(partition.level) - 1)
    gone = pc.and_(pc.less(time, subject.end), pc.greater_equal(last, subject.start))
    if raw:
        old = pc.less(table[WRITE_TIME].cast(pa.int64()), subject.cut)
    else:  # of an aggregate: computed for a window that ended by then, or of no records, which only hides an older one
        old = pc.or_(pc.less_equal(table[ORDER], subject.cut), pc.equal(table["rows"], 0))
    gone = pc.and_(gone, old)
    for name, value in group_values(subject.dataset, subject.group).items() if partition.shared else ():
        gone = pc.and_(gone, pc.equal(table[name], value))
    return pc.fill_null(gone, False)


def rewrite(catalog: Catalog, objects: Objects, subject: Subject, now: datetime, say: Say = lambda _: None) -> Erased:
    """Write every segment that holds what is erased again, without it. Where somebody merges meanwhile, the merged one is next."""
    done = Erased()
    progress = catalog.progress()
    for partition in partitions(catalog, subject):
        through = progress.archived_through if partition.level in (RAW, REVISIONS) else progress.snapshot_through
        looked: set[str] = set()
        while due := [s for s in plan(_manifest(catalog, partition), subject) if s.key not in looked]:
            for segment in due:
                say(f"{partition.level}: rewriting a {segment.tier} segment of {segment.rows:,} rows")
                rows = _rewrite(catalog, objects, subject, partition, segment, through, now)
                looked.add(segment.key)
                done.segments, done.rows = done.segments + (rows > 0), done.rows + rows
    return done


def _rewrite(
    catalog: Catalog, objects: Objects, subject: Subject, partition: Partition, segment: Segment, through: int, now: datetime
) -> int:
    """How many rows a segment has lost; 0 where it held none, or is gone."""
    merge = Merge(segment.tier, segment.period, (segment,))
    found = merge_segments(objects, partition, merge, lambda: Without(partition, 0, (), subject=subject))
    left_out = found.purge.left_out if isinstance(found.purge, Without) else 0

    def change(stored: Manifest) -> Manifest | None:
        # `through`: a task of a window that is closed, delivered late, must not bring the rows back
        return swapped(stored, [segment.key], found.output, through, "erase")

    if left_out and catalog.commit(partition.dataset.name, partition.level, partition.name, change, now) is not None:
        return left_out
    if found.output is not None:
        objects.delete(found.output.key)  # nobody names it
    return 0


def forget(catalog: Catalog, objects: Objects, subject: Subject, now: datetime, say: Say = lambda _: None) -> Erased:
    """Remove the objects that older states name and that can hold what is erased, and these states with all before them.

    A reader of such a state fails from here on; one of the present state does not notice. Objects that nobody names go, too, once
    no attempt can be about to name them: see `gc`.
    """
    done = Erased()
    for partition in partitions(catalog, subject):
        # listed before the manifests are read, as `gc` does
        listed = list(objects.list(keys.partition_objects(subject.dataset.name, partition.level, partition.name)))
        versions = list(catalog.manifests(partition.dataset.name, partition.level, partition.name))
        kept = {segment.key for newest in versions[:1] for segment in newest.segments}
        older = versions[1:]
        held = [{segment.key for segment in plan(version, subject)} - kept for version in older]
        named = {segment.key for version in versions for segment in version.segments}
        gone = set().union(*held, (info.key for info in listed if info.key not in named and info.modified < now - GRACE))
        for place, key in enumerate(sorted(gone)):
            say(f"{partition.level}: {place} of {len(gone)} objects removed")
            objects.delete(key)
        done.objects += len(gone)
        first = next((place for place, keys_ in enumerate(held) if keys_), None)
        if first is not None:
            copies.keep(objects, versions[0])  # the attempt that committed it may have died before
            _remove_copies(objects, partition, older[first].version)
            for version in reversed(older[first:]):  # last, so that a run that was cut short still finds the names; oldest first
                catalog.forget(version)
            done.versions += len(older) - first
    return done


def vanish(catalog: Catalog, objects: Objects, subject: Subject) -> None:
    """Take a whole group that has no rows left off the lists: its partitions and their manifests."""
    dataset = subject.dataset
    for partition in partitions(catalog, subject):
        manifest = _manifest(catalog, partition)
        if plan(manifest, subject):
            continue  # written again since
        if not partition.shared:
            _remove_copies(objects, partition, manifest.version)
            for version in reversed(list(catalog.manifests(dataset.name, partition.level, partition.name))):
                if version.version <= manifest.version:
                    catalog.forget(version)
        listed = {"pk": keys.partitions_pk(dataset.name, partition.level), "sk": subject.group}
        if catalog.table.get((listed["pk"], listed["sk"])) is None:
            continue
        catalog.table.delete((listed["pk"], listed["sk"]))
        if plan(_manifest(catalog, partition), subject):  # somebody committed rows between the look and the removal
            catalog.table.put(listed)


def _manifest(catalog: Catalog, partition: Partition) -> Manifest:
    return catalog.manifest(partition.dataset.name, partition.level, partition.name)


def _remove_copies(objects: Objects, partition: Partition, version: int) -> None:
    """Remove what the bucket has of the versions of a manifest up to one."""
    pk = keys.manifest_pk(partition.dataset.name, partition.level, partition.name)
    for info in list(objects.list(f"catalog/manifests/{pk}/")):
        if keys.split_manifest_object(info.key)[1] <= version:
            objects.delete(info.key)
