"""Rows of a backfill into segments: one per period of a tier, streamed through a local file, however many rows they have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.model import Segment
from tesseract.processing.backfill_commit import DAY, home
from tesseract.processing.backfill_runs import OWN, PERIOD, stretches
from tesseract.processing.segments import VALID_TIME, Partition, bloom_columns, described, group_spans, micros, named
from tesseract.storage import parquet_writer
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.base import Objects
from tesseract.storage.columns import WRITE_TIME, unify
from tesseract.storage.keys import join_group
from tesseract.utils.time_utils import from_micros

LEVEL_ROWS = 50_000  # of a level, held until they are a segment: states of five fields have 300 bytes

Spans = dict[str, tuple[int, int]]


class SegmentWriter:
    """Writes the rows of one commit, which come period by period, sorted by group and time, as segments with one `window_end`."""

    def __init__(self, objects: Objects, partition: Partition, window_end: int, run_at: datetime, folder: Path) -> None:
        self._objects, self._partition, self._window_end, self._run_at = objects, partition, window_end, run_at
        self._segments: list[Segment] = []
        self._folder = folder
        self._open: _Open | None = None
        self._held: list[pa.Table] = []
        self._held_period = 0

    def add(self, table: pa.Table, period: int | None = None, write_time: int | None = None) -> None:
        """Rows of one period (its start, µs), or of those that their column says, with the write time that they are to have."""
        if not len(table):
            return
        if period is not None:
            self._add_level(table, period)
            return
        for start, end in stretches(table, (PERIOD,)):
            part = table.slice(start, end - start)
            place = part[PERIOD][0].as_py()
            part = part.drop_columns([name for name in OWN if name in part.column_names])
            part = part.set_column(
                part.schema.get_field_index(WRITE_TIME), WRITE_TIME, pa.array([write_time] * len(part), pa.int64()).cast(TIMESTAMP)
            )
            self._write(part, place)

    def _add_level(self, table: pa.Table, period: int) -> None:
        """Level rows are held until they are many: tables of several groups may have learned different types."""
        if self._held and self._held_period != period:
            self._flush()
        self._held.append(table)
        self._held_period = period
        if sum(map(len, self._held)) >= LEVEL_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._write(pa.concat_tables(unify(self._held)), self._held_period)
            self._close()  # the next rows may need other types
        self._held = []

    def _write(self, table: pa.Table, period: int) -> None:
        if self._open is not None and self._open.period != period:
            self._close()
        self._open = self._open or _Open(self._partition, period, self._run_at, self._window_end, self._folder, table.schema)
        self._open.write(table)

    def _close(self) -> None:
        if self._open is not None:
            self._segments.append(self._open.finish(self._objects))
        self._open = None

    def finish(self) -> tuple[Segment, ...]:
        """The segments, all of them in the bucket."""
        self._flush()
        self._close()
        return tuple(self._segments)


class _Open:
    """A segment that is being written."""

    def __init__(
        self, partition: Partition, period: int, run_at: datetime, window_end: int, folder: Path, schema: pa.Schema
    ) -> None:
        self.period, self._partition, self._window_end = period, partition, window_end
        self._tier, self._of = home(partition.dataset.ladder, from_micros(period), run_at)
        self._key, about = named(partition, self._tier, self._of, window_end)
        self._path = folder / f"segment-{uuid4().hex}"
        self._writer = parquet_writer.Writer(self._path, schema, about, bloom_columns(partition))
        self._first, self._last = 2**63, -(2**63)
        self._spans: Spans = {}

    def write(self, table: pa.Table) -> None:
        self._writer.write(table)
        times = pc.min_max(table[self._partition.time_column].cast(pa.int64())).as_py()
        self._first, self._last = min(self._first, times["min"]), max(self._last, times["max"])
        for group, (first, last) in group_spans(self._partition, table).items():
            known = self._spans.get(group, (first, last))
            self._spans[group] = min(known[0], first), max(known[1], last)

    def finish(self, objects: Objects) -> Segment:
        file = self._writer.finish()
        objects.upload(self._key, self._path)
        size, span = self._path.stat().st_size, (self._first, self._last)
        self._path.unlink()
        groups = dict(sorted(self._spans.items()))
        return described(self._key, self._tier, self._of, file, size, self._writer.rows, span, self._window_end, groups)


def only_days(dataset: Dataset, table: pa.Table, days: Mapping[str, set[int]]) -> pa.Table:
    """The rows of a table on the days (since 1970) of their group."""
    places = [at // DAY for at in micros(table, VALID_TIME)]
    names = zip(*(table[name].to_pylist() for name in dataset.group_columns), strict=True)
    keys: dict[tuple[str, ...], set[int]] = {}
    keep = []
    for day, values in zip(places, names, strict=True):
        if values not in keys:
            keys[values] = days.get(join_group(values), set())
        keep.append(day in keys[values])
    return table if all(keep) else table.filter(pa.array(keep, pa.bool_()))
