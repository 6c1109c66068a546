"""The columns that a configuration declares, worked out once for each: every query asks for them several times. Pure."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.storage.columns import level_table, raw_table
from tesseract.storage.conform import Kinds, declared_kinds

KEPT = 256  # tables without rows

# by identity: a configuration is not hashable, and is the same object for as long as a process goes by it
_tables: OrderedDict[tuple[int, int], tuple[Dataset, Level | None, pa.Table]] = OrderedDict()
_lock = Lock()


def no_rows(dataset: Dataset, level: Level | None = None) -> pa.Table:
    """A table without rows, as raw rows or a level's with declared fields alone give it; system columns at its end."""
    key = (id(dataset), id(level))
    with _lock:
        held = _tables.get(key)
        if held is not None:
            _tables.move_to_end(key)
            return held[2]
    group = "/".join("" for _ in dataset.group_by)
    table = raw_table(dataset, group, []) if level is None else level_table(dataset, level, group, [])
    with _lock:
        _tables[key] = dataset, level, table
        while len(_tables) > KEPT:
            _tables.popitem(last=False)
    return table


def declared_schema(dataset: Dataset, level: Level | None = None) -> pa.Schema:
    """The schema of `no_rows`."""
    return no_rows(dataset, level).schema


def raw_kinds(dataset: Dataset) -> Kinds:
    """Declared field → type of its column."""
    return declared_kinds(dataset.fields, declared_schema(dataset))
