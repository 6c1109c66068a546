"""Aggregate levels: live items on hot days, snapshot rows elsewhere, raw rows for what neither can have; weeks and months merged.

A level up to a day is read period by period. Where the rule of the plan says snapshot, the snapshots have every period that has a
record and began after the level was kept: an absent one has none. An item or a row that lacks a field that its level got later is
passed over, and its period is computed from raw rows. A weekly or monthly level is merged from the exact states of the coarsest
level that covers its fields, or computed from raw rows where none does: the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import MERGED_LEVELS, UNITS, Unit
from tesseract.model import FieldValue, Item
from tesseract.processing.aggregator import ALL, Fields, State, decode_state, fold, identity, merge, shift, shown
from tesseract.processing.live_item import live_levels, numbers_of, usable
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
    starting_in,
)
from tesseract.query.raw import Rows, Source, read_raw
from tesseract.query.results import Stats, empty, within
from tesseract.storage.arrow_types import exact, is_number
from tesseract.storage.columns import FIELDS_FROM, LIVE_FROM, ORDER, STATE, LevelRow, level_stats, level_table, unify
from tesseract.storage.conform import conform, declared_kinds
from tesseract.storage.keys import level_partition, live_pk
from tesseract.storage.newest import LEVEL, newest
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds, to_micros


class LevelRows(NamedTuple):
    """The rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plans: tuple[object, ...]


class _Kept(NamedTuple):
    """What live items and snapshots have of one group: rows, and the periods that must be computed from raw rows."""

    rows: pa.Table
    missing: list[Range]
    stats: Stats
    plans: tuple[object, ...]


def read_level(
    source: Source, dataset: Dataset, level: Level, groups: Sequence[str], wanted: Range, live: Facts, raw: Facts
) -> dict[str, LevelRows]:
    """The rows of each group whose period starts in `wanted`, by period.

    `live.through` is `snapshot_through`, `raw.through` is `archived_through`; both must have been read before this is called.
    """
    unit = UNITS[level.name]
    if level.name in MERGED_LEVELS:
        whole = Range(ceiling(unit, wanted.start), ceiling(unit, wanted.end))
        kept = _states(source, dataset, level, groups, whole, live)
    else:
        kept = _kept(source, dataset, level, groups, wanted, live, _columns(dataset, level))
    # gaps of less than a day are read as one: folding a few rows more is cheaper than another Query
    wholes = {group: coalesce(part.missing, DAY) for group, part in kept.items()}
    rows = read_raw(source, dataset, wholes, raw, _covered(dataset, level))
    finish = _merged if level.name in MERGED_LEVELS else _joined
    return {group: finish(dataset, level, group, part, rows[group]) for group, part in kept.items()}


# what is kept -----------------------------------------------------------------------------------------------------------


def _kept(
    source: Source, dataset: Dataset, level: Level, groups: Sequence[str], wanted: Range, live: Facts, columns: list[str] | None
) -> dict[str, _Kept]:
    """What live items and snapshots have of each group; `columns` are read of the snapshots, None for all."""
    plans = source.map(lambda group: _plan(source, dataset, level, group, wanted, live), groups)
    stretches = [(plan.group, part) for plan in plans for part in plan.stretches if part.source == "live"]
    found = source.map(lambda job: _live(source, dataset, level, *job) if live.trusted else [], stretches)
    files = [(plan.group, part) for plan in plans for part in plan.archive]
    tables = source.map(lambda job: source.segment(dataset, *job, "period_start", columns), files)
    items: dict[str, list[Item]] = {group: [] for group in groups}
    for (group, _), part in zip(stretches, found, strict=True):
        items[group] += part
    segments: dict[str, list[pa.Table]] = {group: [] for group in groups}
    for (group, _), table in zip(files, tables, strict=True):
        segments[group].append(table)
    # of a former state nobody knows which snapshots were still to come: what they lack is computed from the raw rows of then
    unsure = [wanted] if source.is_past else []
    return {plan.group: _keep(dataset, level, plan, wanted, items[plan.group], segments[plan.group], unsure) for plan in plans}


def _plan(source: Source, dataset: Dataset, level: Level, group: str, wanted: Range, facts: Facts) -> LevelPlan:
    manifest = source.catalog.manifest_of(dataset, level_partition(level), group)
    marks = source.lookup.marks(dataset, group, wanted)
    return level_plan(group, wanted, manifest, facts._replace(marks=marks))


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
    wanted: Range,
    items: Sequence[Item],
    segments: Sequence[pa.Table],
    unsure: Sequence[Range],
) -> _Kept:
    """The rows that are there. Items and rows with `rows` 0 answer for their period: it has no row.

    A period absent within `unsure` may have records all the same.
    """
    live = level_table(dataset, level, plan.group, [_row(item) for item in items])
    cold = [Range(part.start, part.end) for part in plan.stretches if part.source == "snapshot"]
    declared = empty(dataset, level).schema
    kinds = declared_kinds(declared.names, declared)
    tables = [conform(_shown(dataset, level, table), kinds) for table in segments]
    snapshot, _ = newest([live.slice(0, 0), *tables], LEVEL)
    snapshot, lacking = _whole(snapshot.filter(within(snapshot["period_start"], cold)), level)
    both = pa.concat_tables(unify([snapshot, live]))
    starts = sorted(pc.cast(both["period_start"], pa.int64()).to_pylist())
    spans = [Range(part.start, part.end) for part in plan.stretches if part.source == "live"]
    spans += [*lacking, *unsure]
    if level.live_from is not None:  # of periods that began before the level was kept only those have a row that were rebuilt
        spans.append(Range(TIME_MIN, level.live_from + 1))
    spans = coalesce(spans)
    unit = UNITS[level.name]
    stats = Stats(segments=len(plan.archive), segment_bytes=sum(part.segment.bytes for part in plan.archive))
    stats.live_items, stats.snapshot_rows = _filled(live), _filled(snapshot)
    missing = starting_in(unit, gaps(wanted, unit, starts), spans)
    return _Kept(both.filter(pc.greater(both["rows"], 0)), missing, stats, (plan,))


def _shown(dataset: Dataset, level: Level, table: pa.Table) -> pa.Table:
    """A segment without the columns that the level shows no more."""
    fixed = {*dataset.group_by, "period_start", "rows"}
    parts = [(name, *name.rpartition("_")[::2]) for name in table.column_names if name not in fixed and name[:2] != "__"]
    hidden = [name for name, field, stat in parts if stat not in level_stats(dataset, level, field)]
    return table.drop_columns(hidden) if hidden else table


def _whole(table: pa.Table, level: Level) -> tuple[pa.Table, list[Range]]:
    """The snapshot rows that have all fields of their level, and a range that has the starts of the others."""
    if not level.since:
        return table, []
    starts = pc.cast(table["period_start"], pa.int64())
    bounds = pc.max_element_wise(starts, table[FIELDS_FROM])  # a null is passed over
    keep = pc.greater(bounds, max(level.since.values()))
    others = starts.filter(pc.invert(keep))
    found = [] if len(others) == 0 else [Range(pc.min(others).as_py(), pc.max(others).as_py() + 1)]
    return table.filter(keep), found


def _filled(table: pa.Table) -> int:
    return int(pc.sum(pc.greater(table["rows"], 0)).as_py() or 0)


def _row(item: Item) -> LevelRow:
    return LevelRow(from_iso(item["sk"]), int(item["rows"]), numbers_of(item), item["state"], 0, item.get("live_from"))


def _columns(dataset: Dataset, level: Level) -> list[str] | None:
    """The columns to read of a level's segment: all but the exact state, which is most of the file; None where not known."""
    return None if dataset.unknown_fields == "keep" else [name for name in empty(dataset, level).column_names if name != STATE]


def _joined(dataset: Dataset, level: Level, group: str, kept: _Kept, raw: Rows) -> LevelRows:
    """The kept rows of a level, and those computed for the periods that it lacks."""
    states = _computed(dataset, level, kept, raw)
    both = pa.concat_tables(unify([kept.rows, _table(dataset, level, group, states)]))
    kept.stats.recomputed = len(states)
    return _rows(both.sort_by("period_start"), kept, raw)


# weeks and months -------------------------------------------------------------------------------------------------------


def _states(source: Source, dataset: Dataset, level: Level, groups: Sequence[str], whole: Range, live: Facts) -> dict[str, _Kept]:
    """The exact states of the periods that a merged level is made of; where nothing covers it, all of it is missing."""
    base = base_level(dataset, level)
    if whole.start < whole.end and base is not None:
        return _kept(source, dataset, base, groups, whole, live, ["period_start", "rows", STATE, ORDER, LIVE_FROM, FIELDS_FROM])
    missing = [whole] if whole.start < whole.end else []
    return {group: _Kept(empty(dataset, level), missing, Stats(), ()) for group in groups}


def read_partition(dataset: Dataset, level: Level) -> str:
    """The partition whose snapshots a level is read from."""
    base = base_level(dataset, level) if level.name in MERGED_LEVELS else level
    return level_partition(base or level)


def base_level(dataset: Dataset, level: Level) -> Level | None:
    """The coarsest level with states of its own that cover all fields of a merged level; None where there is none."""
    return next((base for base in reversed(live_levels(dataset)) if _covers(dataset, base, level)), None)


def _covers(dataset: Dataset, base: Level, level: Level) -> bool:
    has, wants = base.covered(), level.covered()
    if wants is None and dataset.unknown_fields != "keep":
        wants = frozenset(name for name, field in dataset.fields.items() if field.numeric)
    return has is None or (wants is not None and wants <= has)


def _merged(dataset: Dataset, level: Level, group: str, kept: _Kept, raw: Rows) -> LevelRows:
    """The kept states merged, with those of raw rows where one was missing."""
    unit = UNITS[level.name]
    states = dict(_computed(dataset, level, kept, raw))
    kept.stats.recomputed = len(states)
    starts = pc.cast(kept.rows["period_start"], pa.int64()).to_pylist()
    for start, body in zip(starts, kept.rows[STATE].to_pylist(), strict=True):
        outer = to_micros(unit.floor(from_micros(start)))
        states[outer] = merge(states.get(outer) or identity(), shift(decode_state(body), start - outer))
    return _rows(_table(dataset, level, group, dict(sorted(states.items()))), kept, raw)


# what is computed -------------------------------------------------------------------------------------------------------


def _rows(table: pa.Table, kept: _Kept, raw: Rows) -> LevelRows:
    kept.stats.add(raw.stats)
    kept.stats.rows = len(table)
    return LevelRows(table, kept.stats, (*kept.plans, raw.plan) if raw.plan.ranges else kept.plans)


def _table(dataset: Dataset, level: Level, group: str, states: Mapping[int, State]) -> pa.Table:
    rows = [
        LevelRow(from_micros(start), state.rows, shown(state, level), b"", 0, level.live_from) for start, state in states.items()
    ]
    return level_table(dataset, level, group, rows)


def _covered(dataset: Dataset, level: Level) -> list[str] | None:
    """The raw columns that a level needs; None for all, where fields are learned."""
    covered = level.covered()
    if dataset.unknown_fields == "keep":
        return None if covered is None else sorted(covered)
    return [name for name, field in dataset.fields.items() if field.numeric and (covered is None or name in covered)]


def _computed(dataset: Dataset, level: Level, kept: _Kept, raw: Rows) -> Mapping[int, State]:
    """The states of a level's periods as far as the raw rows of the missing ones go."""
    table = raw.table.filter(within(raw.table["valid_time"], kept.missing))
    return folded(dataset, table, UNITS[level.name], Fields(level.covered()))


def folded(dataset: Dataset, table: pa.Table, unit: Unit, covered: Fields = ALL) -> Mapping[int, State]:
    """Period start (µs) → exact state of the fields `covered`, of raw rows sorted by time."""
    states: dict[int, State] = {}
    start = end = 0
    for at, values in _values(dataset, table):
        if not states or not start <= at < end:
            period = unit.period(from_micros(at))
            start, end = to_micros(period.start), to_micros(period.end)
        states[start] = fold(states.get(start) or identity(), values, at - start, covered)
    return states


def _values(dataset: Dataset, table: pa.Table) -> Iterable[tuple[int, dict[str, FieldValue]]]:
    """The time and the numbers of each row."""
    fixed = {*dataset.group_by, "valid_time", "ref_time"}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in fixed and not f.name.startswith("__")]
    columns = [table[name].to_pylist() for name in names]
    times = pc.cast(table["valid_time"], pa.int64()).to_pylist()
    for at, *row in zip(times, *columns, strict=True):
        values = ((name, value) for name, value in zip(names, row, strict=True) if value is not None)
        yield at, {name: exact(value) for name, value in values}
