"""Segments, read by ranges: the footer once, then only the row groups and columns that are asked for.

A small file is fetched whole by one request, without a look at its footer first. Of a large one, the ranges of the column chunks
that are needed are; ranges that lie close together are one request. A column of which the footer says that all rows have one value
is not fetched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tesseract.errors import DamagedError
from tesseract.model import Segment
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.base import Objects
from tesseract.storage.footers import Bounds, Footer, Footers
from tesseract.storage.parquet_writer import MAGIC
from tesseract.utils.time_utils import to_micros

SMALL = 256 * 1024  # bytes of a file that is fetched whole: two requests take longer than its transfer
# bytes between two ranges that are fetched with them: another request takes longer. At least 8 kB: over so many pyarrow reads, too
GAP = 256 * 1024


class _Rows(NamedTuple):
    """Which rows are asked for: those with times in [start, end), of one group where several share the file."""

    time_column: str
    start: datetime | None
    end: datetime | None
    group: Mapping[str, str]


def read(
    objects: Objects,
    segment: Segment,
    time_column: str,
    start: datetime | None = None,
    end: datetime | None = None,
    columns: Sequence[str] | None = None,
    group: Mapping[str, str] | None = None,
    *,
    footers: Footers | None = None,
    may: Callable[[Bounds], bool] | None = None,
) -> pa.Table:
    """The rows of a segment whose `time_column` lies in [start, end). Columns that the file lacks are left out.

    `group` (column → value) is needed where several groups share the segment: the rows are then those of this one. A row group
    is left out where `may`, told what its footer knows of its columns (`Footer.bounds`), answers False.

    Raises DamagedError where the file is not what its manifest says.
    """
    rows = _Rows(time_column, start, end, group if group is not None and segment.groups else {})
    footer = footers.get(segment.key) if footers is not None else None
    body = None
    if footer is None:
        narrow = columns is not None or start is not None or end is not None or bool(rows.group) or may is not None
        body = _whole(objects, segment) if segment.bytes <= SMALL or not narrow else None
        footer = _footer(segment, MAGIC + _tail(objects, segment) if body is None else body)
        if footers is not None:
            footers.put(segment.key, footer)
    chosen = _chosen(footer, rows, may)
    names = [name for name in footer.places if columns is None or name in columns]
    keys = [*rows.group] if start is None and end is None else [*rows.group, time_column]
    constants = footer.constants(chosen, {*names, *rows.group} - {time_column})
    needed = _read_with(footer, {*names, *keys} - constants.keys())
    ranges = footer.ranges(chosen, needed)
    source = pa.PythonFile(_Parts(objects, segment, ranges), "r") if body is None else pa.BufferReader(body)
    coded = footer.coded(chosen, needed)  # texts of the rows that are asked for, not of all that are read with them
    table = pq.ParquetFile(source, metadata=footer.metadata, read_dictionary=coded).read_row_groups(chosen, columns=needed)
    return _kept(table, footer.rows(chosen), constants, rows, names)


def _whole(objects: Objects, segment: Segment) -> bytes:
    body = objects.get(segment.key)
    if len(body) != segment.bytes or body[-4:] != MAGIC:
        raise DamagedError(f"the segment has {len(body)} bytes, its manifest says {segment.bytes}", key=segment.key)
    return body


def _tail(objects: Objects, segment: Segment) -> bytes:
    """The end of a file, from its footer on."""
    length = segment.bytes - segment.footer_offset
    body = objects.get(segment.key, segment.footer_offset, length + 1)  # a byte more, which must not be there
    if len(body) != length or body[-4:] != MAGIC or int.from_bytes(body[-8:-4], "little") != segment.footer_length:
        raise DamagedError(f"the segment does not end after {segment.bytes} bytes, as its manifest says", key=segment.key)
    return body


def _footer(segment: Segment, body: bytes) -> Footer:
    """The footer of a file, or of the last part of one. Raises DamagedError where it has other rows than the manifest says."""
    footer = Footer(pq.read_metadata(pa.BufferReader(body)))
    count = footer.metadata.num_rows
    if count != segment.rows:
        raise DamagedError(f"the segment has {count} rows, its manifest says {segment.rows}", key=segment.key)
    return footer


def _chosen(footer: Footer, rows: _Rows, may: Callable[[Bounds], bool] | None) -> list[int]:
    """The row groups that may hold rows that are asked for."""
    chosen = list(range(footer.metadata.num_row_groups))
    if rows.start is not None:
        low, spans = to_micros(rows.start), footer.spans(rows.time_column)
        chosen = [index for index in chosen if (span := spans[index]) is None or span[1] >= low]
    if rows.end is not None:
        high, spans = to_micros(rows.end), footer.spans(rows.time_column)
        chosen = [index for index in chosen if (span := spans[index]) is None or span[0] < high]
    for name, value in rows.group.items():
        text, spans = value.encode(), footer.spans(name)
        chosen = [index for index in chosen if (span := spans[index]) is None or span[0] <= text <= span[1]]
    return chosen if may is None else [index for index in chosen if may(footer.bounds(index))]


def _read_with(footer: Footer, names: Iterable[str]) -> list[str]:
    """The columns that pyarrow reads when it is asked for some: `wind.speed` too where it is asked for `wind`."""
    asked = set(names)
    heads = tuple(f"{name}." for name in asked)
    return [path for path in footer.places if path in asked or path.startswith(heads)]


class _Parts:
    """A file of which only some ranges are there: what pyarrow reads of it must lie within one of them."""

    closed = False

    def __init__(self, objects: Objects, segment: Segment, ranges: Iterable[tuple[int, int]]) -> None:
        self._segment, self._at = segment, 0
        self._starts: list[int] = []
        self._parts: list[pa.Buffer] = []
        for start, end in _joined(ranges, segment.bytes if segment.bytes <= SMALL else GAP):
            body = objects.get(segment.key, start, end - start)
            if len(body) != end - start:
                said = f"its manifest says {segment.bytes}"
                raise DamagedError(f"the segment ends before its byte {end}, {said}", key=segment.key)
            self._starts.append(start)
            self._parts.append(pa.py_buffer(body))

    def seek(self, place: int, whence: int = 0) -> int:
        self._at = place + (0, self._at, self._segment.bytes)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read_buffer(self, count: int) -> pa.Buffer:
        """The next bytes, without a copy: pyarrow asks for this where it is there."""
        part = bisect_right(self._starts, self._at) - 1
        offset = self._at - self._starts[part] if part >= 0 else -1
        if offset < 0 or offset + count > len(self._parts[part]):
            raise DamagedError(f"bytes {self._at} to {self._at + count} belong to none of its columns", key=self._segment.key)
        self._at += count
        return self._parts[part].slice(offset, count)

    def close(self) -> None: ...


def _joined(ranges: Iterable[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Ranges, those made one between which there are at most `gap` bytes."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _kept(table: pa.Table, count: int, constants: Mapping[str, pa.Scalar], rows: _Rows, names: Sequence[str]) -> pa.Table:
    """The rows that are asked for of the `count` that were read, with the columns that have one value in all of them."""
    masks = [pc.equal(table[name], value) for name, value in rows.group.items() if name not in constants]
    if rows.start is not None:
        masks.append(pc.greater_equal(table[rows.time_column], pa.scalar(rows.start, TIMESTAMP)))
    if rows.end is not None:
        masks.append(pc.less(table[rows.time_column], pa.scalar(rows.end, TIMESTAMP)))
    if masks:
        table = _filtered(table, reduce(pc.and_, masks))
        count = len(table)
    return pa.table({name: pa.repeat(constants[name], count) if name in constants else _plain(table[name]) for name in names})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _filtered(table: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows where `mask` is true: without a copy where they lie together, as nearly always, since files are sorted."""
    count = pc.sum(mask).as_py() or 0
    first = pc.index(mask, True).as_py() if count else 0
    together = pc.sum(mask.slice(first, count)).as_py() or 0
    return table.slice(first, count) if together == count else table.filter(mask)
