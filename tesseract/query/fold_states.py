"""The states of all periods of a group at once, by columns: a field is a few columns of integers at one scale. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np

from tesseract.processing.aggregator import ALL, Fields, State
from tesseract.processing.field_state import FieldState
from tesseract.query.integers import Ints, narrowed

_ARRAY = b"\xdd"  # MessagePack's: its length follows, then its members
_NUMBERS = ("n", "scale", "total", "squares", "minimum", "maximum", "first", "last")


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


def spread(field: FieldFold, places: Ints, count: int) -> FieldFold:
    """The states at some places of `count`; nothing at the others."""

    def at_places(values: Ints) -> Ints:
        column = np.zeros(count, values.dtype)
        column[places] = values
        return column

    return FieldFold(field.scale, *map(at_places, field[1:]))


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
    return spread(_at_one_scale(scales, numbers), np.array(places), len(starts))


def _unpacked(value: int | bytes) -> int:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value


def field_states(states: Sequence[FieldState]) -> FieldFold:
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
