"""The raw rows of one group as they stand now, archive and buffer together: what snapshots are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.model import FieldValue, Manifest, Record, Segment
from tesseract.processing.segments import DAY, THREADS, VALID_TIME, micros
from tesseract.storage import parquet_writer
from tesseract.storage.arrow_types import TIMESTAMP, exact, is_number
from tesseract.storage.base import Backend
from tesseract.storage.columns import DELETED, WRITE_TIME, raw_table
from tesseract.storage.conform import conform, conform_values, declared_kinds
from tesseract.storage.items import records_of
from tesseract.storage.keys import HISTORY, raw_pk
from tesseract.storage.newest import current, newest
from tesseract.storage.revisions import REF_TIME
from tesseract.utils.time_utils import from_micros, iso_day

Values = dict[str, FieldValue]
_PLACE = "__place"


def read(backend: Backend, manifest: Manifest, dataset: Dataset, days: Sequence[int]) -> list[tuple[int, Values]]:
    """The visible rows on `days` (numbers since 1970, in order): valid time in µs, and the values; of the archive, numbers only.

    `manifest` must have been read before this is called: data only ever moves from the buffer to the archive.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        segments = _overlapping(manifest, days)
        tables = list(pool.map(lambda segment: _segment(backend, dataset, segment, days), segments))
        buffers = list(pool.map(lambda day: _day(backend, dataset, manifest.group, day), days))
    kinds = declared_kinds(dataset.fields, raw_table(dataset, manifest.group, []).schema)
    held = [record for found in buffers for record in found]
    table, _ = newest([*(conform(table, kinds) for table in tables), _places(held)], current(dataset))
    table = table.filter(pc.invert(table[DELETED]))
    wanted, rows = set(days), []
    for (at, values), place in zip(_values(table), table[_PLACE].to_pylist(), strict=True):
        if at // DAY in wanted:  # of the buffer, the values as they came: a column may not hold all their digits
            rows.append((at, values if place is None else conform_values(held[place].fields, dataset, kinds)))
    return rows


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


def _segment(backend: Backend, dataset: Dataset, segment: Segment, days: Sequence[int]) -> pa.Table:
    columns = None
    if dataset.fields and dataset.unknown_fields != "keep":
        columns = [VALID_TIME, REF_TIME, WRITE_TIME, DELETED, *(name for name, field in dataset.fields.items() if field.numeric)]
    start, end = from_micros(days[0] * DAY), from_micros((days[-1] + 1) * DAY)
    return parquet_writer.read(backend.objects, segment, VALID_TIME, start, end, columns)


def _values(table: pa.Table) -> Iterator[tuple[int, Values]]:
    skipped = {VALID_TIME, REF_TIME}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in skipped and not f.name.startswith("__")]
    columns = [table[name].to_pylist() for name in names]
    for at, *row in zip(micros(table, VALID_TIME), *columns, strict=True):
        yield at, {n: exact(v) for n, v in zip(names, row, strict=True) if v is not None}


def _day(backend: Backend, dataset: Dataset, group: str, day: int) -> list[Record]:
    """The current records of a day; revisions kept lie behind them."""
    items = backend.raw.query(raw_pk(dataset.name, group, iso_day(from_micros(day * DAY))), None, HISTORY)
    return [record for item in items for record in records_of(item, group)]
