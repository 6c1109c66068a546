"""Weekly and monthly rows of the archive: merged from archived rows of the level that they are made of, after each of its commits.

    daily manifest    v7 ── v8 (Tuesday's row, by a snapshot) ── v9 (Friday's, by a repair) ── …
    weekly rows            order 8: as the days were at v8        order 9

Whoever commits rows of days merges the weeks and months that these lie in and that have ended, before anything counts on them, from
a manifest that has its rows. The version of that manifest is the order of the merged rows: so of two that merge one week at a time,
in whatever order they write, the one that has seen more wins. A crash between the two commits is healed by the next attempt of the
same work, since windows and worklists are settled only after both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import groupby, repeat
from typing import NamedTuple

import pyarrow as pa
from msgspec.structs import replace

from tesseract.config.bases import merged_levels
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import DAILY, UNITS
from tesseract.model import Applied, Manifest, Segment, of_group
from tesseract.processing.aggregator import State, decode_state, encode_state, identity, merge, shift, shown
from tesseract.processing.segments import DAY, PERIOD_START, THREADS, Partition, closed, micros, write_rows
from tesseract.storage import copies, segment_reader
from tesseract.storage.base import Backend, Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import FIELDS_FROM, ORDER, STATE, LevelRow, level_table, unify
from tesseract.storage.keys import group_values, join_group, level_partition, partition_name
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros, to_micros

MANY = 200_000  # rows of several groups that are held at once
Starts = Mapping[str, Iterable[int]]  # group → starts of periods, µs since 1970
Wanted = dict[str, set[int]]


class Merged(NamedTuple):
    """What was committed."""

    rows: int = 0
    commits: int = 0


class _Place(NamedTuple):
    """One partition of a merged level, and that of its base with the manifest that is merged from."""

    dataset: Dataset
    level: Level
    base: Level
    own: Partition
    below: Partition
    manifest: Manifest


def commit_merged(
    backend: Backend,
    catalog: Catalog,
    dataset_name: str,
    touched: Mapping[str, Starts],
    window_end: int,
    now: datetime,
    since: int | None = None,
) -> Merged:
    """Merge what has ended by `now` of the weeks and months that hold `touched` periods (level → group → starts), and commit it.

    Called when the rows of these periods are committed, by a writer of `window_end` (µs). With `since`, the start of a window (µs),
    also the weeks and months that have ended after it, by `window_end`, of every group. Repeatable.
    """
    # afresh: a level that was added while the rows were computed is merged from a manifest that has them, by us or by later writers
    dataset = catalog.dataset(dataset_name)
    rows = commits = 0
    for level, base in merged_levels(dataset) if dataset is not None else ():
        assert dataset is not None
        wanted = _ended(level, touched.get(base.name, {}), now)
        if since is not None:
            _add_ended(catalog, dataset, level, base, since, window_end, wanted)
        by_partition: dict[str, Wanted] = {}
        for group, starts in wanted.items():
            by_partition.setdefault(partition_name(dataset, group), {})[group] = starts
        work = partial(_partition, backend.objects, catalog, dataset, level, base, window_end, now)
        with ThreadPoolExecutor(min(THREADS, len(by_partition) or 1)) as pool:
            counts = list(pool.map(lambda work, part: work(*part), repeat(work), sorted(by_partition.items())))
        rows, commits = rows + sum(counts), commits + sum(count > 0 for count in counts)
    return Merged(rows, commits)


def _ended(level: Level, touched: Starts, now: datetime) -> Wanted:
    """The starts of a level's periods that hold one of `touched` and have ended."""
    unit = UNITS[level.name]
    found: Wanted = {}
    for group, starts in touched.items():
        periods = {unit.period(from_micros(day)) for day in {start // DAY * DAY for start in starts}}
        ended = {to_micros(period.start) for period in periods if period.end <= now}
        if ended:
            found[group] = ended
    return found


def _add_ended(catalog: Catalog, dataset: Dataset, level: Level, base: Level, since: int, until: int, wanted: Wanted) -> None:
    """Add the periods that ended in (since, until], of every group."""
    unit = UNITS[level.name]
    period = unit.period(from_micros(until))
    starts: set[int] = set()
    while since < to_micros(period.start) <= until:
        period = unit.period(from_micros(to_micros(period.start) - 1))
        starts.add(to_micros(period.start))
    for group in catalog.groups(dataset.name, level_partition(base)) if starts else ():
        wanted[group] = wanted.get(group, set()) | starts


def _partition(
    objects: Objects,
    catalog: Catalog,
    dataset: Dataset,
    level: Level,
    base: Level,
    window_end: int,
    now: datetime,
    name: str,
    wanted: Wanted,
) -> int:
    """Merge and commit the wanted periods of one partition's groups; how many rows there were."""
    own, below = (Partition(dataset, level_partition(one), name) for one in (level, base))
    place = _Place(dataset, level, base, own, below, catalog.manifest(dataset.name, below.level, name))
    stored = catalog.manifest(dataset.name, own.level, name)
    wanted = _due(place, stored, wanted, now, catalog.progress().snapshot_through)
    if not wanted:
        return 0
    commit = f"{place.manifest.version}/merge/{_digest(wanted)}"
    if any(known.id == commit for known in stored.applied):
        copies.keep(objects, stored)  # whoever made it may have died before
        return 0
    tables = list(_tables(objects, place, wanted))
    if not tables:
        return 0
    table = pa.concat_tables(unify(tables))
    segments = write_rows(objects, own, table, window_end)
    through = catalog.progress().snapshot_through
    operation = f"merge {len(table)} rows from version {place.manifest.version} of {below.level}"

    def change(manifest: Manifest) -> Manifest | None:
        # no matter which windows it has closed: what is older than its rows loses by their order
        if any(known.id == commit for known in manifest.applied):
            return None
        applied = (*manifest.applied, Applied(commit, window_end))
        added = (*manifest.segments, *segments)
        return closed(replace(manifest, segments=added, applied=applied, operation=operation), through)

    return 0 if catalog.commit(dataset.name, own.level, name, change, now) is None else len(table)


def _due(place: _Place, stored: Manifest, wanted: Wanted, now: datetime, through: int) -> Wanted:
    """Those of the wanted periods that can have rows; of a group that has none stored yet, all that have ended."""
    due: Wanted = {}
    unit = UNITS[place.level.name]
    lowest = -(2**63) if place.base.live_from is None else place.base.live_from + 1
    lowest = max(lowest, rows_kept_from(place.dataset, place.base.name, through))  # before, days may have been removed
    for group, starts in wanted.items():
        segments = of_group(place.manifest, group).segments
        if not of_group(stored, group).segments:  # the level is new to it, or the whole group is
            starts = starts | {start for segment in segments for start in _periods(place.level, segment, now)}
        found = {start for start in starts if start >= lowest and _overlapping(segments, start, _end(unit.name, start))}
        if found:
            due[group] = found
    return due


def _periods(level: Level, segment: Segment, now: datetime) -> Iterator[int]:
    unit = UNITS[level.name]
    for period in unit.periods(unit.floor(from_micros(segment.first)), from_micros(segment.last + 1)):
        if period.end <= now:
            yield to_micros(period.start)


def _tables(objects: Objects, place: _Place, wanted: Wanted) -> Iterator[pa.Table]:
    """The rows of each group, in order."""
    states: dict[tuple[str, int], State] = {}
    bounds: dict[tuple[str, int], int] = {}
    for rows in _read(objects, place, wanted):
        for group, start, body, fields_from in rows:
            period = to_micros(UNITS[place.level.name].floor(from_micros(start)))
            if period not in wanted.get(group, ()):
                continue
            key, state = (group, period), shift(decode_state(body), start - period)
            states[key] = merge(states.get(key) or identity(), state)
            if state.rows:  # what one of the merged rows lacks, all of it lacks
                bounds[key] = min(bounds.get(key, 2**63), start if fields_from is None else max(start, fields_from))
    for group, keys in groupby(sorted(states), lambda key: key[0]):
        made = [_row(place, start, states[group, start], bounds.get((group, start), start)) for _, start in keys]
        yield level_table(place.dataset, place.level, group, made)


def _row(place: _Place, start: int, state: State, bound: int) -> LevelRow:
    """A row; one without records hides an older one. Its state has all that the base has, whatever the level shows today."""
    return LevelRow(
        from_micros(start),
        state.rows,
        shown(state, place.level),
        encode_state(state),
        place.manifest.version,
        place.level.live_from,
        bound if bound > start else None,
    )


def _read(objects: Objects, place: _Place, wanted: Wanted) -> Iterator[Iterator[tuple[str, int, bytes, int | None]]]:
    """The newest rows of the base: (group, start, state, fields_from). A year or a month at once, so that memory is bounded."""
    digits = 4 if UNITS[place.base.name] is DAILY else 7
    starts = sorted(set().union(*wanted.values()))
    for _, part in groupby(starts, lambda start: from_micros(start).isoformat()[:digits]):
        chunk = list(part)
        low, high = chunk[0], _end(place.level.name, chunk[-1])
        found = _overlapping(place.manifest.segments, low, high)
        single = not place.below.shared or sum(segment.rows for segment in found) <= MANY
        for group in (None,) if single else sorted(wanted):
            yield _rows(objects, place, found, low, high, group if place.below.shared else next(iter(wanted)))


def _rows(
    objects: Objects, place: _Place, segments: Sequence[Segment], low: int, high: int, group: str | None
) -> Iterator[tuple[str, int, bytes, int | None]]:
    """The newest rows of [low, high), of one group, or of all groups of the partition."""
    names = place.dataset.group_columns
    own = None if group is None else group_values(place.dataset, group)
    columns = [*names, PERIOD_START, STATE, ORDER, FIELDS_FROM]
    tables = [
        segment_reader.read(objects, segment, PERIOD_START, from_micros(low), from_micros(high), columns, own)
        for segment in sorted(segments, key=lambda segment: (segment.window_end, segment.key))
    ]
    if not tables:
        return
    table, _ = newest(tables, place.below.order)
    count = len(table)
    groups = [group] * count if group is not None else [join_group(found) for found in zip(*_values(table, names), strict=True)]
    bounds = table[FIELDS_FROM].to_pylist() if FIELDS_FROM in table.column_names else [None] * count
    yield from zip(groups, micros(table, PERIOD_START), table[STATE].to_pylist(), bounds, strict=True)


def _values(table: pa.Table, names: Iterable[str]) -> list[list[str]]:
    return [table[name].to_pylist() for name in names]


def _overlapping(segments: Iterable[Segment], start: int, end: int) -> list[Segment]:
    return [segment for segment in segments if segment.first < end and segment.last >= start]


def _end(unit: str, start: int) -> int:
    return to_micros(UNITS[unit].end(from_micros(start)))


def _digest(wanted: Wanted) -> str:
    text = "\n".join(f"{group} {','.join(map(str, sorted(starts)))}" for group, starts in sorted(wanted.items()))
    return sha256(text.encode()).hexdigest()[:16]
