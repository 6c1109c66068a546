"""Which stored field each field of a wanted configuration is: by its key, the first name that it ever had. Pure.

A name belongs to one key for ever, whichever version had it. So a field that has a name again that it had before is the same field,
whether or not the file still says `renamed_from`, and no stored value ever comes under a name that meant another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from tesseract.config.changes import REFUSED, Change
from tesseract.config.dataset import Dataset, Field, Level
from tesseract.config.faults import nearest
from tesseract.config.paths import parse_path

HAD = "a name stays with its field for ever; take a name that no field has had"


def resolve(versions: Sequence[Dataset], wanted: Dataset) -> tuple[Dataset, tuple[Change, ...]]:
    """`wanted` with the keys that its fields have in `versions` (all there were, oldest first), and why that cannot be.

    In `wanted` a field stands under its former name, where it has one, else under its own.
    """
    owners = {name: key for version in versions for key in version.fields for name in (key, version.label(key))}
    keys: dict[str, str] = {}  # where the field stands in `wanted` → its key
    faults: list[Change] = []
    for given, field in wanted.fields.items():
        name = field.name or given
        key = owners.get(name, owners.get(given, given))
        setting, how = f"fields.{name}", f"renamed from {given}" if given != name else "added"
        if name in owners and owners.get(given, key) != key:
            faults.append(Change(setting, how, REFUSED, f"{name!r} is or was the name of another field; {HAD}"))
        elif given != name and versions and name not in owners and given not in owners:
            known = versions[-1].names
            why = f"there is no field {given!r}{nearest(given, known)}; of a new field, leave renamed_from out"
            faults.append(Change(setting, how, REFUSED, why))
        elif key in keys.values():
            other = next(wanted.label(place) for place, owner in keys.items() if owner == key)
            faults.append(Change(setting, how, REFUSED, f"{name!r} and {other!r} are names of one field; {HAD}"))
        keys[given] = key
    fields = {keys[given]: _named(field, field.name or given, keys[given]) for given, field in wanted.fields.items()}
    levels = tuple(_level(level, owners | keys) for level in wanted.levels)
    found = replace(wanted, fields=fields, levels=levels, former={})
    found = replace(found, former=_former(versions[-1] if versions else None, found))
    return found, (*faults, *_twice(found))


def _named(field: Field, name: str, key: str) -> Field:
    return replace(field, name="" if name == key else name)


def _level(level: Level, keys: dict[str, str]) -> Level:
    return replace(level, stats={stat: tuple(keys.get(name, name) for name in names) for stat, names in level.stats.items()})


def _former(old: Dataset | None, new: Dataset) -> dict[str, str]:
    """Where producers may still send fields of other names: in the places that they had under these, as far as those were names."""
    if old is None:
        found = {key: key for key, field in new.fields.items() if field.name and _is_path(key)}
    else:
        found = dict(old.former)
        for key, field in old.fields.items():
            gone = key not in new.fields
            if (field.path == field.name) if gone else (new.label(key) != old.label(key)):
                found[field.path] = key
    read = {field.path: key for key, field in new.fields.items()}
    return {path: key for path, key in found.items() if read.get(path) != key}


def _is_path(text: str) -> bool:
    try:
        parse_path(text)
    except ValueError:
        return False
    return True


def _twice(dataset: Dataset) -> Iterator[Change]:
    """Places that a record's value of another meaning could lie in."""
    read = {field.path: f"fields.{dataset.label(key)}" for key, field in dataset.fields.items()}
    read |= dict.fromkeys(dataset.group_by, "group_by")
    read |= {dataset.time_field: "time_field", dataset.ref_time_field: "ref_time_field"}
    for path, key in dataset.former.items():
        if key in dataset.fields and path in read:
            why = f"records may still carry field {dataset.label(key)!r} there, which is a former name of it"
            yield Change(read[path], f"reads {path}", REFUSED, why)
    for level in dataset.levels:
        for key in dataset.fields:
            for stat in level.wanted(key):
                if f"{key}_{stat}" in dataset.group_columns:
                    why = f"files have the group in a column of that name; {key!r} is the first name of the field"
                    yield Change(f"aggregations.{level.name}", f"{stat} of {dataset.label(key)}", REFUSED, why)
