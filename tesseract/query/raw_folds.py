"""Exact states computed from raw rows, in bounded memory: portions are read one ahead of the one that is folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tesseract.processing.aggregator import Fields
from tesseract.query.catalog import of_manifest
from tesseract.query.fold_columns import Folds, Starts, folded, merged
from tesseract.query.integers import int64_of
from tesseract.query.plan import DAY, Facts, Range, coalesce, hot_spans
from tesseract.query.portions import cut, weights, within
from tesseract.query.question import Reading
from tesseract.query.raw import Rows, read_raw
from tesseract.query.results import Stats
from tesseract.query.scan import ahead

CELLS = 4_000_000  # values of a portion, about
FEW = 2 * 3600 * 1_000_000  # µs that are read without a look at how many rows there are
Wave = dict[str, list[Range]]  # of each group the ranges, sorted and disjoint, that are read at once


class RawFolds(NamedTuple):
    """The states of a group's periods, and how they came about."""

    folds: Folds
    stats: Stats
    plans: tuple[object, ...]


def raw_folds(
    reading: Reading,
    missing: Mapping[str, Sequence[Range]],
    columns: Sequence[str] | None,
    starts: Starts,
    covered: Fields,
    facts: Mapping[str, Facts],
) -> dict[str, RawFolds]:
    """The states of each group's rows within its ranges (sorted, disjoint), in the periods that `starts` tells.

    `columns` are the raw columns that are needed, None for all; `facts` has the marks of each group.
    """
    # gaps of less than a day are read as one: folding a few rows more is cheaper than another Query
    whole = {group: coalesce(ranges, DAY) for group, ranges in missing.items() if ranges}
    parts: dict[str, list[Folds]] = {group: [] for group in missing}
    stats = {group: Stats() for group in missing}
    plans: dict[str, tuple[object, ...]] = dict.fromkeys(missing, ())
    waves = _waves(reading, whole, columns, facts) if whole else iter(())
    for rows in ahead(_read(reading, waves, columns)):
        tables = [(group, _inside(found.table, missing[group])) for group, found in rows.items()]
        folds = reading.source.map(lambda job: folded(reading.dataset, job[1], starts, covered), tables)
        for (group, found), part in zip(rows.items(), folds, strict=True):
            parts[group].append(part)
            stats[group].add(found.stats)
            plans[group] += (found.plan,)
    return {group: RawFolds(merged(parts[group]), stats[group], plans[group]) for group in missing}


def _read(reading: Reading, waves: Iterator[Wave], columns: Sequence[str] | None) -> Iterator[dict[str, Rows]]:
    for wave in waves:
        yield read_raw(reading.source, reading.dataset, wave, reading.raw, columns)


def _inside(table: pa.Table, ranges: Sequence[Range]) -> pa.Table:
    """The rows (sorted by time) within ranges."""
    times = int64_of(table["valid_time"].combine_chunks())
    edges = np.searchsorted(times, np.array([micros for part in ranges for micros in part]))
    if len(ranges) == 1:
        return table.slice(int(edges[0]), int(edges[1] - edges[0]))
    steps = np.zeros(len(times) + 1, np.int8)
    np.add.at(steps, edges[::2], 1)
    np.add.at(steps, edges[1::2], -1)
    inside = np.cumsum(steps)[:-1] > 0
    return table if inside.all() else table.filter(pa.array(inside))


def _waves(
    reading: Reading, wanted: Mapping[str, Sequence[Range]], columns: Sequence[str] | None, facts: Mapping[str, Facts]
) -> Iterator[Wave]:
    """What is read at once: of many groups a little, or a portion of one."""
    if sum(part.end - part.start for ranges in wanted.values() for part in ranges) <= FEW:
        yield {group: list(ranges) for group, ranges in wanted.items()}
        return
    rows = CELLS // (8 if columns is None else len(columns) + 3)
    found = reading.source.manifests(reading.dataset, "raw", wanted)
    wave: Wave = {}
    held = 0.0
    for group, ranges in wanted.items():
        segments = found[group]().segments
        own = of_manifest(reading.raw._replace(marks=facts[group].marks), segments)
        for part in ranges:
            sizes = weights(segments, _hot(part, own))
            for piece in cut(part, sizes, rows):
                count = within(piece, sizes)
                if wave and held + count > rows:
                    yield wave
                    wave, held = {}, 0.0
                wave.setdefault(group, []).append(piece)
                held += count
    if wave:
        yield wave


def _hot(wanted: Range, facts: Facts) -> list[Range]:
    """The parts of a range that the buffer has rows of."""
    inside = Range(max(wanted.start, facts.floor), min(wanted.end, facts.horizon))
    return hot_spans(inside, facts) if inside.start < inside.end else []
