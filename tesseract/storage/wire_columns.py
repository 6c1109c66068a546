"""Stored values as DynamoDB writes them, {"N": …}, {"S": …}, {"BOOL": …}, as typed columns, without a look at each. Pure.

`arrow_types.exact_column` over the values is the definition: what is given here is what it gives, or None where it must be asked.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Field
from tesseract.storage.arrow_types import DOUBLE_DIGITS, TIMESTAMP, arrow_type, exact_column
from tesseract.storage.codec import MAX_DIGITS, number_value

_FIXED = "____-__-__T__:__:__.______Z"  # how `iso_micros` writes a time
_YEAR_1 = pa.scalar(-62_135_596_800_000_000, pa.int64()).cast(TIMESTAMP)


class Values(NamedTuple):
    """The values of one field: of each row at most one of the three is there."""

    numbers: pa.Array  # text
    texts: pa.Array
    truths: pa.Array

    def slice(self, start: int, length: int) -> Values:
        """Some of the rows."""
        return Values(*(part.slice(start, length) for part in self))

    def take(self, indices: pa.Array) -> Values:
        """Rows in another order."""
        return Values(*(part.take(indices) for part in self))

    def filter(self, mask: pa.Array) -> Values:
        """The rows where `mask` is true."""
        return Values(*(part.filter(mask) for part in self))

    @property
    def present(self) -> int:
        """How many rows have a value."""
        return sum(len(part) - part.null_count for part in self)


def exact(values: Values, field: Field | None) -> pa.Array:
    """Stored values as one array that loses none, as `exact_column` gives it."""
    found = quick(values, field)
    return exact_column(_objects(values), field) if found is None else found


def quick(values: Values, field: Field | None) -> pa.Array | None:
    """`exact` for the common case, that all values are of the declared type; None where they are not."""
    numbers, texts, truths = values
    kinds = [len(part) > part.null_count for part in values]
    if sum(kinds) > 1:
        return None
    if field is None:
        return _learned(values, kinds)
    kind = arrow_type(field)
    if not any(kinds):
        return pa.nulls(len(numbers), kind)
    if kinds[1]:
        if pa.types.is_timestamp(kind):
            return times(texts)
        return texts if pa.types.is_string(kind) else None
    if kinds[2]:
        return truths if pa.types.is_boolean(kind) else None
    if field.numeric:
        return _numbers(numbers, kind)
    return None


def times(texts: pa.Array) -> pa.Array | None:
    """Texts that `iso_micros` wrote as times; None where one is written otherwise."""
    if not _all(pc.match_like(texts, _FIXED)):
        return None
    try:
        found = pc.cast(texts, TIMESTAMP)
    except pa.ArrowInvalid:
        return None
    return found if _all(pc.greater_equal(found, _YEAR_1)) else None


def _numbers(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    if pa.types.is_decimal(kind) and pc.max(pc.binary_length(texts)).as_py() > MAX_DIGITS:
        return None  # what goes beyond 128 bits pyarrow's cast drops in silence
    try:
        found = pc.cast(texts, kind)
    except pa.ArrowInvalid:  # not of the type, or not as it is nearly always written
        return None
    if not pa.types.is_floating(kind):
        return found
    return pc.add(found, 0.0) if _all(pc.is_finite(found)) else None  # a zero has no sign


def _learned(values: Values, kinds: list[bool]) -> pa.Array | None:
    if kinds[1] or kinds[2]:
        return values.texts if kinds[1] else values.truths
    found = _numbers(values.numbers, pa.int64())
    if found is not None:
        return found
    found = _numbers(values.numbers, pa.float64())
    if found is None or pc.max(pc.binary_length(values.numbers)).as_py() > DOUBLE_DIGITS:
        return None
    low, high = pc.min_max(found).as_py().values()
    few = low > -(10**DOUBLE_DIGITS) and high < 10**DOUBLE_DIGITS
    return found if few and not pc.all(pc.equal(found, pc.floor(found))).as_py() else None


def _objects(values: Values) -> list[object]:
    numbers, texts, truths = (part.to_pylist() for part in values)
    return [
        number_value(number) if number is not None else text if text is not None else truth
        for number, text, truth in zip(numbers, texts, truths, strict=True)
    ]


def _all(mask: pa.Array) -> bool:
    """Whether a condition holds of all rows that have a value."""
    return bool(pc.all(mask, min_count=0).as_py())
