"""The fast road of the validator: one msgspec type per dataset version, no reflection per record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, Union

import msgspec

from tesseract.config.dataset import Dataset, Field
from tesseract.model import FieldValue, Record
from tesseract.storage.codec import LARGEST, SMALLEST, shortest
from tesseract.storage.keys import MAX_GROUP_BYTES, join_group

_PYTHON = {"int": int, "float": float, "string": str, "bool": bool}
_INT64 = 2**63
LONG_TEXT = 10_000  # characters of all texts: with more the item may be too large, and the slow road measures
LARGE_NAMES = 100_000  # bytes of all field names and numbers: likewise
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding may raise: bytes need not be UTF-8


class FastPath:
    """Reads a record that is as declared; answers None for any other, never a reason."""

    def __init__(self, dataset: Dataset) -> None:
        self._groups = len(dataset.group_by)
        paths = [*dataset.group_by, dataset.time_field, dataset.ref_time_field]
        types: list[Any] = [str | int] * self._groups + [datetime, datetime | None]
        for field in dataset.fields.values():
            paths.append(field.path)
            types.append(_type_of(field))
        leaves = {path: (f"x{index}", kind) for index, (path, kind) in enumerate(zip(paths, types, strict=True))}
        forbid = dataset.unknown_fields == "reject"
        self._decode = msgspec.json.Decoder(_struct("Record", leaves, forbid)).decode
        self._get = attrgetter(*(_attribute(path, leaves[path][0]) for path in paths))
        texts = sum(field.type == "string" for field in dataset.fields.values())
        self._readers = [(name, _reader(field, LONG_TEXT // max(texts, 1))) for name, field in dataset.fields.items()]

    @staticmethod
    def serves(dataset: Dataset) -> bool:
        """Whether a type can say all that the configuration says: every value is declared, once, and dots mean objects."""
        paths = [*dataset.group_by, dataset.time_field, dataset.ref_time_field, *(f.path for f in dataset.fields.values())]
        nested = any("." in path for path in paths)
        clash = any(other.startswith(path + ".") for path in paths for other in paths)
        return (
            bool(dataset.fields)
            and dataset.unknown_fields != "keep"
            and not (nested and dataset.unknown_fields == "drop")
            and len(set(paths)) == len(paths)
            and not clash
            and sum(len(name.encode()) + 25 for name in dataset.fields) < LARGE_NAMES
        )

    def read(self, line: bytes | msgspec.Raw, limit: datetime) -> Record | None:
        """One record, or None where the slow road must look."""
        try:
            values = self._get(self._decode(line))
            count = self._groups
            valid_time, ref_time = values[count], values[count + 1]
            if valid_time.tzinfo is None or (ref_time is not None and ref_time.tzinfo is None):
                return None
            valid_time = valid_time.astimezone(UTC)
            ref_time = None if ref_time is None else ref_time.astimezone(UTC)
            group = join_group(map(str, values[:count]))
            if valid_time > limit or "" in values[:count] or len(group) > MAX_GROUP_BYTES:
                return None
            fields: dict[str, FieldValue] = {}
            for (name, read), value in zip(self._readers, values[count + 2 :], strict=True):
                kept = read(value)
                if kept is not None:
                    fields[name] = kept
        except (*BAD_JSON, _Slow, AttributeError, OverflowError):
            return None
        return Record(group, valid_time, ref_time, fields)


class _Slow(Exception):
    """The value needs the slow road."""


def _type_of(field: Field) -> Any:
    texts = tuple(value for value in field.missing if isinstance(value, str))
    kinds: list[Any] = [_PYTHON[field.type]]
    if texts and field.type != "string":
        kinds.append(Literal[texts])
    if not field.required:
        kinds.append(None)
    return Union[tuple(kinds)]  # noqa: UP007 - built at run time


def _reader(field: Field, longest: int) -> Callable[[Any], FieldValue | None]:
    missing, required, low, high = set(field.missing), field.required, field.min, field.max
    whole, number = field.type == "int", field.numeric

    def read(value: Any) -> FieldValue | None:
        if value is None or (value in missing and not isinstance(value, bool)):
            if required:
                raise _Slow
            return None
        if not number:
            if isinstance(value, str) and len(value) > longest:
                raise _Slow
            kept: FieldValue = value
            return kept
        if whole:
            if not -_INT64 <= value < _INT64:
                raise _Slow
        elif value and not SMALLEST <= abs(value) <= LARGEST:
            raise _Slow
        if (low is not None and value < low) or (high is not None and value > high):  # doubles with doubles
            raise _Slow
        exact: int | Decimal = value if whole else shortest(value) if value else 0
        return exact

    return read


def _attribute(path: str, leaf: str) -> str:
    parents = path.split(".")[:-1]
    return ".".join([*(f"n_{_safe(parent)}" for parent in parents), leaf])


def _safe(name: str) -> str:
    return name.encode().hex()


def _struct(name: str, leaves: dict[str, tuple[str, Any]], forbid: bool) -> type[msgspec.Struct]:
    """A Struct whose nesting follows the dots of the paths. Attributes are made up, so that any name can be a JSON key."""
    fields: list[Any] = []
    rename: dict[str, str] = {}
    children: dict[str, dict[str, tuple[str, Any]]] = {}
    for path, (attribute, kind) in leaves.items():
        head, _, rest = path.partition(".")
        if rest:
            children.setdefault(head, {})[rest] = (attribute, kind)
            continue
        rename[attribute] = head
        optional = type(None) in getattr(kind, "__args__", ())
        fields.append((attribute, kind, None) if optional else (attribute, kind))
    for head, below in children.items():
        attribute = f"n_{_safe(head)}"
        rename[attribute] = head
        child = _struct(attribute, below, forbid)
        fields.append((attribute, child))
    return msgspec.defstruct(name, fields, kw_only=True, rename=rename, forbid_unknown_fields=forbid, gc=False, frozen=True)
