"""Stored values read as the present configuration declares them, whatever version wrote them. Pure.

A value that was stored while its field was not declared, or had a narrower type, reads by its declared type: a number, text that
is one, an ISO time. One that is none reads as null; what is stored does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.model import FieldValue
from tesseract.storage.arrow_types import column, value_as
from tesseract.storage.codec import shortest
from tesseract.storage.items import TYPES
from tesseract.utils.time_utils import iso_micros

Kinds = Mapping[str, pa.DataType]


def declared_kinds(names: Iterable[str], schema: pa.Schema) -> dict[str, pa.DataType]:
    """Name → type of those of `names` that a schema has."""
    kinds = dict(zip(schema.names, schema.types, strict=True))
    return {name: kinds[name] for name in names if name in kinds}


def conform(table: pa.Table, kinds: Kinds) -> pa.Table:
    """A table whose columns named in `kinds` have these types. Columns that have theirs cost nothing."""
    other = {
        name: _cast(table[name], kinds[name])
        for name in table.column_names
        if table[name].type != kinds.get(name, table[name].type)
    }
    return table if not other else pa.table({name: other.get(name, table[name]) for name in table.column_names})


def conform_values(values: Mapping[str, FieldValue], dataset: Dataset, kinds: Kinds) -> dict[str, FieldValue]:
    """The values of a stored record as its item would hold them today; one that is not of its declared type is left out.

    Undeclared values stay: whether they are shown is for the reader to say.
    """
    if all(values[name].__class__ in TYPES[field.type] for name, field in dataset.fields.items() if name in values):
        return dict(values)
    found = {name: _stored(value_as(value, kinds[name])) if name in kinds else value for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def _stored(value: Any) -> Any:
    return shortest(value) if isinstance(value, float) else iso_micros(value) if isinstance(value, datetime) else value


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_null(values.type):
        return pa.chunked_array([pa.nulls(len(values), kind)])
    if pa.types.is_int64(values.type) and pa.types.is_floating(kind):
        return pc.cast(values, kind, safe=False)  # the nearest double, as it would have been stored
    if pa.types.is_decimal(kind) and (pa.types.is_int64(values.type) or pa.types.is_decimal(values.type)):
        with suppress(pa.ArrowInvalid):  # one that does not fit: value by value
            return pc.cast(values, kind)
    return pa.chunked_array([column(values.to_pylist(), kind)])
