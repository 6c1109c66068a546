"""Merging as a stream gives what `newest` gives of all rows at once, whatever the shape of the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Field
from tesseract.config.tiers import UNITS
from tesseract.errors import DamagedError
from tesseract.processing import merge_files
from tesseract.processing.merge_files import Purge, merge_segments
from tesseract.processing.merge_plan import Merge
from tesseract.processing.segments import RAW, Partition, write_segment
from tesseract.storage import segment_reader
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.columns import DELETED, ORDER, WRITE_TIME
from tesseract.storage.memory import MemoryObjects
from tesseract.storage.merging import MisfitError, Source, Types, merged, place_columns
from tesseract.storage.newest import HISTORY, LEVEL, Order, newest
from tests.support.archive_world import weather

CURRENT = Order(("valid_time",), (WRITE_TIME,))
ORDERS = [
    CURRENT,
    Order(("valid_time",), ("ref_time", WRITE_TIME)),
    HISTORY,
    LEVEL,
    Order(("origin", "valid_time"), (WRITE_TIME,)),
    Order(("network", "station", "valid_time", "ref_time"), (WRITE_TIME,)),
]
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.sampled_from([0, 1, -7, 2**53 + 1, -(2**63)]),
    pa.float64(): st.sampled_from([0.5, -2.25, 3.0, 1e15, 0.1]),
    pa.decimal128(38, 2): st.sampled_from([Decimal("0.10"), Decimal("-3"), Decimal("12345678901234567890123456789012345.67")]),
    pa.string(): st.text(max_size=3),
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
}
PARTITION = Partition(weather(), RAW, "A")
MONTH = UNITS["monthly"].period(datetime(2024, 1, 1, tzinfo=UTC))


@st.composite
def inputs(draw: st.DrawFn, order: Order) -> list[pa.Table]:
    tables = []
    for _ in range(draw(st.integers(1, 5))):
        count, begin = draw(st.integers(0, 12)), draw(st.integers(0, 30))
        names = (*order.key, *order.age)
        rows = [tuple(_key(draw, name, begin) for name in names) for _ in range(count)]
        places = [names.index(name) for name in place_columns(order)]
        rows.sort(key=lambda row: tuple(row[place] for place in places))
        columns = {name: pa.array([row[n] for row in rows], _kind(name)) for n, name in enumerate(names)}
        for name in draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True)):
            kind = draw(st.sampled_from(list(VALUES)))
            columns[name] = pa.array(draw(st.lists(VALUES[kind] | st.none(), min_size=count, max_size=count)), kind)
        tables.append(pa.table(columns))
    return tables


def _key(draw: st.DrawFn, name: str, begin: int) -> Any:
    if _kind(name) == pa.string():
        return draw(st.sampled_from(["A", "B", "é"]))
    value = draw(st.integers(begin, begin + 12)) if name in ("valid_time", "period_start") else draw(st.integers(0, 3))
    return draw(st.none() | st.just(value)) if name in ("ref_time", WRITE_TIME) else value


def _kind(name: str) -> pa.DataType:
    return pa.string() if name in ("origin", "network", "station") else pa.int64() if name == ORDER else TIMESTAMP


def _sliced(table: pa.Table, size: int) -> Iterator[pa.Table]:
    return (table.slice(start, size) for start in range(0, len(table), size))


def _low(table: pa.Table, order: Order, known: bool) -> tuple[Any, ...] | None:
    if not known or not len(table):
        return None
    columns = (table[name].cast(pa.int64()) if table[name].type == TIMESTAMP else table[name] for name in place_columns(order))
    return tuple(pc.min(column).as_py() for column in columns)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(ORDERS), st.integers(1, 5), st.booleans())
def test_a_stream_of_merged_rows_is_the_newest_of_all(data: st.DataObject, order: Order, size: int, known: bool) -> None:
    tables = data.draw(inputs(order))
    sources = [Source(table.schema, _low(table, order, known), partial(_sliced, table, size)) for table in tables]
    types = Types((table.schema for table in tables), {})
    while True:
        try:
            rows = pa.concat_tables([types.schema.empty_table(), *merged(sources, order, types.schema)])
            break
        except MisfitError as misfit:
            types.reject(misfit)
    assert rows.combine_chunks().equals(newest(tables, order)[0].combine_chunks())


def rows_of(start: int, count: int, step: int = 1, write: int = 0, **columns: Any) -> pa.Table:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    times = [first + timedelta(seconds=start + n * step) for n in range(count)]
    made = {
        "station": pa.array(["A"] * count),
        "valid_time": pa.array(times, TIMESTAMP),
        "ref_time": pa.nulls(count, TIMESTAMP),
        "temp": pa.array([float((start + n) % 97) for n in range(count)]),
        WRITE_TIME: pa.array([write] * count, pa.int64()).cast(TIMESTAMP),
        DELETED: pa.array([False] * count),
        "__config_version": pa.array([1] * count, pa.int32()),
    }
    return pa.table(made | columns)


def merge_of(objects: MemoryObjects, partition: Partition, *tables: pa.Table) -> Merge:
    segments = [write_segment(objects, partition, "monthly", MONTH, table, end) for end, table in enumerate(tables, 1)]
    return Merge("monthly", MONTH, tuple(segments))


def no_purge() -> None:
    return None


def test_files_merged_on_disk_equal_files_merged_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = MemoryObjects()
    tables = [rows_of(0, 40_000), rows_of(40_000, 20_000), rows_of(10_000, 5_000, 7, 1), rows_of(59_000, 3_000, 1, 2)]
    merge = merge_of(objects, PARTITION, *tables)
    few = merge_segments(objects, PARTITION, merge, no_purge).output
    monkeypatch.setattr(merge_files, "MEMORY_ROWS", 0)
    many = merge_segments(objects, PARTITION, merge, no_purge).output
    assert few is not None
    assert many is not None
    assert replace(few, key="") == replace(many, key="")  # the bytes, too: sha256 is among them
    assert objects.get(few.key) == objects.get(many.key)
    read = segment_reader.read(objects, many, "valid_time")
    assert read.equals(newest(tables, CURRENT)[0])
    assert (many.rows, many.window_end) == (62_000, 4)


def test_a_value_that_does_not_fit_keeps_a_column_from_its_declared_type(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(weather(fields={"temp": Field("float", "temp"), "wind": Field("decimal", "wind", scale=2)}), RAW, "A")
    whole = rows_of(0, 3, temp=pa.array([1, 2, 3]), wind=pa.array([1, None, 3]))
    large = rows_of(3, 2, temp=pa.array([2**53 + 1, 5]), wind=pa.array([Decimal("1.5"), None], pa.decimal128(38, 1)))
    for rows in (10**6, 0):
        monkeypatch.setattr(merge_files, "MEMORY_ROWS", rows)
        objects = MemoryObjects()
        output = merge_segments(objects, partition, merge_of(objects, partition, whole), no_purge).output
        assert output is not None
        table = segment_reader.read(objects, output, "valid_time")
        assert table.schema.field("temp").type == pa.float64()
        assert table.schema.field("wind").type == pa.decimal128(38, 2)
        output = merge_segments(objects, partition, merge_of(objects, partition, whole, large), no_purge).output
        assert output is not None
        table = segment_reader.read(objects, output, "valid_time")
        assert table["temp"].to_pylist() == [1, 2, 3, 2**53 + 1, 5]
        assert table["wind"].to_pylist() == [1, None, 3, Decimal("1.5"), None]


def test_tombstones_are_purged_by_group_where_groups_share_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(weather(partitions=4), RAW, "*0001")
    gone = rows_of(0, 3, **{DELETED: pa.array([True, False, True])})
    other = gone.set_column(0, "station", pa.array(["B"] * 3))
    for rows in (10**6, 0):
        monkeypatch.setattr(merge_files, "MEMORY_ROWS", rows)
        objects = MemoryObjects()
        merge = merge_of(objects, partition, gone, other)
        outside = merge_of(objects, partition, rows_of(2, 1)).inputs
        done = merge_segments(objects, partition, merge, partial(Purge, partition, 10, outside))
        assert done.output is not None
        assert done.purge is not None
        left = segment_reader.read(objects, done.output, "valid_time")
        # the last one of A may hide a row of the segment that is not merged; the same time of B hides nothing
        assert list(zip(left["station"].to_pylist(), left[DELETED].to_pylist(), strict=True)) == [
            ("A", False),
            ("A", True),
            ("B", False),
        ]
        assert done.purge.count == 3
        assert list(done.output.groups) == ["A", "B"]
        late = merge_of(objects, partition, rows_of(0, 1)).inputs[0]
        assert done.purge.held_by(late)
        assert not done.purge.held_by(outside[0])


def test_a_merge_of_tombstones_alone_leaves_no_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in (10**6, 0):
        monkeypatch.setattr(merge_files, "MEMORY_ROWS", rows)
        objects = MemoryObjects()
        merge = merge_of(objects, PARTITION, rows_of(0, 2, **{DELETED: pa.array([True, True])}))
        before = [info.key for info in objects.list("")]
        done = merge_segments(objects, PARTITION, merge, lambda: Purge(PARTITION, 10, ()))
        assert done.output is None
        assert done.purge is not None
        assert done.purge.count == 2
        assert [info.key for info in objects.list("")] == before


def test_a_damaged_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_files, "MEMORY_ROWS", 0)
    objects = MemoryObjects()
    merge = merge_of(objects, PARTITION, rows_of(0, 5))
    objects.put(merge.inputs[0].key, objects.get(merge.inputs[0].key)[:-9])
    with pytest.raises(DamagedError, match="its manifest says") as raised:
        merge_segments(objects, PARTITION, merge, no_purge)
    assert merge.inputs[0].key in str(raised.value)


def test_segments_open_with_pyarrow_duckdb_and_polars(tmp_path: Path) -> None:
    partition = Partition(weather(partitions=4), RAW, "*0001")
    table = pa.concat_tables([rows_of(0, 20_000), rows_of(0, 20_000).set_column(0, "station", pa.array(["B"] * 20_000))])
    objects = MemoryObjects()
    segment = write_segment(objects, partition, "monthly", MONTH, table, 1)
    path = tmp_path / "segment.parquet"
    path.write_bytes(objects.get(segment.key))
    wanted = table.to_pylist()
    assert pq.read_table(path).to_pylist() == wanted
    assert pl.read_parquet(path).to_arrow().cast(table.schema).to_pylist() == wanted
    duckdb.sql("set timezone = 'UTC'")
    assert duckdb.read_parquet(str(path)).to_arrow_table().cast(table.schema).to_pylist() == wanted
    file = pq.ParquetFile(path)
    footer = {name.decode(): value.decode() for name, value in file.metadata.metadata.items() if b"tesseract" in name}
    assert footer["tesseract.group"] == "*0001"
    assert footer["tesseract.config_version"] == str(partition.dataset.version)
    column = file.metadata.row_group(0).column(0)
    assert column.has_column_index
    assert column.is_stats_set
    assert (column.statistics.min, column.statistics.max) == ("A", "A")
    found = duckdb.sql(f"select bloom_filter_length from parquet_metadata('{path}') where path_in_schema = 'station'").fetchall()
    assert all(length and length[0] > 0 for length in found)
