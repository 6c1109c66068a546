"""The exact state of one field over a period, and the algebra on it: values as scaled integers, nothing ever rounded.

39.02 is 3902 at scale 2. Sums and sums of squares do not depend on the order of arrival, and a value that is taken out again
leaves no residue. Extremes cannot be taken back like sums: one that was taken out is None until it is looked up again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, localcontext
from functools import lru_cache
from operator import mul
from typing import NamedTuple

from tesseract.errors import DamagedError

EXACT = Context(
    prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation]
)  # the default one rounds at 28 digits
FEW = 4  # values that are folded faster one by one


class FieldState(NamedTuple):
    """The exact state of one field over a period. All values are integers at `scale` (digits after the point).

    `minimum`, `maximum`, `first` and `last` are None where the field has no value, and where they must be looked up again.
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


def single(value: int | Decimal, at: int) -> FieldState:
    """The state of one value."""
    number, scale = scaled(value)
    return FieldState(1, scale, number, number * number, number, number, number, at, number, at)


def of_values(values: Sequence[int | Decimal], times: Sequence[int], span: tuple[int, int] | None = None) -> FieldState:
    """The state of several values and their times: the same as merging their singles, at a fraction of the time.

    `span` is the first and the last time, where somebody knows them. Raises ValueError where a value is no number.
    """
    if len(values) < FEW:
        return _of_scaled(values, times)
    low, high = span or (min(times), max(times))
    with localcontext(EXACT):  # numbers are added as they came, and only the results become integers
        squares = sum(map(mul, values, values))
        if isinstance(squares, Decimal) and not squares.is_finite():
            return _of_scaled(values, times)
        total, first, last = sum(values), _at(values, times, low, min), _at(values, times, high, max)
        found = total, min(values), max(values), first, last
        if isinstance(total, int):
            return FieldState(len(values), 0, total, int(squares), *found[1:3], first, low, last, high)  # type: ignore[arg-type]
        scale = -int(total.as_tuple().exponent)
        places = Decimal(1).scaleb(scale)
        total, minimum, maximum, first, last = [int(number * places) for number in found]
        squares = int(squares * places * places)
    if scale and not (total % 10 or minimum % 10 or maximum % 10 or first % 10 or last % 10 or squares % 100):
        return _of_scaled(values, times)  # zeros at the end of all values, perhaps: they would count as places
    return FieldState(len(values), scale, total, squares, minimum, maximum, first, low, last, high)


def _at(values: Sequence[int | Decimal], times: Sequence[int], at: int, choose: Callable[..., int | Decimal]) -> int | Decimal:
    """The value at a time; of several the one that `choose` takes."""
    if times.count(at) == 1:
        return values[times.index(at)]
    return choose(value for value, time in zip(values, times, strict=True) if time == at)


def _of_scaled(values: Sequence[int | Decimal], times: Sequence[int]) -> FieldState:
    """`of_values` for all numbers that there are, one by one."""
    pairs = [scaled(value) for value in values]
    scale = max(scale for _, scale in pairs)
    numbers = [number if own == scale else number * 10 ** (scale - own) for number, own in pairs]
    first, last = min(zip(times, numbers, strict=True)), max(zip(times, numbers, strict=True))
    squares = sum([number * number for number in numbers])
    return FieldState(len(numbers), scale, sum(numbers), squares, min(numbers), max(numbers), first[1], first[0], last[1], last[0])


def merged(left: FieldState, right: FieldState) -> FieldState:
    """The state of two disjoint sets of values. Associative and commutative. What one of them does not know, nobody does."""
    if not left.n or not right.n:
        return left if left.n else right
    if left.scale != right.scale:
        left, right = aligned(left, right)
    n, total, squares = left.n + right.n, left.total + right.total, left.squares + right.squares
    minimum = maximum = first = last = None
    first_at = last_at = 0
    if left.minimum is not None and right.minimum is not None:
        minimum = left.minimum if left.minimum <= right.minimum else right.minimum
    if left.maximum is not None and right.maximum is not None:
        maximum = left.maximum if left.maximum >= right.maximum else right.maximum
    if left.first is not None and right.first is not None:
        first_at, first = min((left.first_at, left.first), (right.first_at, right.first))
    if left.last is not None and right.last is not None:
        last_at, last = max((left.last_at, left.last), (right.last_at, right.last))
    return FieldState(n, left.scale, total, squares, minimum, maximum, first, first_at, last, last_at)


def retracted(field: FieldState, value: int | Decimal, at: int) -> FieldState:
    """`field` without a value that is in it. An extreme that was this value is None then.

    Raises DamagedError where it cannot be in it.
    """
    field, one = aligned(field, single(value, at))
    n, total, squares = field.n - 1, field.total - one.total, field.squares - one.squares
    if n < 0 or squares < 0 or n * squares < total * total or (squares and not n):
        raise DamagedError("a value is taken out of an aggregate that does not hold it")
    if not n:
        return FieldState()
    return field._replace(
        n=n,
        total=total,
        squares=squares,
        minimum=None if field.minimum == one.minimum else field.minimum,
        maximum=None if field.maximum == one.maximum else field.maximum,
        first=None if field.first_at == at else field.first,
        last=None if field.last_at == at else field.last,
    )


def corrected(field: FieldState, old: int | Decimal, new: int | Decimal, at: int) -> FieldState:
    """`field` with the value at `at` replaced. Extremes stay known where the new value tells them: nothing lies beyond the old one.

    Raises DamagedError where `old` cannot be in it.
    """
    before, one = aligned(field, single(old, at))
    after, other = aligned(merged(retracted(field, old, at), single(new, at)), single(new, at))
    if before.n == 1:
        return after
    was, now = Decimal(old), Decimal(new)
    return after._replace(
        minimum=other.minimum if before.minimum == one.minimum and now <= was else after.minimum,
        maximum=other.maximum if before.maximum == one.maximum and now >= was else after.maximum,
        first=other.first if before.first is not None and before.first_at == at else after.first,
        first_at=at if before.first is not None and before.first_at == at else after.first_at,
        last=other.last if before.last is not None and before.last_at == at else after.last,
        last_at=at if before.last is not None and before.last_at == at else after.last_at,
    )


def scaled(value: int | Decimal) -> tuple[int, int]:
    """A number as an integer and its scale, with as few digits after the point as it needs."""
    if isinstance(value, int):
        return value, 0
    text = str(value)
    whole, _, fraction = text.partition(".")
    if fraction.isdigit() and fraction[-1] != "0":  # nearly every number that comes
        return int(whole + fraction), len(fraction)
    text = format(value, "f")
    if not text[-1].isdigit():
        raise ValueError(f"{value} is not a number that can be aggregated")
    whole, point, fraction = text.partition(".")
    fraction = fraction.rstrip("0") if point else ""
    return int(whole + fraction), len(fraction)


def unscaled(value: int | None, scale: int) -> int | Decimal | None:
    """The inverse of `scaled`."""
    return value if value is None or not scale else EXACT.multiply(value, _place(scale))


@lru_cache(maxsize=256)
def _place(scale: int) -> Decimal:
    return EXACT.scaleb(Decimal(1), -scale)


def aligned(left: FieldState, right: FieldState) -> tuple[FieldState, FieldState]:
    """Both at one scale."""
    if left.scale == right.scale:
        return left, right
    scale = max(left.scale, right.scale)
    return _at_scale(left, scale), _at_scale(right, scale)


def _at_scale(field: FieldState, scale: int) -> FieldState:
    if field.scale == scale:
        return field
    factor = 10 ** (scale - field.scale)

    def up(value: int | None) -> int | None:
        return None if value is None else value * factor

    return field._replace(
        scale=scale,
        total=field.total * factor,
        squares=field.squares * factor * factor,
        minimum=up(field.minimum),
        maximum=up(field.maximum),
        first=up(field.first),
        last=up(field.last),
    )
