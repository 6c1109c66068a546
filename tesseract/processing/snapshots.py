"""Snapshots of aggregate levels: when a window has closed, its periods are computed from raw rows and kept as segments.

A period that has ended is snapshot in the first window that touched it after, or in which it ended. Its row is always the one
computed from the raw rows read whole, and is ordered by its window's end; live items are only compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from msgspec.structs import replace

from tesseract.config import tiers
from tesseract.config.dataset import Dataset, Level
from tesseract.errors import DamagedError, RetryError
from tesseract.model import Manifest, Window
from tesseract.processing import raw_rows
from tesseract.processing import touched as notes
from tesseract.processing.aggregator import State, encode_state, fold, identity, shown
from tesseract.processing.live_item import live_levels, numbers_of, usable
from tesseract.processing.segments import DAY, RAW, Partition, added, commit_rows
from tesseract.processing.touched import HOUR, Touched
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table
from tesseract.storage.exports import export_id
from tesseract.storage.keys import level_partition, live_pk, pending_object, touched_object
from tesseract.utils.time_utils import MICROSECOND, from_micros, iso_seconds, to_micros

EXAMPLES = 5
LENGTHS = {name: length // MICROSECOND for name, length in tiers.LENGTHS.items()}  # µs


@dataclass
class Report:
    """What the snapshots of one window did. `mismatches` counts live items that differ from raw: mostly stream lag."""

    window: str
    rows: int = 0
    commits: int = 0
    compared: int = 0
    mismatches: int = 0
    examples: list[str] = field(default_factory=list)  # a few mismatches, as `pk sk`


def run(backend: Backend, catalog: Catalog, now: datetime) -> list[Report]:
    """Snapshot every closed window that is not yet, oldest first, up to the first that is still open. Repeatable."""
    reports: list[Report] = []
    previous: Window | None = None
    for window in catalog.windows():
        if window.state != "closed":
            break
        if not window.snapshot_at:
            reports.append(snapshot(backend, catalog, window, previous, now))
            catalog.change_window(window.id, lambda stored: replace(stored, snapshot_at=to_micros(now)))
            catalog.advance("snapshot", window.end)
        previous = window
    if previous is not None:
        catalog.advance("snapshot", previous.end)
    return reports


def snapshot(backend: Backend, catalog: Catalog, window: Window, previous: Window | None, now: datetime) -> Report:
    """Snapshot one closed window, all windows before which are; `previous` is the one right before it."""
    export = export_id(window.export_arn)
    files = catalog.finished_files(window.id, export)
    fresh = notes.merged(notes.read(backend.objects, touched_object(window.id, export, file)) for file in files)
    waiting = notes.read(backend.objects, pending_object(previous.id)) if previous is not None else {}
    everything = notes.merged((fresh, waiting))
    report = Report(window.id)
    damaged: DamagedError | None = None
    for (name, group), hours in sorted(everything.items()):
        try:
            dataset = catalog.dataset(name)
        except DamagedError as error:  # the others are snapshot; the window stays open until it is mended
            damaged = error
            continue
        if dataset is None:
            raise RetryError("rows of a dataset that the catalog does not know", operation="snapshot", key=name)
        due = {level.name: due_periods(level, hours, fresh.get((name, group), set()), window) for level in live_levels(dataset)}
        _group(backend, catalog, dataset, group, due, window, report, now)
    if damaged is not None:
        raise damaged
    notes.write(backend.objects, pending_object(window.id), pending(everything, window.end))
    return report


def due_periods(level: Level, hours: Iterable[int], fresh: Iterable[int], window: Window) -> set[int]:
    """The starts (µs) of a level's periods that a window snapshots. `hours` are those touched by it or waiting, `fresh` by it.

    A period that began before the level was kept has no row: readers compute it from raw.
    """
    length = LENGTHS[level.name]
    touched = _starts(fresh, length)
    since = level.live_from
    return {
        start
        for start in _starts(hours, length)
        if start + length <= window.end and (start in touched or start + length > window.start) and (since is None or start > since)
    }


def _starts(hours: Iterable[int], length: int) -> set[int]:
    """The starts (µs) of the periods of a length that lie in one of `hours`, or that hold it."""
    return {start for hour in hours for start in range(hour * HOUR // length * length, (hour + 1) * HOUR, length)}


def pending(touched: Touched, end: int) -> Touched:
    """What of `touched` has a period that has not ended by `end` (µs): a later window must snapshot it."""
    return {name: {hour for hour in hours if (hour * HOUR // DAY + 1) * DAY > end} for name, hours in touched.items()}


def _group(
    backend: Backend,
    catalog: Catalog,
    dataset: Dataset,
    group: str,
    due: dict[str, set[int]],
    window: Window,
    report: Report,
    now: datetime,
) -> None:
    levels = [level for level in live_levels(dataset) if due[level.name]]
    manifests = {level.name: catalog.manifest(dataset.name, level_partition(level), group) for level in levels}
    commits = {level.name: f"{window.id}/snapshot/{level.name}" for level in levels}
    levels = [level for level in levels if added(manifests[level.name], (), commits[level.name], window.end, 0, "") is not None]
    rows = _rows(backend, catalog, dataset, group, levels, due, window, report)
    for level in levels:
        partition = Partition(dataset, level_partition(level), group)
        kept = [row for row in rows[level.name] if row.rows or _hides(manifests[level.name], row)]
        if not kept:
            continue
        table = level_table(dataset, level, group, kept)
        # a level is complete as far as its snapshots are: raw rows run ahead of it
        through = catalog.progress().snapshot_through
        operation = f"snapshot {len(table)} rows of window {window.id}"
        done = commit_rows(catalog, backend.objects, partition, table, commits[level.name], window.end, through, operation, now)
        report.commits += done
        report.rows += len(table)


def _hides(manifest: Manifest, row: LevelRow) -> bool:
    """Whether a row without records is needed: an earlier window may have written one of its period that has some."""
    start = to_micros(row.period_start)
    return any(segment.first <= start <= segment.last for segment in manifest.segments)


def _rows(
    backend: Backend,
    catalog: Catalog,
    dataset: Dataset,
    group: str,
    levels: Sequence[Level],
    due: dict[str, set[int]],
    window: Window,
    report: Report,
) -> dict[str, list[LevelRow]]:
    """The rows of each level, in order. Month by month: memory is bounded, and a monthly segment is read once."""
    rows: dict[str, list[LevelRow]] = {level.name: [] for level in levels}
    days = sorted({start // DAY for level in levels for start in due[level.name]})
    manifest = catalog.manifest(dataset.name, RAW, group)
    for _, part in groupby(days, lambda day: iso_seconds(from_micros(day * DAY))[:7]):
        month = list(part)
        records = raw_rows.read(backend, manifest, dataset, month)
        for level in levels:
            starts = sorted(start for start in due[level.name] if month[0] <= start // DAY <= month[-1])
            states = folded(records, level, starts)
            made = [_row(start, states[start], level, window.end) for start in starts]
            _compare(backend, dataset, group, level, made, report)
            rows[level.name] += made
    return rows


def folded(records: Iterable[tuple[int, raw_rows.Values]], level: Level, starts: Sequence[int]) -> dict[int, State]:
    """The exact state of each period that starts at one of `starts`; of one without records, the empty state."""
    length, covered = LENGTHS[level.name], level.covered()
    states = dict.fromkeys(starts, identity())
    for at, values in records:
        start = at // length * length
        if start in states:
            states[start] = fold(states[start], values, at - start, covered)
    return states


def _row(start: int, state: State, level: Level, order: int) -> LevelRow:
    # a period whose rows are all deleted gets a row without rows, which hides what an earlier window wrote
    return LevelRow(from_micros(start), state.rows, shown(state, level), encode_state(state), order, level.live_from)


def _compare(backend: Backend, dataset: Dataset, group: str, level: Level, rows: Sequence[LevelRow], report: Report) -> None:
    """Count the live items that differ from rows just computed. Not marked: a difference may only be the stream's lag."""
    if not rows:
        return
    pk = live_pk(dataset.name, group, level.name)
    wanted = {iso_seconds(row.period_start): row for row in rows}
    for item in backend.live.query(pk, min(wanted), max(wanted) + "~"):
        row = wanted.get(item["sk"])
        if row is None or not usable(item, level):
            continue
        report.compared += 1
        if int(item["rows"]) != row.rows or numbers_of(item) != row.numbers:
            report.mismatches += 1
            if len(report.examples) < EXAMPLES:
                report.examples.append(f"{pk} {item['sk']}")
