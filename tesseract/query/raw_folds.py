"""Exact states computed from raw rows, in bounded memory: two portions at once are read and folded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from tesseract.processing.aggregator import Fields
from tesseract.query.catalog import of_manifest
from tesseract.query.fold_columns import Shown, Starts, folded, merged
from tesseract.query.fold_states import Folds
from tesseract.query.integers import int64_of, one_array
from tesseract.query.plain_rows import read_plain
from tesseract.query.plan import DAY, Facts, Range, coalesce, hot_spans
from tesseract.query.portions import cut, weights, within
from tesseract.query.question import Reading
from tesseract.query.raw import read_raw
from tesseract.query.results import Stats

CELLS = 4_000_000  # values of a portion, about
AT_ONCE = 2  # portions
FEW = 2 * 3600 * 1_000_000  # µs that are read without a look at how many rows there are
Wave = dict[str, list[Range]]  # of each group the ranges, sorted and disjoint, that are read at once
T = TypeVar("T")


class Needs(NamedTuple):
    """What is folded: the periods of times, the fields, and which statistics of each are shown in the end."""

    starts: Starts
    covered: Fields
    shown: Shown


class RawFolds(NamedTuple):
    """The states of a group's periods, and how they came about."""

    folds: Folds
    stats: Stats
    plans: tuple[object, ...]


def raw_folds(
    reading: Reading,
    missing: Mapping[str, Sequence[Range]],
    columns: Sequence[str] | None,
    needs: Needs,
    facts: Mapping[str, Facts],
) -> dict[str, RawFolds]:
    """The states of each group's rows within its ranges (sorted, disjoint), as far as they are needed.

    `columns` are the raw columns that are needed, None for all; `facts` has the marks of each group.
    """
    # gaps of less than a day are read as one: folding a few rows more is cheaper than another Query
    whole = {group: coalesce(ranges, DAY) for group, ranges in missing.items() if ranges}
    parts: dict[str, list[Folds]] = {group: [] for group in missing}
    stats = {group: Stats() for group in missing}
    plans: dict[str, tuple[object, ...]] = dict.fromkeys(missing, ())
    waves = _waves(reading, whole, columns, facts) if whole else iter(())
    for found in _in_turn(partial(_job, reading, columns, missing, needs, facts), waves):
        for group, one in found.items():
            parts[group].append(one.folds)
            stats[group].add(one.stats)
            plans[group] += one.plans
    return {group: RawFolds(merged(parts[group]), stats[group], plans[group]) for group in missing}


def _in_turn(job: Callable[[Wave], T], waves: Iterator[Wave]) -> Iterator[T]:
    """What a job makes of each wave, in order: two are under way, one for each core of a small machine."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tesseract-fold") as pool:
        begun: deque[Future[T]] = deque()
        try:
            for wave in waves:
                if len(begun) == AT_ONCE:
                    yield begun.popleft().result()
                begun.append(pool.submit(job, wave))
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def _job(
    reading: Reading,
    columns: Sequence[str] | None,
    missing: Mapping[str, Sequence[Range]],
    needs: Needs,
    facts: Mapping[str, Facts],
    wave: Wave,
) -> dict[str, RawFolds]:
    """The rows of a wave, read and folded."""
    rows = read_plain(reading, wave, columns, facts) or read_raw(reading.source, reading.dataset, wave, reading.raw, columns)
    tables = [_inside(found.table, missing[group]) for group, found in rows.items()]
    fold = partial(folded, reading.dataset, starts=needs.starts, covered=needs.covered, shown=needs.shown)
    folds = [fold(tables[0])] if len(tables) == 1 else reading.source.map(fold, tables)
    return {group: RawFolds(own, found.stats, (found.plan,)) for (group, found), own in zip(rows.items(), folds, strict=True)}


def _inside(table: pa.Table, ranges: Sequence[Range]) -> pa.Table:
    """The rows (sorted by time) within ranges."""
    times = int64_of(one_array(table["valid_time"]))
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
