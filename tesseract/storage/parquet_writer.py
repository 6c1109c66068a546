"""Segments: Parquet files that any reader of Parquet opens. Sorted by time, zstd, dictionary, delta-packed time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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

ROW_GROUP = 16 * 1024  # rows: three hours of one sensor are one range of the file
MAGIC = b"PAR1"


class File(NamedTuple):
    """An encoded file and what its manifest entry says of it."""

    body: bytes
    footer_offset: int
    footer_length: int
    sha256: str


def encode(table: pa.Table, metadata: Mapping[str, str]) -> File:
    """A table as the bytes of a Parquet file; `metadata` goes into its footer under `tesseract.*`."""
    times = [field.name for field in table.schema if field.type == TIMESTAMP]
    footer = {f"tesseract.{name}": value for name, value in metadata.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(footer),
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in table.schema if field.name not in times],
        column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        write_page_index=True,
        version="2.6",
    )
    body = sink.getvalue().to_pybytes()
    length = int.from_bytes(body[-8:-4], "little")
    return File(body, len(body) - 8 - length, length, hashlib.sha256(body).hexdigest())


def read(
    objects: Objects,
    segment: Segment,
    time_column: str,
    start: datetime | None = None,
    end: datetime | None = None,
    columns: Sequence[str] | None = None,
    group: Mapping[str, str] | None = None,
) -> pa.Table:
    """The rows of a segment whose `time_column` lies in [start, end). Columns that the file lacks are left out.

    `group` (column → value) is needed where several groups share the segment: the rows are then those of this one.

    Raises DamagedError where the file is not what its manifest says.
    """
    body = objects.get(segment.key)
    if len(body) != segment.bytes or body[-4:] != MAGIC:
        raise DamagedError(f"the segment has {len(body)} bytes, its manifest says {segment.bytes}", key=segment.key)
    file = pq.ParquetFile(pa.BufferReader(body))
    if file.metadata.num_rows != segment.rows:
        raise DamagedError(f"the segment has {file.metadata.num_rows} rows, its manifest says {segment.rows}", key=segment.key)
    present = set(file.schema_arrow.names)
    wanted = None if columns is None else [name for name in columns if name in present]
    table = file.read(columns=wanted)
    if group is not None and segment.groups:
        table = table.filter(_of_group(file, group))
    times = table[time_column]
    keep = None
    if start is not None:
        keep = pc.greater_equal(times, pa.scalar(start, TIMESTAMP))
    if end is not None:
        before = pc.less(times, pa.scalar(end, TIMESTAMP))
        keep = before if keep is None else pc.and_(keep, before)
    return (table if keep is None else table.filter(keep)).replace_schema_metadata(None)


def _of_group(file: pq.ParquetFile, group: Mapping[str, str]) -> pa.ChunkedArray:
    """Which rows are those of one group."""
    keys = file.read(columns=list(group))
    return reduce(pc.and_, [pc.equal(keys[name], value) for name, value in group.items()])
