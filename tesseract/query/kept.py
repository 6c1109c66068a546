"""What is kept of a level: live items on hot days, snapshot rows elsewhere, and which periods must be computed from raw rows.

A level up to a day is looked at period by period. A weekly or monthly one (`merged_periods`) has rows of its own, which count where
all days of a period are read from snapshots; of the rest, the rows are those of the level that it is merged from.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.bases import base_level
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import UNITS, Unit
from tesseract.model import Item
from tesseract.processing.live_item import numbers_of, usable
from tesseract.processing.snapshots import LENGTHS
from tesseract.query.integers import Ints, int64_of
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
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.columns import FIELDS_FROM, LIVE_FROM, ORDER, STATE, LevelRow, level_stats, level_table, unify
from tesseract.storage.conform import conform, declared_kinds
from tesseract.storage.keys import level_partition, live_pk
from tesseract.storage.newest import LEVEL, newest
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds

STATES = ["period_start", "rows", STATE, ORDER, LIVE_FROM, FIELDS_FROM]  # the columns that periods are merged from
NO_STATES = pa.table({"period_start": pa.array([], TIMESTAMP), STATE: pa.array([], pa.binary())})


class Kept(NamedTuple):
    """What live items and snapshots have of one group: rows, by period, and the periods to be computed from raw rows."""

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
    manifests = source.manifests(dataset, level_partition(level), [group for group, ranges in wanted.items() if ranges])
    plans = [
        level_plan(group, ranges, manifests[group](), facts[group]) if ranges else LevelPlan(group, (), ())
        for group, ranges in wanted.items()
    ]
    begun = [_begin(source, dataset, level, plan, columns, facts[plan.group].trusted) for plan in plans]
    kept = {}
    for plan, (stretches, files) in zip(plans, begun, strict=True):
        # of a former state nobody knows which snapshots were still to come: what they lack is computed from the raw rows of then
        unsure = wanted[plan.group] if source.is_past else []
        first = rows_kept_from(dataset, "raw", facts[plan.group].settled)
        items = [item for stretch in stretches for item in source.result(stretch)]
        tables = [source.result(file) for file in files]
        kept[plan.group] = _keep(dataset, level, plan, wanted[plan.group], items, tables, unsure, first)
    return kept


def _begin(
    source: Source, dataset: Dataset, level: Level, plan: LevelPlan, columns: list[str] | None, trusted: bool
) -> tuple[list[Future[list[Item]]], list[Future[pa.Table]]]:
    """The live items and the segments of a plan, oldest window first: asked for, not waited for."""
    live = [part for part in plan.stretches if part.source == "live" and trusted]
    return [source.submit(_live, source, dataset, level, plan.group, part) for part in live], [
        source.submit(source.segment, dataset, plan.group, part, "period_start", columns) for part in plan.archive
    ]


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
    both = both.sort_by("period_start")
    starts = int64_of(both["period_start"].combine_chunks())
    spans = [Range(part.start, part.end) for part in plan.stretches if part.source == "live"]
    spans += [*lacking, *unsure]
    if level.live_from is not None:  # of periods that began before the level was kept only those have a row that were rebuilt
        spans.append(Range(TIME_MIN, level.live_from + 1))
    unit = UNITS[level.name]
    stats = _counted(plan)
    stats.live_items, stats.snapshot_rows = _filled(live), _filled(snapshot)
    missing = starting_in(unit, absent(wanted, unit, starts), coalesce(spans))
    return Kept(both.filter(pc.greater(both["rows"], 0)), missing, stats, (plan,) if wanted else ())


def absent(ranges: Sequence[Range], unit: Unit, found: Ints) -> list[Range]:
    """What `plan.gaps` gives, of a unit that has a length, without a look at each period that is there."""
    length = LENGTHS[unit.name]
    missing: list[Range] = []
    for wanted in ranges:
        at, stop = ceiling(unit, wanted.start), ceiling(unit, wanted.end)
        own = found[np.searchsorted(found, at) : np.searchsorted(found, stop)]
        ends, starts = np.append(at, own + length), np.append(own, stop)
        open_ = ends < starts
        missing += map(Range, ends[open_].tolist(), starts[open_].tolist())
    return missing


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


def columns_of(dataset: Dataset, level: Level, only: Container[str] | None = None) -> list[str] | None:
    """The columns to read of a level's segment, of the fields `only`: not the exact state, which is most of it; None: all."""
    if dataset.unknown_fields == "keep":
        return None
    fixed = {*dataset.group_by, "period_start", "rows", ORDER, LIVE_FROM, FIELDS_FROM}
    names = [name for name in empty(dataset, level).column_names if name != STATE]
    return [name for name in names if only is None or name in fixed or name.rpartition("_")[0] in only]


# weeks and months -------------------------------------------------------------------------------------------------------


def merged_periods(
    source: Source, dataset: Dataset, level: Level, ranges: Sequence[Range], facts: Mapping[str, Facts]
) -> dict[str, Kept]:
    """The exact states that a merged level is made of: of its own rows, else of its base's; without a base all of it is missing."""
    base = base_level(dataset, level)
    if base is None or not ranges:
        return {group: Kept(NO_STATES, list(ranges), Stats(), ()) for group in facts}
    # where days of a period may have been removed, its own row counts, and nothing else
    whole = {group: ceiling(UNITS[level.name], rows_kept_from(dataset, base.name, own.settled)) for group, own in facts.items()}
    facts = {group: own._replace(marks=marks_from(whole[group], own.marks)) for group, own in facts.items()}
    own = {} if source.is_past else _merged_rows(source, dataset, level, base, ranges[0], facts)
    left = {group: ranges_from(whole[group], own[group].missing if own else ranges) for group in facts}
    kept = kept_rows(source, dataset, base, left, facts, STATES)
    return {group: _both(own[group], part) if own else part for group, part in kept.items()}


def _merged_rows(
    source: Source,
    dataset: Dataset,
    level: Level,
    base: Level,
    wanted: Range,
    facts: Mapping[str, Facts],
) -> dict[str, Kept]:
    """The rows of a merged level's own, and the periods that have none that counts: they are merged from the base."""
    unit, name = UNITS[level.name], level_partition(level)

    manifests = source.manifests(dataset, name, facts)
    plans = [merged_plan(group, wanted, unit, manifests[group](), own) for group, own in facts.items()]
    begun = [_begin(source, dataset, level, plan, STATES, False) for plan in plans]
    kept = {}
    for plan, (_, files) in zip(plans, begun, strict=True):
        segments = [source.result(file) for file in files]
        first = rows_kept_from(dataset, "raw", facts[plan.group].settled)
        rows, _ = _snapshot(dataset, level, base, plan, segments, first)
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
    return Kept(rows.sort_by("period_start"), base.missing, own.stats, (*own.plans, *base.plans))


def ranges_from(first: int, ranges: Iterable[Range]) -> list[Range]:
    """What of ranges lies at or after a moment."""
    return [Range(max(part.start, first), part.end) for part in ranges if part.end > first]


def marks_from(first: int, marks: Mapping[int, int]) -> dict[int, int]:
    """The marks of days that begin at or after a moment."""
    return {day: at for day, at in marks.items() if day * DAY >= first}
