"""Snapshots of aggregate levels: when a window has closed, its periods are computed from raw rows and kept as segments.

A period that has ended is snapshot in the first window that touched it after, or in which it ended. Its row is always the one
computed from the raw rows read whole, and is ordered by its window's end; live items are only compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from uuid import uuid4

from msgspec.structs import replace

from tesseract.config import tiers
from tesseract.config.dataset import Dataset, Level
from tesseract.errors import DamagedError, RetryError
from tesseract.model import Item, Manifest, Window
from tesseract.processing import mismatches, raw_rows
from tesseract.processing import touched as notes
from tesseract.processing.aggregator import Fields, State, decode_state, encode_state, fold_all, same, shown
from tesseract.processing.live_item import LiveItem, covers, decode_item, included, live_levels, within
from tesseract.processing.mismatches import Seen
from tesseract.processing.raw_rows import Values
from tesseract.processing.segments import DAY, RAW, Partition, added, commit_rows
from tesseract.processing.touched import HOUR, Touched
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table
from tesseract.storage.keys import latest_key, level_partition, live_pk, pending_object
from tesseract.utils.time_utils import MICROSECOND, from_iso, from_micros, iso_seconds, to_micros

LENGTHS = {name: length // MICROSECOND for name, length in tiers.LENGTHS.items()}  # µs


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
    for window in catalog.windows():
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
    for window in catalog.windows():
        if not window.snapshot_at or window.end > repaired:
            break
        through = max(through, window.end)
    if through:
        catalog.advance("snapshot", through)


def snapshot(backend: Backend, catalog: Catalog, window: Window, previous: Window | None, now: datetime) -> Report:
    """Snapshot one closed window, all windows before which are; `previous` is the one right before it."""
    fresh = notes.of_window(catalog, backend.objects, window)
    waiting = notes.pending_of(backend.objects, previous) if previous is not None else {}
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
    manifests = {level.name: catalog.manifest_of(dataset, level_partition(level), group) for level in levels}
    commits = {level.name: commit_id(dataset, group, window, level) for level in levels}
    levels = [level for level in levels if added(manifests[level.name], (), commits[level.name], window.end, 0, "") is not None]
    known = len(report.different)
    rows = _rows(backend, catalog, dataset, group, levels, due, window, report)
    # before the commits, under a name of its own: what is committed is not compared again by a run that goes on after this one
    mismatches.note(backend.objects, f"{window.id}-{uuid4().hex}", report.different[known:], now)
    for level in levels:
        partition = Partition.of(dataset, level_partition(level), group)
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


def commit_id(dataset: Dataset, group: str, window: Window, level: Level) -> str:
    """The commit of a window's snapshot: groups that share a manifest have one each."""
    own = f"{window.id}/snapshot/{level.name}"
    return f"{own}/{group}" if dataset.partitions else own


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
    manifest = catalog.manifest_of(dataset, RAW, group)
    newest: Mapping[int, Values] = {}  # the rows of the last month that has any
    latest = backend.live.get(latest_key(dataset.name, group)) if days else None
    for _, part in groupby(days, lambda day: iso_seconds(from_micros(day * DAY))[:7]):
        month = list(part)
        wanted = {
            level.name: sorted(start for start in due[level.name] if month[0] <= start // DAY <= month[-1]) for level in levels
        }
        # before the raw rows: an item that is behind them gets another version, one that is ahead of them may never
        live = {level.name: _stored(backend, dataset, group, level, wanted[level.name]) for level in levels}
        records = raw_rows.read(backend, manifest, dataset, month)
        newest = dict(records) or newest
        for level in levels:
            states = folded(records, level, wanted[level.name])
            made = [_row(start, states[start], level, window.end) for start in wanted[level.name]]
            _compare(dataset, group, level, live[level.name], made, report)
            rows[level.name] += made
    if days:
        _compare_latest(dataset, group, latest, newest, days, report)
    return rows


def _stored(backend: Backend, dataset: Dataset, group: str, level: Level, starts: Sequence[int]) -> dict[str, LiveItem]:
    """The live items between the first and the last of `starts` (µs), by sort key."""
    if not starts:
        return {}
    low, high = (iso_seconds(from_micros(start)) for start in (starts[0], starts[-1]))
    return {item["sk"]: decode_item(item) for item in backend.live.query(live_pk(dataset.name, group, level.name), low, high + "~")}


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


def _compare(
    dataset: Dataset, group: str, level: Level, found: Mapping[str, LiveItem], rows: Sequence[LevelRow], report: Report
) -> None:
    """Note the live items that differ from rows just computed. Not marked yet: a difference may only be the stream's lag.

    One that is stale is on its way; one that is absent, or pending though its period has ended, may have missed a change. A period
    that began before its level was kept has no item until it is rebuilt.
    """
    pk = live_pk(dataset.name, group, level.name)
    for row in rows:
        sk = iso_seconds(row.period_start)
        live = found.get(sk, LiveItem(pk, sk, live_from=level.live_from))
        if sk not in found and not covers(live, dataset, level):
            continue
        if live.stale_at is not None or live.live_from != level.live_from:
            continue
        report.compared += 1
        fields = included(live, level)
        if not same(within(live.state, fields), within(decode_state(row.state), fields)):
            report.different.append(Seen(pk, sk, live.version))


def _compare_latest(
    dataset: Dataset, group: str, item: Item | None, records: Mapping[int, Values], days: Sequence[int], report: Report
) -> None:
    """Note the latest item where the raw rows just read have a later one, or another one at its time, or none there.

    `records` by their time, those of the last month that has any; `days` (since 1970) are all that were read.
    """
    key, last = latest_key(dataset.name, group), max(records, default=-(2**63))
    item = item or {"version": 0, "valid_time": ""}
    if "stale_at" in item:
        return
    at = to_micros(from_iso(item["valid_time"])) if item["valid_time"] else -(2**63)
    gone = at not in records and at // DAY in days
    if at < last or gone or (at in records and not _agree(item["fields"], records[at])):
        report.different.append(Seen(*key, int(item["version"])))


def _agree(held: Values, found: Values) -> bool:
    """Whether numbers that are on both sides are the same: of the archive there are numbers only."""
    both = held.keys() & found.keys()
    return all(held[name] == found[name] for name in both if isinstance(held[name], int | Decimal))
