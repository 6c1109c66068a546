"""The fast road of the validator: one msgspec type per dataset version, no reflection per record.

Sensors repeat themselves, so what a value becomes is remembered, its form in the table included: each field is read through a dict
from the value to the entry that it makes, and only a value that is not in it runs Python. The dicts are emptied when they are full.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from operator import attrgetter, getitem, itemgetter
from typing import Annotated, Any, Literal, Union

import msgspec

from tesseract.config.dataset import INT64, Dataset, Field, TimeFormat
from tesseract.config.paths import Steps, parse_path, path_name
from tesseract.ingestion.rejections import Fault
from tesseract.ingestion.times import TimeReader
from tesseract.ingestion.values import exact, reader
from tesseract.model import FieldValue, Record
from tesseract.storage.codec import Encoded, number_text, to_wire
from tesseract.storage.keys import MAX_GROUP_BYTES, join_group

BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding may raise: bytes need not be UTF-8
REMEMBERED = 32_768  # values of all fields of a dataset together
LEAST_REMEMBERED = 64  # of each field
GROUPS = 4096
SHORT = 40  # bytes of a decimal's text

_Entry = tuple[str, FieldValue, str]  # a field's name, its value, and both in the JSON of an item
_Leaf = tuple[Any, ...]  # the type of a value, and its default where it may be absent
_NULL = msgspec.Raw(b"null")
_NEVER = Annotated[int, msgspec.Meta(ge=1, le=0)]  # fits nothing: a record that has such a member needs the slow road
_PYTHON = {"int": int, "float": float, "string": str, "bool": bool}
_DECODE = msgspec.json.Decoder(float_hook=exact).decode
_UNNAMED = re.compile(r'["\\\x00-\x1f]')  # what a name in a msgspec type cannot hold


class FastPath:
    """Reads a record that is as declared; answers None for any other, never a reason."""

    def __init__(self, dataset: Dataset, times: TimeReader) -> None:
        groups = len(dataset.group_by)
        moment, maybe = _time_types(dataset.time_format)
        leaves: dict[Steps, _Leaf] = {parse_path(dataset.time_field): (moment,), parse_path(dataset.ref_time_field): maybe}
        leaves |= {parse_path(path): (str | int,) for path in dataset.group_by}
        leaves |= {parse_path(field.path): _field_type(field) for field in dataset.fields.values()}
        places = {steps: f"x{index}" for index, steps in enumerate(leaves)}
        members = {steps: (places[steps], *leaf) for steps, leaf in leaves.items()}
        self._decode = msgspec.json.Decoder(_struct("Record", members, dataset.unknown_fields)).decode
        self._get = attrgetter(*(_attribute(steps, place) for steps, place in places.items()))
        self._moment = _moment_of(dataset.time_field, times)
        self._groups = _Memory(_group if groups > 1 else lambda value: _group((value,)), GROUPS)
        self._group = itemgetter(slice(2, 2 + groups) if groups > 1 else 2)
        self._first = 2 + groups
        room = max(REMEMBERED // max(len(dataset.fields), 1), LEAST_REMEMBERED)
        self._readers = [_remembering(name, field, dataset.time_zone, room) for name, field in dataset.fields.items()]

    @staticmethod
    def serves(dataset: Dataset) -> bool:
        """Whether a type can say all that the configuration says: every value is declared, once, and no list is entered."""
        texts = [dataset.time_field, dataset.ref_time_field, *dataset.group_by, *(f.path for f in dataset.fields.values())]
        paths = [parse_path(text) for text in texts]
        names = [path_name(steps) for steps in paths]
        return (
            bool(dataset.fields)
            and dataset.unknown_fields != "keep"
            and not any(isinstance(step, int) or _UNNAMED.search(step) for steps in paths for step in steps)
            # a dropped member could be a declared value in another spelling, which the type knows only for names without dots
            and not (dataset.unknown_fields == "drop" and any("." in str(step) for steps in paths for step in steps))
            and len(set(names)) == len(names)
            and not any(other.startswith(name + ".") for name in names for other in names)
        )

    def read(self, line: bytes | msgspec.Raw, limit: datetime) -> Record | None:
        """One record, or None where the slow road must look."""
        try:
            values = self._get(self._decode(line))
            valid_time = self._moment(values[0])
            ref_time = self._moment(values[1])
            if valid_time is None or valid_time > limit:
                return None
            group = self._groups[self._group(values)]
            entries = [*filter(None, map(getitem, self._readers, values[self._first :]))]
        except (*BAD_JSON, Fault, OverflowError):
            return None
        return Record(group, valid_time, ref_time, _fields(entries))


def _fields(entries: list[_Entry]) -> Encoded:
    names, values, texts = zip(*entries, strict=True) if entries else ((), (), ())
    fields = Encoded(zip(names, values, strict=True))
    fields.json = ",".join(texts).encode()
    return fields


class _Memory(dict[Any, Any]):
    """What a function gives for a value, remembered; emptied when it is full. A fault is not remembered."""

    def __init__(self, read: Callable[[Any], Any], size: int) -> None:
        self._read, self._size = read, size

    def __missing__(self, value: Any) -> Any:
        found = self._read(value)
        if len(self) >= self._size:
            self.clear()
        self[value] = found
        return found


class _Each:
    """The same without remembering: for values that hardly repeat, or of any length."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def __getitem__(self, value: Any) -> Any:
        return self._read(value)


def _remembering(name: str, field: Field, zone: str, room: int) -> _Memory | _Each:
    """What reads a declared field from what its type lets through: its entry, or None for null."""
    read, encode = reader(name, field, zone), msgspec.json.encode
    head = encode(name).decode() + ":"
    before = head + '{"N":"'

    def entry(value: Any) -> _Entry | None:
        found = read(value)
        if found is None:
            return None
        if found.__class__ is Decimal or found.__class__ is int:
            return name, found, f'{before}{number_text(found)}"}}'
        return name, found, head + encode(to_wire(found)).decode()

    if _field_type(field)[0] is msgspec.Raw:
        return _Each(_from_text(entry, room))
    # numbers beyond 64 bits can be chosen so that they collide in a dict
    varied = field.type == "timestamp" or field.wide or (field.type == "string" and not field.enum)
    if field.type == "float" and not field.enum:
        return _Memory(_doubles(name, field, before, entry), room)
    if field.type == "int" and not field.enum and not field.wide:
        return _Memory(_integers(name, field, before, entry), room)
    return _Each(entry) if varied else _Memory(entry, room)


def _integers(name: str, field: Field, before: str, other: Callable[[Any], _Entry | None]) -> Callable[[Any], _Entry | None]:
    """Reads the integers within the bounds; `other` reads the rest as well."""
    low = -INT64 if field.min is None else max(-INT64, field.min)
    high = INT64 - 1 if field.max is None else min(INT64 - 1, field.max)
    missing = frozenset(value for value in field.missing if not isinstance(value, str))

    def entry(value: Any) -> _Entry | None:
        if value.__class__ is int and low <= value <= high and value not in missing:
            return name, value, f'{before}{value}"}}'
        return other(value)

    return entry


def _doubles(name: str, field: Field, before: str, other: Callable[[Any], _Entry | None]) -> Callable[[Any], _Entry | None]:
    """Reads the doubles that are written without an exponent, most of them; `other` reads the rest as well."""
    low = -inf if field.min is None else float(field.min)
    high = inf if field.max is None else float(field.max)
    missing = frozenset(float(value) for value in field.missing if not isinstance(value, str))

    def entry(value: Any) -> _Entry | None:
        if value.__class__ is float and low <= value <= high and value not in missing:
            text = repr(value)
            if "e" not in text:
                if text[-2:] != ".0":
                    return name, Decimal(text), f'{before}{text}"}}'
                if value:
                    return name, int(value), f'{before}{text[:-2]}"}}'
        return other(value)

    return entry


def _from_text(entry: Callable[[Any], Any], room: int) -> Callable[[msgspec.Raw], Any]:
    """Reads JSON text, and remembers short ones."""

    def decoded(text: bytes) -> Any:
        value = _DECODE(text)
        if isinstance(value, dict | list):
            raise Fault("", value, "list")
        return entry(value)

    remembered = _Memory(decoded, room)

    def read_text(raw: msgspec.Raw) -> Any:
        text = bytes(raw)
        return remembered[text] if len(text) <= SHORT else decoded(text)

    return read_text


def _group(values: tuple[str | int, ...]) -> str:
    """The group key; a fault that the slow road gives in full where there is none."""
    group = "" if "" in values else join_group(map(str, values))
    if not 0 < len(group) <= MAX_GROUP_BYTES:
        raise Fault("", "", "group_long")
    return group


def _moment_of(name: str, times: TimeReader) -> Callable[[Any], datetime | None]:
    """What reads a time from what its type lets through."""
    if times.form == "epoch_s":
        return lambda raw: None if (value := _DECODE(raw)) is None else times.read(name, value)
    if not times.iso:
        return lambda value: None if value is None else times.read(name, value)
    utc = times.utc
    return lambda moment: moment if moment is None or moment.tzinfo is UTC else utc(name, moment)


def _time_types(form: TimeFormat) -> tuple[Any, _Leaf]:
    """The type of a time that is needed, and of one that may be absent."""
    if form == "epoch_s":
        return msgspec.Raw, (msgspec.Raw, _NULL)
    kind = datetime if form == "iso8601" else int
    return kind, (kind | None, None)


def _field_type(field: Field) -> _Leaf:
    texts = tuple(value for value in field.missing if isinstance(value, str))
    if field.type == "decimal" or (field.type == "timestamp" and field.format == "epoch_s"):
        return msgspec.Raw, _NULL  # digit for digit
    if field.type == "timestamp":
        if field.format == "iso8601":
            return (str if texts else datetime) | None, None
        kinds: list[Any] = [int, None]
    else:
        kinds = [_PYTHON[field.type], None]
    if texts and kinds[0] is not str:
        kinds.append(Literal[texts])
    return Union[tuple(kinds)], None  # noqa: UP007 - built at run time


def _attribute(steps: Steps, place: str) -> str:
    return ".".join([*(_inner(step) for step in steps[:-1]), place])


def _inner(step: str | int) -> str:
    return f"n_{str(step).encode().hex()}"


def _struct(name: str, members: dict[Steps, tuple[Any, ...]], unknown: str) -> type[msgspec.Struct]:
    """A Struct whose nesting follows the paths. Attributes are made up, so that any name can be a JSON key."""
    fields: list[Any] = []
    rename: dict[str, str] = {}
    children: dict[str, dict[Steps, tuple[Any, ...]]] = {}
    for steps, leaf in members.items():
        head = str(steps[0])
        if len(steps) == 1:
            rename[leaf[0]] = head
            fields.append(leaf)
            continue
        children.setdefault(head, {})[steps[1:]] = leaf
        for end in range(2, len(steps) + 1):  # "wind.speed" as one name, which this type does not read
            spelt = ".".join(map(str, steps[:end]))
            if unknown == "drop" and spelt not in rename.values():
                attribute = f"o_{spelt.encode().hex()}"
                rename[attribute] = spelt
                fields.append((attribute, _NEVER, 0))
    for head, below in children.items():
        child = _struct(_inner(head), below, unknown)
        rename[_inner(head)] = head
        optional = all(len(leaf) > 2 for leaf in below.values())
        fields.append((_inner(head), child, msgspec.field(default_factory=child)) if optional else (_inner(head), child))
    forbid = unknown == "reject"
    return msgspec.defstruct(name, fields, kw_only=True, rename=rename, forbid_unknown_fields=forbid, gc=False, frozen=True)
