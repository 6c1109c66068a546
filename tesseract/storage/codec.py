"""Values ↔ DynamoDB's wire form (`{"S": …}`, `{"N": …}`), exact or refused. Pure.

Numbers: an int or a Decimal becomes its shortest plain text and comes back as an int where it is integral, as a Decimal
elsewhere. A float never enters an item: `shortest` turns a double into the Decimal of its shortest text first.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tesseract.errors import DamagedError, InputError
from tesseract.model import Item, ItemValue

Wire = dict[str, Any]  # {"S": …} and its like
_to_json = msgspec.json.Encoder().encode

MAX_DIGITS = 38
MAX_EXPONENT = 125
MIN_EXPONENT = -130
SMALLEST, LARGEST = 1e-130, math.nextafter(1e126, 0)  # the doubles that a number holds, by magnitude; and zero


def shortest(value: float) -> Decimal:
    """The Decimal with the fewest digits that reads back as the same double."""
    return Decimal(repr(value))


def storable(value: int | Decimal) -> bool:
    """Whether DynamoDB holds this number exactly: at most 38 digits, magnitude from 1e-130 to 9.9e125, or zero."""
    number = Decimal(value)
    if not number.is_finite():
        return False
    if not number:
        return True
    _, digits, _ = number.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return len(text) <= MAX_DIGITS and MIN_EXPONENT <= number.adjusted() <= MAX_EXPONENT


def number_text(value: int | Decimal) -> str:
    """The canonical text of a number: equal numbers have equal text. Raises InputError where DynamoDB cannot hold it."""
    text = str(value)
    if value.__class__ is int and len(text) <= MAX_DIGITS:
        return text
    plain = len(text) <= MAX_DIGITS and "E" not in text  # the common case, seen without counting digits
    if plain and "." in text and text[-1] not in ".0":  # as sensors write them: no zero to take off
        return text
    if not (plain and text[-1].isdigit()) and not storable(value):
        raise InputError(f"the number {text[:50]} does not fit", hint="at most 38 digits, 1e-130 to 9.9e125")
    if isinstance(value, int):
        return text
    if not plain:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def number_value(text: str) -> int | Decimal:
    """The inverse of `number_text`; takes any form that DynamoDB writes."""
    if "." not in text:
        try:
            return int(text)
        except ValueError:
            number = Decimal(text)
    else:
        number = Decimal(text)
        if text[-1] in "123456789" and text.lstrip("-").replace(".", "", 1).isdigit():  # as nearly always: no integer
            return number
    return int(number) if number == number.to_integral_value() else number


class Encoded(dict[str, Any]):
    """A map of values that brings its wire form with it, made by whoever made the map: neither is changed any more.

    `json` is that of its members, as JSON, without the braces around them.
    """

    __slots__ = ("json",)

    json: bytes


def to_wire(value: ItemValue) -> Wire:
    """One value as DynamoDB writes it."""
    kind = value.__class__
    if kind is str:
        return {"S": value}
    if kind is int or kind is Decimal:
        return {"N": number_text(value)}  # type: ignore[arg-type]
    if isinstance(value, dict):
        return {"M": {name: to_wire(part) for name, part in value.items()}}
    if isinstance(value, bool):
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, list):
        return {"L": [to_wire(part) for part in value]}
    raise TypeError(f"an item cannot hold a {kind.__name__}")


def from_wire(wire: Wire) -> Any:
    """The inverse of `to_wire`. Bytes may come as bytes (boto3) or as a bytearray-like."""
    ((kind, value),) = wire.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return number_value(value)
        case "M":
            return {name: from_wire(part) for name, part in value.items()}
        case "NULL":
            return None
        case "B":  # JSON carries base64, the memory backend the bytes themselves
            return b64decode(value) if isinstance(value, str) else bytes(value)
        case "L":
            return [from_wire(part) for part in value]
        case _:
            raise DamagedError(f"an attribute of type {kind} is not one that Tesseract writes")


def item_to_wire(item: Mapping[str, Any]) -> Wire:
    """A whole item as DynamoDB writes it."""
    return {name: to_wire(value) for name, value in item.items()}


def item_to_json(item: Mapping[str, Any]) -> msgspec.Raw:
    """A whole item as DynamoDB writes it, as JSON for the body of a call."""
    wire: Wire = {}
    for name, value in item.items():
        kind = value.__class__
        if kind is str:
            wire[name] = {"S": value}
        elif kind is int:
            wire[name] = {"N": number_text(value)}
        else:
            wire[name] = {"M": msgspec.Raw(b"{%b}" % value.json)} if kind is Encoded else to_wire(value)
    return msgspec.Raw(_to_json(wire))


def item_from_wire(wire: Mapping[str, Wire] | msgspec.Raw) -> Item:
    """The inverse of `item_to_wire` and `item_to_json`."""
    if isinstance(wire, msgspec.Raw):
        wire = msgspec.json.decode(wire, type=dict[str, Wire])
    return {name: from_wire(value) for name, value in wire.items()}


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size that DynamoDB bills for an item: names, values, and its overheads for maps, lists and numbers."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int | Decimal):
        text = number_text(value)
        digits = text.strip("-.0")
        return (len(digits) - ("." in digits) + 1) // 2 + 1 + (text[0] == "-") if digits else 2
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return 3 + sum(1 + len(name.encode()) + _value_bytes(part) for name, part in value.items())
    return 3 + sum(1 + _value_bytes(part) for part in value)
