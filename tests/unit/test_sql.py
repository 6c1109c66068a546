"""SQL: the answers are those of DuckDB over whole tables, and of the archive is read only what a statement needs."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import Level
from tesseract.errors import DamagedError, InputError, RetryError
from tesseract.query import sql
from tesseract.query.results import shape
from tesseract.query.sql_scan import Tables
from tesseract.storage.metered import Meter, metered
from tesseract.store import Store
from tests.unit.query_world import DATASET, NOW, START, World, values

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
THROUGH = datetime(2026, 3, 15, tzinfo=UTC)


class Seen:
    """Objects that remember which segments were read."""

    def __init__(self, objects):
        self._objects, self.keys = objects, []

    def __getattr__(self, name):
        return getattr(self._objects, name)

    def get(self, key, *place):
        self.keys.append(key)
        return self._objects.get(key, *place)

    def open(self, key):
        self.keys.append(key)
        return self._objects.open(key)

    def groups(self):
        """(group, number) of the segments that were read, in the order of their first reads."""
        found = [tuple(key.removesuffix(".parquet").split("/")[2:]) for key in self.keys if key.startswith("archive/raw/")]
        self.keys.clear()
        return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def archived():
    """Groups A, B and C with a segment of January, one of February and one of March each, numbered 1 to 9 in that order."""
    world = World()
    for place, group in enumerate("ABC"):
        for month in (JANUARY, FEBRUARY, START):
            world.archive([(month + step * HOUR, values(step + place), False, month) for step in range(48)], group)
    world.progress(THROUGH, JANUARY)  # no snapshots yet: levels are computed from raw rows
    seen = Seen(world.backend.objects)
    return Store(dataclasses.replace(world.backend, objects=seen), "test", lambda: NOW), seen


@pytest.fixture(scope="module")
def whole(archived):
    return archived[0].query("w")


# what is read ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("select count(*) from w where station = 'B' and valid_time < '2026-02-01'", [("B", "4")]),
        (
            "select sum(n) from w where station in ('A', 'C') and date_trunc('month', valid_time) = '2026-02-01'",
            [("A", "2"), ("C", "8")],
        ),
        ("select * from w where valid_time between '2026-02-02' and '2026-02-02 12:00' and station > 'B'", [("C", "8")]),
        (
            "select * from w where (station = 'A' and valid_time < '2026-02-01') or (station = 'B' and valid_time > '2026-03-01')",
            [("A", "1"), ("B", "6")],
        ),
        ("with x as (select * from w where station = 'A') select max(temp) from x where valid_time >= '2026-03-01'", [("A", "3")]),
        ("select * from w where station = 'A' and valid_time = '2026-02-01 05:00+01' and n <> 7", [("A", "2")]),
        ("select * from w where station = 'D'", []),
        ("select * from w where valid_time > '2026-02-20' and valid_time < '2026-02-21'", []),
        ("select * from w where station = 'A' and station = 'B'", []),
        ("explain select * from w", []),
        ("describe w", []),
        ("describe select avg(temp) from w", []),
        ("show tables", []),
        ("select 1", []),
    ],
)
def test_only_the_segments_that_a_statement_needs_are_read(archived, text, read):
    store, seen = archived
    seen.groups()
    store.sql(text)
    assert sorted(seen.groups()) == read


def test_each_use_of_a_table_has_its_own_filter(archived):
    store, seen = archived
    text = """select a.n as a, b.n as b from w a join w b on a.valid_time = b.valid_time
              where a.station = 'A' and b.station = 'B' and a.valid_time >= '2026-03-02' and b.valid_time >= '2026-03-02'"""
    assert len(store.sql(text)) == 24
    assert sorted(seen.groups()) == [("A", "3"), ("B", "6")]


def test_the_requests_of_a_statement_are_those_of_the_query_and_of_finding_the_table(archived):
    meter = Meter()
    store = Store(metered(archived[0].backend, meter), "test", lambda: NOW)

    def requests(call):
        call()  # configurations and footers are known then
        before = meter.read()
        call()
        return meter.read().dynamodb_requests - before.dynamodb_requests, meter.read().s3_requests - before.s3_requests

    query = requests(lambda: store.query("w", "B", "2026-02-01", "2026-02-01T03:00:00Z", fields=["temp"]))
    hours = "valid_time >= '2026-02-01' and valid_time < '2026-02-01 03:00'"
    statement = requests(lambda: store.sql(f"select avg(temp) from w where station = 'B' and {hours}"))
    assert query == (3, 1)  # progress, manifest, day marks; the rows
    assert statement[0] <= query[0] + 3  # the names of the datasets; progress and manifest once more, to cut long answers
    assert statement[1] == query[1]


def asked(text, rows=None, dataset=DATASET):
    """The questions that a statement makes, over a dataset without rows or with those of `rows`."""
    questions = []

    def scan(question):
        questions.append(question)
        empty = shape(question.dataset, question.level, [], question.fields)
        return (empty if rows is None else rows.select(empty.schema.names)).to_reader()

    answer = sql.run(text, Tables(lambda: [dataset.name], lambda _: dataset, lambda _: ["A", "B"], scan))
    return questions, answer


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("select * from w", ["temp", "n", "note", "ok"]),
        ("select avg(temp) from w", ["temp"]),
        ("select count(*) from w", []),
        ("select valid_time from w where note = 'r1' and n in (1, 2)", ["n", "note"]),
        ("select max(temp) from w where temp < 3 group by ok", ["temp", "ok"]),
        ("select temp_avg from w_hourly where n_max > 7 and period_start > '2026-01-01'", ["temp_avg", "n_max"]),
    ],
)
def test_only_the_columns_that_a_statement_needs_are_read(text, fields):
    (question,), _ = asked(text)
    assert question.fields == fields


def test_periods_of_a_level_go_by_their_start():
    (question,), _ = asked(
        "select * from W_Hourly where station = 'A' and period_start >= '2026-01-01' and period_start < '2026-01-02'"
    )
    assert (question.level.name, question.groups, question.start, question.end) == ("hourly", ("A",), JANUARY, JANUARY + DAY)


def test_rows_come_as_they_are_needed():
    schema = shape(DATASET, None, [], ["n"]).schema
    made = []

    def batches():
        for number in range(200):
            made.append(number)
            times = pa.array([START + number * HOUR] * 5000, schema.field("valid_time").type)
            yield pa.record_batch(
                [pa.array(["A"] * 5000), times, pa.nulls(5000, times.type), pa.array([number] * 5000)], schema=schema
            )

    tables = Tables(
        lambda: ["w"], lambda _: DATASET, lambda _: ["A"], lambda _: pa.RecordBatchReader.from_batches(schema, batches())
    )
    assert len(sql.run("select n from w limit 10", tables)) == 10
    assert len(made) < 100
    made.clear()
    assert sql.run("select count(*) as c, max(n) as m from w where n >= 10", tables).to_pylist() == [{"c": 190 * 5000, "m": 199}]


# the law ---------------------------------------------------------------------------------------------------------------

ATOMS = st.one_of(
    st.tuples(
        st.sampled_from(["station", "note"]),
        st.sampled_from(["=", "<>", "<", ">="]),
        st.sampled_from(["'A'", "'B'", "'D'", "'r7'"]),
    ),
    st.tuples(
        st.just("valid_time"), st.sampled_from(["=", "<", ">", "<=", ">="]), st.sampled_from(["'2026-01-01 07:00'", "'2026-02-01'"])
    ),
    st.tuples(st.sampled_from(["temp", "n"]), st.sampled_from(["=", "<", ">", "<>"]), st.sampled_from(["2", "2.5", "7"])),
    st.tuples(st.sampled_from(["station", "temp", "ok", "ref_time"]), st.sampled_from(["is", "is not"]), st.just("null")),
    st.tuples(st.just("station"), st.sampled_from(["in", "not in"]), st.sampled_from(["('A')", "('A', 'C', 'E')"])),
    st.tuples(st.just("valid_time"), st.just("between"), st.just("'2026-01-01 05:00' and '2026-02-01 05:00'")),
    st.sampled_from([("date_trunc('day', valid_time)", "=", "'2026-01-02'"), ("ok", "", ""), ("station", "like", "'%B'")]),
).map(" ".join)
WHERES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("({0[0]} and {0[1]})".format),
        st.tuples(inner, inner).map("({0[0]} or {0[1]})".format),
        inner.map("not ({})".format),
    ),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(where=WHERES)
def test_an_answer_is_that_of_duckdb_over_whole_tables(archived, whole, where):
    store, _ = archived
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("w", whole)
        for text in (
            f"select * from w where {where} order by station, valid_time",
            f"select count(*) as c, sum(n) as s from w where {where}",
        ):
            assert store.sql(text).equals(connection.sql(text).to_arrow_table())


def test_levels_datasets_and_subqueries_meet_in_one_statement(archived):
    store, _ = archived
    text = """with hours as (select avg(temp) as mine from w where station = 'A' group by date_trunc('hour', valid_time))
              select count(*) as hours, (select count(*) from w_daily) as days, (select max(temp_max) from w_hourly) as top
              from hours"""
    assert store.sql(text).to_pylist() == [{"hours": 144, "days": 18, "top": 12.25}]
    joined = (
        "select count(*) as c from w join w_hourly h on w.station = h.station and date_trunc('hour', valid_time) = period_start"
    )
    assert store.sql(joined).to_pylist() == [{"c": 432}]
    assert store.sql("select count(*) as c from w join w_hourly using (station)").to_pylist() == [{"c": 3 * 144 * 144}]
    pivot = store.sql("pivot w on station using sum(n) group by ok").sort_by("ok")
    assert pivot.column_names == ["ok", "A", "B", "C"]


def test_a_level_that_is_not_kept_is_a_table_too(archived):
    store, _ = archived
    text = "select station, month(period_start) as month, rows, n_sum from w_Monthly where station in ('A', 'B') order by 1, 2"
    months = [
        {"station": group, "month": month, "rows": 48, "n_sum": total}
        for group, total in (("A", 1128), ("B", 1176))
        for month in (1, 2, 3)
    ]
    assert store.sql(text).to_pylist() == months
    assert "w_monthly" not in store.sql("show tables")["name"].to_pylist()


def test_times_are_in_utc(archived):
    store, _ = archived
    answer = store.sql(
        "select valid_time, valid_time::date as day, hour(valid_time) as hour from w where station = 'A' order by 1 limit 1"
    )
    assert answer.schema.field("valid_time").type == pa.timestamp("us", tz="UTC")
    assert answer.to_pylist() == [{"valid_time": JANUARY, "day": JANUARY.date(), "hour": 0}]


def test_an_acknowledged_write_of_a_group_that_is_named_is_seen_before_the_stream_has_come_so_far():
    world = World()
    world.buffer(NOW - HOUR, values(1), group="new")
    assert world.store.sql("select n from w where station = 'new'").to_pylist() == [{"n": 1}]


def test_what_an_open_dataset_learned_has_columns():
    open_dataset = msgspec.structs.replace(DATASET, unknown_fields="keep", fields={}, levels=(Level("hourly", {"avg": ()}),))
    world = World(open_dataset)
    world.archive([(START, {"x": 1, "y": "a"}, False, START)])
    world.buffer(NOW - HOUR, {"x": 2, "z": True})
    world.progress(THROUGH)
    answer = world.store.sql("select x, y from w where x > 0 order by x")
    assert answer.to_pylist() == [{"x": 1, "y": "a"}, {"x": 2, "y": None}]


# names and errors ------------------------------------------------------------------------------------------------------


def store_of(*names, levels=("hourly",)):
    world = World()
    for name in names:
        own = tuple(Level(level, {"avg": ()}) for level in levels)
        world.store.catalog.put_dataset(msgspec.structs.replace(DATASET, name=name, levels=own), START)
    return world.store


def test_a_table_is_found_by_its_dataset():
    store = store_of("air", "air_quality", "Air_Hourly", "x")
    assert store.sql("show tables;")["name"].to_pylist() == [
        *("Air_Hourly", "Air_Hourly_hourly", "air", "air_hourly", "air_quality", "air_quality_hourly"),
        *("w", "w_daily", "w_hourly", "x", "x_hourly"),
    ]
    assert "valid_time" in store.sql("describe air_hourly")["column_name"].to_pylist()  # the dataset, not the level of that name
    assert "period_start" in store.sql("describe AIR_QUALITY_HOURLY")["column_name"].to_pylist()


def test_a_configuration_that_is_damaged_does_not_keep_the_others_from_being_read():
    world = World()
    world.store.catalog.put_dataset(msgspec.structs.replace(DATASET, name="broken"), START)
    for item in list(world.backend.catalog.query("config#broken")):
        world.backend.catalog.put(
            item | {"body": b"\x00"} if "body" in item else item | {name: b"\x00" for name in item if name not in ("pk", "sk")}
        )
    assert world.store.sql("select count(*) as c from w").to_pylist() == [{"c": 0}]
    with pytest.raises(DamagedError):
        world.store.sql("select * from broken")


def test_what_a_read_raises_comes_out_as_it_is():
    def scan(question):
        def batches():
            raise RetryError("DynamoDB is busy")
            yield

        return pa.RecordBatchReader.from_batches(shape(DATASET, None, [], question.fields).schema, batches())

    with pytest.raises(RetryError, match="DynamoDB is busy"):
        sql.run("select sum(n) from w", Tables(lambda: ["w"], lambda _: DATASET, lambda _: [], scan))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("select * from wx", "SQL: there is no table 'wx' (did you mean 'w'?; tables: w, w_daily, w_hourly)"),
        ("select * from w_fortnightly", "SQL: there is no table 'w_fortnightly'"),
        ("select * from w join v using (station)", "SQL: Table with name v does not exist!"),
        ("create table x as pivot w on station using sum(n)", "SQL: only one statement that reads"),
        ("copy (pivot w on station using sum(n)) to '/tmp/x.csv'", "SQL: only one statement that reads"),
        ("insert into w select * from w", "SQL: only one statement that reads"),
        ("explain analyze create table w as select 1", "SQL: Cannot write to database"),
        ("attach '/tmp/x.db'", "SQL: only one statement that reads"),
    ],
)
def test_a_statement_is_refused_in_a_sentence(text, says):
    with pytest.raises(InputError) as caught:
        World().store.sql(text)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
