"""Filters of queries over segments that overlap, corrections, tombstones and the buffer: the rows of the whole answer that pass."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Field
from tesseract.errors import InputError
from tesseract.query.where import parse
from tesseract.storage import parquet_writer
from tests.unit.query_world import DATASET, START, World, values

HOUR = timedelta(hours=1)
CONDITIONS = [
    "n > 20",
    "n <= 3",
    "temp is null",
    "temp < 2 or n = 19",
    "note in ('r3', 'r21')",
    "not (n between 4 and 22)",
    "ok != true",
]
CONDITIONS += [
    "n = 7 and valid_time >= '2026-03-01T05:00:00Z'",
    "station = 'A' and n > 1",
    "ref_time is not null",
    "n > 1e30",
    "temp > 4.99",
]
# (hour, number; 0: a tombstone)
writes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=14)


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch):
    monkeypatch.setattr(parquet_writer, "ROW_GROUP", 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(writes, max_size=3), writes, st.sampled_from(CONDITIONS), st.none() | st.sampled_from([["note"], ["n"]]))
@example([[(1, 25), (2, 2)], [(1, 5)]], [(9, 1)], "n > 20", None)  # the older revision passes, the newer does not
@example([[(1, 25)]], [(1, 0)], "n > 20", None)
def test_a_filter_gives_the_rows_of_the_answer_that_pass(archived, buffered, text, fields):
    world = World()
    for place, rows in enumerate(archived):
        written = START + timedelta(days=2, hours=place)
        found = {START + hour * HOUR: number for hour, number in rows}
        world.archive([(at, values(number) if number else {}, not number, written) for at, number in found.items()])
    world.progress(START + timedelta(days=4))
    for hour, number in buffered:
        world.buffer(START + hour * HOUR, values(number) if number else {}, deleted=not number, marked=START + timedelta(days=4))
    whole = world.store.query("w", "A")
    expected = parse(text).filter(whole)
    expected = expected if fields is None else expected.select([*expected.column_names[:3], *fields])
    assert world.store.query("w", "A", where=text, fields=fields).equals(expected)


def test_the_first_rows_that_pass():
    world = World()
    for first in (0, 3):
        rows = [START + hour * HOUR for hour in range(first, first + 6)]
        world.archive([(at, values(10 * first + place), False, START + first * HOUR) for place, at in enumerate(rows)])
    world.progress(START + timedelta(days=4))
    expected = world.store.query("w", "A", where="n > 2")
    assert world.store.scan("w", "A", where="n > 2").read_all().to_pylist() == expected.to_pylist()
    for order, rows in (("asc", expected.to_pylist()), ("desc", expected.to_pylist()[::-1])):
        assert world.store.query("w", "A", where="n > 2", order=order, limit=2).to_pylist() == rows[:2]


def test_row_groups_without_a_row_that_passes_are_not_read():
    world = World()
    rows = [(START + second * timedelta(seconds=1), values(second), False, START + timedelta(days=2)) for second in range(60_000)]
    parquet_writer.ROW_GROUP = 5_000
    world.archive(rows)
    world.progress(START + timedelta(days=4))
    whole, some = (world.store.read("w", "A", where=text) for text in (None, "n between 20000 and 20100"))
    assert some.table["n"].to_pylist() == list(range(20_000, 20_101))
    assert some.stats.s3_bytes * 4 < whole.stats.s3_bytes


def test_levels_are_filtered_by_their_statistics():
    world = World()
    world.archive([(START + hour * HOUR, {"temp": Decimal(hour), "n": hour}, False, START + 9 * HOUR) for hour in range(6)])
    world.progress(START + timedelta(days=4), START)
    table = world.store.query("w", "A", level="hourly", where="temp_avg > 2 and rows = 1 and temp_std is null", fields=["n_max"])
    assert table["n_max"].to_pylist() == [3, 4, 5]
    assert table.column_names == ["station", "period_start", "rows", "n_max"]
    with pytest.raises(InputError, match="'temp' is a field, and level hourly has its statistics"):
        world.store.query("w", "A", level="hourly", where="temp > 2")


def test_a_filter_reads_renamed_fields_by_their_names():
    fields = {**DATASET.fields, "temp": replace(DATASET.fields["temp"], name="temperature"), "wind": Field("float", "wind")}
    world = World(replace(DATASET, fields=fields))
    world.archive([(START + hour * HOUR, {"temp": Decimal(hour)}, False, START + 9 * HOUR) for hour in range(6)])
    world.progress(START + timedelta(days=4))
    table = world.store.query("w", "A", where="temperature >= 4 and wind is null", fields=["n"])
    assert table.column_names == ["station", "valid_time", "ref_time", "n"]
    assert len(table) == 2
    assert pa.types.is_int64(table.schema.field("n").type)
