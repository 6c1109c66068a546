"""Segments are read by ranges: what comes is what the whole file has, with few requests, few bytes, and never of a damaged file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.errors import DamagedError
from tesseract.model import Segment
from tesseract.storage import parquet_writer, segment_reader
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.footers import Footer, Footers
from tesseract.storage.memory import MemoryObjects, memory_backend
from tesseract.storage.metered import Meter, metered
from tesseract.storage.segment_reader import read
from tesseract.utils.time_utils import to_micros

START = datetime(2024, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KINDS = {
    "float": (pa.float64(), st.sampled_from([0.0, -0.0, 1.5, -2.25, 1e300])),
    "int": (pa.int64(), st.sampled_from([0, 1, -(2**63), 2**63 - 1])),
    "small": (pa.int32(), st.sampled_from([1, 2])),
    "decimal": (pa.decimal128(38, 2), st.sampled_from([Decimal("1.25"), Decimal("-9.99"), Decimal(10**35)])),
    "state": (pa.string(), st.sampled_from(["on", "off"])),
    "text": (pa.string(), st.sampled_from(["", "a", "ü", "x" * 5000])),
    "flag": (pa.bool_(), st.booleans()),
    "time": (TIMESTAMP, st.sampled_from([START, START + SECOND, datetime(1, 1, 1, tzinfo=UTC)])),
    "wind": (pa.float64(), st.sampled_from([1.0, 2.0])),
    "wind.speed": (pa.float64(), st.sampled_from([3.0, 4.0])),
    "nothing": (pa.null(), st.none()),
}


def segment_of(objects: MemoryObjects, table: pa.Table, key: str = "k", groups: bool = False) -> Segment:
    file = parquet_writer.encode(table, {}, ["net", "st"] if groups else [])
    objects.put(key, file.body)
    times = pc.min_max(table["valid_time"].cast(pa.int64())).as_py()
    return Segment(
        key, "daily", 0, 0, len(table), len(file.body), times["min"] or 0, times["max"] or 0, 0, file.footer_offset,
        file.footer_length, file.sha256, {"x": (0, 1)} if groups else {},
    )  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows of one or of several groups, sorted by group, then time; often all with one value."""
    rows = draw(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 20)), unique=True, max_size=80))
    if draw(st.booleans()):
        rows = list({(at): ("a", "x", at) for _, _, at in rows}.values())
    rows.sort()
    columns: dict[str, Any] = {
        "net": pa.array([net for net, _, _ in rows], pa.string()),
        "st": pa.array([st for _, st, _ in rows], pa.string()),
        "valid_time": pa.array([START + at * SECOND for _, _, at in rows], TIMESTAMP),
    }
    for name in draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True)):
        kind, values = KINDS[name]
        few = st.just(draw(st.none() | values)) if draw(st.booleans()) else st.none() | values
        columns[name] = pa.array([draw(few) for _ in rows], kind)
    return pa.table(columns)


def plainly(table: pa.Table, start: Any, end: Any, columns: Any, group: dict[str, str] | None) -> pa.Table:
    masks = [pa.array([True] * len(table), pa.bool_())]
    masks += [pc.equal(table[name], value) for name, value in (group or {}).items()]
    masks += [] if start is None else [pc.greater_equal(table["valid_time"], pa.scalar(start, TIMESTAMP))]
    masks += [] if end is None else [pc.less(table["valid_time"], pa.scalar(end, TIMESTAMP))]
    table = table.filter(reduce(pc.and_, masks))
    return table if columns is None else table.select([name for name in table.column_names if name in columns])


moments = st.none() | st.integers(-1, 21).map(lambda at: START + at * SECOND)


@settings(max_examples=150, deadline=None)
@given(
    tables(),
    moments,
    moments,
    st.none() | st.lists(st.sampled_from([*KINDS, "net", "st", "valid_time", "absent"]), unique=True, min_size=1),
    st.none() | st.fixed_dictionaries({"net": st.sampled_from("abc"), "st": st.sampled_from("xyz")}),
    st.sampled_from([0, 1 << 20]),
    st.sampled_from([8192, 1 << 20]),
    st.sampled_from([1, 3, 6, 100]),
)
def test_a_read_gives_what_the_whole_file_has(table, start, end, columns, group, small, gap, row_group):
    objects, footers = MemoryObjects(), Footers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_writer, "ROW_GROUP", row_group)
        patch.setattr(segment_reader, "SMALL", small)
        patch.setattr(segment_reader, "GAP", gap)
        segment = segment_of(objects, table, groups=group is not None)
        wanted = plainly(table, start, end, columns, group)
        for kept in (None, footers, footers):
            found = read(objects, segment, "valid_time", start, end, columns, group, footers=kept)
            found.validate(full=True)
            assert found.schema.equals(wanted.schema)
            assert found.schema.metadata is None
            if not wanted.column_names:
                continue  # there is nothing to count
            assert found.to_pylist() == wanted.to_pylist()
            assert str(found.to_pylist()) == str(wanted.to_pylist())  # a zero keeps its sign


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(1, 6), st.data())
def test_the_bounds_of_a_row_group_hold_its_values(table, row_group, data):
    objects = MemoryObjects()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_writer, "ROW_GROUP", row_group)
        segment = segment_of(objects, table)
    seen: list[dict[str, Any]] = []
    kept: list[bool] = []

    def may(bounds: Any) -> bool:
        rows = min(row_group, len(table) - len(seen) * row_group)
        assert bounds["absent"] == (None, None, rows, rows)
        seen.append({name: bounds[name] for name in bounds})
        kept.append(data.draw(st.booleans()))
        return kept[-1]

    found = read(objects, segment, "valid_time", may=may)
    parts = [table.slice(place * row_group, row_group) for place in range(len(seen))]
    assert found.to_pylist() == [row for part, keep in zip(parts, kept, strict=True) if keep for row in part.to_pylist()]
    for place, bounds in enumerate(seen):
        part = parts[place]
        for name, (low, high, nulls, rows) in bounds.items():
            assert (nulls, rows) == (part[name].null_count, len(part))
            values = [value for value in part[name].to_pylist() if value is not None]
            if values:
                assert (low, high) == (min(values), max(values))
                assert type(low) is type(values[0])
            else:
                assert low is high is None


def day(seconds: int = 86_400, start: int = 0) -> pa.Table:
    """One day of a sensor at 1 Hz: its values tell little of each other, as far as size goes."""
    at = range(start, start + seconds)
    return pa.table(
        {
            "net": pa.array(["a"] * seconds),
            "valid_time": pa.array([to_micros(START) + second * 1_000_000 for second in at], pa.int64()).cast(TIMESTAMP),
            **{f"f{place}": [(second * 7919 + place * 31) % 10_007 / 100 for second in at] for place in range(5)},
            "__deleted": pa.array([False] * seconds),
        }
    )


@pytest.fixture(scope="module")
def large() -> tuple[Any, Segment]:
    backend = memory_backend()
    segment = segment_of(backend.objects, day(7 * 86_400))
    assert segment.bytes > 4 * segment_reader.SMALL
    return backend, segment


def test_three_hours_of_one_sensor_are_one_request(large):
    backend, segment = large
    meter, footers = Meter(), Footers()
    objects = metered(backend, meter).objects
    span = (START + timedelta(hours=30), START + timedelta(hours=33))
    table = read(objects, segment, "valid_time", *span, footers=footers)
    assert len(table) == 3 * 3600
    cold = meter.read()
    assert cold.s3_requests == 2  # the footer, and the rows
    assert cold.s3_bytes < segment.bytes / 8
    assert read(objects, segment, "valid_time", *span, footers=footers).equals(table)
    warm = meter.read()
    assert warm.s3_requests == 3
    assert warm.s3_bytes - cold.s3_bytes < segment.bytes / 15
    assert table.equals(day(3 * 3600, 30 * 3600))


def test_a_file_of_which_all_is_wanted_is_one_request(large):
    backend, segment = large
    meter = Meter()
    table = read(metered(backend, meter).objects, segment, "valid_time")
    assert len(table) == segment.rows
    assert meter.read().s3_requests == 1
    assert meter.read().s3_bytes == segment.bytes


def test_columns_with_one_value_are_not_fetched(large):
    backend, segment = large
    meter, footers = Meter(), Footers()
    objects = metered(backend, meter).objects
    read(objects, segment, "valid_time", columns=["net"], footers=footers)
    assert meter.read().s3_requests == 1  # the footer
    table = read(objects, segment, "valid_time", columns=["net", "__deleted"], footers=footers)
    assert meter.read().s3_requests == 1
    assert table.equals(day(7 * 86_400).select(["net", "__deleted"]))


def test_texts_that_come_again_and_again_are_read_as_numbers_of_a_list():
    objects = MemoryObjects()
    states, groups = ["on", None, "off", "ü"], sorted("aabbbc")
    table = pa.table(
        {
            "net": [groups[row // 1000] for row in range(6000)],
            "st": ["x"] * 6000,
            "valid_time": pa.array([START + row * SECOND for row in range(6000)], TIMESTAMP),
            "state": [states[row % 4] for row in range(6000)],
            "id": [f"{row}" for row in range(6000)],
        }
    )
    segment = segment_of(objects, table, groups=True)
    footer = Footer(pq.read_metadata(pa.BufferReader(objects.get("k"))))
    assert footer.coded([0], table.column_names) == ["net", "st", "state"]
    span = (START + 2500 * SECOND, START + 2600 * SECOND)
    for group, bounds in (({"net": "b", "st": "x"}, span), ({"net": "c", "st": "x"}, (None, None)), (None, span)):
        assert read(objects, segment, "valid_time", *bounds, None, group).equals(plainly(table, *bounds, None, group))


def test_a_row_group_that_cannot_have_it_is_not_fetched(large):
    backend, segment = large
    meter, footers = Meter(), Footers()
    objects = metered(backend, meter).objects
    read(objects, segment, "valid_time", columns=["net"], footers=footers)
    before = meter.read()
    none = read(objects, segment, "valid_time", footers=footers, may=lambda bounds: bounds["f1"][1] > 101)
    assert len(none) == 0
    assert none.schema.equals(day(1).schema)
    assert meter.read() == before


def test_a_small_file_is_one_request_whatever_is_wanted():
    backend, meter, footers = memory_backend(), Meter(), Footers()
    segment = segment_of(backend.objects, day(3600))
    objects = metered(backend, meter).objects
    for count in (1, 2):
        table = read(objects, segment, "valid_time", START, START + SECOND, ["f1", "f4"], footers=footers)
        assert (len(table), meter.read().s3_requests) == (1, count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body[:-1], "bytes"),
        (lambda body: body + b"PAR1", "bytes"),
        (lambda body: body[:-4] + b"PAR2", "bytes"),
        (lambda body: body[: len(body) // 2], "bytes"),
        (lambda body: b"", "bytes"),
        (lambda body: body[: len(body) // 2] + body[len(body) // 2 + 1 :] + b"\0", "bytes"),
    ],
)
@pytest.mark.parametrize("columns", [None, ["f1"]])
@pytest.mark.parametrize("small", [0, 1 << 20])
def test_a_damaged_file_is_told(change, message, columns, small, monkeypatch):
    monkeypatch.setattr(segment_reader, "SMALL", small)
    objects = MemoryObjects()
    segment = segment_of(objects, day(3600))
    objects.put("k", change(objects.get("k")))
    with pytest.raises(DamagedError, match=message):
        read(objects, segment, "valid_time", columns=columns)


def test_other_rows_than_the_manifest_says_are_told(monkeypatch):
    monkeypatch.setattr(segment_reader, "SMALL", 0)
    objects = MemoryObjects()
    segment = replace(segment_of(objects, day(3600)), rows=3601)
    for columns in (None, ["f1"]):
        with pytest.raises(DamagedError, match="the segment has 3600 rows, its manifest says 3601"):
            read(objects, segment, "valid_time", columns=columns)


def test_a_file_that_was_cut_behind_a_kept_footer_is_told(large):
    _, segment = large
    objects, footers = MemoryObjects(), Footers()
    body = large[0].objects.get(segment.key)
    objects.put(segment.key, body)
    read(objects, segment, "valid_time", columns=["net"], footers=footers)
    objects.put(segment.key, body[:1000])
    with pytest.raises(DamagedError, match="ends before its byte"):
        read(objects, segment, "valid_time", columns=["f1"], footers=footers)


def test_footers_are_kept_within_bounds():
    objects = MemoryObjects()
    segments = [segment_of(objects, day(60), f"k{place}") for place in range(6)]
    one = Footer(pq.read_metadata(pa.BufferReader(objects.get("k0"))))
    footers = Footers(3 * one.bytes)
    for segment in segments:
        read(objects, segment, "valid_time", footers=footers)
    assert [place for place in range(6) if footers.get(f"k{place}") is not None] == [3, 4, 5]
    footers.get("k3")
    read(objects, segments[0], "valid_time", footers=footers)
    assert [place for place in range(6) if footers.get(f"k{place}") is not None] == [0, 3, 5]


def test_threads_share_footers(large):
    backend, segment = large
    footers = Footers()
    found: list[int] = []

    def reading(hour: int) -> None:
        start = START + timedelta(hours=hour)
        found.append(len(read(backend.objects, segment, "valid_time", start, start + SECOND * hour, footers=footers)))

    threads = [Thread(target=reading, args=[hour]) for hour in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))
