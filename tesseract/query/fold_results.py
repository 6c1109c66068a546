"""From states by columns to the columns of a result: the numbers that `aggregator.finish` gives, bit for bit. Pure.

An average is the double nearest to a quotient of integers, a deviation that of a root of one. Where both integers are doubles, the
division of doubles gives the former; the latter comes from twice a double's digits. Elsewhere Python's integers do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tesseract.config.dataset import Dataset, Field, Level
from tesseract.processing.aggregator import finish
from tesseract.processing.field_state import FieldState
from tesseract.query.fold_states import FieldFold, Folds
from tesseract.query.integers import EXACT, MAX_PLACES, Ints, narrowed
from tesseract.storage.arrow_types import TIMESTAMP, column, stat_type
from tesseract.storage.codec import LARGEST, SMALLEST
from tesseract.storage.columns import level_stats
from tesseract.storage.keys import split_group

_SPLIT = 2.0**27 + 1
_HALF = 2**61
_FEW_DIGITS = 280  # of numbers that leave a double room for the sums of their products


def level_columns(dataset: Dataset, level: Level, group: str, folds: Folds) -> pa.Table:
    """The rows of a level by the states of its periods: what `level_table` makes of them, but for the system columns."""
    count = len(folds)
    values = zip(dataset.group_by, split_group(group), strict=True)
    columns: dict[str, pa.Array] = {name: pa.repeat(pa.scalar(value, pa.string()), count) for name, value in values}
    columns["period_start"] = pa.array(folds.starts).cast(TIMESTAMP)
    columns["rows"] = pa.array(folds.rows)
    for name in [*dataset.fields, *sorted(folds.fields.keys() - dataset.fields.keys())]:
        stats = level_stats(dataset, level, name)
        if stats:
            found = _stats(dataset.fields.get(name), folds.fields.get(name), stats, count)
            columns |= {f"{name}_{stat}": found[stat] for stat in stats}
    return pa.table(columns)


def _stats(declared: Field | None, field: FieldFold | None, stats: Sequence[str], count: int) -> dict[str, pa.Array]:
    """The columns of a field's statistics."""
    if field is None:
        assert declared is not None
        kinds = {stat: stat_type(declared, stat) for stat in stats}
        return {stat: pa.array(np.zeros(count, np.int64)) if stat == "count" else pa.nulls(count, kinds[stat]) for stat in stats}
    if declared is None or field.scale > MAX_PLACES or _digits(field) > _FEW_DIGITS:
        return _one_by_one(declared, field, stats)
    return {stat: _stat(declared, field, stat) for stat in stats}


def _digits(field: FieldFold) -> int:
    """How many digits the largest sum of products has, at most."""
    largest = int(field.squares.max()) * int(field.n.max())
    return len(str(largest))


def _one_by_one(declared: Field | None, field: FieldFold, stats: Sequence[str]) -> dict[str, pa.Array]:
    """Of a field that nobody declared the columns have the type that their values need."""
    if "std" not in stats:  # then the squares may not be there, and `finish` looks at them all the same
        field = field._replace(squares=field.total.astype(object) ** 2)
    states = (field.state(place, 0) if n else FieldState() for place, n in enumerate(field.n))
    rows = [finish(state, tuple(stats)) for state in states]
    return {stat: column([row[stat] for row in rows], stat_type(declared, stat) if declared else None) for stat in stats}


def _stat(declared: Field, field: FieldFold, stat: str) -> pa.Array:
    """One statistic of a declared field. Where it has no value it is null, a count 0."""
    if stat == "count":
        return pa.array(field.n)
    absent = field.n == 0
    if stat == "std":
        found = _deviations(field)
        return pa.array(found, mask=(field.n < 2) | _out_of_range(found))
    if stat == "avg":
        means = _quotients(field.total, np.where(absent, 1, field.n), field.scale)
        return pa.array(means, mask=absent | _out_of_range(means))
    numbers = {"sum": field.total, "min": field.minimum, "max": field.maximum, "first": field.first, "last": field.last}[stat]
    kind = stat_type(declared, stat)
    if pa.types.is_floating(kind):
        doubles = _quotients(numbers, np.ones(len(numbers), np.int64), field.scale)
        return pa.array(doubles, mask=absent | (_out_of_range(doubles) if stat == "sum" else np.zeros(len(absent), bool)))
    return exact_array(numbers, field.scale, kind, absent)


def _out_of_range(values: Ints) -> Ints:
    """Which doubles are none that an item holds."""
    size = np.abs(values)
    found: Ints = (values != 0) & ((size < SMALLEST) | (size > LARGEST))
    return found


def _quotients(numbers: Ints, n: Ints, scale: int) -> Ints:
    """The doubles nearest to numbers / (n · 10^scale)."""
    below: Ints = n * 10**scale if int(n.max(initial=1)) * 10**scale < EXACT else n.astype(object) * 10**scale
    if numbers.dtype != object and below.dtype != object and not (np.abs(numbers) > EXACT).any():
        return numbers / below
    found: Ints = (numbers.astype(object) / below).astype(np.float64)  # Python divides integers to the nearest double
    return found


def exact_array(numbers: Ints, scale: int, kind: pa.DataType, absent: Ints) -> pa.Array:
    """Integers at a scale as a column of integers or decimals; null where one does not fit."""
    if pa.types.is_int64(kind) and not scale and numbers.dtype != object:
        return pa.array(numbers, mask=absent)
    places = kind.scale if pa.types.is_decimal(kind) else 0
    if scale > places:
        unit = 10 ** (scale - places)
        absent, numbers = absent | (numbers % unit != 0), numbers // unit
    elif scale < places:
        numbers = narrowed(numbers.astype(object) * 10 ** (places - scale))
    limit = 10**kind.precision if pa.types.is_decimal(kind) else 2**63
    if numbers.dtype == object:
        absent = absent | np.array([not -limit < number < limit for number in numbers], bool)
        numbers = np.where(absent, 0, numbers)
    if pa.types.is_int64(kind):
        return pa.array(numbers.astype(np.int64), mask=absent)
    return _decimal(numbers, kind, absent)


def _decimal(numbers: Ints, kind: pa.DataType, absent: Ints) -> pa.Array:
    """Integers as decimals of that scale."""
    words = np.empty((len(numbers), 2), np.int64)
    if numbers.dtype == object:
        words[:, 0] = (numbers & (2**64 - 1)).astype(np.uint64).view(np.int64)
        words[:, 1] = (numbers >> 64).astype(np.int64)
    else:
        words[:, 0], words[:, 1] = numbers, numbers >> 63
    validity = pa.array(~absent).buffers()[1]
    return pa.Array.from_buffers(kind, len(numbers), [validity, pa.py_buffer(words)])


# deviations -------------------------------------------------------------------------------------------------------------


def _deviations(field: FieldFold) -> Ints:
    """The sample's standard deviations, to the nearest double; of less than two values anything."""
    n = np.maximum(field.n, 2)
    above = _numerators(field, n)
    high = above.astype(np.float64)
    low = np.zeros(len(high)) if above.dtype != object and not (high >= EXACT).any() else _rest(above, high)
    high, low = _divided(high, low, n.astype(np.float64))
    high, low = _divided(high, low, (n - 1).astype(np.float64))
    high, low = _root(high, low)
    high, low = _divided(high, low, np.full(len(high), 10.0**field.scale))
    return high + low


def _numerators(field: FieldFold, n: Ints) -> Ints:
    """n · Σx² − (Σx)², of which the deviation is made."""
    largest = int(field.squares.max()) * int(n.max())
    if largest < _HALF and field.total.dtype != object and field.squares.dtype != object:  # (Σx)² is no greater
        total, squares = field.total, field.squares
    else:
        n, total, squares = n.astype(object), field.total.astype(object), field.squares.astype(object)
    found: Ints = n * squares - total * total
    return found


def _rest(numbers: Ints, high: Ints) -> Ints:
    """What the nearest doubles of integers lack."""
    rest: Ints = numbers.astype(object) - np.array([int(value) for value in high], object)
    return rest.astype(np.float64)


def _divided(high: Ints, low: Ints, by: Ints) -> tuple[Ints, Ints]:
    """A number of two doubles divided by a double."""
    first = high / by
    product, error = _product(first, by)
    return _sum(first, ((high - product) - error + low) / by)


def _root(high: Ints, low: Ints) -> tuple[Ints, Ints]:
    """The square root of a number of two doubles."""
    first = np.sqrt(high)
    square, error = _product(first, first)
    rest = (high - square) - error + low
    return _sum(first, np.divide(rest, 2 * first, out=np.zeros(len(first)), where=first != 0))


def _sum(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """A sum as two doubles; `left` is the larger one."""
    found = left + right
    return found, right - (found - left)


def _product(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """A product as two doubles, exact (Dekker)."""
    product = left * right
    left_high, left_low = _halves(left)
    right_high, right_low = _halves(right)
    error = left_low * right_low - (((product - left_high * right_high) - left_low * right_high) - left_high * right_low)
    return product, error


def _halves(values: Ints) -> tuple[Ints, Ints]:
    wide = values * _SPLIT
    high = wide - (wide - values)
    return high, values - high
