"""The fast road of the validator: one msgspec type and one function per dataset version, no reflection per record.

The function takes each field's value from the type's instance to its entry (see `entries`), the form in the table included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Union, cast

import msgspec

from tesseract.config.dataset import Dataset, Field, TimeFormat
from tesseract.config.paths import Steps, parse_path, path_name
from tesseract.ingestion.entries import Make, Memory, entries
from tesseract.ingestion.rejections import Fault
from tesseract.ingestion.times import TimeReader
from tesseract.ingestion.values import exact
from tesseract.model import Record
from tesseract.storage.codec import Encoded
from tesseract.storage.keys import MAX_GROUP_BYTES, join_group

BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding may raise: bytes need not be UTF-8
GROUPS = 4096

_Read = Callable[[bytes | msgspec.Raw, datetime], Record | None]
_Leaf = tuple[Any, ...]  # the type of a value, and its default where it may be absent
_NULL = msgspec.Raw(b"null")
_NEVER = Annotated[int, msgspec.Meta(ge=1, le=0)]  # fits nothing: a record that has such a member needs the slow road
_PYTHON = {"int": int, "float": float, "string": str, "bool": bool}
_DECODE = msgspec.json.Decoder(float_hook=exact).decode
_UNNAMED = re.compile(r'["\\\x00-\x1f]')  # what a name in a msgspec type cannot hold


class FastPath:
    """`read(line, limit)` gives a record that is as declared, and None for any other: the slow road must look at that one.

    With `former` it reads renamed fields under the last of their former names.
    """

    def __init__(self, dataset: Dataset, times: TimeReader, former: bool = False) -> None:
        groups = len(dataset.group_by)
        paths = {key: field.path for key, field in dataset.fields.items()}
        if former:
            paths |= {key: path for path, key in dataset.former.items() if key in paths}
        moment, maybe = _time_types(dataset.time_format)
        leaves: dict[Steps, _Leaf] = {parse_path(dataset.time_field): (moment,), parse_path(dataset.ref_time_field): maybe}
        leaves |= {parse_path(path): (str | int,) for path in dataset.group_by}
        leaves |= {parse_path(paths[key]): _field_type(field) for key, field in dataset.fields.items()}
        places = {steps: f"x{index}" for index, steps in enumerate(leaves)}
        members = {steps: (places[steps], *leaf) for steps, leaf in leaves.items()}
        other = [parse_path(path) for path, _ in dataset.places() if path not in paths.values()]
        members |= {steps: (f"y{index}", _NEVER, 0) for index, steps in enumerate(other)}  # the same values by another name
        self._decode = msgspec.json.Decoder(_struct("Record", members, dataset.unknown_fields)).decode
        texts = {name for name, field in dataset.fields.items() if _field_type(field)[0] is msgspec.Raw}
        names = {
            "decode": self._decode,
            "moment": _moment_of(dataset.time_field, times),
            "groups": Memory(_group if groups > 1 else lambda value: _group((value,)), GROUPS),
            "faults": (*BAD_JSON, Fault, OverflowError),
            "Encoded": Encoded,
            "Record": Record,
        }
        spots = [_attribute(steps, place) for steps, place in places.items()]
        self.read = _reading(dataset, spots, entries(dataset, texts), names)

    @staticmethod
    def serves(dataset: Dataset) -> bool:
        """Whether a type can say all that the configuration says: every value is declared, once, and no list is entered."""
        texts = [dataset.time_field, dataset.ref_time_field, *dataset.group_by, *(path for path, _ in dataset.places())]
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


def _reading(dataset: Dataset, spots: list[str], readers: list[Memory | Make], names: dict[str, Any]) -> _Read:
    """The function that reads a record, written for this dataset: a loop over its fields would take twice the time.

    `spots` are the attributes of the type's instance `r` in the order of its leaves, `names` what the code calls besides.
    """
    first = 2 + len(dataset.group_by)
    group = ", ".join(f"r.{spot}" for spot in spots[2:first])
    code = [
        "def read(line, limit):",
        " try:",
        "  r = decode(line)",
        f"  valid_time, ref_time = moment(r.{spots[0]}), moment(r.{spots[1]})",
        "  if valid_time is None or valid_time > limit:",
        "   return None",
        f"  group = groups[{group}]",
        "  fields = Encoded()",
    ]
    for index, (name, spot, entry) in enumerate(zip(dataset.fields, spots[first:], readers, strict=True)):
        names[f"e{index}"] = entry
        found = f"e{index}[r.{spot}]" if isinstance(entry, Memory) else f"e{index}(r.{spot})"
        code += [f"  value, t{index} = {found}", "  if value is not None:", f"   fields[{name!r}] = value"]
    code += [
        " except faults:",
        "  return None",
        f" fields.json = ''.join(({''.join(f't{index}, ' for index in range(len(readers)))}))[:-1].encode()",
        " return Record(group, valid_time, ref_time, fields)",
    ]
    # of what a configuration says only the names of fields get into the code, each as a literal
    source = "\n".join([f"def make({', '.join(names)}):", *(f" {line}" for line in code), " return read"])
    made: dict[str, Any] = {}
    exec(compile(source, "<fast road>", "exec"), made)  # noqa: S102
    return cast(_Read, made["make"](**names))


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
