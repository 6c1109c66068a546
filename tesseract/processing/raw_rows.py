"""The raw rows of one group, of the archive alone or together with the buffer: what snapshots and repairs are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.model import FieldValue, Manifest, Record, Segment
from tesseract.processing.segments import DAY, THREADS, VALID_TIME, micros
from tesseract.processing.text_numbers import Known, nothing, number_of, text_with_numbers
from tesseract.storage import segment_reader
from tesseract.storage.arrow_types import TIMESTAMP, exact, is_number
from tesseract.storage.base import Backend
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.conform import conform, conform_values
from tesseract.storage.declared import raw_kinds
from tesseract.storage.items import records_of
from tesseract.storage.keys import HISTORY, group_values, raw_pk
from tesseract.storage.newest import current, newest
from tesseract.storage.revisions import REF_TIME
from tesseract.utils.time_utils import from_micros, iso_day, iso_micros

Values = dict[str, FieldValue]
_PLACE = "__place"
MONTH = 31  # days read at once, so that memory is bounded


def read(
    backend: Backend, manifest: Manifest, dataset: Dataset, days: Sequence[int], *, buffer: bool = True, known: Known = nothing
) -> list[tuple[int, Values]]:
    """The visible rows on `days` (numbers since 1970, in order): valid time in µs, and the values; of the archive, numbers only.

    `manifest` must have been read before this is called: data only ever moves from the buffer to the archive. Without `buffer`, the
    rows are those that the manifest has. `known` tells the undeclared fields that are known to have had numbers (`text_numbers`).
    """
    with ThreadPoolExecutor(THREADS) as pool:
        segments = _overlapping(manifest, days)
        tables = list(pool.map(lambda segment: _segment(backend, dataset, manifest.group, segment, days), segments))
        buffers = list(pool.map(lambda day: _day(backend, dataset, manifest.group, day), days if buffer else ()))
    kinds = raw_kinds(dataset)
    held = [record for found in buffers for record in found]
    tables = [conform(table, kinds) for table in tables]
    table, _ = newest([*tables, _places(held)], current(dataset))
    table = table.filter(pc.invert(table[DELETED]))
    texts = text_with_numbers(dataset, table, tables, known)
    wanted, rows = set(days), []
    for (at, values), place in zip(_values(table, texts), table[_PLACE].to_pylist(), strict=True):
        if at // DAY in wanted:  # of the buffer, the values as they came: a column may not hold all their digits
            rows.append((at, values if place is None else conform_values(held[place].fields, dataset, kinds)))
    return rows


def as_of(manifest: Manifest, through: int) -> Manifest | None:
    """A manifest as of the windows that end by `through` (µs); None where merges have mixed later ones in."""
    if manifest.closed_through > through:
        return None
    return replace(manifest, segments=tuple(segment for segment in manifest.segments if segment.window_end <= through))


def last_visible(backend: Backend, manifest: Manifest, dataset: Dataset) -> Record | None:
    """The newest visible row of a manifest, with all its values as an item holds them; None where there is none."""
    kinds = raw_kinds(dataset)
    left = {day for segment in manifest.segments for day in range(segment.first // DAY, segment.last // DAY + 1)}
    while left:
        day = max(left)
        month = [other for other in range(day - MONTH, day + 1) if other in left]
        left.difference_update(month)
        segments = _overlapping(manifest, month)
        start, end = from_micros(month[0] * DAY), from_micros((month[-1] + 1) * DAY)
        own = group_values(dataset, manifest.group)
        tables = [segment_reader.read(backend.objects, segment, VALID_TIME, start, end, None, own) for segment in segments]
        table, _ = newest([conform(table, kinds) for table in tables], current(dataset))
        table = table.filter(pc.invert(table[DELETED]))
        if len(table):
            return _record(dataset, manifest.group, table.slice(len(table) - 1))
    return None


def _record(dataset: Dataset, group: str, row: pa.Table) -> Record:
    """A table of one row as a record."""
    fixed = {*dataset.group_columns, VALID_TIME, REF_TIME}
    (values,) = row.to_pylist()
    fields = {n: _stored(v) for n, v in values.items() if v is not None and n not in fixed and not n.startswith("__")}
    return Record(group, values[VALID_TIME].astimezone(UTC), _utc(values[REF_TIME]), fields)


def _stored(value: Any) -> FieldValue:
    """A value of a column as an item holds it."""
    if isinstance(value, datetime):
        return iso_micros(value)
    return value if isinstance(value, str | bool) else exact(value)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _places(records: Sequence[Record]) -> pa.Table:
    """Records of the buffer as rows without values: what the order looks at, and their places in the list."""
    columns = {
        VALID_TIME: pa.array([record.valid_time for record in records], TIMESTAMP),
        REF_TIME: pa.array([record.ref_time for record in records], TIMESTAMP),
        WRITE_TIME: pa.nulls(len(records), TIMESTAMP),
        DELETED: pa.array([record.deleted for record in records], pa.bool_()),
        _PLACE: pa.array(range(len(records)), pa.int64()),
    }
    return pa.table(columns)


def _overlapping(manifest: Manifest, days: Sequence[int]) -> list[Segment]:
    found = [s for s in manifest.segments if any(s.first // DAY <= day <= s.last // DAY for day in days)]
    return sorted(found, key=lambda segment: (segment.window_end, segment.key))


def _segment(backend: Backend, dataset: Dataset, group: str, segment: Segment, days: Sequence[int]) -> pa.Table:
    columns = None
    if dataset.fields and dataset.unknown_fields != "keep":
        columns = [VALID_TIME, REF_TIME, WRITE_TIME, DELETED, *(name for name, field in dataset.fields.items() if field.numeric)]
    start, end = from_micros(days[0] * DAY), from_micros((days[-1] + 1) * DAY)
    return segment_reader.read(backend.objects, segment, VALID_TIME, start, end, columns, group_values(dataset, group))


def _values(table: pa.Table, texts: Sequence[str]) -> Iterator[tuple[int, Values]]:
    skipped = {VALID_TIME, REF_TIME}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in skipped and not f.name.startswith("__")]
    columns = [[None if value is None else exact(value) for value in table[name].to_pylist()] for name in names]
    columns += [list(map(number_of, table[name].to_pylist())) for name in texts]
    names += texts
    for at, *row in zip(micros(table, VALID_TIME), *columns, strict=True):
        yield at, {n: v for n, v in zip(names, row, strict=True) if v is not None}


def _day(backend: Backend, dataset: Dataset, group: str, day: int) -> list[Record]:
    """The current records of a day; revisions kept lie behind them."""
    items = backend.raw.query(raw_pk(dataset.name, group, iso_day(from_micros(day * DAY))), None, HISTORY)
    return [record for item in items for record in records_of(item, group)]
