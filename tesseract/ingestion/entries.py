"""What the values of a declared field become: the value that a record holds, and its form in the table, made together. Pure.

Sensors repeat themselves, so what a value becomes is remembered: only a value that a field has not had of late runs Python.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import inf
from typing import Any

import msgspec

from tesseract.config.dataset import INT64, Dataset, Field
from tesseract.ingestion.rejections import Fault
from tesseract.ingestion.values import exact, reader
from tesseract.model import FieldValue
from tesseract.storage.codec import number_text, to_wire

REMEMBERED = 32_768  # values of all fields of a dataset together
LEAST_REMEMBERED = 64  # of each field
SHORT = 40  # bytes of a decimal's text

Entry = tuple[FieldValue | None, str]  # a value, and name and value as a member of an item's JSON with a comma behind it
NOTHING: Entry = (None, "")  # null: the record has no such field
Make = Callable[[Any], Entry]

_decode = msgspec.json.Decoder(float_hook=exact).decode
_encode = msgspec.json.Encoder().encode


class Memory(dict[Any, Any]):
    """What a function gives for a value, remembered; emptied when it is full. A fault is not remembered."""

    __slots__ = ("_read", "_size")

    def __init__(self, read: Callable[[Any], Any], size: int) -> None:
        self._read, self._size = read, size

    def __missing__(self, value: Any) -> Any:
        found = self._read(value)
        if len(self) >= self._size:
            self.clear()
        self[value] = found
        return found


class _Doubles(Memory):
    """Reads the doubles that are written without an exponent, most of them, in one call; `other` reads the rest as well."""

    __slots__ = ("_head", "_high", "_low", "_missing")

    def __init__(self, field: Field, head: str, other: Make, size: int) -> None:
        super().__init__(other, size)
        self._head = head
        self._low = -inf if field.min is None else float(field.min)
        self._high = inf if field.max is None else float(field.max)
        self._missing = frozenset(float(value) for value in field.missing if not isinstance(value, str))

    def __missing__(self, value: Any) -> Entry:
        found: Entry | None = None
        if value.__class__ is float and self._low <= value <= self._high and value not in self._missing:
            text = _encode(value).decode()  # the digits of repr, in half the time
            if "e" not in text:
                if not value.is_integer():
                    found = Decimal(text), f'{self._head}{{"N":"{text}"}},'
                elif value:
                    whole = text[:-2]
                    found = int(whole), f'{self._head}{{"N":"{whole}"}},'
        if found is None:
            found = self._read(value)
        if len(self) >= self._size:
            self.clear()
        self[value] = found
        return found


def entries(dataset: Dataset, texts: set[str]) -> list[Memory | Make]:
    """What reads each declared field, those in `texts` from their JSON: a Memory to look the value up in, or a function to call.

    A look-up or call raises Fault where the slow road must say why.
    """
    room = max(REMEMBERED // max(len(dataset.fields), 1), LEAST_REMEMBERED)
    return [_of_field(key, field, dataset.time_zone, room, key in texts) for key, field in dataset.fields.items()]


def _of_field(key: str, field: Field, zone: str, room: int, text: bool) -> Memory | Make:
    head = _encode(key).decode() + ":"
    make = _any(reader(field.name or key, field, zone), head)
    if text:
        return _from_text(make, room)
    if field.type == "float" and not field.enum:
        return _Doubles(field, head, make, room)
    if field.type == "int" and not field.enum and not field.wide:
        return Memory(_integers(field, head, make), room)
    # numbers beyond 64 bits can be chosen so that they collide in a dict; times and texts hardly repeat, or are of any length
    varied = field.type == "timestamp" or field.wide or (field.type == "string" and not field.enum)
    return make if varied else Memory(make, room)


def _any(read: Callable[[Any], FieldValue | None], head: str) -> Make:
    def entry(value: Any) -> Entry:
        found = read(value)
        if found is None:
            return NOTHING
        if found.__class__ is Decimal or found.__class__ is int:
            return found, f'{head}{{"N":"{number_text(found)}"}},'
        return found, f"{head}{_encode(to_wire(found)).decode()},"

    return entry


def _integers(field: Field, head: str, other: Make) -> Make:
    """Reads the integers within the bounds; `other` reads the rest as well."""
    low = -INT64 if field.min is None else max(-INT64, field.min)
    high = INT64 - 1 if field.max is None else min(INT64 - 1, field.max)
    missing = frozenset(value for value in field.missing if not isinstance(value, str))

    def entry(value: Any) -> Entry:
        if value.__class__ is int and low <= value <= high and value not in missing:
            return value, f'{head}{{"N":"{value}"}},'
        return other(value)

    return entry


def _from_text(make: Make, room: int) -> Make:
    """Reads JSON text, and remembers short ones."""

    def decoded(text: bytes) -> Entry:
        value = _decode(text)
        if isinstance(value, dict | list):
            raise Fault("", value, "list")
        return make(value)

    remembered = Memory(decoded, room)

    def entry(raw: msgspec.Raw) -> Entry:
        text = bytes(raw)
        found: Entry = remembered[text] if len(text) <= SHORT else decoded(text)
        return found

    return entry
