"""The one algebra of aggregates: `identity`, `fold`, `retract`, `merge`, `finish`. Exact, and pure.

A field's values are scaled integers (39.02 is 3902 at scale 2), so sums and sums of squares are never rounded, do not depend on
the order of arrival, and a value that is taken out again leaves no residue. Averages and deviations are derived at the very end.

Times are µs since the period's start. Only numbers are aggregated: text and truth values of a record count as its row alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from math import isqrt
from operator import itemgetter
from typing import NamedTuple, cast

import msgspec

from tesseract.config.dataset import Level
from tesseract.errors import DamagedError
from tesseract.model import FieldValue
from tesseract.processing.field_state import FieldState, aligned, corrected, merged, of_values, retracted, single, unscaled
from tesseract.storage.codec import LARGEST, MAX_DIGITS, MIN_EXPONENT, SMALLEST, shortest, storable

_GUARD = 128  # bits of a square root, of which a double keeps 53
_INT64 = 2**63
Values = Mapping[str, FieldValue]  # of a record: field → value; nulls are absent
NOTHING: frozenset[str] = frozenset()
NUMBERS: frozenset[type] = frozenset((int, Decimal))  # True is not of them


class State(NamedTuple):
    """The exact state of a period: its rows, and its fields that had a number."""

    rows: int
    fields: dict[str, FieldState]


def identity() -> State:
    """The state of a period without records."""
    return State(0, {})


class Fields(NamedTuple):
    """Which fields of a record an aggregate covers: `only` these (None: every number), and not those of `without`."""

    only: frozenset[str] | None = None
    without: frozenset[str] = NOTHING

    def of(self, values: Values) -> Iterator[tuple[str, int | Decimal]]:
        """The values that are covered: numbers. Text and truth values count as their record's row alone."""
        for name, value in values.items():
            if (self.only is None or name in self.only) and name not in self.without and not isinstance(value, bool | str):
                yield name, value


ALL = Fields()


def fold(state: State, values: Values, at: int, covered: Fields = ALL) -> State:
    """`state` with one more record: its values, and its time in µs since the period's start.

    State is paid for by the kilobyte, so it holds only the fields that a level has statistics of (`covered`).
    """
    fields = dict(state.fields)
    for name, value in covered.of(values):
        fields[name] = merged(fields[name], single(value, at)) if name in fields else single(value, at)
    return State(state.rows + 1, fields)


def fold_all(records: Iterable[tuple[int, Values]], covered: Fields = ALL) -> State:
    """The state of many records at once, as (time, values): the same as folding one after the other into nothing."""
    times, rows = [], []
    for at, values in records:
        times.append(at)
        rows.append(values)
    span = (min(times), max(times)) if times else None
    fields = {}
    for name in dict.fromkeys(chain.from_iterable(rows)):
        if (covered.only is None or name in covered.only) and name not in covered.without:
            column, own = _column(name, rows, times)
            if column:
                fields[name] = of_values(column, own, span if own is times else None)
    return State(len(rows), fields)


def _column(name: str, rows: Sequence[Values], times: Sequence[int]) -> tuple[Sequence[int | Decimal], Sequence[int]]:
    """The numbers of a field, and their times. Nearly always every record has one."""
    try:
        column = list(map(itemgetter(name), rows))
    except KeyError:
        times = [at for at, values in zip(times, rows, strict=True) if name in values]
        column = [values[name] for values in rows if name in values]
    if NUMBERS.issuperset(map(type, column)):
        return cast(list[int | Decimal], column), times
    found = [(value, at) for value, at in zip(column, times, strict=True) if not isinstance(value, bool | str)]
    return [value for value, _ in found], [at for _, at in found]


def merge(left: State, right: State) -> State:
    """The state of two disjoint sets of records. Associative and commutative; times must share one origin."""
    fields = dict(left.fields)
    for name, other in right.fields.items():
        fields[name] = merged(fields[name], other) if name in fields else other
    return State(left.rows + right.rows, fields)


def retract(state: State, values: Values, at: int, covered: Fields = ALL) -> State:
    """`state` without a record that was folded into it: rows, counts and sums are those of before, to the last digit.

    An extreme that the record gave is unknown then: what comes after a retracted minimum is not in the state, and must be looked
    up. A field without values left is gone. Raises DamagedError where the record cannot be in the state.
    """
    fields = dict(state.fields)
    for name, value in covered.of(values):
        fields[name] = retracted(fields.get(name, FieldState()), value, at)
    if not state.rows:
        raise DamagedError("a record is taken out of an aggregate that has none")
    return State(state.rows - 1, {name: field for name, field in fields.items() if field.n})


def correct(state: State, old: Values, new: Values, at: int, covered: Fields = ALL) -> State:
    """`state` with the record at `at` replaced: `fold(retract(state, old), new)`, with as few extremes unknown as can be.

    Raises DamagedError where the old record cannot be in the state.
    """
    before, after = dict(covered.of(old)), dict(covered.of(new))
    both = before.keys() & after.keys()
    gone = {name: value for name, value in before.items() if name not in both}
    came = {name: value for name, value in after.items() if name not in both}
    fields = dict(fold(retract(state, gone, at), came, at).fields)
    for name in both:
        fields[name] = corrected(state.fields.get(name, FieldState()), before[name], after[name], at)
    return State(state.rows, fields)


def known(state: State) -> bool:
    """Whether no extreme of the state has to be looked up."""
    return not any(None in field and field.n for field in state.fields.values())


def same_sums(left: State, right: State) -> bool:
    """Whether two states have equal rows, counts, sums and sums of squares, whatever the scales that they say them at."""
    if left.rows != right.rows or left.fields.keys() != right.fields.keys():
        return False
    pairs = [aligned(field, right.fields[name]) for name, field in left.fields.items()]
    return all((a.n, a.total, a.squares) == (b.n, b.total, b.squares) for a, b in pairs)


def same(left: State, right: State) -> bool:
    """Whether two states say the same, whatever their scales; what one does not know is another."""
    return same_sums(left, right) and all(a == b for a, b in (aligned(f, right.fields[n]) for n, f in left.fields.items()))


def shift(state: State, micros: int) -> State:
    """`state` with its times counted from an origin that lies `micros` earlier: an hour's state as part of its day."""
    return State(
        state.rows,
        {name: f._replace(first_at=f.first_at + micros, last_at=f.last_at + micros) for name, f in state.fields.items()},
    )


def finish(field: FieldState, stats: tuple[str, ...]) -> dict[str, int | Decimal | None]:
    """The statistics of one field: exact numbers; avg and std as the shortest text of the nearest double.

    `std` is the sample's, None for one value; everything but `count` is None where there is none. They are what an item can hold: a
    sum of more than 38 digits becomes the nearest double, and what lies outside 1e-130 to 9.9e125 becomes None.
    """
    values = {
        "count": field.n,
        "sum": _sum(field),
        "avg": average(field),
        "std": deviation(field),
        "min": unscaled(field.minimum, field.scale),
        "max": unscaled(field.maximum, field.scale),
        "first": unscaled(field.first, field.scale),
        "last": unscaled(field.last, field.scale),
    }
    return {stat: values[stat] for stat in stats}


def average(field: FieldState) -> Decimal | None:
    """The mean, correctly rounded to a double: Python divides integers so."""
    return _double(field.total / (field.n * 10**field.scale)) if field.n else None


def deviation(field: FieldState) -> Decimal | None:
    """The sample's standard deviation, to a double: from an integer square root with bits to spare, however small it is."""
    if field.n < 2:
        return None
    numerator = field.n * field.squares - field.total * field.total
    if not numerator:
        return Decimal(0)
    denominator = field.n * (field.n - 1) * 100**field.scale
    bits = _GUARD + max(0, denominator.bit_length() - numerator.bit_length()) // 2
    return _double(isqrt((numerator << 2 * bits) // denominator) / (1 << bits))


def _sum(field: FieldState) -> int | Decimal | None:
    """The sum as an item holds it: itself, else the nearest double, which is what a column of doubles would have anyway.

    A column of decimals has null there: rounded, the number is still longer than the column.
    """
    if not field.n:
        return None
    total = unscaled(field.total, field.scale)
    fits = abs(field.total) < 10**MAX_DIGITS and field.scale <= -MIN_EXPONENT
    return total if fits or total is None or storable(total) else _double(float(total))


def _double(value: float) -> Decimal | None:
    return shortest(value) if SMALLEST <= abs(value) <= LARGEST or not value else None


def shown(state: State, level: Level) -> dict[str, dict[str, int | Decimal | None]]:
    """The plain numbers of a period, field → statistic → number, as the level's configuration wants them."""
    alike = None if any(level.stats.values()) else level.wanted("")  # the same of every field
    wanted = ((name, field, alike or level.wanted(name)) for name, field in sorted(state.fields.items()))
    return {name: finish(field, stats) for name, field, stats in wanted if stats}


# wire ---------------------------------------------------------------------------------------------------------------


def encode_state(state: State) -> bytes:
    """The state as MessagePack: [rows, [time, …], [[name, n, scale, total, squares, min, max, first, first_at, last, last_at], …]].

    `first_at` and `last_at` are places in the list of times, since the fields of a record share its time. Integers beyond 64 bits
    are big-endian two's complement bytes.
    """
    times = sorted({at for field in state.fields.values() for at in (field.first_at, field.last_at)})
    place = {at: index for index, at in enumerate(times)}
    fields = []
    for name, field in sorted(state.fields.items()):
        n, scale, total, squares, minimum, maximum, first, first_at, last, last_at = field
        values = [n, scale, total, squares, minimum, maximum, first, place[first_at], last, place[last_at]]
        short = squares < _INT64 and -_INT64 <= total < _INT64  # the others, too: none is more than the root of squares
        fields.append([name, *(values if short else map(_pack, values))])
    return msgspec.msgpack.encode([state.rows, times, fields])


def decode_state(body: bytes) -> State:
    """The inverse of `encode_state`."""
    rows, times, packed = msgspec.msgpack.decode(body)
    fields: dict[str, FieldState] = {}
    for name, *values in packed:
        field = FieldState(*map(_unpack, values))  # type: ignore[arg-type]
        fields[name] = field._replace(first_at=times[field.first_at], last_at=times[field.last_at])
    return State(rows, fields)


def _pack(value: int | None) -> int | bytes | None:
    if value is None or -_INT64 <= value < _INT64:
        return value
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _unpack(value: int | bytes | None) -> int | None:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value
