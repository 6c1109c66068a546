"""The algebra of aggregates by columns: the states of all periods of a group at once, exact as `processing.aggregator` is. Pure.

Rows and states are sorted by time, so a period is a run of them, and its sums and extremes are reductions of that run. Values are
integers at one scale per field; where 64 bits might not hold a sum, Python's integers do. Times are µs since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.processing.aggregator import ALL, Fields, State
from tesseract.processing.field_state import FieldState, of_values
from tesseract.query.integers import Ints, at, column_of, extremes, int64_of, narrowed, scaled_up, sums, widened
from tesseract.storage.arrow_types import exact, is_number

_ARRAY = b"\xdd"  # MessagePack's: its length follows, then its members
_NUMBERS = ("n", "scale", "total", "squares", "minimum", "maximum", "first", "last")
Starts = Callable[[Ints], Ints]  # times → the starts of the periods that they lie in


class _Field(msgspec.Struct, array_like=True, gc=False):
    """A field of a state, as `aggregator.encode_state` has it: integers beyond 64 bits are bytes, times are places in a list."""

    name: str
    n: int
    scale: int
    total: int | bytes
    squares: int | bytes
    minimum: int | bytes
    maximum: int | bytes
    first: int | bytes
    first_at: int
    last: int | bytes
    last_at: int


class _State(msgspec.Struct, array_like=True, gc=False):
    rows: int
    times: list[int]
    fields: list[_Field]


class FieldFold(NamedTuple):
    """The states of one field in some periods, as columns of integers at `scale`. Where `n` is 0, the others say nothing."""

    scale: int
    n: Ints
    total: Ints
    squares: Ints  # at twice the scale
    minimum: Ints
    maximum: Ints
    first: Ints
    first_at: Ints
    last: Ints
    last_at: Ints
    whole: Ints  # whether all values of a period are whole numbers

    def state(self, place: int, start: int) -> FieldState:
        """The state of one period, with its times counted from `start`."""
        scale = 0 if self.whole[place] else self.scale
        n, total, squares, minimum, maximum, first, first_at, last, last_at = (int(column[place]) for column in self[1:10])
        unit = 10 ** (self.scale - scale)
        ends = (first // unit, first_at - start, last // unit, last_at - start)
        return FieldState(n, scale, total // unit, squares // unit**2, minimum // unit, maximum // unit, *ends)


class Folds(NamedTuple):
    """The states of the periods that have a record, sorted by their starts (µs)."""

    starts: Ints
    rows: Ints
    fields: dict[str, FieldFold]

    def __len__(self) -> int:
        return len(self.starts)

    def states(self) -> dict[int, State]:
        """Start → state, as the algebra has it, but that a field's scale may be greater than its values need."""
        found = {}
        for place, start in enumerate(map(int, self.starts)):
            fields = {name: field.state(place, start) for name, field in self.fields.items() if field.n[place]}
            found[start] = State(int(self.rows[place]), fields)
        return found


def nothing() -> Folds:
    """No period."""
    return Folds(np.zeros(0, np.int64), np.zeros(0, np.int64), {})


# of raw rows ------------------------------------------------------------------------------------------------------------


def folded(dataset: Dataset, table: pa.Table, starts: Starts, covered: Fields = ALL) -> Folds:
    """The states of the periods that raw rows of one group lie in. The rows are sorted by time, and no two have one."""
    if not len(table):
        return nothing()
    times = int64_of(table["valid_time"].combine_chunks())
    owners = starts(times)
    bounds = _bounds(owners)
    fixed = {*dataset.group_by, "valid_time", "ref_time"}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in fixed and not f.name.startswith("__")]
    wanted = {name for name, _ in covered.of(dict.fromkeys(names, 0))}
    columns = ((name, table[name]) for name in names if name in wanted)
    fields = {name: _folded(column.combine_chunks(), times, bounds) for name, column in columns if column.null_count < len(column)}
    return Folds(owners[bounds], np.diff(bounds, append=len(times)), fields)


def _bounds(owners: Ints) -> Ints:
    """Where the runs of equal values begin."""
    return np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1])))


def _folded(array: pa.Array, times: Ints, bounds: Ints) -> FieldFold:
    """A column's states in the runs of rows that begin at `bounds`. It has a value."""
    if not array.null_count:
        return _fold(array, times, bounds)
    places = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    owners = np.searchsorted(bounds, places, side="right") - 1
    own = _bounds(owners)
    return _spread(_fold(array.drop_null(), times[places], own), owners[own], len(bounds))


def _spread(field: FieldFold, places: Ints, count: int) -> FieldFold:
    """The states at some places of `count`; nothing at the others."""

    def at_places(values: Ints) -> Ints:
        column = np.zeros(count, values.dtype)
        column[places] = values
        return column

    return FieldFold(field.scale, *map(at_places, field[1:]))


def _fold(array: pa.Array, times: Ints, bounds: Ints) -> FieldFold:
    column = column_of(array)
    if column is None:
        return _one_by_one(array, times, bounds)
    numbers, scale, whole = column
    n = np.diff(bounds, append=len(times))
    ends = bounds + n - 1
    minimum, maximum = extremes(numbers, bounds)
    total, squares = sums(numbers, bounds, max(-int(minimum.min()), int(maximum.max()), 1))
    every = np.ones(len(bounds), bool) if whole is None else np.logical_and.reduceat(whole, bounds)
    first, last = at(numbers, bounds), at(numbers, ends)
    return FieldFold(scale, n, total, squares, minimum, maximum, first, times[bounds], last, times[ends], every)


def _one_by_one(array: pa.Array, times: Ints, bounds: Ints) -> FieldFold:
    """The same for numbers that have more digits than a column of integers."""
    values = [exact(value) for value in array.to_pylist()]
    edges = [*bounds.tolist(), len(values)]
    moments = times.tolist()
    return _of_states([of_values(values[low:high], moments[low:high]) for low, high in pairwise(edges)])


# of states --------------------------------------------------------------------------------------------------------------


def of_states(starts: Sequence[int], bodies: Sequence[bytes], covered: Fields = ALL) -> Folds:
    """The periods that begin at `starts` (sorted), by their encoded states. No extreme of theirs may be unknown."""
    states = msgspec.msgpack.decode(_ARRAY + len(bodies).to_bytes(4, "big") + b"".join(bodies), type=list[_State])
    found: dict[str, tuple[list[int], list[_Field]]] = {}
    for place, state in enumerate(states):
        for field in state.fields:
            if field.name not in found:
                found[field.name] = [], []
            places, fields = found[field.name]
            places.append(place)
            fields.append(field)
    wanted = {name for name, _ in covered.of(dict.fromkeys(found, 0))}
    columns = {name: _decoded(starts, states, *own) for name, own in found.items() if name in wanted}
    return Folds(np.array(starts, np.int64), np.array([state.rows for state in states], np.int64), columns)


def _decoded(starts: Sequence[int], states: Sequence[_State], places: Sequence[int], fields: Sequence[_Field]) -> FieldFold:
    """The states of one field, which the periods at `places` have."""
    columns = [list(map(attrgetter(name), fields)) for name in _NUMBERS]  # no tuple for each state: collecting these takes longest
    if bytes in set(map(type, columns[3])):  # the squares: where they fit, all others do
        columns = [list(map(_unpacked, column)) for column in columns]
    n, scales, *others = map(_column, columns)
    times = [state.times for state in states]
    first_at = _column([starts[place] + times[place][field.first_at] for place, field in zip(places, fields, strict=True)])
    last_at = _column([starts[place] + times[place][field.last_at] for place, field in zip(places, fields, strict=True)])
    numbers = (n, *others[:5], first_at, others[5], last_at)
    return _spread(_at_one_scale(scales, numbers), np.array(places), len(starts))


def _unpacked(value: int | bytes) -> int:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value


def _of_states(states: Sequence[FieldState]) -> FieldFold:
    """States of one field as columns; at least one."""
    n, scales, *others = map(_column, zip(*states, strict=True))
    return _at_one_scale(scales, (n, *others))


def _at_one_scale(scales: Ints, columns: Sequence[Ints]) -> FieldFold:
    """The columns of a field, whose numbers are at scales of their own."""
    n, total, squares, minimum, maximum, first, first_at, last, last_at = columns
    scale = int(scales.max())
    if not (scales == scale).all():
        factor = np.array([10 ** (scale - own) for own in scales.tolist()], object)
        total, minimum, maximum, first, last = (narrowed(c.astype(object) * factor) for c in (total, minimum, maximum, first, last))
        squares = narrowed(squares.astype(object) * factor * factor)
    return FieldFold(scale, n, total, squares, minimum, maximum, first, first_at, last, last_at, scales == 0)


def _column(values: Sequence[int]) -> Ints:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, object)


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
    return _spread(merged, owners[own], len(bounds))
