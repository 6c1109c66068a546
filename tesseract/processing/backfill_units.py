"""One unit of a backfill, whole: looked at, written, committed, and everything that is derived from raw rows renewed.

    1  the moment C; which days are older than the buffer; which of those have no item in the raw table       → direct
    2  live items of direct days marked stale: a crash after 4 leaves no wrong number in them
    3  segments written, their rows' write time ten minutes before C
    4  committed, unless `closed_through` has passed C (then again from 1)
    5  the latest values of groups whose newest row may be one of these, marked stale
    6  level rows from the manifest of 4 or a later one, committed in the order that says so; weeks and months merged from them
    7  the raw table looked at again, live items marked again

Readers of raw rows see the commit of 4 at once. Readers of a level take a cold day from its snapshot rows: the old ones until 6,
the new ones after; in between a level is behind, and never a mixture within one period. A hot day they take from live items, stale
since 2 and so computed from raw rows, or absent and computed likewise.

Why no period without a live item gets a wrong one: the stream function makes one for a new record only if the manifest, read after
the record was written, has no row of that period. If the record came after 4, it finds our rows and marks the period stale. If it
came before, it was in the raw table at 1, and its day is not direct; or it is there at 7, since an item stays for two days, and
then all periods of its day are marked by us, whether they have an item or not. An item that is there is marked at 7 as well.

A crash leaves a unit half done: its raw rows committed, its level rows not. Doing it again finds the commit and does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.errors import InputError, RetryError
from tesseract.model import Manifest, Segment
from tesseract.processing.backfill_commit import DAY, SKEW, backfilled, is_old, known, level_order
from tesseract.processing.backfill_levels import level_rows
from tesseract.processing.backfill_runs import LINE, Unit, current_rows, rows_of
from tesseract.processing.backfill_segments import SegmentWriter, only_days
from tesseract.processing.coarser import commit_merged
from tesseract.processing.live_item import live_levels
from tesseract.processing.marking import mark, mark_latest
from tesseract.processing.segments import RAW, REVISIONS, Partition
from tesseract.processing.snapshots import LENGTHS
from tesseract.storage import copies
from tesseract.storage.base import Backend, Key
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import latest_key, level_partition, live_pk, raw_pk
from tesseract.utils.time_utils import from_iso, from_micros, iso_day, iso_micros, iso_seconds, to_micros

PARALLEL = 16
ATTEMPTS = 5
LINES = 500  # records for the buffer that are handed over at once
Days = Mapping[str, set[int]]  # group → days since 1970


@dataclass
class Done:
    """What became of a unit's rows: committed by tier, or handed on to the buffer."""

    tiers: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    buffered: int = 0
    repeated: bool = False  # whether the raw rows had been committed before


class _Late(Exception):
    """A window has closed that ends after the moment of the look: the unit must be looked at anew."""


class Units:
    """Takes the units of one backfill. `run_at` decides the tiers that rows are written to; `clock` must be near the stage's.

    `buffer` takes the JSON of records that go through the buffer, and returns once they are there. `folder` is for local files.
    """

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        dataset: Dataset,
        run_at: datetime,
        clock: Callable[[], datetime],
        buffer: Callable[[list[bytes]], None],
        folder: Path,
    ) -> None:
        self._backend, self._catalog, self._dataset = backend, catalog, dataset
        self._run_at, self._clock, self._buffer, self._folder = run_at, clock, buffer, folder
        self._pool = ThreadPoolExecutor(PARALLEL)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def take(self, unit: Unit) -> Done:
        """Carry out a unit. Raises RetryError where windows close faster than it can be written, InputError for what is too old."""
        self._check_age(unit)
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(unit)
            except _Late:
                continue
        raise RetryError("export windows close faster than a unit is written", operation="backfill", key=unit.partition)

    def _check_age(self, unit: Unit) -> None:
        """Raises InputError for records that retention has overtaken since they were read: their levels could not be computed."""
        first = rows_kept_from(self._dataset, RAW, self._catalog.progress().snapshot_through)
        oldest = min(chain.from_iterable(unit.days.values())) * DAY
        if oldest < first:
            raise InputError(
                f"records of {iso_day(from_micros(oldest))} are past retention.raw by now, and none of their unit is written",
                hint="run it again from the files: such records are then told as rejected",
            )

    def _attempt(self, unit: Unit) -> Done:
        done, moment = Done(), to_micros(self._clock())
        moment += moment % 1_000_000 == 0  # windows end on whole seconds: no other segment has this window end
        direct = self._direct(unit, moment)
        if any(direct.values()):
            self._mark_stored(direct)
            moment = self._commit(unit, direct, moment, done)
            self._mark_latest(unit, direct)
            self._levels(unit, direct, moment, done)
            self._mark_written(direct)
            self._mark_stored(direct)
        done.buffered = self._through_buffer(unit, direct)
        return done

    # what is direct -------------------------------------------------------------------------------------------------------

    def _direct(self, unit: Unit, moment: int) -> dict[str, set[int]]:
        """The days that are older than the buffer, and of which it has no item."""
        old = {group: {day for day in days if is_old(self._dataset, day, moment)} for group, days in unit.days.items()}
        held = self._held(old)
        return {group: {day for day in days if (group, day) not in held} for group, days in old.items()}

    def _held(self, days: Days) -> set[tuple[str, int]]:
        """The days that have an item in the raw table: a record, a tombstone, or a revision."""
        places = [(group, day) for group, own in days.items() for day in sorted(own)]
        return {place for place, found in zip(places, self._pool.map(self._has_item, places), strict=True) if found}

    def _has_item(self, place: tuple[str, int]) -> bool:
        pk = raw_pk(self._dataset.name, place[0], iso_day(from_micros(place[1] * DAY)))
        return next(self._backend.raw.query(pk, limit=1), None) is not None

    # raw rows -------------------------------------------------------------------------------------------------------------

    def _commit(self, unit: Unit, direct: Days, moment: int, done: Done) -> int:
        """Commit the direct rows; the moment of the look that the commit stands for, which may be an earlier run's."""
        if self._dataset.revisions == "all":  # a revision is kept before it can be current
            self._commit_level(unit, REVISIONS, rows_of(unit), direct, moment, Done())
        return self._commit_level(unit, RAW, current_rows(self._dataset, unit), direct, moment, done)

    def _commit_level(self, unit: Unit, level: str, rows: Iterator[pa.Table], direct: Days, moment: int, done: Done) -> int:
        name, partition = self._dataset.name, Partition(self._dataset, level, unit.partition)
        commit = commit_id(unit, direct)
        days = set(chain.from_iterable(direct.values()))
        manifest = self._catalog.manifest(name, level, unit.partition)
        before = known(manifest, commit, min(days) * DAY, (max(days) + 1) * DAY - 1)
        if before is not None:
            copies.keep(self._catalog.objects, manifest)  # whoever made it may have died before
            done.repeated = True
            return before
        writer = self._writer(partition, moment)
        for table in rows:
            writer.add(only_days(self._dataset, table, direct), write_time=moment - SKEW)
        segments = writer.finish()
        operation = f"backfill {sum(segment.rows for segment in segments)} rows of {unit.year:04d}"

        def change(manifest: Manifest) -> Manifest | None:
            return backfilled(manifest, segments, commit, moment, operation)

        if self._catalog.commit(name, level, unit.partition, change, self._clock()) is None:
            raise _Late
        _count(done.tiers, segments)
        return moment

    # what is derived ------------------------------------------------------------------------------------------------------

    def _levels(self, unit: Unit, direct: Days, moment: int, done: Done) -> None:
        """Commit the level rows. Everything is read after the raw commit: first how far windows have closed, then the manifest."""
        levels = live_levels(self._dataset)
        closed, written = self._closed(), to_micros(self._clock())
        written = max(written, moment + 1)  # later backfills of the same periods have later segments, which win
        manifest = self._catalog.manifest(self._dataset.name, RAW, unit.partition)
        partitions = {level.name: Partition(self._dataset, level_partition(level), unit.partition) for level in levels}
        commit = f"{commit_id(unit, direct)}@{moment}"
        if not all(self._has(partition, commit) for partition in partitions.values()):
            writers = {name: self._writer(partition, written) for name, partition in partitions.items()}
            for part in level_rows(self._backend, self._dataset, unit, direct, manifest, moment, level_order(closed)):
                for name, table in part.rows.items():
                    writers[name].add(table, part.period)
            for name, writer in writers.items():
                self._commit_rows(unit, partitions[name], writer.finish(), commit, written, done)
        starts = {group: [day * DAY for day in days] for group, days in direct.items()}
        touched = {level.name: starts for level in levels}
        commit_merged(self._backend, self._catalog, self._dataset.name, touched, written, self._clock())

    def _writer(self, partition: Partition, window_end: int) -> SegmentWriter:
        return SegmentWriter(self._backend.objects, partition, window_end, self._run_at, self._folder)

    def _has(self, partition: Partition, commit: str) -> bool:
        manifest = self._catalog.manifest(self._dataset.name, partition.level, partition.name)
        return any(applied.id == commit for applied in manifest.applied)

    def _commit_rows(
        self, unit: Unit, partition: Partition, segments: tuple[Segment, ...], commit: str, written: int, done: Done
    ) -> None:
        operation = f"backfill {sum(segment.rows for segment in segments)} rows of {unit.year:04d}"

        def change(manifest: Manifest) -> Manifest | None:
            return backfilled(manifest, segments, commit, written, operation)

        if segments and self._catalog.commit(self._dataset.name, partition.level, partition.name, change, self._clock()) is None:
            raise _Late
        _count(done.levels, segments)

    def _closed(self) -> int:
        """The end of the last window that snapshots and repairs may have been computed for, µs."""
        closed = (window.end for window in self._catalog.windows() if window.state == "closed")
        return max(self._catalog.progress().archived_through, *closed, 0)

    def _mark_stored(self, direct: Days) -> None:
        """Mark the live items that are there on direct days stale: the archiver computes them anew with its next window."""
        jobs = [(level, group, days) for level in live_levels(self._dataset) for group, days in direct.items() if days]
        found = self._pool.map(lambda job: self._stored(*job), jobs)
        self._mark((level, key) for (level, _, _), keys in zip(jobs, found, strict=True) for key in keys)

    def _stored(self, level: Level, group: str, days: set[int]) -> list[Key]:
        pk = live_pk(self._dataset.name, group, level.name)
        low, high = (iso_seconds(from_micros(day * DAY)) for day in (min(days), max(days) + 1))
        items = self._backend.live.query(pk, low, high)
        return [(item["pk"], item["sk"]) for item in items if to_micros(from_iso(item["sk"])) // DAY in days]

    def _mark_written(self, direct: Days) -> None:
        """Mark all periods of direct days that the buffer has got an item of meanwhile, whether they have a live item or not."""
        periods = []
        for group, day in sorted(self._held(direct)):
            for level in live_levels(self._dataset):
                pk = live_pk(self._dataset.name, group, level.name)
                starts = range(day * DAY, (day + 1) * DAY, LENGTHS[level.name])
                periods += [(level, (pk, iso_seconds(from_micros(start)))) for start in starts]
        self._mark(periods)

    def _mark(self, periods: Iterable[tuple[Level, Key]]) -> None:
        for _ in self._pool.map(lambda period: mark(self._backend.live, period[1], period[0], self._clock()), periods):
            pass

    def _mark_latest(self, unit: Unit, direct: Days) -> None:
        """Mark latest values stale that may not be the latest any more. One that is stale may be repaired without our rows."""

        def renew(group: str) -> None:
            key = latest_key(self._dataset.name, group)
            item = self._backend.live.get(key)
            # the last moment of the last day: a mark too many costs a repair, and the row itself may lie anywhere on it
            last = iso_micros(from_micros((max(direct[group]) + 1) * DAY - 1))
            if item is None or item.get("stale") or item["valid_time"] <= last:
                mark_latest(self._backend.live, key, self._clock())

        for _ in self._pool.map(renew, [group for group, days in direct.items() if days]):
            pass

    # the others -----------------------------------------------------------------------------------------------------------

    def _through_buffer(self, unit: Unit, direct: Days) -> int:
        """Hand over the records of the other days, as they came."""
        others = {group: days - direct[group] for group, days in unit.days.items()}
        if not any(others.values()):
            return 0
        count, lines = 0, list[bytes]()
        for table in rows_of(unit):
            lines += only_days(self._dataset, table, others)[LINE].to_pylist()
            count += len(lines)
            while lines:
                self._buffer(lines[:LINES])
                lines = lines[LINES:]
        return count


def commit_id(unit: Unit, direct: Days) -> str:
    """The commit of a unit's rows on direct days: the same for the same content."""
    content = blake2b(unit.digest.encode(), digest_size=12)
    for group, days in sorted(direct.items()):
        content.update(f"\n{group} {','.join(map(str, sorted(days)))}".encode())
    return f"backfill/{content.hexdigest()}"


def _count(sums: Counter[str], segments: Iterable[Segment]) -> None:
    for segment in segments:
        sums[segment.tier] += segment.rows
