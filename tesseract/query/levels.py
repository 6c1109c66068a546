"""Aggregate levels: live items on hot days, snapshot rows elsewhere, raw rows for what neither can have; coarser periods merged.

A level up to a day is read period by period. Where the rule of the plan says snapshot, the snapshots have every period that has a
record and began after the level was kept: an absent one has none. An item or a row that lacks a field that its level got later is
passed over, and its period is computed from raw rows.

A weekly or monthly level is read from its own rows where all days of a period are read from snapshots. The rest, and a period that
has no row of its own, is merged from the exact states of the coarsest level that covers its fields, or computed from raw rows where
none does: the numbers are the same. Of its own rows, too, the state counts: it has all fields of that level, whatever was shown.

All other periods (of a level that is not kept, of any length, of a time zone) are merged likewise, from the coarsest kept level
that their edges do not cut. Where a zone's clock had another offset once, so that one is cut, its rows are read instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tesseract.config.bases import base_level
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import LIVE_LEVELS, MERGED_LEVELS
from tesseract.processing.aggregator import Fields
from tesseract.processing.snapshots import LENGTHS
from tesseract.query.buckets import Buckets, calendar
from tesseract.query.fold_columns import Starts, merged
from tesseract.query.fold_results import level_columns
from tesseract.query.fold_states import of_states
from tesseract.query.integers import int64_of
from tesseract.query.kept import NO_STATES, STATES, Kept, columns_of, kept_rows, marks_from, merged_periods, ranges_from
from tesseract.query.level_bases import base_of, is_stored
from tesseract.query.plan import TIME_MAX, Facts, Range, coalesce
from tesseract.query.question import Reading
from tesseract.query.raw_folds import Needs, RawFolds, raw_folds
from tesseract.query.results import Stats
from tesseract.storage.columns import STATE, level_stats, unify

Only = frozenset[str] | None  # the fields that are needed; None: every number


class LevelRows(NamedTuple):
    """The rows of one group, system columns still on, and how they came about."""

    table: pa.Table
    stats: Stats
    plans: tuple[object, ...]


def read_level(
    reading: Reading, level: Level, fields: Sequence[str] | None = None, buckets: Buckets | None = None
) -> dict[str, LevelRows]:
    """The rows of each group whose period starts in `reading.wanted`, by period, with the columns of `fields` (keys; None: all).

    `level` may be one that the dataset does not keep. `buckets` are its periods where they are not those of the calendar in UTC.
    """
    dataset, only = reading.dataset, _only(level, fields)
    stored = is_stored(dataset, level, buckets)
    if stored and level.name in LIVE_LEVELS:
        return _period_by_period(reading, level, only)
    cut = buckets or calendar(level.name)  # no period is cut: a week that begins in the range is there whole
    reading = reading._replace(wanted=Range(cut.ceiling(reading.wanted.start), cut.ceiling(reading.wanted.end)))
    base = base_level(dataset, level) if stored else base_of(dataset, _narrowed(level, only), cut, reading.wanted, reading.live)
    facts, first = _marked(reading), rows_kept_from(dataset, "raw", reading.live.settled)
    if base is None:
        kept = {group: Kept(NO_STATES, _ranges(reading), Stats(), ()) for group in facts}
        return _merged(reading, level, cut, None, _from(cut.ceiling(first), kept), only, facts)
    kept = merged_periods(reading.source, dataset, level, _ranges(reading), facts) if stored else _states(reading, base, cut, facts)
    finest = base if base.name in LIVE_LEVELS else base_level(dataset, base)
    return _merged(reading, level, cut, finest, _from(first, kept), only, facts)


def _only(level: Level, fields: Sequence[str] | None) -> Only:
    """The fields that are needed of a level."""
    covered = level.covered()
    if fields is None:
        return covered
    named = frozenset(fields) | {column.rpartition("_")[0] for column in fields}
    return named if covered is None else covered & named


def _narrowed(level: Level, only: Only) -> Level:
    """A level of no other fields than those needed."""
    return level if only is None else Level(level.name, {"count": tuple(sorted(only))} if only else {})


def _ranges(reading: Reading) -> list[Range]:
    return [reading.wanted] if reading.wanted.start < reading.wanted.end else []


def _marked(reading: Reading) -> dict[str, Facts]:
    """The facts of each group with its marks.

    Of a day whose raw rows retention may have removed no live item counts, and nothing is computed: the snapshot is what there is.
    """
    source, dataset, wanted = reading.source, reading.dataset, reading.wanted
    groups = reading.groups if _ranges(reading) else ()
    found = source.map(lambda group: source.lookup.marks(dataset, group, wanted), groups)
    first = rows_kept_from(dataset, "raw", reading.live.settled)
    marks = {group: marks_from(first, own) for group, own in zip(groups, found, strict=True)}
    return {group: reading.live._replace(marks=marks.get(group, {})) for group in reading.groups}


def _from(first: int, kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """What is missing, as far as its raw rows are all there."""
    return {group: part._replace(missing=ranges_from(first, part.missing)) for group, part in kept.items()}


def _raw(
    reading: Reading, level: Level, kept: Mapping[str, Kept], only: Only, starts: Starts, facts: Mapping[str, Facts]
) -> dict[str, RawFolds]:
    """The states of what is missing, from raw rows, as far as the level shows them."""
    dataset = reading.dataset
    columns = [name for name, field in dataset.fields.items() if field.numeric and (only is None or name in only)]
    wanted = columns if dataset.unknown_fields != "keep" else None if only is None else sorted(only)
    missing = {group: part.missing for group, part in kept.items()}
    needs = Needs(starts, Fields(only), partial(level_stats, dataset, level))
    return raw_folds(reading, missing, wanted, needs, facts)


def _rows(table: pa.Table, kept: Kept, raw: RawFolds) -> LevelRows:
    kept.stats.add(raw.stats)
    kept.stats.rows = len(table)
    return LevelRows(table, kept.stats, (*kept.plans, *raw.plans))


# period by period -------------------------------------------------------------------------------------------------------


def _period_by_period(reading: Reading, level: Level, only: Only) -> dict[str, LevelRows]:
    """The rows of a level that has items and rows of its own, and those computed for the periods that it lacks."""
    dataset, facts = reading.dataset, _marked(reading)
    wanted = dict.fromkeys(reading.groups, _ranges(reading))
    kept = kept_rows(reading.source, dataset, level, wanted, facts, columns_of(dataset, level, only))
    kept = _from(rows_kept_from(dataset, "raw", reading.live.settled), kept)
    raw = _raw(reading, level, kept, only, calendar(level.name).starts, facts)
    return {group: _joined(dataset, level, group, part, raw[group]) for group, part in kept.items()}


def _joined(dataset: Dataset, level: Level, group: str, kept: Kept, raw: RawFolds) -> LevelRows:
    kept.stats.recomputed = len(raw.folds)
    table = kept.rows
    if len(raw.folds):
        table = pa.concat_tables(unify([table, level_columns(dataset, level, group, raw.folds)])).sort_by("period_start")
    return _rows(table, kept, raw)


# merged -----------------------------------------------------------------------------------------------------------------


def _states(reading: Reading, base: Level, cut: Buckets, facts: Mapping[str, Facts]) -> dict[str, Kept]:
    """The states of a base that the periods of a level that is not kept are merged from, and what is missing of them."""
    source, dataset = reading.source, reading.dataset
    whole = cut.ceiling(rows_kept_from(dataset, base.name, reading.live.settled))  # before, a period may lack some of its rows
    facts = {group: own._replace(marks=marks_from(whole, own.marks)) for group, own in facts.items()}
    ranges = ranges_from(whole, _ranges(reading))
    if base.name in MERGED_LEVELS:
        return merged_periods(source, dataset, base, ranges, facts)
    length = LENGTHS[base.name]
    inner, rest = _aligned(ranges, length)
    kept = kept_rows(source, dataset, base, dict.fromkeys(facts, inner), facts, STATES)
    return {group: _uncut(part._replace(missing=coalesce([*part.missing, *rest])), cut, length) for group, part in kept.items()}


def _aligned(ranges: Sequence[Range], length: int) -> tuple[list[Range], list[Range]]:
    """What of ranges is whole periods of a length, and what is left of them."""
    inner, rest = [], []
    for part in ranges:
        start, end = -(-part.start // length) * length, part.end // length * length
        if start >= end:
            rest.append(part)
            continue
        inner.append(Range(start, part.end if end + length > TIME_MAX else end))
        rest += [piece for piece in (Range(part.start, start), Range(inner[-1].end, part.end)) if piece.start < piece.end]
    return inner, rest


def _uncut(kept: Kept, cut: Buckets, length: int) -> Kept:
    """Without the rows of periods of a length that an edge cuts: they are missing."""
    starts = int64_of(kept.rows["period_start"].combine_chunks())
    split = cut.starts(starts) != cut.starts(starts + length - 1) if cut.zone else np.zeros(len(starts), bool)
    if not split.any():
        return kept
    pieces = [Range(start, start + length) for start in starts[split].tolist()]
    return kept._replace(rows=kept.rows.filter(pa.array(~split)), missing=coalesce([*kept.missing, *pieces]))


def _merged(
    reading: Reading,
    level: Level,
    cut: Buckets,
    finest: Level | None,
    kept: Mapping[str, Kept],
    only: Only,
    facts: Mapping[str, Facts],
) -> dict[str, LevelRows]:
    """The kept states merged, with those of raw rows where one was missing."""
    raw = _raw(reading, level, kept, only, cut.starts if finest is None else _finer(finest, cut), facts)
    found = {}
    for group, part in kept.items():
        starts, bodies = int64_of(part.rows["period_start"].combine_chunks()).tolist(), part.rows[STATE].to_pylist()
        folds = merged([of_states(starts, bodies, Fields(only)), raw[group].folds], cut.starts)
        part.stats.recomputed = len(np.unique(cut.starts(raw[group].folds.starts)))
        found[group] = _rows(level_columns(reading.dataset, level, group, folds), part, raw[group])
    return found


def _finer(finest: Level, cut: Buckets) -> Starts:
    """The periods of raw rows that are merged with states of a level: none of them overlaps one of these, nor an edge."""
    own = calendar(finest.name)
    return lambda times: np.maximum(own.starts(times), cut.starts(times))
