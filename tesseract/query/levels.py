"""Aggregate levels: live items on hot days, snapshot rows elsewhere, raw rows for what neither can have; weeks and months merged.

A level up to a day is read period by period. Where the rule of the plan says snapshot, the snapshots have every period that has a
record and began after the level was kept: an absent one has none. An item or a row that lacks a field that its level got later is
passed over, and its period is computed from raw rows.

A weekly or monthly level is read from its own rows where all days of a period are read from snapshots. The rest, and a period that
has no row of its own, is merged from the exact states of the coarsest level that covers its fields, or computed from raw rows where
none does: the numbers are the same. Of its own rows, too, the state counts: it has all fields of that level, whatever was shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.bases import base_level
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import MERGED_LEVELS, UNITS, Unit
from tesseract.model import FieldValue
from tesseract.processing.aggregator import ALL, Fields, State, decode_state, fold, identity, merge, shift, shown
from tesseract.query.kept import Kept, columns_of, kept_rows, marks_from, merged_periods, ranges_from
from tesseract.query.plan import DAY, Facts, Range, ceiling, coalesce
from tesseract.query.raw import Rows, read_raw
from tesseract.query.results import Stats, within
from tesseract.query.source import Source
from tesseract.storage.arrow_types import exact, is_number
from tesseract.storage.columns import STATE, LevelRow, level_table, unify
from tesseract.storage.keys import level_partition
from tesseract.utils.time_utils import from_micros, to_micros


class LevelRows(NamedTuple):
    """The rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plans: tuple[object, ...]


def read_level(
    source: Source, dataset: Dataset, level: Level, groups: Sequence[str], wanted: Range, live: Facts, raw: Facts
) -> dict[str, LevelRows]:
    """The rows of each group whose period starts in `wanted`, by period.

    `live.through` is `snapshot_through`, `raw.through` is `archived_through`; both must have been read before this is called.
    """
    if level.name in MERGED_LEVELS:  # no period is cut: a week that begins in the range is there whole
        wanted = Range(ceiling(UNITS[level.name], wanted.start), ceiling(UNITS[level.name], wanted.end))
    ranges = [wanted] if wanted.start < wanted.end else []
    marks = source.map(lambda group: source.lookup.marks(dataset, group, wanted) if ranges else {}, groups)
    # of a day whose raw rows retention may have removed no live item counts, and nothing is computed: the snapshot is what there is
    first = rows_kept_from(dataset, "raw", live.settled)
    facts = {group: live._replace(marks=marks_from(first, found)) for group, found in zip(groups, marks, strict=True)}
    if level.name in MERGED_LEVELS:
        kept = merged_periods(source, dataset, level, ranges, facts)
    else:
        kept = kept_rows(source, dataset, level, dict.fromkeys(groups, ranges), facts, columns_of(dataset, level))
    if level.name in MERGED_LEVELS and base_level(dataset, level) is None:
        first = ceiling(UNITS[level.name], first)
    kept = {group: part._replace(missing=ranges_from(first, part.missing)) for group, part in kept.items()}
    # gaps of less than a day are read as one: folding a few rows more is cheaper than another Query
    wholes = {group: coalesce(part.missing, DAY) for group, part in kept.items()}
    rows = read_raw(source, dataset, wholes, raw, _covered(dataset, level))
    finish = _merged if level.name in MERGED_LEVELS else _joined
    return {group: finish(dataset, level, group, part, rows[group]) for group, part in kept.items()}


def _joined(dataset: Dataset, level: Level, group: str, kept: Kept, raw: Rows) -> LevelRows:
    """The kept rows of a level, and those computed for the periods that it lacks."""
    states = _computed(dataset, level, kept, raw)
    both = pa.concat_tables(unify([kept.rows, _table(dataset, level, group, states)]))
    kept.stats.recomputed = len(states)
    return _rows(both.sort_by("period_start"), kept, raw)


def read_partition(dataset: Dataset, level: Level) -> str:
    """The partition whose snapshots a level is read from."""
    base = base_level(dataset, level) if level.name in MERGED_LEVELS else level
    return level_partition(base or level)


def _merged(dataset: Dataset, level: Level, group: str, kept: Kept, raw: Rows) -> LevelRows:
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


def _rows(table: pa.Table, kept: Kept, raw: Rows) -> LevelRows:
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


def _computed(dataset: Dataset, level: Level, kept: Kept, raw: Rows) -> Mapping[int, State]:
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
