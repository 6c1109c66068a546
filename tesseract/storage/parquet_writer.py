"""Segments, written: Parquet files that any reader of Parquet opens. Sorted by time, zstd, dictionary, delta-packed time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import SEEK_END
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tesseract.errors import DamagedError
from tesseract.model import Segment
from tesseract.storage.arrow_types import TIMESTAMP

ROW_GROUP = 16 * 1024  # rows: three hours of one sensor are one range of the file
MAGIC = b"PAR1"
BLOOM_GROUPS = 256  # in a row group; more make the filter answer yes more often, never wrongly no


class File(NamedTuple):
    """An encoded file and what its manifest entry says of it."""

    body: bytes
    footer_offset: int
    footer_length: int
    sha256: str


def encode(table: pa.Table, metadata: Mapping[str, str], bloom: Sequence[str] = ()) -> File:
    """A table as the bytes of a Parquet file; `metadata` goes into its footer under `tesseract.*`.

    `bloom` names the columns of the group, where several groups share the file.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(_with_footer(table, metadata), sink, row_group_size=ROW_GROUP, **_options(table.schema, bloom))
    body = sink.getvalue().to_pybytes()
    length = int.from_bytes(body[-8:-4], "little")
    return File(body, len(body) - 8 - length, length, hashlib.sha256(body).hexdigest())


def _with_footer(table: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    return table.replace_schema_metadata({f"tesseract.{name}": value for name, value in metadata.items()})


def _options(schema: pa.Schema, bloom: Sequence[str]) -> dict[str, Any]:
    times = [field.name for field in schema if field.type == TIMESTAMP]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [field.name for field in schema if field.name not in times],
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        "write_page_index": True,
        "version": "2.6",
        "bloom_filter_options": {name: {"ndv": BLOOM_GROUPS, "fpp": 0.01} for name in bloom} or None,
    }


class Writer:
    """Writes sorted rows to a local file table by table, in row groups of the same size as `encode` makes. A context manager."""

    def __init__(self, path: Path, schema: pa.Schema, metadata: Mapping[str, str], bloom: Sequence[str] = ()) -> None:
        self._path, self._rest, self.rows = path, schema.empty_table(), 0
        footer = _with_footer(self._rest, metadata).schema
        self._writer = pq.ParquetWriter(path, footer, **_options(schema, bloom))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self.rows += len(table)
        table = pa.concat_tables([self._rest, table]) if len(self._rest) else table
        whole = len(table) - len(table) % ROW_GROUP
        if whole:
            self._writer.write_table(table.slice(0, whole), ROW_GROUP)
        self._rest = table.slice(whole)

    def finish(self) -> File:
        """Write what is left and the footer. The body is in the file, not here."""
        if len(self._rest):
            self._writer.write_table(self._rest, ROW_GROUP)
        self._writer.close()
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(-8, SEEK_END) + 8
            length = int.from_bytes(file.read(4), "little")
        return File(b"", size - 8 - length, length, digest)


def opened(segment: Segment, path: Path) -> pq.ParquetFile:
    """A segment that was downloaded to `path`. Raises DamagedError where it is not what its manifest says."""
    size = path.stat().st_size
    with path.open("rb") as body:
        body.seek(max(size - 4, 0))
        if size != segment.bytes or body.read() != MAGIC:
            raise DamagedError(f"the segment has {size} bytes, its manifest says {segment.bytes}", key=segment.key)
    return _checked(pq.ParquetFile(pa.OSFile(str(path))), segment)


def _checked(file: pq.ParquetFile, segment: Segment) -> pq.ParquetFile:
    if file.metadata.num_rows != segment.rows:
        raise DamagedError(f"the segment has {file.metadata.num_rows} rows, its manifest says {segment.rows}", key=segment.key)
    return file
