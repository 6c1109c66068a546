"""The raw rows of one group as they stand now, archive and buffer together: what snapshots are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.model import FieldValue, Manifest, Segment
from tesseract.processing.compactor import merge_tables
from tesseract.processing.segments import DAY, RAW, THREADS, VALID_TIME, Partition, micros
from tesseract.storage import parquet_writer
from tesseract.storage.base import Backend
from tesseract.storage.codec import shortest
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.items import records_of
from tesseract.storage.keys import raw_pk
from tesseract.utils.time_utils import from_micros, iso_day, to_micros

Values = dict[str, FieldValue]


def read(backend: Backend, manifest: Manifest, dataset: Dataset, days: Sequence[int]) -> list[tuple[int, Values]]:
    """The visible rows on `days` (numbers since 1970, in order): valid time in µs, and the values; of the archive, numbers only.

    `manifest` must have been read before this is called: data only ever moves from the buffer to the archive.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        segments = _overlapping(manifest, days)
        tables = list(pool.map(lambda segment: _segment(backend, dataset, segment, days), segments))
        buffers = list(pool.map(lambda day: _day(backend, dataset, manifest.group, day), days))
    wanted = set(days)
    rows: dict[int, Values | None] = {}
    if tables:
        merged = merge_tables(tables, Partition(dataset, RAW, manifest.group))
        rows.update((at, values) for at, values in _values(merged) if at // DAY in wanted)
    for found in buffers:  # the buffer is the current state: it wins
        rows.update(found)
    return sorted((at, values) for at, values in rows.items() if values is not None)


def _overlapping(manifest: Manifest, days: Sequence[int]) -> list[Segment]:
    found = [s for s in manifest.segments if any(s.first // DAY <= day <= s.last // DAY for day in days)]
    return sorted(found, key=lambda segment: (segment.window_end, segment.key))


def _segment(backend: Backend, dataset: Dataset, segment: Segment, days: Sequence[int]) -> pa.Table:
    columns = None
    if dataset.fields and dataset.unknown_fields != "keep":
        columns = [VALID_TIME, WRITE_TIME, DELETED, *(name for name, field in dataset.fields.items() if field.numeric)]
    start, end = from_micros(days[0] * DAY), from_micros((days[-1] + 1) * DAY)
    return parquet_writer.read(backend.objects, segment, VALID_TIME, start, end, columns)


def _values(table: pa.Table) -> Iterator[tuple[int, Values | None]]:
    skipped = {VALID_TIME, "ref_time"}
    names = [f.name for f in table.schema if _is_number(f.type) and f.name not in skipped and not f.name.startswith("__")]
    columns = [table[name].to_pylist() for name in names]
    deleted = table[DELETED].to_pylist()
    for at, gone, *row in zip(micros(table, VALID_TIME), deleted, *columns, strict=True):
        yield at, None if gone else {n: _exact(v) for n, v in zip(names, row, strict=True) if v is not None}


def _exact(value: int | float) -> int | Decimal:
    """A double counts as the decimal of its shortest text, as it did when it came in."""
    return shortest(value) if isinstance(value, float) else value


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_int64(kind))


def _day(backend: Backend, dataset: Dataset, group: str, day: int) -> dict[int, Values | None]:
    items = backend.raw.query(raw_pk(dataset.name, group, iso_day(from_micros(day * DAY))))
    records = (record for item in items for record in records_of(item, group))
    return {to_micros(record.valid_time): None if record.deleted else record.fields for record in records}
