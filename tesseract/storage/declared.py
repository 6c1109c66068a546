"""The columns that a configuration declares, worked out once for each: every query asks for them several times. Pure."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.storage.columns import level_table, raw_table
from tesseract.storage.conform import Kinds, declared_kinds

KEPT = 256  # schemas

# by identity: a configuration is not hashable, and is the same object for as long as a process goes by it
_schemas: OrderedDict[tuple[int, int], tuple[Dataset, Level | None, pa.Schema]] = OrderedDict()
_lock = Lock()


def declared_schema(dataset: Dataset, level: Level | None = None) -> pa.Schema:
    """The schema of raw rows, or of a level's, that hold declared fields alone; system columns at its end."""
    key = (id(dataset), id(level))
    with _lock:
        held = _schemas.get(key)
        if held is not None:
            _schemas.move_to_end(key)
            return held[2]
    group = "/".join("" for _ in dataset.group_by)
    table = raw_table(dataset, group, []) if level is None else level_table(dataset, level, group, [])
    with _lock:
        _schemas[key] = dataset, level, table.schema
        while len(_schemas) > KEPT:
            _schemas.popitem(last=False)
    return table.schema


def raw_kinds(dataset: Dataset) -> Kinds:
    """Declared field → type of its column."""
    return declared_kinds(dataset.fields, declared_schema(dataset))
