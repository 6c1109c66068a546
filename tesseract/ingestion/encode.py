"""A record of Python as JSON: what a caller holds, said exactly, or refused with a reason. No library of his is imported here.

numpy's scalars are their Python values, a float32 the double of the same value. Times are aware datetimes; a naive one is sent
without a zone, for the dataset's `time_zone` to decide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from tesseract.ingestion.chunks import RECORD_BYTES, Refused
from tesseract.ingestion.validators import show

NO_NUMBER = "NaN and infinities are no values; leave the field out, or send null"
BYTES = "bytes are no value; decode them to text"
MAX_DEPTH = 100  # the server takes less; this only keeps a list inside itself from going on for ever

encode: Callable[[Any], bytes] = msgspec.json.Encoder(decimal_format="number").encode
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = ((str, str.__str__), (int, int), (float, float))
_AS_THEY_ARE = frozenset((str, int, bool, type(None), datetime, date))


class NoValueError(Exception):
    """A value that no record can hold, and why."""

    def __init__(self, field: str, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.field, self.value, self.reason = field, value, reason


def encode_record(record: Any) -> bytes | Refused:
    """The JSON of one record, on one line."""
    try:
        if not isinstance(record, Mapping):
            raise NoValueError("", record, f"a record is a dict, not {_a(record)}")
        body = encode(
            {name: value if type(value) in _AS_THEY_ARE else _clean(value, str(name), 0) for name, value in record.items()}
        )
        if len(body) > RECORD_BYTES:
            raise NoValueError("", "", f"the record has {len(body)} bytes, at most {RECORD_BYTES} can be sent")
    except NoValueError as error:
        return refuse(record, error.field, error.value, error.reason)
    except (TypeError, ValueError, RecursionError) as error:
        return refuse(record, "", record, f"the record cannot be written as JSON: {error}")
    return body


def refuse(record: Any, field: str, value: Any, reason: str) -> Refused:
    """The refusal of a record; its text holds as much of it as text can, NaN as NaN, so that it is not taken for mended."""
    try:
        body = json.dumps(record, default=str)
    except (TypeError, ValueError, RecursionError):
        body = json.dumps(show(record))
    return Refused(body.encode(), field, show(value), reason)


def _clean(value: Any, name: str, depth: int) -> Any:
    """A value as the encoder writes it exactly. Raises NoValueError."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is float or kind is Decimal:
        if not (math.isfinite(value) if kind is float else value.is_finite()):  # a Decimal may be finite beyond every double
            raise NoValueError(name, value, NO_NUMBER)
        return value
    if depth > MAX_DEPTH:
        raise NoValueError(name, value, f"the record is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        return {key: _clean(part, f"{name}.{key}", depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part, f"{name}.{place}", depth + 1) for place, part in enumerate(value)]
    return _foreign(value, name, depth)


def _foreign(value: Any, name: str, depth: int) -> Any:
    """A value of another library, or of a type that JSON does not have."""
    if isinstance(value, datetime):  # pandas' Timestamp, to the nanosecond; its NaT is none
        if value != value:
            raise NoValueError(name, value, "NaT is no value; leave the field out, or send null")
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise NoValueError(name, "", BYTES)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy
        if getattr(value.dtype, "kind", "") == "M" and not getattr(value, "shape", ()):
            text = str(value)
            if text == "NaT":
                raise NoValueError(name, text, "NaT is no value; leave the field out, or send null")
            return text
        plain = value.tolist()
        if type(plain) is not type(value):
            return _clean(plain, name, depth + 1)
    if isinstance(value, str | int | float):  # a subclass, an enum among them
        return _clean(next(plain(value) for base, plain in _PLAIN if isinstance(value, base)), name, depth + 1)
    raise NoValueError(name, value, f"{_a(value)} is no value of a record")


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[:1].lower() in "aeiou" else f"a {kind}"
