"""What the real code is given while it is simulated: one thread, seeded ids, a live table that forgets soon."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import tesseract
from tesseract.model import Segment
from tesseract.storage import parquet_writer, segment_reader
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.base import Objects
from tesseract.storage.footers import Bounds, Footers
from tesseract.utils.time_utils import to_micros
from tests.simulation.scheduler import Scheduler, Serial

LIVE_TTL = timedelta(hours=74)  # longer than any item of the buffer lasts, as the real one is

PAGE_BYTES = 600  # an answer to a query has some items, so that days of the buffer are read in several parts


@contextmanager
def simulated() -> Iterator[None]:
    """Within, the library's pools are serial, its ids come from the dice, and live items expire after days instead of a year."""
    for part in ("config", "ingestion", "processing", "query", "storage"):
        package = importlib.import_module(f"{tesseract.__name__}.{part}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    real_uuid4 = uuid.uuid4
    saved: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for name, module in list(sys.modules.items()):
        if name.startswith("tesseract."):
            for attribute, value in list(vars(module).items()):
                if value is ThreadPoolExecutor:
                    put(module, attribute, Serial)
                elif value is real_uuid4:
                    put(module, attribute, _uuid4)
    put(uuid, "uuid4", _uuid4)
    put(sys.modules["tesseract.processing.live_item"], "LIVE_TTL", LIVE_TTL)
    put(sys.modules["tesseract.storage.memory"], "PAGE_BYTES", PAGE_BYTES)
    put(parquet_writer, "encode", _encode)
    put(segment_reader, "read", _read)
    put(sys.modules["tesseract.query.source"], "read", _read)
    put(sys.modules["tesseract.query.source"], "sleep", lambda seconds: None)
    put(sys.modules["tesseract.ingestion.client"], "backoff", lambda attempts, at_least=0: 0)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        for owner, name, value in reversed(saved):
            setattr(owner, name, value)


def attach(sim: Scheduler | None) -> None:
    """Whose dice the serial pools and the ids use."""
    Serial.sim = sim
    _tables.clear()


# most of a run would be the coding of files of a few rows: they are kept as tables, named in the bucket by a number

_tables: dict[bytes, pa.Table] = {}


def _encode(table: pa.Table, metadata: Mapping[str, str], bloom: Sequence[str] = ()) -> parquet_writer.File:
    body = b"%d PAR1" % len(_tables)
    _tables[body] = table
    return parquet_writer.File(body, 0, 4, "")


def table_of(body: bytes) -> pa.Table:
    """The table of an object: kept, or coded as it is by those who write files piece by piece."""
    return _tables[body] if body in _tables else pq.read_table(pa.BufferReader(body)).replace_schema_metadata(None)


def _read(
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
    table = table_of(objects.get(segment.key))
    assert len(table) == segment.rows
    assert not segment.groups, "the simulated dataset has a partition for each group"
    if may is not None and not may({name: _bounds(table[name]) for name in table.column_names}):  # as one row group
        table = table.slice(0, 0)
    if columns is not None:
        table = table.select([name for name in columns if name in table.column_names])
    # nearly always all of it, and a filter takes longer than the rest
    if start is not None and segment.first < to_micros(start):
        table = table.filter(pc.greater_equal(table[time_column], pa.scalar(start, TIMESTAMP)))
    if end is not None and segment.last >= to_micros(end):
        table = table.filter(pc.less(table[time_column], pa.scalar(end, TIMESTAMP)))
    return table


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any, int, int]:
    low, high = pc.min_max(column).as_py().values()
    return low, high, column.null_count, len(column)


def _uuid4() -> uuid.UUID:
    assert Serial.sim is not None
    return uuid.UUID(int=Serial.sim.serials.getrandbits(128), version=4)
