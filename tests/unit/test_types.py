"""Values of every type come back equal, in columns of one type, from every tier and in every format."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.cli.output import write_rows, write_table
from tesseract.config.dataset import Field
from tesseract.storage.arrow_types import WIDE, arrow_type, column, exact_column, stat_type, value_as, wider
from tesseract.storage.codec import SMALLEST, number_text, number_value, shortest
from tesseract.storage.columns import unify
from tesseract.storage.conform import conform
from tests.support.level_world import DAY, FIELDS, HOUR, World, plant, stored_time

START = datetime(2024, 3, 1, 10, tzinfo=UTC)
doubles = st.floats(-1e20, 1e20).filter(lambda value: not value or abs(value) >= SMALLEST)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda moment: stored_time(moment.replace(tzinfo=UTC)))
decimals = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda number: as_item(Decimal(f"{number}E-2")))
VALUES = {
    "f": doubles.map(lambda value: as_item(shortest(value))),
    "i": st.integers(-(2**63), 2**63 - 1),
    "d": decimals | st.integers(-(10**36) + 1, 10**36 - 1),
    "w": st.integers(-(10**38) + 1, 10**38 - 1),
    "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "b": st.booleans(),
    "t": moments,
    "e": st.sampled_from(["on", "off"]),
}
RECORDS = st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=6)
KINDS = {
    "f": pa.float64(),
    "i": pa.int64(),
    "d": pa.decimal128(38, 2),
    "w": pa.decimal128(38, 0),
    "s": pa.string(),
    "b": pa.bool_(),
    "t": pa.timestamp("us", "UTC"),
    "e": pa.string(),
}


def as_item(number: Decimal) -> int | Decimal:
    """As an item gives it back."""
    return number_value(number_text(number))


@settings(max_examples=8, deadline=None)
@given(RECORDS)
def test_values_are_equal_and_types_the_same_from_buffer_archive_and_compacted_archive(records):
    world = World(plant("hourly", "daily", "weekly"))
    schemas = set()

    def check() -> None:
        table = world.store.query("weather", "A")
        assert table.to_pylist() == world.raw_rows("A")
        tables = [table, world.store.query("weather", "A", START - 900 * DAY, START - 899 * DAY)]
        tables += [world.store.query("weather", "A", level=level) for level in ("hourly", "daily", "weekly")]
        tables += [world.store.query("weather", "A", START, START, level=level) for level in ("hourly", "daily", "weekly")]
        schemas.add(tuple(str(table.schema.to_string(show_schema_metadata=False)) for table in tables))
        for level in ("hourly", "daily", "weekly"):
            world.check_level(level, "A", START - 30 * DAY, START + 30 * DAY)
        last = world.store.latest("weather", "A")[0]
        assert last == world.raw_rows("A")[-1]
        assert all(type(last[name]) is kind for name, kind in (("d", Decimal), ("w", int)) if last[name] is not None)

    for place, values in enumerate(records):
        world.put("A", world.now - 30 * HOUR + place * 5 * HOUR, values)
    world.drain()
    check()
    world.settle()
    check()
    latest = [item for item in world.backend.live.items() if "#latest#" in item["pk"]]
    for item in latest:  # looked up in the archive
        world.backend.live.put({**item, "stale": True, "fields": {}})
    check()
    world.pass_time(400 * DAY)
    assert world.compact()
    check()
    assert len(schemas) == 1
    table = world.store.query("weather", "A")
    assert {name: table.schema.field(name).type for name in FIELDS} == KINDS


def test_statistics_have_one_type_each():
    kinds = {
        stat: [stat_type(FIELDS[name], stat) for name in ("f", "i", "d", "w")] for stat in ("count", "sum", "avg", "std", "min")
    }
    assert kinds == {
        "count": [pa.int64()] * 4,
        "sum": [pa.float64(), WIDE, pa.decimal128(38, 2), WIDE],
        "avg": [pa.float64()] * 4,
        "std": [pa.float64()] * 4,
        "min": [pa.float64(), pa.int64(), pa.decimal128(38, 2), WIDE],
    }


def test_a_sum_that_no_column_holds_is_null_beside_its_count_and_average():
    world = World(plant("hourly", "weekly"))
    most = {"d": Decimal("9" * 36 + ".99"), "w": 10**38 - 1}
    for minute in range(3):
        world.put("A", START - DAY + minute * timedelta(minutes=1), most)
    world.drain()
    for _ in range(2):
        for level in ("hourly", "weekly"):
            (row,) = world.store.query("weather", "A", level=level).to_pylist()
            assert [row[name] for name in ("d_sum", "w_sum", "d_count", "w_max")] == [None, None, 3, 10**38 - 1]
            assert row["d_avg"] == pytest.approx(1e36, rel=1e-15)
        world.settle()


def test_formats_have_all_digits(tmp_path, capsys):
    world = World(plant("hourly"))
    fields = {"f": Decimal("0.1"), "i": 2**62 + 1, "d": Decimal("-1234567890123456789012345678.05"), "w": 10**37 + 3}
    world.put("A", START - HOUR, fields | {"s": "ü", "b": True, "t": stored_time(START), "e": "on"})
    world.put("A", START - HOUR / 2, {"d": 7})
    world.drain()
    table = world.store.query("weather", "A", fields=["d", "w", "i", "t"])
    write_table(table, "json", None)
    text = capsys.readouterr().out
    assert '"d": -1234567890123456789012345678.05, "w": 10000000000000000000000000000000000003, "i": 4611686018427387905' in text
    assert '"d": 7.00, "w": null' in text
    assert json.loads(text, parse_float=Decimal)[0]["d"] == fields["d"]
    write_table(table, "csv", None)
    first, second = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert (first["d"], first["w"], first["t"]) == (str(fields["d"]), str(fields["w"]), "2024-03-01T10:00:00Z")
    assert (second["d"], second["w"]) == ("7.00", "")
    write_table(table, "table", None)
    assert str(fields["d"]) in capsys.readouterr().out
    write_table(table, "parquet", str(tmp_path / "rows.parquet"))
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == table.to_pylist()
    latest = world.store.latest("weather", "A")
    write_rows(latest, "parquet", str(tmp_path / "latest.parquet"))
    write_rows([{"w": 10**30, "d": Decimal("1.5")}, {"w": 5}], "parquet", str(tmp_path / "wide.parquet"))
    assert pq.read_table(tmp_path / "wide.parquet").to_pylist() == [{"w": 10**30, "d": Decimal("1.5")}, {"w": 5, "d": None}]
    write_rows([{"w": 10**30, "d": Decimal("1.50"), "l": [Decimal("1.5")]}], "json", None)
    assert capsys.readouterr().out == '[\n  {"w": 1000000000000000000000000000000, "d": 1.50, "l": [1.5]}\n]\n'


def test_sql_has_decimals_wide_integers_and_times():
    world = World(plant("hourly"))
    for place in range(3):
        world.put("A", START - place * HOUR, {"d": Decimal("0.01"), "w": 10**37, "t": stored_time(START), "e": "on"})
    world.drain()
    (row,) = world.store.sql("select sum(d) as d, max(w) as w, max(t) as t, count(*) as c from weather where d = 0.01").to_pylist()
    assert row == {"d": Decimal("0.03"), "w": 10**37, "t": START, "c": 3}
    (row,) = world.store.sql("select sum(d_sum) as d, max(w_sum) as w from weather_hourly").to_pylist()
    assert row == {"d": Decimal("0.03"), "w": 10**37}


def test_a_widened_type_reads_alike_from_segments_of_both_types_and_from_the_buffer():
    narrow = plant("hourly", "daily", "weekly")
    fields = FIELDS | {
        "f": Field("int", "f"),
        "i": Field("int", "i", max=10),
        "d": Field("decimal", "d", scale=1),
        "w": Field("int", "w"),
    }
    old = replace(narrow, fields=fields)
    world = World(old)
    changed = FIELDS | {"f": Field("float", "f"), "i": Field("decimal", "i", scale=2), "n": Field("float", "n")}
    for place in range(4):
        world.put("A", world.now, {"f": place, "i": place, "d": Decimal(place) / 10, "w": 2**60 + place})
        world.pass_time(HOUR)
    world.drain()
    world.settle()
    world.dataset = replace(world.dataset, fields=changed, version=2)
    world.catalog.put_dataset(world.dataset, world.now)
    world.pass_time(timedelta(minutes=5))
    for place in range(4):
        values = {"f": Decimal("0.5"), "i": Decimal("1.25"), "d": Decimal("0.25"), "w": 10**30 + place, "n": Decimal("0.5")}
        world.put("A", world.now, values)
        world.pass_time(HOUR)
    world.put("A", START - DAY + timedelta(minutes=1), {"d": Decimal("0.05")})  # a late one, among the old rows
    world.drain()
    for step in (lambda: None, world.settle, lambda: world.pass_time(400 * DAY), world.compact):
        step()
        rows = world.store.query("weather", "A")
        assert [rows.schema.field(name).type for name in "fidwn"] == [arrow_type(changed[name]) for name in "fidwn"]
        assert rows.to_pylist() == world.raw_rows("A")
        for level in ("hourly", "daily", "weekly"):
            table = world.store.query("weather", "A", level=level).to_pylist()
            assert sum(int(row["w_sum"] or 0) for row in table) == 4 * 2**60 + 4 * 10**30 + 12
            assert sum(row["i_sum"] or 0 for row in table) == 11
            assert sum(row["d_sum"] for row in table) == Decimal("1.65")
            assert sum(row["n_count"] for row in table) == 4
            assert sum(row["f_sum"] or 0 for row in table) == 8.0


# the rules of types -----------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_a_stored_column_loses_no_value(name, data):
    values = data.draw(st.lists(VALUES[name] | st.none(), max_size=5))
    kind = arrow_type(FIELDS[name])
    found = exact_column(values, FIELDS[name])
    assert found.type == kind
    assert conform(pa.table({name: found}), {name: kind})[name].to_pylist() == [value_as(value, kind) for value in values]
    other = data.draw(st.lists(VALUES[data.draw(st.sampled_from(sorted(VALUES)))], max_size=5))
    mixed = conform(pa.table({name: exact_column([*values, *other], FIELDS[name])}), {name: kind})[name].to_pylist()
    for value, read in zip([*values, *other], mixed, strict=True):
        expected = column([value], kind).to_pylist()[0]
        assert read == expected or kind == pa.float64(), (value, read)


@given(st.sampled_from(sorted(VALUES)), st.sampled_from(sorted(VALUES)), st.data())
def test_tables_that_meet_keep_the_values_of_both(left, right, data):
    values = [data.draw(st.lists(VALUES[name], min_size=1, max_size=4)) for name in (left, right)]
    tables = [pa.table({"x": exact_column(part, FIELDS[name])}) for part, name in zip(values, (left, right), strict=True)]
    unified = unify(tables)
    assert unified[0].schema == unified[1].schema
    for table, before, name in zip(unified, tables, (left, right), strict=True):
        back = conform(table, {"x": arrow_type(FIELDS[name])})
        rounded = {left, right} == {"f", "i"}
        assert rounded or back["x"].to_pylist() == before["x"].to_pylist()


def test_types_that_meet():
    two, four = pa.decimal128(38, 2), pa.decimal128(38, 4)
    assert wider(two, four) == wider(four, two) == four
    assert wider(pa.int64(), two) == two
    assert wider(WIDE, pa.int64()) == WIDE
    assert wider(two, pa.float64()) == pa.float64()
    assert wider(two, pa.bool_()) == wider(pa.timestamp("us", "UTC"), pa.int64()) == pa.string()
    assert wider(pa.null(), two) == wider(two, pa.null()) == two
    tables = [pa.table({"x": pa.array([10**37], WIDE)}), pa.table({"x": pa.array([Decimal("0.25")], two)})]
    assert [table["x"].to_pylist() for table in unify(tables)] == [["1" + "0" * 37], ["0.25"]]
    tables = [pa.table({"x": pa.array([Decimal("0.25")], two)}), pa.table({"x": [1.5]})]
    assert [table["x"].to_pylist() for table in unify(tables)] == [[0.25], [1.5]]
    tables = [pa.table({"x": pa.array([Decimal("12345678901234567890.25")], two)}), pa.table({"x": [1.5]})]
    assert [table["x"].to_pylist() for table in unify(tables)] == [["12345678901234567890.25"], ["1.5"]]
