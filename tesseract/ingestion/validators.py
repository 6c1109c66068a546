"""One dataset version compiled to a decoder: JSON to records, or to the reason why not.

A record takes the fast road: one msgspec type for the whole of it. One that does not fit is read again on the slow road, which
accepts all that the fast one accepts and more (other spellings of times, integral floats, places in lists), and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.paths import parse_path, path_name
from tesseract.config.retention import kept_from
from tesseract.ingestion.fastpath import BAD_JSON, FastPath
from tesseract.ingestion.flatten import MAX_DEPTH, SHOWN, Flattener, Odd, lenient, spelt
from tesseract.ingestion.rejections import Fault, Rejection, cut, meant, show
from tesseract.ingestion.times import TimeReader, parse_moment
from tesseract.ingestion.values import exact, reader, undeclared
from tesseract.model import FieldValue, Record
from tesseract.storage.codec import item_bytes
from tesseract.storage.items import raw_item
from tesseract.storage.keys import MAX_GROUP_BYTES, encode, join_group

__all__ = ["BAD_JSON", "Decoded", "Rejection", "Validator", "cut", "parse_moment", "show"]

Line = bytes | msgspec.Raw  # the JSON of one record
ReadLine = Callable[[Line, datetime], Record | None]
_Clock = tuple[datetime, datetime, datetime | None]  # now, the latest valid time that is taken, and the oldest if there is one
MAX_ITEM_BYTES = 390_000  # DynamoDB holds 400 kB
WRITE_UNIT = 1024  # bytes of an item that one write unit writes
HINTED = 500  # rejections whose hint is looked for: an answer explains no more
MEASURED = 100  # items of one call that may be large; of further ones it is only seen to that they fit
WARNED = 1000  # warnings after which a record has only its first one
_KEPT_NAMES = 200  # of a record's members that are compared with a name that is missing

_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NO_NUMBER = re.compile(rb"[:,\[]\s*[+-]?(nan|inf(inity)?)\b", re.IGNORECASE)


class Decoded(msgspec.Struct, frozen=True):
    """The records of a body with their positions in it, and what was wrong with the others.

    `warnings` tells of accepted records: values that were stored as null, items of more than one write unit among the first
    100 that may be. After 1,000 of them a record has only its first one.
    """

    records: list[tuple[int, Record]]
    rejected: list[Rejection]
    warnings: list[Rejection] = []


class Validator:
    """The decoder of one dataset version. Build it once per version; what it remembers changes no answer."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._times = TimeReader(dataset.time_format, dataset.time_zone)
        self._fast = FastPath(dataset, self._times) if FastPath.serves(dataset) else None
        renamed = self._fast is not None and any(key in dataset.fields for key in dataset.former.values())
        self._older = FastPath(dataset, self._times, former=True) if renamed else None
        declared = dataset.fields.items()
        self._group_by = [(path, _place(path)) for path in dataset.group_by]
        self._time, self._ref_time = _place(dataset.time_field), _place(dataset.ref_time_field)
        self._fields = [
            (
                key,
                (_place(field.path), *map(_place, dataset.former_paths(key))),
                reader(field.name or key, field, dataset.time_zone),
            )
            for key, field in declared
        ]
        self._taken = frozenset([*dataset.fields, *dataset.names])
        self._former = {_place(path): key for path, key in dataset.former.items() if key not in dataset.fields}
        paths = [dataset.time_field, dataset.ref_time_field, *dataset.group_by, *(path for path, _ in dataset.places())]
        self._flat = Flattener(dataset, map(parse_path, paths))
        digits = bool(dataset.fields) or not self._times.iso  # whether more than the nearest double is asked for
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(float_hook=exact if digits else None).decode
        self._around = _around(dataset)

    def decode(self, lines: Iterable[Line], now: datetime) -> Decoded:
        """Validate records, each one JSON object. The order is kept; `index` counts from 0. It raises nothing, whatever comes."""
        done = Decoded([], [], [])
        limit = _latest_time(now, self.dataset.max_future_seconds)
        read: ReadLine = self._fast.read if self._fast else _no_record
        if self._older:  # a producer that sends former names
            read = _either(read, self._older.read)
        oldest = kept_from(self.dataset, now)
        if oldest is not None:
            read = _kept(read, oldest)
        accept, measured, most, around = done.records.append, 0, WRITE_UNIT, self._around
        for index, line in enumerate(lines):
            record = read(line, limit)
            # no look at the values: an item has at most as many bytes as this, if its fields are named as in its JSON
            if record is not None and len(line) + len(record.group) - 2 * len(record.fields) + around <= most:
                accept((index, record))
                continue
            measured += self._decode_one(index, line, record, (now, limit, oldest), most, done)
            if measured >= MEASURED:
                most = MAX_ITEM_BYTES
        return done

    def _decode_one(self, index: int, line: Line, record: Record | None, clock: _Clock, most: int, done: Decoded) -> bool:
        """A record that the fast road has not read, or whose item may have more bytes than `most`; whether it was measured."""
        notes: list[Fault] = []
        large = False
        try:
            spread = False
            if record is None:
                record, spread = self._read(line, clock, notes)
            large = spread or len(line) + len(record.group) - 2 * len(record.fields) + self._around > most
            if large:
                self._measure(record, clock[0], notes)
        except Fault as fault:
            done.rejected.append(fault.rejection(index, len(done.rejected) < HINTED))
            return large
        done.records.append((index, record))
        if notes:
            hinted, kept = len(done.warnings) < HINTED, notes if len(done.warnings) < WARNED else notes[:1]
            done.warnings.extend(note.rejection(index, hinted) for note in kept)
        return large

    def _measure(self, record: Record, now: datetime, notes: list[Fault]) -> None:
        """Note an item of more than one write unit. Raises Fault for one that DynamoDB does not hold."""
        size = item_bytes(raw_item(self.dataset, record, now))
        if size > MAX_ITEM_BYTES:
            raise Fault("", f"{size} bytes", "too_large", bytes=MAX_ITEM_BYTES)
        if size > WRITE_UNIT:
            hint = f"up to {WRITE_UNIT} bytes it is one: shorter names, or fewer values"
            notes.append(Fault("", "", "large", hint, bytes=size, units=-(-size // WRITE_UNIT)))

    # the slow road ----------------------------------------------------------------------------------------------------------

    def _read(self, line: Line, clock: _Clock, notes: list[Fault]) -> tuple[Record, bool]:
        """One record, and whether names of its item may be longer than in its JSON; or a Fault that says why not."""
        record = self._object(line)
        flat = self._flat.flatten(record)
        group = self._group(flat, record)
        field = self.dataset.time_field
        found, issued = _take(flat, self._time), _take(flat, self._ref_time)
        if found is None:
            raise Fault(field, None, "time_missing", self._near(field, record), name=field)
        valid_time = self._times.read(field, found)
        ref_time = None if issued is None else self._times.read(self.dataset.ref_time_field, issued)
        now, limit, oldest = clock
        if valid_time > limit:
            raise self._times.future(field, found, valid_time, limit, now)
        if oldest is not None and valid_time < oldest:
            raise self._times.past(field, found, valid_time, oldest, now)
        fields = self._declared(flat, record, notes)
        if flat:
            self._undeclared(flat, fields)
        spread = flat is not record or bool(self._former)
        return Record(group, valid_time, ref_time, fields), spread and self.dataset.unknown_fields == "keep"

    def _object(self, line: Line) -> dict[str, Any]:
        try:
            try:
                value = self._decode(line)
            except msgspec.ValidationError:  # JSON has numbers of any size
                value = lenient(line)
        except RecursionError as error:
            raise Fault("", _shown(line), "deep", depth=MAX_DEPTH) from error
        except BAD_JSON as error:
            raise Fault("", _shown(line), "not_json", lambda: _json_hint(bytes(line)), error=error) from error
        if not isinstance(value, dict):
            raise Fault("", value.value if isinstance(value, Odd) else value, "not_object")
        return value

    def _group(self, flat: dict[str, Any], record: dict[str, Any]) -> str:
        values = []
        for name, place in self._group_by:
            value = _take(flat, place)
            if value is None:
                raise Fault(name, None, "group_missing", self._near(name, record), name=name)
            if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
                raise Fault(name, value, "group_kind")
            values.append(str(value))
        group = join_group(values) if sum(map(len, values)) <= MAX_GROUP_BYTES else ""
        if not group or len(group) > MAX_GROUP_BYTES:
            raise Fault(self.dataset.group_by[0], values[0], "group_long", bytes=MAX_GROUP_BYTES)
        return group

    def _declared(self, flat: dict[str, Any], record: dict[str, Any], notes: list[Fault]) -> dict[str, FieldValue]:
        """The values of declared fields. An invalid one becomes null with a note, where the dataset says so."""
        fields: dict[str, FieldValue] = {}
        for name, places, read in self._fields:
            place = places[0] if len(places) == 1 else spelt(flat, places)
            try:
                value = read(_take(flat, place))
            except Fault as fault:
                if self.dataset.on_invalid == "null" and not self.dataset.fields[name].required:
                    notes.append(fault)
                    continue
                if fault.reason == "required" and fault.value is None:
                    fault.hint = self._near(place, record)
                raise
            if value is not None:
                fields[name] = value
        return fields

    def _undeclared(self, flat: dict[str, Any], fields: dict[str, FieldValue]) -> None:
        if self.dataset.unknown_fields == "reject":
            name, value = next(iter(flat.items()))
            value = value.value if isinstance(value, Odd) else value
            raise Fault(name, value, "undeclared", lambda: meant(name, self._flat.wanted), name=cut(name))
        for name, value in flat.items():
            if isinstance(value, Odd):
                raise value.fault(name)
            key = self._former.get(name, name)  # of a field that was renamed, and is no longer declared
            kept = undeclared(key, value, self._taken)
            if kept is not None:
                if key in fields:
                    other = next(place for place, owner in self._former.items() if owner == key and place != name and place in flat)
                    raise Fault(name, value, "renamed", name=other, former=name)
                fields[key] = kept

    def _near(self, place: str, record: dict[str, Any]) -> Callable[[], str]:
        """What finds the member of a record that may be the one that is missing at `place`."""
        return lambda: "" if len(record) > _KEPT_NAMES else meant(place, record.keys() - self._flat.wanted)


def _no_record(line: Line, limit: datetime) -> None:
    """The fast road of a dataset that has none."""


def _kept(read: ReadLine, oldest: datetime) -> ReadLine:
    """`read` for records from `oldest` on: the slow road says what is wrong with the others."""

    def kept(line: Line, limit: datetime) -> Record | None:
        record = read(line, limit)
        return None if record is None or record.valid_time < oldest else record

    return kept


def _either(first: ReadLine, second: ReadLine) -> ReadLine:
    return lambda line, limit: first(line, limit) or second(line, limit)


def _place(path: str) -> str:
    """The dotted name of a path, which flat records have."""
    return path_name(parse_path(path))


def _take(flat: dict[str, Any], place: str) -> Any:
    """Take a value out of a flat record; None where it is absent. Raises Fault where it is none."""
    value = flat.pop(place, None)
    if value.__class__ is Odd:
        raise value.fault(place)
    return value


def _shown(line: Line) -> str:
    return bytes(line)[:SHOWN].decode("utf-8", "replace")


def _json_hint(line: bytes) -> str:
    if _HALF_PAIR.search(line):
        return "half of a surrogate pair is no character: send both halves, or the character itself"
    return "JSON has no NaN and no infinity: send null, or leave the field out" if _NO_NUMBER.search(line) else ""


def _around(dataset: Dataset) -> int:
    """What an item may have, at most, beyond the bytes of its record's JSON and of its group, less two for each field.

    A field has a byte more than its name and value in an item, and a number one more than its text at most; in JSON it has four
    more, the quotes, the colon and what parts it from the next.
    """
    names = len("pk" + "sk" + "fields" + "expires_at" + "config_version" + "ref_time")
    keys = names + len("##2013-07-01") + 2 * len("2013-07-01T12:00:00.000000Z") + len("{}") + 1 + 2 * 11
    of_fields = (
        len(key.encode())
        + (27 if field.type == "timestamp" else 0)
        - min(len(str(parse_path(path)[-1]).encode()) for path in (field.path, *dataset.former_paths(key)))
        for key, field in dataset.fields.items()
    )
    return keys + len(encode(dataset.name)) + sum(max(extra, 0) for extra in of_fields)


def _latest_time(now: datetime, seconds: int) -> datetime:
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
