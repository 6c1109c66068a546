"""A column of numbers as exact integers at one scale, and their exact sums: 39.02 is 3902 at scale 2. Pure.

A double counts as the decimal of its shortest text, as everywhere. Integers beyond 64 bits are pairs of words; sums that 64 bits
may not hold are made of limbs, parts of the integers so narrow that sums of their products never overflow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tesseract.storage.codec import MAX_DIGITS

Ints = np.ndarray[Any, np.dtype[Any]]  # of int64, or where these might overflow of Python's integers
DIGITS = 15  # of two decimals with no more no two are one double, so the one that gives a double is its shortest text
LONGEST = 17  # digits of the shortest text of any double
SMALLEST = 1e-21  # whose text has no more than 38 places; of more, Arrow makes 0 at times (26.0)
MAX_PLACES = 22  # the largest power of ten that is a double
WORD = 64
SAFE = 2**62
EXACT = 2**53  # integers up to here are doubles, and so are their sums as long as these are no greater
_PROBE = 256
_BLOCK = 16_384  # doubles that a processor's own memory holds, with what is made of them


class Wide(NamedTuple):
    """Integers of 128 bits: `high` is int64, `low` uint64."""

    high: Ints
    low: Ints

    def __len__(self) -> int:
        return len(self.high)


Numbers = Ints | Wide


class Column(NamedTuple):
    """The values of a column, none of which is null: integers at `scale`, which may be doubles where they have at most 15 digits.

    `wholes` tells which of them are whole numbers; `whole` is that where it is known beforehand.
    """

    numbers: Numbers
    scale: int
    whole: Ints | None = None

    def wholes(self) -> Ints | None:
        """Which values are whole numbers; None: all."""
        if not self.scale or self.whole is not None or isinstance(self.numbers, Wide):
            return self.whole
        found: Ints
        if self.numbers.dtype == np.float64:
            values = self.numbers / 10.0**self.scale
            found = values == np.rint(values)
        else:
            found = self.numbers % 10**self.scale == 0 if self.scale < 19 else self.numbers == 0
        return found


def column_of(array: pa.Array) -> Column | None:
    """A column of numbers without nulls; None where its values have too many digits between them."""
    if pa.types.is_integer(array.type):
        return Column(int64_of(array), 0)
    if pa.types.is_decimal(array.type):
        return _decimals(array)
    values = array.to_numpy(zero_copy_only=False)
    found = _short(values)
    return _long(array, values) if found is None else Column(*found)


def int64_of(array: pa.Array) -> Ints:
    """Integers or times as int64."""
    found: Ints = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: a copy only where it lies in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def integers_of(array: pa.Array) -> Ints:
    """Integers or decimals (no nulls) as integers at their type's scale."""
    if pa.types.is_integer(array.type):
        return int64_of(array)
    numbers, _ = _words(array)
    return _joined(numbers) if isinstance(numbers, Wide) else numbers


def _decimals(array: pa.Array) -> Column:
    numbers, scale = _words(array)
    if not scale:
        return Column(numbers, 0)
    if isinstance(numbers, Wide):
        return Column(numbers, scale, np.array([value == value.to_integral_value() for value in array.to_pylist()]))
    return Column(numbers, scale)


def _words(array: pa.Array) -> tuple[Numbers, int]:
    """Decimals as integers, and their scale."""
    words = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    low, high = words[:, 0], words[:, 1]
    return low if (low >> 63 == high).all() else Wide(high, low.view(np.uint64)), array.type.scale


def _short(values: Ints) -> tuple[Ints, int] | None:
    """Doubles of at most 15 digits as integers at one scale, themselves doubles; None where one has more."""
    most = max(-float(values.min()), float(values.max()))
    scale = _places(values[:_PROBE], 0, most)  # the first few tell the scale of the rest, as a rule
    numbers = np.empty_like(values)
    at = 0
    while scale is not None and at < len(values):
        own, scaled, power = values[at : at + _BLOCK], numbers[at : at + _BLOCK], 10.0**scale
        np.rint(np.multiply(own, power, out=scaled), out=scaled)
        if (scaled / power == own).all():
            at += _BLOCK
        else:
            scale, at = _places(own, scale, most), 0
    return None if scale is None else (numbers, scale)


def _places(values: Ints, scale: int, most: float) -> int | None:
    """The first scale from `scale` on at which all values are integers; None where these need more than 15 digits."""
    while scale <= MAX_PLACES and most * 10.0**scale < 10.0**DIGITS:
        values = values[np.rint(values * 10.0**scale) / 10.0**scale != values]
        if not len(values):
            return scale
        scale += 1
    return None


def _long(array: pa.Array, values: Ints) -> Column | None:
    """Any doubles by their texts, if 38 digits hold them all."""
    if not np.isfinite(values).all():
        return None
    size = np.abs(values[values != 0])
    if size.min() < SMALLEST:
        return None
    before = max(int(np.floor(np.log10(size.max()))) + 2, 1)
    places = min(max(LONGEST - int(np.floor(np.log10(size.min()))), 0), MAX_DIGITS - before)
    if places < 0:
        return None
    try:
        decimals = array.cast(pa.string()).cast(pa.decimal128(MAX_DIGITS, places))
    except pa.ArrowInvalid:
        return None
    return Column(*_words(decimals), values == np.rint(values))


# sums -------------------------------------------------------------------------------------------------------------------


def extremes(numbers: Numbers, bounds: Ints) -> tuple[Ints, Ints]:
    """The least and the greatest integer of each run; `bounds` are the places where the runs begin, the first one 0."""
    if isinstance(numbers, Wide):
        return _least(numbers, bounds), -_least(_negated(numbers), bounds)
    return as_int64(np.minimum.reduceat(numbers, bounds)), as_int64(np.maximum.reduceat(numbers, bounds))


def greatest(numbers: Numbers) -> int:
    """A bound of the integers' magnitude, at least 1."""
    if isinstance(numbers, Wide):
        return max(-int(numbers.high.min()), int(numbers.high.max()) + 1) << WORD
    return max(-int(numbers.min()), int(numbers.max()), 1)


def as_int64(numbers: Ints) -> Ints:
    """Integers that may be doubles as int64."""
    return numbers.astype(np.int64) if numbers.dtype == np.float64 else numbers


def _least(numbers: Wide, bounds: Ints) -> Ints:
    high = np.minimum.reduceat(numbers.high, bounds)
    counts = np.diff(bounds, append=len(numbers))
    low = np.minimum.reduceat(np.where(numbers.high == np.repeat(high, counts), numbers.low, np.uint64(2**WORD - 1)), bounds)
    return _joined(Wide(high, low))


def _joined(numbers: Wide) -> Ints:
    """As Python's integers."""
    found: Ints = numbers.high.astype(object) * 2**WORD + numbers.low.astype(object)
    return found


def _negated(numbers: Wide) -> Wide:
    low = ~numbers.low + np.uint64(1)
    return Wide(~numbers.high + (low == 0), low)


def at(numbers: Numbers, places: Ints) -> Ints:
    """The integers at some places."""
    if isinstance(numbers, Wide):
        return _joined(Wide(numbers.high[places], numbers.low[places]))
    return as_int64(numbers[places])


def totals(numbers: Numbers, bounds: Ints, largest: int) -> Ints:
    """The exact sum of each run; `largest` bounds the integers' magnitude."""
    rows = int(np.diff(bounds, append=len(numbers)).max())
    if not isinstance(numbers, Wide):
        if numbers.dtype == np.float64 and largest * rows < EXACT:
            return as_int64(np.add.reduceat(numbers, bounds))
        numbers = as_int64(numbers)
        if largest * rows < SAFE:
            return np.add.reduceat(numbers, bounds)
    found: Ints = np.zeros(len(bounds), object)
    width = _width(rows)
    for place, limb in enumerate(_limbs(numbers, width, largest)):
        found += np.add.reduceat(limb, bounds).astype(object) << width * place
    return narrowed(found)


def totals_of_squares(numbers: Numbers, bounds: Ints, largest: int) -> Ints:
    """The exact sum of the squares of each run; `largest` bounds the integers' magnitude."""
    rows = int(np.diff(bounds, append=len(numbers)).max())
    if not isinstance(numbers, Wide):
        if numbers.dtype == np.float64 and largest * largest * rows < EXACT:
            return as_int64(np.add.reduceat(numbers * numbers, bounds))
        numbers = as_int64(numbers)
        if largest * largest * rows < SAFE:
            return np.add.reduceat(numbers * numbers, bounds)
    found: Ints = np.zeros(len(bounds), object)
    width = _width(rows)
    limbs = _limbs(numbers, width, largest)
    for i, left in enumerate(limbs):
        for j, right in enumerate(limbs[: i + 1]):
            products = np.add.reduceat(left * right, bounds).astype(object)
            found += products << width * (i + j) + (i != j)
    return narrowed(found)


def _width(rows: int) -> int:
    """Bits of a limb, so that the products of so many pairs of them have a sum of 62 bits."""
    return (62 - rows.bit_length()) // 2


def _limbs(numbers: Numbers, width: int, largest: int) -> list[Ints]:
    """Parts of `width` bits, the lowest first; the last one has the sign."""
    mask, count = 2**width - 1, largest.bit_length() // width + 1
    parts = [_shifted(numbers, width * place) for place in range(count)]
    return [part & mask for part in parts[:-1]] + parts[-1:]


def _shifted(numbers: Numbers, bits: int) -> Ints:
    """The integers without their lowest bits: as many of the others as a word holds, all of them where no more are left."""
    if not isinstance(numbers, Wide):
        return numbers >> min(bits, WORD - 1)
    if bits >= WORD:
        return numbers.high >> min(bits - WORD, WORD - 1)
    if not bits:
        return numbers.low.view(np.int64)
    return ((numbers.low >> np.uint64(bits)) | (numbers.high.view(np.uint64) << np.uint64(WORD - bits))).view(np.int64)


def narrowed(numbers: Ints) -> Ints:
    """Integers as int64 where all of them are far from its ends."""
    if numbers.dtype != object or not len(numbers):
        return numbers.astype(np.int64) if not len(numbers) else numbers
    fits = min(numbers) > -SAFE and max(numbers) < SAFE
    return numbers.astype(np.int64) if fits else numbers


def widened(numbers: Ints, growth: int) -> Ints:
    """Integers that may be made `growth` times as large: as Python's where int64 would not hold them."""
    if numbers.dtype == object or not len(numbers):
        return numbers
    largest = max(-int(numbers.min()), int(numbers.max()), 1)
    return numbers if largest * growth < SAFE else numbers.astype(object)


def scaled_up(numbers: Ints, places: int) -> Ints:
    """Integers at a scale that is `places` greater."""
    return numbers if not places else narrowed(widened(numbers, 10**places) * 10**places)
