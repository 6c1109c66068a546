"""One dataset version compiled to a decoder: JSON to records, or to the reason why not.

A body takes the fast road: one msgspec type for the whole of it. A record that does not fit is read again on the slow road, which
accepts all that the fast one accepts and a little more (other spellings of times, integral floats), and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from tesseract.config.dataset import Dataset, Field
from tesseract.errors import InputError
from tesseract.ingestion.fastpath import BAD_JSON, LONG_TEXT, FastPath
from tesseract.model import FieldValue, Record
from tesseract.storage.codec import LARGEST, SMALLEST, item_bytes, shortest
from tesseract.storage.keys import MAX_GROUP_BYTES, join_group
from tesseract.utils.time_utils import iso_seconds

MAX_DEPTH = 16
MAX_NAME = 255
MAX_ITEM_BYTES = 390_000  # DynamoDB holds 400 kB with keys and bookkeeping
INT64 = 2**63
_TYPES = {"int": "an integer", "float": "a number", "string": "text", "bool": "true or false"}


class Rejection(msgspec.Struct, frozen=True):
    """Why one record was not accepted. `field` and `value` are cut to 100 characters, `reason` to 300."""

    index: int
    field: str
    value: str
    reason: str


class _Fault(Exception):
    def __init__(self, field: str, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.field, self.value, self.reason = field, value, reason


class Decoded(msgspec.Struct, frozen=True):
    """The records of a body with their positions in it, and what was wrong with the others."""

    records: list[tuple[int, Record]]
    rejected: list[Rejection]


class Validator:
    """The decoder of one dataset version. Build it once per version; it has no state of its own."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        paths = [*dataset.group_by, dataset.time_field, dataset.ref_time_field, *(f.path for f in dataset.fields.values())]
        self._parents = {path[:at] for path in paths for at, char in enumerate(path) if char == "."}
        self._fast = FastPath(dataset) if FastPath.serves(dataset) else None

    def decode(self, lines: Iterable[bytes | msgspec.Raw], now: datetime) -> Decoded:
        """Validate records, each one JSON object. The order is kept; `index` counts from 0."""
        records: list[tuple[int, Record]] = []
        rejected: list[Rejection] = []
        limit = _latest_time(now, self.dataset.max_future_seconds)
        for index, line in enumerate(lines):
            record = self._fast.read(line, limit) if self._fast else None
            try:
                records.append((index, record or self._read(line, limit)))
            except _Fault as fault:
                rejected.append(Rejection(index, cut(fault.field), show(fault.value), cut(fault.reason, 300)))
        return Decoded(records, rejected)

    def _read(self, line: bytes | msgspec.Raw, limit: datetime) -> Record:
        """The slow road: one record, or a _Fault that says why not."""
        try:
            value = msgspec.json.decode(line)
        except BAD_JSON as error:
            text = bytes(line).decode("utf-8", "replace")
            if isinstance(error, msgspec.ValidationError):  # JSON has numbers of any size
                raise _Fault("", text, "a number of the record does not fit: at most 9.9e125, an integer 64 bits") from error
            raise _Fault("", text, f"not JSON: {error}") from error
        if not isinstance(value, dict):
            raise _Fault("", value, "a record is a JSON object")
        flat: dict[str, Any] = {}
        _flatten(value, "", flat, 0)
        for parent in self._parents:
            if parent in flat and flat[parent] is None:  # {"wind": null} is {"wind": {}}
                del flat[parent]
        group = self._group(flat)
        valid_time = _time(self.dataset.time_field, _take(flat, self.dataset.time_field), True)
        ref_time = _time(self.dataset.ref_time_field, _take(flat, self.dataset.ref_time_field), False)
        if valid_time is None:
            raise _Fault(self.dataset.time_field, None, f"the time field {self.dataset.time_field!r} is missing")
        if valid_time > limit:
            reason = f"lies in the future: later than {iso_seconds(limit)}, now + max_future; check the producer's clock"
            raise _Fault(self.dataset.time_field, valid_time.isoformat(), reason)
        fields = self._fields(flat)
        if _may_be_large(fields) and item_bytes(fields) > MAX_ITEM_BYTES:
            raise _Fault("", f"{item_bytes(fields)} bytes", f"the record is larger than {MAX_ITEM_BYTES} bytes")
        return Record(group, valid_time, ref_time, fields)

    def _group(self, flat: dict[str, Any]) -> str:
        values = []
        for name in self.dataset.group_by:
            value = _take(flat, name)
            if value is None:
                raise _Fault(name, None, f"the group field {name!r} is missing")
            if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
                raise _Fault(name, value, "a group is non-empty text or an integer")
            values.append(str(value))
        group = join_group(values)
        if len(group) > MAX_GROUP_BYTES:
            raise _Fault(self.dataset.group_by[0], values[0], f"the group's key is longer than {MAX_GROUP_BYTES} bytes")
        return group

    def _fields(self, flat: dict[str, Any]) -> dict[str, FieldValue]:
        fields: dict[str, FieldValue] = {}
        for name, field in self.dataset.fields.items():
            value = declared(name, field, _take(flat, field.path))
            if value is not None:
                fields[name] = value
        if self.dataset.unknown_fields == "reject" and flat:
            name = next(iter(flat))
            raise _Fault(
                name,
                _take(flat, name, check=False),
                f"no field {cut(name)!r} is declared; declare it, or set unknown_fields to keep or drop",
            )
        if self.dataset.unknown_fields == "keep":
            for name in list(flat):
                value = undeclared(name, _take(flat, name), self.dataset)
                if value is not None:
                    fields[name] = value
        return fields


def declared(name: str, field: Field, value: Any) -> FieldValue | None:
    """The value of a declared field, None for null. Raises a fault that says what is wrong."""
    if value is None or _is_missing(value, field.missing):
        if field.required:
            raise _Fault(name, value, f"the required field {name!r} is missing or null")
        return None
    match field.type:
        case "string":
            if isinstance(value, str):
                return value
        case "bool":
            if isinstance(value, bool):
                return value
        case _:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return _bounded(name, field, _number(name, value, field.type))
    raise _Fault(name, value, f"field {name!r} is {_TYPES[field.type]}, not {_described(value)}")


def undeclared(name: str, value: Any, dataset: Dataset) -> FieldValue | None:
    """The value of a field that nobody declared: an integer of 64 bits, any other number as the nearest double, or as it is."""
    if name in ("valid_time", "ref_time", "period_start", "rows") or name.startswith("__") or name in dataset.fields:
        raise _Fault(name, value, f"{name!r} is a name that results use; declare the field under another name with its path")
    if not name.strip(".") or len(name) > MAX_NAME:
        raise _Fault(name[:100], value, f"a field's name has 1 to {MAX_NAME} characters")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(name, value, "int" if isinstance(value, int) and -INT64 <= value < INT64 else "float")
    result: FieldValue | None = value
    return result


def _number(name: str, value: float, kind: str) -> int | Decimal:
    if kind == "int":
        if value != int(value):
            raise _Fault(name, value, f"field {name!r} is an integer, not a fraction")
        if not -INT64 <= value < INT64:
            raise _Fault(name, value, f"field {name!r} must fit 64 bits")
        return int(value)
    try:
        double = float(value)
    except OverflowError:
        double = float("inf")
    if double and not SMALLEST <= abs(double) <= LARGEST:
        raise _Fault(name, value, f"the number of {name!r} does not fit: 1e-130 to 9.9e125 and 0 do")
    return shortest(double) if double else 0


def _bounded(name: str, field: Field, value: int | Decimal) -> int | Decimal:
    number = float(value) if isinstance(value, Decimal) else value  # doubles with doubles: 0.1 is not below a minimum of 0.1
    if field.min is not None and number < field.min:
        raise _Fault(name, value, f"field {name!r} is below its minimum {field.min}")
    if field.max is not None and number > field.max:
        raise _Fault(name, value, f"field {name!r} is above its maximum {field.max}")
    return value


def _is_missing(value: Any, sentinels: tuple[Any, ...]) -> bool:
    return any(isinstance(value, str) == isinstance(s, str) and not isinstance(value, bool) and value == s for s in sentinels)


def _time(name: str, value: Any, required: bool) -> datetime | None:
    if value is None and not required:
        return None
    if value is None:
        raise _Fault(name, None, f"the time field {name!r} is missing")
    if not isinstance(value, str):
        raise _Fault(name, value, "a time is ISO 8601 text such as 2013-07-01T12:00:00Z")
    try:
        moment = parse_moment(value)
    except ValueError as error:
        raise _Fault(name, value, "not a time: write ISO 8601 such as 2013-07-01T12:00:00Z") from error
    if moment.tzinfo is None:
        raise _Fault(name, value, "the time has no zone: add Z for UTC, or an offset such as +01:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise _Fault(name, value, "the time is outside the years 1 to 9999") from error


def parse_moment(text: str) -> datetime:
    """A time as records write it, to the nearest microsecond. Raises ValueError.

    RFC 3339 first, as the fast road reads it: both must see the same instant. Then the other spellings of ISO 8601.
    """
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return datetime.fromisoformat(text)


class _Odd(NamedTuple):
    """A part of a record that is no value, and why. Where the dataset drops it, that is no fault."""

    value: Any
    reason: str


def _flatten(value: dict[str, Any], prefix: str, into: dict[str, Any], depth: int) -> None:
    for key, part in value.items():
        name = f"{prefix}.{key}" if depth else key
        if name in into:
            into[name] = _Odd(part, f"{cut(name)!r} comes twice in the record")
        elif isinstance(part, list):
            into[name] = _Odd(part, "a list is not a value; send one record for each reading")
        elif not isinstance(part, dict):
            into[name] = part
        elif depth < MAX_DEPTH:
            _flatten(part, name, into, depth + 1)
        else:
            into[name] = _Odd(part, f"objects are nested deeper than {MAX_DEPTH}")


def _take(flat: dict[str, Any], name: str, check: bool = True) -> Any:
    """Take a value out of a flat record; None where it is absent. Raises a fault where it is none."""
    value = flat.pop(name, None)
    if not isinstance(value, _Odd):
        return value
    if check:
        raise _Fault(name, value.value, value.reason)
    return value.value


def _may_be_large(fields: dict[str, FieldValue]) -> bool:
    return len(fields) > 100 or sum(len(value) for value in fields.values() if isinstance(value, str)) > LONG_TEXT


def _latest_time(now: datetime, seconds: int) -> datetime:
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return "a truth value"
    return "text" if isinstance(value, str) else "a number"


def show(value: Any) -> str:
    """A value for a message, cut to 100 characters; of a list or an object only that it is one."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return "[…]" if isinstance(value, list) else "{…}"
    return cut(value if isinstance(value, str) else str(value) if isinstance(value, Decimal) else repr(value))


def cut(text: str, length: int = 100) -> str:
    """A text for a message: no longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def split_body(body: bytes) -> list[bytes | msgspec.Raw]:
    """The records of a body: a JSON object, an array of them, or NDJSON. Raises InputError where it is none of these."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise InputError("the body is empty", hint="send a JSON object, an array of objects, or NDJSON")
    if text[:1] == b"[":
        try:
            return list(msgspec.json.decode(text, type=list[msgspec.Raw]))
        except BAD_JSON as error:
            raise InputError(f"the body is not JSON: {error}", hint="an array of objects ends with ]") from error
    if text[:1] != b"{" and b"\n{" not in text:  # a bad first line does not take the good ones with it
        raise InputError("the body is not JSON", hint="send a JSON object, an array of objects, or NDJSON")
    if b"\n" not in text:
        return [text]
    try:  # one object, printed over several lines
        return [msgspec.json.decode(text, type=msgspec.Raw)]
    except BAD_JSON:
        return [line for line in text.splitlines() if line.strip()]
