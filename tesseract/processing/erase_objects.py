"""Erasure from the bucket beside the archive: export files, and the notes that name a group."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tesseract.processing import touched
from tesseract.processing.erase import Subject
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import MISMATCHES, encode, exports_prefix

NOTES = ("catalog/touched/", "catalog/pending/")


def export_files(catalog: Catalog, objects: Objects) -> Iterator[str]:
    """The data files of the exports of closed windows: all that they hold is archived."""
    for window in catalog.windows():
        if window.state == "closed":
            yield from (info.key for info in list(objects.list(f"{exports_prefix(window.id)}/")) if "/data/" in info.key)


def remove_exports(catalog: Catalog, objects: Objects) -> int:
    """Remove the files; how many."""
    count = 0
    for key in export_files(catalog, objects):
        objects.delete(key)
        count += 1
    return count


def remove_notes(objects: Objects, subject: Subject) -> int:
    """Take a group out of the notes of which hours were touched, and of items that differed. How many objects."""
    count = 0
    for key in naming(objects, subject, NOTES):
        known = touched.read(objects, key)
        known.pop((subject.dataset.name, subject.group), None)
        touched.write(objects, key, known)
        count += 1
    for key in naming(objects, subject, (MISMATCHES,)):
        note = msgspec.json.decode(objects.get(key))
        note["items"] = [item for item in note["items"] if not _is_of(item, subject)]
        objects.put(key, msgspec.json.encode(note))
        count += 1
    return count


def naming(objects: Objects, subject: Subject, prefixes: tuple[str, ...]) -> Iterator[str]:
    """The notes that name the group."""
    own = (subject.dataset.name, subject.group)
    for prefix in prefixes:
        for info in list(objects.list(prefix)):
            if prefix == MISMATCHES:
                found = any(_is_of(item, subject) for item in msgspec.json.decode(objects.get(info.key))["items"])
            else:
                found = own in touched.read(objects, info.key)
            if found:
                yield info.key


def _is_of(item: dict[str, str], subject: Subject) -> bool:
    name, group = encode(subject.dataset.name), subject.group
    return item["pk"].startswith(f"{name}#{group}#") or (item["pk"].startswith(f"{name}#latest#") and item["sk"] == group)
