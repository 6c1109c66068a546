"""What is kept of a level: live items on hot days, snapshot rows elsewhere, and which periods must be computed from raw rows.

A level up to a day is looked at period by period. A weekly or monthly one (`merged_periods`) has rows of its own, which count where
all days of a period are read from snapshots; of the rest, the rows are those of the level that it is merged from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.bases import base_level
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import UNITS
from tesseract.model import Item
from tesseract.processing.live_item import numbers_of, usable
from tesseract.processing.snapshots import LENGTHS
from tesseract.query.plan import (
    DAY,
    TIME_MAX,
    TIME_MIN,
    Facts,
    LevelPlan,
    Range,
    Stretch,
    ceiling,
    coalesce,
    gaps,
    level_plan,
    merged_plan,
    starting_in,
)
from tesseract.query.results import Stats, empty, within
from tesseract.query.source import Source
from tesseract.storage.columns import FIELDS_FROM, LIVE_FROM, ORDER, STATE, LevelRow, level_stats, level_table, unify
from tesseract.storage.conform import conform, declared_kinds
from tesseract.storage.keys import level_partition, live_pk
from tesseract.storage.newest import LEVEL, newest
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds


class Kept(NamedTuple):
    """What live items and snapshots have of one group: rows, and the periods that must be computed from raw rows."""

    rows: pa.Table
    missing: list[Range]
    stats: Stats
    plans: tuple[object, ...]


def kept_rows(
    source: Source,
    dataset: Dataset,
    level: Level,
    wanted: Mapping[str, Sequence[Range]],
    facts: Mapping[str, Facts],
    columns: list[str] | None,
) -> dict[str, Kept]:
    """What live items and snapshots have of each group in its ranges; `columns` are read of the snapshots, None for all."""
    plans = source.map(lambda group: _plan(source, dataset, level, group, wanted[group], facts[group]), wanted)
    trusted = all(own.trusted for own in facts.values())
    stretches = [(plan.group, part) for plan in plans for part in plan.stretches if part.source == "live" and trusted]
    found = source.map(lambda job: _live(source, dataset, level, *job), stretches)
    segments = _segments(source, dataset, plans, columns)
    items: dict[str, list[Item]] = {group: [] for group in wanted}
    for (group, _), part in zip(stretches, found, strict=True):
        items[group] += part
    kept = {}
    for plan in plans:
        # of a former state nobody knows which snapshots were still to come: what they lack is computed from the raw rows of then
        unsure = wanted[plan.group] if source.is_past else []
        first = rows_kept_from(dataset, "raw", facts[plan.group].settled)
        found_here = items[plan.group], segments[plan.group]
        kept[plan.group] = _keep(dataset, level, plan, wanted[plan.group], *found_here, unsure, first)
    return kept


def _plan(source: Source, dataset: Dataset, level: Level, group: str, ranges: Sequence[Range], facts: Facts) -> LevelPlan:
    if not ranges:
        return LevelPlan(group, (), ())
    return level_plan(group, ranges, source.catalog.manifest_of(dataset, level_partition(level), group), facts)


def _segments(source: Source, dataset: Dataset, plans: Sequence[LevelPlan], columns: list[str] | None) -> dict[str, list[pa.Table]]:
    """The rows of each group in the segments of its plan, oldest window first."""
    files = [(plan.group, part) for plan in plans for part in plan.archive]
    tables = source.map(lambda job: source.segment(dataset, *job, "period_start", columns), files)
    found: dict[str, list[pa.Table]] = {plan.group: [] for plan in plans}
    for (group, _), table in zip(files, tables, strict=True):
        found[group].append(table)
    return found


def _live(source: Source, dataset: Dataset, level: Level, group: str, part: Stretch) -> list[Item]:
    pk = live_pk(dataset.name, group, level.name)
    high = None if part.end >= TIME_MAX else _sort_key(part.end)
    return [item for item in source.backend.live.query(pk, _sort_key(part.start), high) if usable(item, level)]


def _sort_key(micros: int) -> str:
    """The first sort key that is not before a moment: keys are whole seconds."""
    return iso_seconds(from_micros(-(-micros // 1_000_000) * 1_000_000))


def _keep(
    dataset: Dataset,
    level: Level,
    plan: LevelPlan,
    wanted: Sequence[Range],
    items: Sequence[Item],
    segments: Sequence[pa.Table],
    unsure: Sequence[Range],
    first: int,
) -> Kept:
    """The rows that are there. Items and rows with `rows` 0 answer for their period: it has no row.

    A period absent within `unsure` may have records all the same. Before `first` (µs) raw rows may have been removed.
    """
    live = level_table(dataset, level, plan.group, [_row(item) for item in items])
    snapshot, lacking = _snapshot(dataset, level, level, plan, segments, first)
    if unsure:
        snapshot = _ended(level, snapshot)
    both = pa.concat_tables(unify([snapshot, live]))
    starts = sorted(pc.cast(both["period_start"], pa.int64()).to_pylist())
    spans = [Range(part.start, part.end) for part in plan.stretches if part.source == "live"]
    spans += [*lacking, *unsure]
    if level.live_from is not None:  # of periods that began before the level was kept only those have a row that were rebuilt
        spans.append(Range(TIME_MIN, level.live_from + 1))
    unit = UNITS[level.name]
    stats = _counted(plan)
    stats.live_items, stats.snapshot_rows = _filled(live), _filled(snapshot)
    missing = starting_in(unit, gaps(wanted, unit, starts), coalesce(spans))
    return Kept(both.filter(pc.greater(both["rows"], 0)), missing, stats, (plan,) if wanted else ())


def _counted(plan: LevelPlan) -> Stats:
    return Stats(segments=len(plan.archive), segment_bytes=sum(part.segment.bytes for part in plan.archive))


def _snapshot(
    dataset: Dataset, level: Level, base: Level, plan: LevelPlan, segments: Sequence[pa.Table], first: int
) -> tuple[pa.Table, list[Range]]:
    """The newest snapshot rows of a plan that have all fields of `base`, and where those are that lack some."""
    cold = [Range(part.start, part.end) for part in plan.stretches if part.source == "snapshot"]
    declared = empty(dataset, level)
    kinds = declared_kinds(declared.column_names, declared.schema)
    tables = [conform(_shown(dataset, level, table), kinds) for table in segments]
    found, _ = newest([declared, *tables], LEVEL)
    return _whole(found.filter(within(found["period_start"], cold)), base, first)


def _shown(dataset: Dataset, level: Level, table: pa.Table) -> pa.Table:
    """A segment without the columns that the level shows no more."""
    fixed = {*dataset.group_by, "period_start", "rows"}
    parts = [(name, *name.rpartition("_")[::2]) for name in table.column_names if name not in fixed and name[:2] != "__"]
    hidden = [name for name, field, stat in parts if stat not in level_stats(dataset, level, field)]
    return table.drop_columns(hidden) if hidden else table


def _whole(table: pa.Table, level: Level, first: int) -> tuple[pa.Table, list[Range]]:
    """The snapshot rows that have all fields of their level, or nothing behind them, and a range that has the others' starts."""
    if not level.since:
        return table, []
    starts = pc.cast(table["period_start"], pa.int64())
    bounds = pc.max_element_wise(starts, table[FIELDS_FROM])  # a null is passed over
    keep = pc.or_(pc.greater(bounds, max(level.since.values())), pc.less(starts, first))
    others = starts.filter(pc.invert(keep))
    found = [] if len(others) == 0 else [Range(pc.min(others).as_py(), pc.max(others).as_py() + 1)]
    return table.filter(keep), found


def _ended(level: Level, table: pa.Table) -> pa.Table:
    """Without rows of periods that had not ended as of the row's window: repairs made them, and later raw rows may be there."""
    ends = pc.add(pc.cast(table["period_start"], pa.int64()), LENGTHS[level.name])
    return table.filter(pc.greater_equal(table[ORDER], ends))


def _filled(table: pa.Table) -> int:
    return int(pc.sum(pc.greater(table["rows"], 0)).as_py() or 0)


def _row(item: Item) -> LevelRow:
    return LevelRow(from_iso(item["sk"]), int(item["rows"]), numbers_of(item), item["state"], 0, item.get("live_from"))


def columns_of(dataset: Dataset, level: Level) -> list[str] | None:
    """The columns to read of a level's segment: all but the exact state, which is most of the file; None where not known."""
    return None if dataset.unknown_fields == "keep" else [name for name in empty(dataset, level).column_names if name != STATE]


# weeks and months -------------------------------------------------------------------------------------------------------


def merged_periods(
    source: Source, dataset: Dataset, level: Level, ranges: Sequence[Range], facts: Mapping[str, Facts]
) -> dict[str, Kept]:
    """The exact states that a merged level is made of: of its own rows, else of its base's; without a base all of it is missing."""
    base = base_level(dataset, level)
    if base is None or not ranges:
        return {group: Kept(empty(dataset, level), list(ranges), Stats(), ()) for group in facts}
    columns = ["period_start", "rows", STATE, ORDER, LIVE_FROM, FIELDS_FROM]
    # where days of a period may have been removed, its own row counts, and nothing else
    whole = {group: ceiling(UNITS[level.name], rows_kept_from(dataset, base.name, own.settled)) for group, own in facts.items()}
    facts = {group: own._replace(marks=marks_from(whole[group], own.marks)) for group, own in facts.items()}
    own = {} if source.is_past else _merged_rows(source, dataset, level, base, ranges[0], facts, columns)
    left = {group: ranges_from(whole[group], own[group].missing if own else ranges) for group in facts}
    kept = kept_rows(source, dataset, base, left, facts, columns)
    return {group: _both(own[group], part) if own else part for group, part in kept.items()}


def _merged_rows(
    source: Source,
    dataset: Dataset,
    level: Level,
    base: Level,
    wanted: Range,
    facts: Mapping[str, Facts],
    columns: list[str],
) -> dict[str, Kept]:
    """The rows of a merged level's own, and the periods that have none that counts: they are merged from the base."""
    unit, name = UNITS[level.name], level_partition(level)

    def planned(group: str) -> LevelPlan:
        return merged_plan(group, wanted, unit, source.catalog.manifest_of(dataset, name, group), facts[group])

    plans = source.map(planned, facts)
    segments = _segments(source, dataset, plans, columns)
    kept = {}
    for plan in plans:
        first = rows_kept_from(dataset, "raw", facts[plan.group].settled)
        rows, _ = _snapshot(dataset, level, base, plan, segments[plan.group], first)
        if base.live_from is not None:  # an earlier one may lack days whose rows were never computed
            rows = rows.filter(pc.greater(pc.cast(rows["period_start"], pa.int64()), base.live_from))
        starts = pc.cast(rows["period_start"], pa.int64()).to_pylist()
        stats = _counted(plan)
        stats.snapshot_rows = _filled(rows)
        kept[plan.group] = Kept(rows.filter(pc.greater(rows["rows"], 0)), gaps([wanted], unit, starts), stats, (plan,))
    return kept


def _both(own: Kept, base: Kept) -> Kept:
    own.stats.add(base.stats)
    columns = ["period_start", STATE]
    rows = pa.concat_tables([own.rows.select(columns), base.rows.select(columns)])
    return Kept(rows, base.missing, own.stats, (*own.plans, *base.plans))


def ranges_from(first: int, ranges: Iterable[Range]) -> list[Range]:
    """What of ranges lies at or after a moment."""
    return [Range(max(part.start, first), part.end) for part in ranges if part.end > first]


def marks_from(first: int, marks: Mapping[int, int]) -> dict[int, int]:
    """The marks of days that begin at or after a moment."""
    return {day: at for day, at in marks.items() if day * DAY >= first}
