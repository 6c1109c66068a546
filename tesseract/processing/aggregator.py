"""The one algebra of aggregates: `identity`, `fold`, `retract`, `merge`, `finish`. Exact, and pure.

A field's values are scaled integers (39.02 is 3902 at scale 2), so sums and sums of squares are never rounded, do not depend on
the order of arrival, and a value that is taken out again leaves no residue. Averages and deviations are derived at the very end.

Times are µs since the period's start. Only numbers are aggregated: text and truth values of a record count as its row alone.
"""

from __future__ import annotations

from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from math import isqrt
from typing import NamedTuple

import msgspec

from tesseract.config.dataset import Level
from tesseract.model import FieldValue
from tesseract.storage.codec import LARGEST, MAX_DIGITS, MIN_EXPONENT, SMALLEST, shortest, storable

_GUARD = 128  # bits of a square root, of which a double keeps 53
_EXACT = Context(
    prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation]
)  # the default one rounds at 28 digits


class FieldState(NamedTuple):
    """The exact state of one field over a period. All values are integers at `scale` (digits after the point).

    `minimum`, `maximum`, `first` and `last` are None where the field has no value.
    """

    n: int = 0  # non-null values
    scale: int = 0
    total: int = 0
    squares: int = 0  # at twice the scale
    minimum: int | None = None
    maximum: int | None = None
    first: int | None = None
    first_at: int = 0
    last: int | None = None
    last_at: int = 0


class State(NamedTuple):
    """The exact state of a period: its rows, and its fields that had a number."""

    rows: int
    fields: dict[str, FieldState]


def identity() -> State:
    """The state of a period without records."""
    return State(0, {})


def numbers(fields: dict[str, FieldValue], covered: frozenset[str] | None = None) -> dict[str, int | Decimal]:
    """The values of a record that aggregates cover: numbers, of the fields `covered` where it is given."""
    return {
        name: value for name, value in fields.items() if not isinstance(value, bool | str) and (covered is None or name in covered)
    }


def fold(state: State, values: dict[str, FieldValue], at: int, covered: frozenset[str] | None = None) -> State:
    """`state` with one more record: its values, and its time in µs since the period's start.

    `covered` are the fields that a level keeps statistics of (Level.covered): state is paid for by the kilobyte.
    """
    fields = dict(state.fields)
    for name, value in numbers(values, covered).items():
        fields[name] = _merge(fields[name], _single(value, at)) if name in fields else _single(value, at)
    return State(state.rows + 1, fields)


def merge(left: State, right: State) -> State:
    """The state of two disjoint sets of records. Associative and commutative; times must share one origin."""
    fields = dict(left.fields)
    for name, other in right.fields.items():
        fields[name] = _merge(fields[name], other) if name in fields else other
    return State(left.rows + right.rows, fields)


def retract(state: State, values: dict[str, FieldValue]) -> State:
    """`state` without a record that was folded into it, as far as sums go: rows, count, sum and sum of squares.

    Extremes are left as they were: what comes after a retracted minimum is not in the state, and must be looked up.
    """
    fields = dict(state.fields)
    for name, value in numbers(values).items():
        scaled, one = _aligned(fields[name], _single(value, 0))
        fields[name] = scaled._replace(n=scaled.n - 1, total=scaled.total - one.total, squares=scaled.squares - one.squares)
    return State(state.rows - 1, fields)


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
        "min": _unscale(field.minimum, field.scale),
        "max": _unscale(field.maximum, field.scale),
        "first": _unscale(field.first, field.scale),
        "last": _unscale(field.last, field.scale),
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
    total = _unscale(field.total, field.scale)
    fits = abs(field.total) < 10**MAX_DIGITS and field.scale <= -MIN_EXPONENT
    return total if fits or total is None or storable(total) else _double(float(total))


def _double(value: float) -> Decimal | None:
    return shortest(value) if SMALLEST <= abs(value) <= LARGEST or not value else None


def shown(state: State, level: Level) -> dict[str, dict[str, int | Decimal | None]]:
    """The plain numbers of a period, field → statistic → number, as the level's configuration wants them."""
    wanted = ((name, field, level.wanted(name)) for name, field in sorted(state.fields.items()))
    return {name: finish(field, stats) for name, field, stats in wanted if stats}


# wire ---------------------------------------------------------------------------------------------------------------


def encode_state(state: State) -> bytes:
    """The state as MessagePack: [rows, [time, …], [[name, n, scale, total, squares, min, max, first, first_at, last, last_at], …]].

    `first_at` and `last_at` are places in the list of times, since the fields of a record share its time. Integers beyond 64 bits
    are big-endian two's complement bytes.
    """
    times = sorted({at for field in state.fields.values() for at in (field.first_at, field.last_at)})
    place = {at: index for index, at in enumerate(times)}
    fields = [
        [name, *map(_pack, field._replace(first_at=place[field.first_at], last_at=place[field.last_at]))]
        for name, field in sorted(state.fields.items())
    ]
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
    if value is None or -(2**63) <= value < 2**63:
        return value
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _unpack(value: int | bytes | None) -> int | None:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value


# scaled integers ----------------------------------------------------------------------------------------------------


def _single(value: int | Decimal, at: int) -> FieldState:
    scaled, scale = _scaled(value)
    return FieldState(1, scale, scaled, scaled * scaled, scaled, scaled, scaled, at, scaled, at)


def _scaled(value: int | Decimal) -> tuple[int, int]:
    if isinstance(value, int):
        return value, 0
    text = format(value, "f")
    if "n" in text:
        raise ValueError(f"{value} is not a number that can be aggregated")
    whole, point, fraction = text.partition(".")
    fraction = fraction.rstrip("0") if point else ""
    return int(whole + fraction), len(fraction)


def _unscale(value: int | None, scale: int) -> int | Decimal | None:
    return value if value is None or not scale else _EXACT.scaleb(Decimal(value), -scale)


def _aligned(left: FieldState, right: FieldState) -> tuple[FieldState, FieldState]:
    scale = max(left.scale, right.scale)
    return _at_scale(left, scale), _at_scale(right, scale)


def _at_scale(field: FieldState, scale: int) -> FieldState:
    if field.scale == scale:
        return field
    factor = 10 ** (scale - field.scale)

    def up(value: int | None) -> int | None:
        return None if value is None else value * factor

    return FieldState(
        field.n,
        scale,
        field.total * factor,
        field.squares * factor * factor,
        up(field.minimum),
        up(field.maximum),
        up(field.first),
        field.first_at,
        up(field.last),
        field.last_at,
    )


def _merge(left: FieldState, right: FieldState) -> FieldState:
    left, right = _aligned(left, right)
    if left.minimum is None or left.maximum is None:
        return right._replace(n=left.n + right.n)
    if right.minimum is None or right.maximum is None:
        return left._replace(n=left.n + right.n)
    first, last = min(left, right, key=_first), max(left, right, key=_last)
    return FieldState(
        left.n + right.n,
        left.scale,
        left.total + right.total,
        left.squares + right.squares,
        min(left.minimum, right.minimum),
        max(left.maximum, right.maximum),
        first.first,
        first.first_at,
        last.last,
        last.last_at,
    )


def _first(field: FieldState) -> tuple[int, int]:
    return field.first_at, field.first or 0


def _last(field: FieldState) -> tuple[int, int]:
    return field.last_at, field.last or 0
