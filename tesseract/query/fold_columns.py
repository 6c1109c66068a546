"""The algebra of aggregates by columns: raw rows folded to states, and states merged, exact as `processing.aggregator` is. Pure.

Rows and states are sorted by time, so a period is a run of them, and its sums and extremes are reductions of that run. Values are
integers at one scale per field; where 64 bits might not hold a sum, Python's integers do. Times are µs since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tesseract.config.dataset import STATS, Dataset
from tesseract.processing.aggregator import ALL, Fields
from tesseract.processing.field_state import of_values
from tesseract.query.fold_states import FieldFold, Folds, field_states, nothing, spread
from tesseract.query.integers import (
    Ints,
    at,
    column_of,
    extremes,
    greatest,
    int64_of,
    narrowed,
    one_array,
    scaled_up,
    totals,
    totals_of_squares,
    widened,
)
from tesseract.storage.arrow_types import exact, is_number

Starts = Callable[[Ints], Ints]  # times → the starts of the periods that they lie in
Shown = Callable[[str], Collection[str]]  # field → the statistics of it that are needed
_BLOCK = 256  # rows of which the first and the last are looked at: most lie within one period


# of raw rows ------------------------------------------------------------------------------------------------------------


def folded(dataset: Dataset, table: pa.Table, starts: Starts, covered: Fields = ALL, shown: Shown = lambda _: STATS) -> Folds:
    """The states of the periods that raw rows of one group lie in. The rows are sorted by time, and no two have one.

    What none of the statistics `shown` of a declared field needs is 0 in its states: these are no states to keep.
    """
    if not len(table):
        return nothing()
    times = int64_of(one_array(table["valid_time"]))
    bounds = _runs(times, starts)
    fixed = {*dataset.group_by, "valid_time", "ref_time"}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in fixed and not f.name.startswith("__")]
    wanted = {name for name, _ in covered.of(dict.fromkeys(names, 0))}
    fields = {}
    for name in names:
        column = table[name]
        if name in wanted and column.null_count < len(column):
            stats = shown(name) if name in dataset.fields else STATS
            fields[name] = _folded(one_array(column), times, bounds, stats)
    return Folds(starts(times[bounds]), np.diff(bounds, append=len(times)), fields)


def _runs(times: Ints, starts: Starts) -> Ints:
    """Where the runs of times (sorted) that lie in one period begin."""
    edges = np.append(np.arange(0, len(times) - 1, _BLOCK), len(times) - 1)
    owners = starts(times[edges])
    cut = edges[:-1][owners[1:] != owners[:-1]]
    if 2 * len(cut) > len(edges):
        return _bounds(starts(times))
    places = np.append(0, np.minimum((cut[:, None] + np.arange(_BLOCK + 1)).ravel(), len(times) - 1))
    owners = starts(times[places])
    return np.append(0, places[:-1][owners[1:] != owners[:-1]] + 1)  # what lies between two places is of the latter's period


def _bounds(owners: Ints) -> Ints:
    """Where the runs of equal values begin."""
    return np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1])))


def _folded(array: pa.Array, times: Ints, bounds: Ints, stats: Collection[str]) -> FieldFold:
    """A column's states in the runs of rows that begin at `bounds`. It has a value."""
    if not array.null_count:
        return _fold(array, times, bounds, stats)
    places = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    owners = np.searchsorted(bounds, places, side="right") - 1
    own = _bounds(owners)
    return spread(_fold(array.drop_null(), times[places], own, stats), owners[own], len(bounds))


def _fold(array: pa.Array, times: Ints, bounds: Ints, stats: Collection[str]) -> FieldFold:
    column = column_of(array)
    if column is None:
        return _one_by_one(array, times, bounds)
    numbers, scale, _ = column
    n = np.diff(bounds, append=len(times))
    zeros = np.zeros(len(bounds), np.int64)
    total, squares, minimum, maximum, first, last = [zeros] * 6
    largest = greatest(numbers)
    if not {"sum", "avg", "std"}.isdisjoint(stats):
        total = totals(numbers, bounds, largest)
    if "std" in stats:
        squares = totals_of_squares(numbers, bounds, largest)
    if not {"min", "max"}.isdisjoint(stats):
        minimum, maximum = extremes(numbers, bounds)
    ends = bounds + n - 1
    if not {"first", "last"}.isdisjoint(stats):
        first, last = at(numbers, bounds), at(numbers, ends)
    every = np.zeros(len(bounds), bool)  # of a part of the statistics nobody asks
    if len(stats) == len(STATS):
        whole = column.wholes()
        every = ~every if whole is None else np.logical_and.reduceat(whole, bounds)
    return FieldFold(scale, n, total, squares, minimum, maximum, first, times[bounds], last, times[ends], every)


def _one_by_one(array: pa.Array, times: Ints, bounds: Ints) -> FieldFold:
    """The same for numbers that have more digits than a column of integers."""
    values = [exact(value) for value in array.to_pylist()]
    edges = [*bounds.tolist(), len(values)]
    moments = times.tolist()
    return field_states([of_values(values[low:high], moments[low:high]) for low, high in pairwise(edges)])


# together ---------------------------------------------------------------------------------------------------------------


def merged(parts: Sequence[Folds], starts: Starts | None = None) -> Folds:
    """The states of disjoint sets of records as one, in periods as coarse as they are, or as `starts` says.

    Two parts may each have a share of one period. Records of one come before all those of the other then.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return nothing()
    joined = parts[0] if len(parts) == 1 else _concatenated(parts)
    owners = joined.starts if starts is None else starts(joined.starts)
    bounds = _bounds(owners)
    if len(bounds) == len(joined):
        return Folds(owners, joined.rows, joined.fields)
    fields = {name: _merged(field, bounds) for name, field in joined.fields.items()}
    return Folds(owners[bounds], np.add.reduceat(joined.rows, bounds), fields)


def _concatenated(parts: Sequence[Folds]) -> Folds:
    """All states, sorted by the starts of their periods; of one start in the order of time."""
    starts = np.concatenate([part.starts for part in parts])
    order = np.argsort(starts, kind="stable")
    names = dict.fromkeys(name for part in parts for name in part.fields)
    fields = {}
    for name in names:
        scale = max(part.fields[name].scale for part in parts if name in part.fields)
        columns = [_at_scale(part.fields.get(name), scale, len(part)) for part in parts]
        fields[name] = FieldFold(scale, *(np.concatenate(found)[order] for found in zip(*columns, strict=True)))
    return Folds(starts[order], np.concatenate([part.rows for part in parts])[order], fields)


def _at_scale(field: FieldFold | None, scale: int, count: int) -> tuple[Ints, ...]:
    """The columns of a field at a greater scale."""
    if field is None:
        zeros = np.zeros(count, np.int64)
        return (*[zeros] * 9, np.zeros(count, bool))
    up = scale - field.scale
    total, minimum, maximum, first, last = (
        scaled_up(column, up) for column in (field.total, field.minimum, field.maximum, field.first, field.last)
    )
    squares = scaled_up(field.squares, 2 * up)
    return field.n, total, squares, minimum, maximum, first, field.first_at, last, field.last_at, field.whole


def _merged(field: FieldFold, bounds: Ints) -> FieldFold:
    """The states of runs of periods that begin at `bounds`."""
    places = np.flatnonzero(field.n)
    owners = np.searchsorted(bounds, places, side="right") - 1
    own = _bounds(owners)
    one = FieldFold(field.scale, *(column[places] for column in field[1:]))
    ends = np.append(own[1:], len(places)) - 1
    most = int(np.diff(own, append=len(places)).max())
    total, squares = (narrowed(np.add.reduceat(widened(column, most), own)) for column in (one.total, one.squares))
    # of one start the parts come in the order of time, others do anyway: the first state has the first value
    merged = FieldFold(
        field.scale,
        np.add.reduceat(one.n, own),
        total,
        squares,
        np.minimum.reduceat(one.minimum, own),
        np.maximum.reduceat(one.maximum, own),
        one.first[own],
        one.first_at[own],
        one.last[ends],
        one.last_at[ends],
        np.logical_and.reduceat(one.whole, own),
    )
    return spread(merged, owners[own], len(bounds))
