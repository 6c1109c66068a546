"""Which hours of which groups an export file touched: noted by the worker, read by the snapshots.

A day is touched where one of its hours is, so hours are enough. Runs of hours are stored as [first, count]: a year of readings
is a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tesseract.errors import DamagedError, NotFoundError
from tesseract.model import Window
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import pending_object, touched_object

HOUR = 3_600_000_000  # µs
Touched = dict[tuple[str, str], set[int]]  # (dataset, group) → hours since 1970


class _Entry(msgspec.Struct):
    dataset: str
    group: str
    runs: list[tuple[int, int]]


def runs(hours: Iterable[int]) -> list[tuple[int, int]]:
    """Hours as runs (first, count), in order."""
    found: list[tuple[int, int]] = []
    for hour in sorted(set(hours)):
        if found and sum(found[-1]) == hour:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((hour, 1))
    return found


def write(objects: Objects, key: str, touched: Touched) -> None:
    """Store what was touched. The same again writes the same bytes."""
    entries = [_Entry(dataset, group, runs(hours)) for (dataset, group), hours in sorted(touched.items()) if hours]
    objects.put(key, msgspec.json.encode(entries))


def read(objects: Objects, key: str) -> Touched:
    """The inverse of `write`. Raises DamagedError where it is absent."""
    try:
        entries = msgspec.json.decode(objects.get(key), type=list[_Entry])
    except NotFoundError as error:
        raise DamagedError("the note of what a file touched has gone", key=key) from error
    except msgspec.DecodeError as error:
        raise DamagedError(f"the note of what a file touched does not decode: {error}", key=key) from error
    return {
        (entry.dataset, entry.group): {hour for first, count in entry.runs for hour in range(first, first + count)}
        for entry in entries
    }


def merged(parts: Iterable[Touched]) -> Touched:
    """The union."""
    union: Touched = {}
    for part in parts:
        for name, hours in part.items():
            union.setdefault(name, set()).update(hours)
    return union


def of_window(catalog: Catalog, objects: Objects, window: Window) -> Touched:
    """What the files of a closed window touched."""
    files = catalog.finished_files(window.id, window.export)
    return merged(read(objects, touched_object(window.id, window.export, file)) for file in files)


def pending_of(objects: Objects, window: Window) -> Touched:
    """What was touched by a window or before, and had not ended by its end. The window's snapshots have noted it."""
    return read(objects, pending_object(window.id))
