"""Aggregate levels: live items on hot days, snapshot rows elsewhere, and what neither has is computed from raw rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Unit
from tesseract.model import FieldValue, Item
from tesseract.processing.aggregator import State, fold, identity, shown
from tesseract.processing.live_item import numbers_of, usable
from tesseract.query.plan import DAY, TIME_MAX, Facts, LevelPlan, Range, Stretch, coalesce, gaps, level_plan
from tesseract.query.raw import Rows, Source, read_raw
from tesseract.query.results import Stats, empty, newest, within
from tesseract.storage.codec import shortest
from tesseract.storage.columns import ORDER, STATE, LevelRow, level_table, unify
from tesseract.storage.keys import level_partition, live_pk
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds, to_micros


class LevelRows(NamedTuple):
    """The rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plans: tuple[object, ...]


class _Kept(NamedTuple):
    """What live items and snapshots have of one group: rows, and the starts of all periods that they answer for."""

    rows: pa.Table
    starts: list[int]


def read_level(
    source: Source, dataset: Dataset, level: Level, groups: Sequence[str], wanted: Range, live: Facts, raw: Facts
) -> dict[str, LevelRows]:
    """The rows of each group whose period starts in `wanted`, by period.

    `live.through` is `snapshot_through`, `raw.through` is `archived_through`; both must have been read before this is called.
    """
    plans = source.map(lambda group: _plan(source, dataset, level, group, wanted, live), groups)
    stretches = [(plan.group, part) for plan in plans for part in plan.stretches if part.source == "live"]
    found = source.map(lambda job: _live(source, dataset, level, *job), stretches)
    files = [(plan.group, part) for plan in plans for part in plan.archive]
    columns = _columns(dataset, level)
    tables = source.map(lambda job: source.segment(job[1], "period_start", columns), files)
    items: dict[str, list[Item]] = {group: [] for group in groups}
    for (group, _), part in zip(stretches, found, strict=True):
        items[group] += part
    segments: dict[str, list[pa.Table]] = {group: [] for group in groups}
    for (group, _), table in zip(files, tables, strict=True):
        segments[group].append(table)
    stats = {plan.group: _read_stats(plan) for plan in plans}
    kept = {p.group: _keep(dataset, level, p, items[p.group], segments[p.group], stats[p.group]) for p in plans}
    unit = UNITS[level.name]
    missing = {group: gaps(wanted, unit, part.starts) for group, part in kept.items()}
    # gaps of less than a day are read as one: folding a few rows more is cheaper than another Query
    raw_rows = read_raw(source, dataset, {g: coalesce(parts, DAY) for g, parts in missing.items()}, raw, _covered(dataset, level))
    return {p.group: _finish(dataset, level, p, kept[p.group], missing[p.group], raw_rows[p.group], stats[p.group]) for p in plans}


def _plan(source: Source, dataset: Dataset, level: Level, group: str, wanted: Range, facts: Facts) -> LevelPlan:
    manifest = source.catalog.manifest(dataset.name, level_partition(level), group)
    marks = source.lookup.marks(dataset, group, wanted)
    return level_plan(group, wanted, manifest, facts._replace(marks=marks))


def _live(source: Source, dataset: Dataset, level: Level, group: str, part: Stretch) -> list[Item]:
    pk = live_pk(dataset.name, group, level.name)
    high = None if part.end >= TIME_MAX else _sort_key(part.end)
    return [item for item in source.backend.live.query(pk, _sort_key(part.start), high) if usable(item, level)]


def _sort_key(micros: int) -> str:
    """The first sort key that is not before a moment: keys are whole seconds."""
    return iso_seconds(from_micros(-(-micros // 1_000_000) * 1_000_000))


def _read_stats(plan: LevelPlan) -> Stats:
    return Stats(segments=len(plan.archive), segment_bytes=sum(part.segment.bytes for part in plan.archive))


def _keep(
    dataset: Dataset, level: Level, plan: LevelPlan, items: Sequence[Item], segments: Sequence[pa.Table], stats: Stats
) -> _Kept:
    """The rows that are there. Items and rows with `rows` 0 answer for their period: it has no row."""
    live = level_table(dataset, level, plan.group, [_row(item) for item in items])
    cold = [Range(part.start, part.end) for part in plan.stretches if part.source == "snapshot"]
    snapshot, _ = newest(pa.concat_tables(unify([live.slice(0, 0), *segments])), "period_start", ORDER)
    snapshot = snapshot.filter(within(snapshot["period_start"], cold))
    both = pa.concat_tables(unify([snapshot, live]))
    starts = sorted(pc.cast(both["period_start"], pa.int64()).to_pylist())
    stats.live_items, stats.snapshot_rows = _filled(live), _filled(snapshot)
    return _Kept(both.filter(pc.greater(both["rows"], 0)), starts)


def _filled(table: pa.Table) -> int:
    return int(pc.sum(pc.greater(table["rows"], 0)).as_py() or 0)


def _row(item: Item) -> LevelRow:
    return LevelRow(from_iso(item["sk"]), int(item["rows"]), numbers_of(item), b"", 0, item.get("live_from"))


def _finish(
    dataset: Dataset, level: Level, plan: LevelPlan, kept: _Kept, missing: Sequence[Range], raw: Rows, stats: Stats
) -> LevelRows:
    unit = UNITS[level.name]
    table = raw.table.filter(within(raw.table["valid_time"], missing))
    rows = [
        LevelRow(from_micros(start), state.rows, shown(state, level), b"", 0, level.live_from)
        for start, state in folded(dataset, table, unit, level.covered()).items()
    ]
    stats.add(raw.stats)
    both = pa.concat_tables(unify([kept.rows, level_table(dataset, level, plan.group, rows)]))
    stats.recomputed, stats.rows = len(rows), len(both)
    plans = (plan, raw.plan) if raw.plan.ranges else (plan,)
    return LevelRows(both.sort_by("period_start"), stats, plans)


def _covered(dataset: Dataset, level: Level) -> list[str] | None:
    """The raw columns that a level needs; None for all, where fields are learned."""
    covered = level.covered()
    if dataset.unknown_fields == "keep":
        return None if covered is None else sorted(covered)
    return [name for name, field in dataset.fields.items() if field.numeric and (covered is None or name in covered)]


def _columns(dataset: Dataset, level: Level) -> list[str] | None:
    """The columns to read of a level's segment: all but the exact state, which is most of the file; None where not known."""
    return None if dataset.unknown_fields == "keep" else [name for name in empty(dataset, level).column_names if name != STATE]


def folded(dataset: Dataset, table: pa.Table, unit: Unit, covered: frozenset[str] | None = None) -> Mapping[int, State]:
    """Period start (µs) → exact state of the fields `covered` (None: of all), of raw rows sorted by time.

    Doubles count as the decimal of their shortest text, as they did when they came in.
    """
    states: dict[int, State] = {}
    start = end = 0
    for at, values in _values(dataset, table):
        if not states or not start <= at < end:
            period = unit.period(from_micros(at))
            start, end = to_micros(period.start), to_micros(period.end)
        states[start] = fold(states.get(start) or identity(), values, at - start, covered)
    return states


def _values(dataset: Dataset, table: pa.Table) -> Iterator[tuple[int, dict[str, FieldValue]]]:
    """The time and the numbers of each row."""
    fixed = {*dataset.group_by, "valid_time", "ref_time"}
    names = [f.name for f in table.schema if _is_number(f.type) and f.name not in fixed and not f.name.startswith("__")]
    columns = [table[name].to_pylist() for name in names]
    times = pc.cast(table["valid_time"], pa.int64()).to_pylist()
    for at, *row in zip(times, *columns, strict=True):
        values = ((name, value) for name, value in zip(names, row, strict=True) if value is not None)
        yield at, {name: shortest(value) if isinstance(value, float) else value for name, value in values}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_int64(kind))
