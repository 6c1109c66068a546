"""The Arrow type of every column: declared fields, their statistics, and what is learned of fields that nobody declared. Pure.

A declared type is kept by every tier, empty results too. A learned one is the narrowest that holds all values exactly: int64, else
double, else text; slices that learned differently are widened when they meet, and nothing is rounded but integers beyond 2^53 that
meet doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from tesseract.config.dataset import INT64, Field
from tesseract.storage.codec import MAX_DIGITS, number_text, shortest
from tesseract.utils.time_utils import from_iso, iso_micros

TIMESTAMP = pa.timestamp("us", tz="UTC")
WIDE = pa.decimal128(MAX_DIGITS, 0)
_DECLARED = {"int": pa.int64(), "float": pa.float64(), "string": pa.string(), "bool": pa.bool_(), "timestamp": TIMESTAMP}
_RANK = [pa.null(), pa.int64(), pa.float64(), pa.string()]
DOUBLE_DIGITS = 15  # a number of no more is a double's shortest text
_EXACT = Context(prec=300)  # the default one rounds at 28 digits


def arrow_type(field: Field) -> pa.DataType:
    """The type of a declared field's column."""
    if field.type == "decimal":
        return pa.decimal128(MAX_DIGITS, field.scale)
    return WIDE if field.wide else _DECLARED[field.type]


def stat_type(field: Field, stat: str) -> pa.DataType:
    """The type of the column of a statistic of a declared number: exact where the field is, but for `avg` and `std`."""
    if stat == "count":
        return pa.int64()
    if stat in ("avg", "std"):
        return pa.float64()
    return WIDE if stat == "sum" and field.type == "int" else arrow_type(field)


def value_as(value: Any, kind: pa.DataType) -> Any:
    """One value as Arrow takes it for a column of type `kind`; None where it is no value of it."""
    if value is None:
        return None
    if pa.types.is_string(kind):
        return text(value)
    if pa.types.is_boolean(kind):
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(value) if isinstance(value, str) else None
    if pa.types.is_timestamp(kind):
        return _time(value)
    number = _number(value)
    if number is None or pa.types.is_floating(kind):
        return None if number is None else float(number)
    if pa.types.is_decimal(kind):
        scaled = number.scaleb(kind.scale, _EXACT)
        fits = scaled == scaled.to_integral_value(context=_EXACT) and scaled.copy_abs() < 10**kind.precision
        return number if fits else None
    return int(number) if number == number.to_integral_value(context=_EXACT) and -INT64 <= number < INT64 else None


def column(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    """Values as one array of type `kind`, null where one is no value of it; of the learned type where `kind` is None."""
    kind = learned(values) if kind is None else kind
    found = _as_they_are(values, kind)
    return pa.array([value_as(value, kind) for value in values], kind) if found is None else found


def exact_column(values: Sequence[Any], field: Field | None) -> pa.Array:
    """Stored values as one array that loses none: of the declared type where they all are values of it, else of the learned one."""
    if field is not None:
        kind = arrow_type(field)
        found = _as_they_are(values, kind)
        if found is not None:
            return found
        if kind == TIMESTAMP and _classes(values) <= {str}:
            found = column(values, kind)
            if found.null_count == sum(value is None for value in values):
                return found
        if learned(values) == pa.float64() and any(v is not None and shortest(float(v)) != v for v in values):
            return column(values, pa.string())  # an integer among doubles, beyond 2^53
    return column(values, None)


def _as_they_are(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """The common case, without a look at each value: all are of the Python types of `kind`. None where they are not."""
    classes = _classes(values)
    if kind == pa.float64() and classes <= {int, float, Decimal}:
        return pa.array([None if value is None else float(value) for value in values], kind)
    if kind == pa.int64() and classes <= {int} and all(value is None or -INT64 <= value < INT64 for value in values):
        return pa.array(values, kind)
    if pa.types.is_decimal(kind) and classes <= {int, Decimal}:
        with suppress(pa.ArrowInvalid):  # one of them does not fit
            return pa.array(values, kind)
    if (kind == pa.string() and classes <= {str}) or (kind == pa.bool_() and classes <= {bool}):
        return pa.array(values, kind)
    return None


def _classes(values: Sequence[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def learned(values: Iterable[Any]) -> pa.DataType:
    """The narrowest type that holds `values`: null, bool, int64, double or string."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return pa.null()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds <= {"int", "float"}:
        return pa.float64() if "float" in kinds else pa.int64()
    return pa.string()


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) and -INT64 <= value < INT64:
        return "int"
    if isinstance(value, int | Decimal):
        # digits that no double has: of a field that was declared as decimal, or as an integer beyond 64 bits, once
        return "float" if len(str(value)) <= DOUBLE_DIGITS or shortest(float(value)) == value else "text"
    return "float" if isinstance(value, float) else "text"


def wider(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The type that holds the values of both. Where a decimal is one of them, only if the digits of all values allow."""
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if left in _RANK and right in _RANK:
        return _RANK[max(_RANK.index(left), _RANK.index(right))]
    if all(pa.types.is_decimal(kind) or pa.types.is_int64(kind) for kind in (left, right)):
        return pa.decimal128(MAX_DIGITS, max(kind.scale for kind in (left, right) if pa.types.is_decimal(kind)))
    if is_number(left) and is_number(right):
        return pa.float64()
    return pa.string()


def is_number(kind: pa.DataType) -> bool:
    """Whether aggregates cover a column of this type."""
    return bool(pa.types.is_floating(kind) or pa.types.is_int64(kind) or pa.types.is_decimal(kind))


def exact(value: float | Decimal) -> int | Decimal:
    """A number of a column as it was stored: a double counts as the decimal of its shortest text."""
    return shortest(value) if isinstance(value, float) else value


def text(value: Any) -> str:
    """A value of a field that is text elsewhere: the same text from the buffer and from every file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso_micros(value)
    if isinstance(value, float):
        return number_text(shortest(value))
    return value if isinstance(value, str) else number_text(value)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return shortest(value)
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return from_iso(value) if datetime.fromisoformat(value).tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None
