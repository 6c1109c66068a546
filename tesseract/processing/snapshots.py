"""Snapshots of aggregate levels: when a window has closed, its periods are computed from raw rows and kept as segments.

A period that has ended is snapshot in the first window that touched it after, or in which it ended. Its row is always the one
computed from the raw rows read whole, and is ordered by its window's end; live items are only compared with it. Weeks and months
are merged from the committed rows (`coarser`) before the window counts as snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import groupby
from uuid import uuid4

import pyarrow as pa
from msgspec.structs import replace

from tesseract.config import tiers
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import NEVER, rows_kept_from
from tesseract.errors import DamagedError, RetryError
from tesseract.model import Manifest, Window, of_group
from tesseract.processing import mismatches, raw_rows
from tesseract.processing import touched as notes
from tesseract.processing.aggregator import Fields, State, encode_state, fold_all, shown
from tesseract.processing.coarser import commit_merged
from tesseract.processing.comparison import differing, differing_latest, stored
from tesseract.processing.live_item import live_levels
from tesseract.processing.mismatches import Seen
from tesseract.processing.raw_rows import Values
from tesseract.processing.segments import DAY, RAW, Partition, commit_rows, is_committed
from tesseract.processing.text_numbers import known_numbers
from tesseract.processing.touched import HOUR, Touched
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table, unify
from tesseract.storage.keys import is_shared, latest_key, level_partition, partition_name, pending_object
from tesseract.utils.time_utils import MICROSECOND, from_micros, iso_seconds, to_micros

LENGTHS = {name: length // MICROSECOND for name, length in tiers.LENGTHS.items()}  # µs
MANY = 100_000  # rows of a commit, of all groups that share a partition
Due = dict[str, dict[str, set[int]]]  # group → level → starts of periods, µs


@dataclass
class Report:
    """What the snapshots of one window did. `different` are the live items that differ from raw: mostly the stream's lag."""

    window: str
    rows: int = 0
    commits: int = 0
    compared: int = 0
    different: list[Seen] = field(default_factory=list)


def run(backend: Backend, catalog: Catalog, now: datetime) -> list[Report]:
    """Snapshot every closed window that is not yet, oldest first, up to the first that is still open. Repeatable."""
    reports: list[Report] = []
    previous: Window | None = None
    for window in _windows(catalog):
        if window.state != "closed":
            break
        if not window.snapshot_at:
            reports.append(snapshot(backend, catalog, window, previous, now))
            catalog.change_window(window.id, lambda stored: replace(stored, snapshot_at=to_micros(now)))
        previous = window
    return reports


def settle(catalog: Catalog, repaired: int) -> None:
    """Move `snapshot_through` to the end of the longest unbroken run of windows that are snapshot, and whose repairs are done.

    `repaired` is the moment (µs) as of which the worklist was repaired.
    """
    through = 0
    for window in _windows(catalog):
        if not window.snapshot_at or window.end > repaired:
            through = min(through, window.start)  # a full window may reach beyond those that come after it
            break
        through = max(through, window.end)
    if through:
        catalog.advance("snapshot", through)


def _windows(catalog: Catalog) -> list[Window]:
    """The windows that may not be snapshot yet, and the last one that is: all that begin earlier have counted."""
    return catalog.windows(catalog.progress().snapshot_through or None)


def snapshot(backend: Backend, catalog: Catalog, window: Window, previous: Window | None, now: datetime) -> Report:
    """Snapshot one closed window, all windows before which are; `previous` is the one right before it."""
    fresh = notes.of_window(catalog, backend.objects, window)
    waiting = notes.pending_of(backend.objects, previous) if previous is not None else {}
    everything = notes.merged((fresh, waiting))
    report = Report(window.id)
    damaged: DamagedError | None = None
    written = {name for name, _ in everything}
    for name in sorted({*written, *catalog.dataset_names()}):
        try:
            _dataset(backend, catalog, name, everything, fresh, window, report, now)
        except DamagedError as error:  # the others are snapshot; the window stays open until it is mended
            damaged = error if name in written else damaged
    if damaged is not None:
        raise damaged
    notes.write(backend.objects, pending_object(window.id), pending(everything, window.end))
    return report


def _dataset(
    backend: Backend,
    catalog: Catalog,
    name: str,
    everything: Touched,
    fresh: Touched,
    window: Window,
    report: Report,
    now: datetime,
) -> None:
    """Snapshot what a window touched of one dataset, or left waiting, then merge what is coarser."""
    hours = {group: own for (other, group), own in sorted(everything.items()) if other == name}
    dataset = catalog.dataset(name) if hours else None
    if hours and dataset is None:
        raise RetryError("rows of a dataset that the catalog does not know", operation="snapshot", key=name)
    due: Due = {
        group: {level.name: due_periods(level, own, fresh.get((name, group), set()), window) for level in live_levels(dataset)}
        for group, own in kept(dataset, hours, catalog.progress().snapshot_through).items()
        if dataset is not None
    }
    for part in _parts(dataset, due) if dataset is not None else ():
        assert dataset is not None
        _part(backend, catalog, dataset, part, window, report, now)
    touched = {
        level: {group: own[level] for group, own in due.items()} for level in LENGTHS if any(level in d for d in due.values())
    }
    merged = commit_merged(backend, catalog, name, touched, window.end, now, since=window.start)
    report.rows, report.commits = report.rows + merged.rows, report.commits + merged.commits


def kept(dataset: Dataset | None, hours: Mapping[str, set[int]], through: int) -> dict[str, set[int]]:
    """Those of the touched hours of each group whose raw rows are all there: of the others retention may have removed some.

    No record of these is taken any more. One that came so late by another road changes no level.
    """
    first = NEVER if dataset is None else rows_kept_from(dataset, RAW, through)
    return {group: found for group, own in hours.items() if (found := {hour for hour in own if hour * HOUR >= first})}


def due_periods(level: Level, hours: Iterable[int], fresh: Iterable[int], window: Window) -> set[int]:
    """The starts (µs) of a level's periods that a window snapshots. `hours` are those touched by it or waiting, `fresh` by it."""
    length = LENGTHS[level.name]
    touched = _starts(fresh, length)
    return {
        start
        for start in _starts(hours, length)
        if start + length <= window.end and (start in touched or start + length > window.start)
    }


def _starts(hours: Iterable[int], length: int) -> set[int]:
    """The starts (µs) of the periods of a length that lie in one of `hours`, or that hold it."""
    return {start for hour in hours for start in range(hour * HOUR // length * length, (hour + 1) * HOUR, length)}


def pending(touched: Touched, end: int) -> Touched:
    """What of `touched` has a period that has not ended by `end` (µs): a later window must snapshot it."""
    return {name: {hour for hour in hours if (hour * HOUR // DAY + 1) * DAY > end} for name, hours in touched.items()}


def _parts(dataset: Dataset, due: Due) -> Iterator[Due]:
    """What is due, partition by partition: groups that share one are committed together, as far as memory allows."""
    if not dataset.partitions:
        yield from ({group: own} for group, own in due.items())
        return
    by_name = sorted(due.items(), key=lambda item: (partition_name(dataset, item[0]), item[0]))
    for _, groups in groupby(by_name, lambda item: partition_name(dataset, item[0])):
        part: Due = {}
        count = 0
        for group, own in groups:
            rows = sum(map(len, own.values()))
            if part and count + rows > MANY:
                yield part
                part, count = {}, 0
            part[group] = own
            count += rows
        yield part


def _part(backend: Backend, catalog: Catalog, dataset: Dataset, due: Due, window: Window, report: Report, now: datetime) -> None:
    """Compute and commit the rows of groups of one partition, level by level."""
    name = partition_name(dataset, next(iter(due)))
    levels = [level for level in live_levels(dataset) if any(own[level.name] for own in due.values())]
    partitions = {level.name: Partition(dataset, level_partition(level), name) for level in levels}
    commits = {level.name: commit_id(due, name, window, level) for level in levels}
    levels = [one for one in levels if not is_committed(catalog, partitions[one.name], commits[one.name], window.end)]
    if not levels:
        return
    manifests = {level.name: catalog.manifest(dataset.name, level_partition(level), name) for level in levels}
    tables: dict[str, list[pa.Table]] = {level.name: [] for level in levels}
    known = len(report.different)
    for group, own in due.items():
        for level, rows in _group(backend, catalog, dataset, group, levels, own, window, report):
            hidden = of_group(manifests[level.name], group)
            kept = [row for row in rows if row.rows or _hides(hidden, row)]
            if kept:
                tables[level.name].append(level_table(dataset, level, group, kept))
    # before the commits, under a name of its own: what is committed is not compared again by a run that goes on after this one
    mismatches.note(backend.objects, f"{window.id}-{uuid4().hex}", report.different[known:], now)
    # a level is complete as far as its snapshots are: raw rows run ahead of it
    through = catalog.progress().snapshot_through
    for level in levels:
        if not tables[level.name]:
            continue
        table = pa.concat_tables(unify(tables[level.name]))
        operation = f"snapshot {len(table)} rows of window {window.id}"
        report.commits += commit_rows(
            catalog, backend.objects, partitions[level.name], table, commits[level.name], window.end, through, operation, now
        )
        report.rows += len(table)


def commit_id(groups: Iterable[str], partition: str, window: Window, level: Level) -> str:
    """The commit of a window's snapshot; in a partition that several groups share, of these groups'."""
    own = f"{window.id}/snapshot/{level.name}"
    return f"{own}/{sha256(' '.join(groups).encode()).hexdigest()[:16]}" if is_shared(partition) else own


def _hides(manifest: Manifest, row: LevelRow) -> bool:
    """Whether a row without records is needed: an earlier window may have written one of its period that has some."""
    start = to_micros(row.period_start)
    return any(segment.first <= start <= segment.last for segment in manifest.segments)


def _group(
    backend: Backend,
    catalog: Catalog,
    dataset: Dataset,
    group: str,
    levels: Sequence[Level],
    due: Mapping[str, set[int]],
    window: Window,
    report: Report,
) -> list[tuple[Level, list[LevelRow]]]:
    """The rows of each level, in order. Month by month: memory is bounded, and a monthly segment is read once."""
    rows: dict[str, list[LevelRow]] = {level.name: [] for level in levels}
    days = sorted({start // DAY for level in levels for start in due[level.name]})
    manifest = catalog.manifest_of(dataset, RAW, group)
    newest: Mapping[int, Values] = {}  # the rows of the last month that has any
    latest = backend.live.get(latest_key(dataset.name, group)) if days else None
    for _, part in groupby(days, lambda day: iso_seconds(from_micros(day * DAY))[:7]):
        month = list(part)
        wanted = {
            level.name: sorted(start for start in due[level.name] if month[0] <= start // DAY <= month[-1]) for level in levels
        }
        # before the raw rows: an item that is behind them gets another version, one that is ahead of them may never
        live = {level.name: stored(backend, dataset, group, level, wanted[level.name]) for level in levels}
        known = partial(known_numbers, backend, catalog, dataset, group, month)
        records = raw_rows.read(backend, manifest, dataset, month, known=known)
        newest = dict(records) or newest
        for level in levels:
            states = folded(records, level, wanted[level.name])
            made = [_row(start, states[start], level, window.end) for start in wanted[level.name]]
            compared, different = differing(dataset, group, level, live[level.name], made)
            report.compared += compared
            report.different += different
            rows[level.name] += made
    if days:
        report.different += differing_latest(dataset, group, latest, newest, days)
    return [(level, rows[level.name]) for level in levels]


def folded(records: Iterable[tuple[int, Values]], level: Level, starts: Sequence[int]) -> dict[int, State]:
    """The exact state of each period that starts at one of `starts`; of one without records, the empty state."""
    length, covered = LENGTHS[level.name], Fields(level.covered())
    own: dict[int, list[tuple[int, Values]]] = {start: [] for start in starts}
    for at, values in records:
        start = at // length * length
        if start in own:
            own[start].append((at - start, values))
    return {start: fold_all(found, covered) for start, found in own.items()}


def _row(start: int, state: State, level: Level, order: int) -> LevelRow:
    # a period whose rows are all deleted gets a row without rows, which hides what an earlier window wrote
    fields_from = level.fields_from(start)
    return LevelRow(from_micros(start), state.rows, shown(state, level), encode_state(state), order, level.live_from, fields_from)
