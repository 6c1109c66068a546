"""The values of a record's fields: declared ones by their type and bounds, undeclared ones as they come. Pure.

Both roads of the validator read through here, so they agree: the fast one hands over what msgspec has already typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from tesseract.config.dataset import Field
from tesseract.ingestion.rejections import Fault, meant
from tesseract.ingestion.times import TimeReader
from tesseract.model import FieldValue
from tesseract.storage.codec import LARGEST, MAX_DIGITS, SMALLEST
from tesseract.utils.time_utils import iso_micros

MAX_NAME = 255
INT64 = 2**63
RESERVED = ("valid_time", "ref_time", "period_start", "rows")
Read = Callable[[Any], FieldValue | None]

_EXACT_DOUBLE = 2.0**53  # below, an integral double is the integer of its shortest text
_DECIMAL_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_EXACT = Context(prec=2 * MAX_DIGITS, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation])
_WANTED = {"int": "an integer", "float": "a number", "decimal": "a number", "string": "text", "bool": "true or false"}


def reader(name: str, field: Field, zone: str) -> Read:
    """What reads the values of a declared field: the value as it is stored, None for null. It raises Fault."""
    kinds: dict[str, Callable[[str, Field], Read]] = {"int": _ints, "float": _floats, "decimal": _decimals, "string": _texts}
    if field.type == "timestamp":
        typed = _moments(name, TimeReader(field.format, zone))
    else:
        typed = kinds.get(field.type, _bools)(name, field)
    return _nullable(name, field, typed)


def _nullable(name: str, field: Field, typed: Read) -> Read:
    texts = {value for value in field.missing if isinstance(value, str)}
    numbers: set[float | Decimal] = {value for value in field.missing if not isinstance(value, str)}
    numbers |= {Decimal(repr(value)) for value in numbers}  # a double and its text are two numbers
    doubles, required = field.type == "float", field.required

    def read(value: Any) -> FieldValue | None:
        kind = value.__class__
        if kind is str:
            if value not in texts:
                return typed(value)
        elif value is not None and (
            not numbers or kind is bool or (double(value) if doubles and kind is Decimal else value) not in numbers
        ):
            return typed(value)
        if required:
            raise Fault(name, value, "required", name=name)
        return None

    return read


def double(value: float | Decimal) -> float:
    """The nearest double, an infinity where there is none."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def exact(text: str) -> Decimal:
    """The number of a JSON text, digit for digit; one that no Decimal holds is an infinity, or as near to zero as that."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 19 digits
        return Decimal("1e-99999" if "e-" in text.lower() else "Infinity")


def number(name: str, value: float, sent: Any = None) -> int | Decimal:
    """A double as it is stored: the number of its shortest text. Raises Fault where DynamoDB cannot hold it."""
    whole = value.is_integer()
    if whole and -_EXACT_DOUBLE < value < _EXACT_DOUBLE:
        return int(value)
    if not SMALLEST <= abs(value) <= LARGEST:
        raise Fault(name, value if sent is None else sent, "number", name=name)
    kept = Decimal(repr(value))  # the fewest digits that give the same double
    return int(kept) if whole else kept


def _whole(value: Decimal) -> int | Decimal:
    """The number as an int where it is one: the form in which an item gives it back."""
    return int(value) if value == value.to_integral_value() else value


def _floats(name: str, field: Field) -> Read:
    low, high = (None if bound is None else float(bound) for bound in (field.min, field.max))
    choices = {float(value) for value in field.enum}

    def read(value: Any) -> int | Decimal:
        if value.__class__ is float:
            nearest: float = value
        elif isinstance(value, (bool, str)):
            raise _kind(name, field, value)
        else:
            nearest = double(value)
        if (low is not None and nearest < low) or (high is not None and nearest > high):
            raise _beyond(name, field, value, below=low is not None and nearest < low)
        if choices and nearest not in choices:
            raise _none_of(name, field, value)
        return number(name, nearest, value)

    return read


def _ints(name: str, field: Field) -> Read:
    low, high = field.min, field.max
    largest = 10**MAX_DIGITS - 1 if field.wide else INT64 - 1
    smallest = -largest if field.wide else -INT64
    choices = {int(value) for value in field.enum}

    def read(value: Any) -> int:
        whole: int = value if value.__class__ is int else _integer(name, field, value, largest)
        if not smallest <= whole <= largest:
            raise Fault(name, value, "digits" if field.wide else "bits", name=name, digits=MAX_DIGITS)
        if (low is not None and whole < low) or (high is not None and whole > high):
            raise _beyond(name, field, value, below=low is not None and whole < low)
        if choices and whole not in choices:
            raise _none_of(name, field, value)
        return whole

    return read


def _integer(name: str, field: Field, value: Any, largest: int) -> int:
    """A value that is not written as an integer, but may be one. Raises Fault."""
    if not isinstance(value, Decimal):
        raise _kind(name, field, value)
    if not value.is_finite() or value.adjusted() > MAX_DIGITS:
        return largest + 1
    if value != value.to_integral_value():
        raise Fault(name, value, "fraction", name=name)
    return int(value)


def _decimals(name: str, field: Field) -> Read:
    low, high = (None if bound is None else Decimal(repr(bound)) for bound in (field.min, field.max))
    choices = {Decimal(repr(value)) for value in field.enum}
    step, before = Decimal(1).scaleb(-field.scale), MAX_DIGITS - field.scale

    def read(value: Any) -> int | Decimal:
        if isinstance(value, bool) or (isinstance(value, str) and not _DECIMAL_TEXT.fullmatch(value)):
            raise _kind(name, field, value)
        sent = exact(value) if isinstance(value, str) else Decimal(value)
        if not sent.is_finite() or (sent and sent.adjusted() >= before):
            raise Fault(name, value, "whole_digits", name=name, digits=before)
        try:
            kept = sent.quantize(step, context=_EXACT).normalize(_EXACT)
        except Inexact as error:
            raise Fault(name, value, "scale", name=name, digits=field.scale) from error
        if (low is not None and kept < low) or (high is not None and kept > high):
            raise _beyond(name, field, value, below=low is not None and kept < low)
        if choices and kept not in choices:
            raise _none_of(name, field, value)
        return _whole(kept)

    return read


def _texts(name: str, field: Field) -> Read:
    choices, longest = set(field.enum), field.max_length

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise _kind(name, field, value)
        if longest is not None and len(value) > longest:
            raise Fault(name, value, "length", f"it has {len(value)}", name=name, length=longest)
        if choices and value not in choices:
            raise _none_of(name, field, value)
        return value

    return read


def _bools(name: str, field: Field) -> Read:
    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise _kind(name, field, value)
        return value

    return read


def _moments(name: str, times: TimeReader) -> Read:
    return lambda value: iso_micros(times.read(name, value))


def _kind(name: str, field: Field, value: Any) -> Fault:
    found = "a truth value" if isinstance(value, bool) else "text" if isinstance(value, str) else "a number"
    return Fault(name, value, "kind", name=name, wanted=_WANTED[field.type], found=found)


def _beyond(name: str, field: Field, value: Any, *, below: bool) -> Fault:
    return Fault(name, value, "min" if below else "max", name=name, bound=field.min if below else field.max)


def _none_of(name: str, field: Field, value: Any) -> Fault:
    def hint() -> str:
        near = meant(value, map(str, field.enum)) if isinstance(value, str) else ""
        return near or f"one of {', '.join(map(str, field.enum))}"

    return Fault(name, value, "enum", hint, name=name)


def undeclared(name: str, value: Any, taken: Container[str]) -> FieldValue | None:
    """The value of a field that nobody declared: an integer of 64 bits, any other number as the nearest double, or as it is.

    `taken` has the names and keys of declared fields.
    """
    if name in RESERVED or name.startswith("__") or name in taken:
        raise Fault(name, value, "reserved", name=name)
    if not name.strip(".") or len(name) > MAX_NAME:
        raise Fault(name, value, "name", length=MAX_NAME)
    if value.__class__ is float:
        return number(name, value)
    if value.__class__ is int:
        whole: int = value
        return whole if -INT64 <= whole < INT64 else number(name, double(whole), whole)
    if isinstance(value, Decimal):
        return number(name, double(value), value)
    kept: FieldValue | None = value  # text, a truth value, null
    return kept
