"""Queries give the same rows whichever tier they lie in: buffer, archive or both, live item, snapshot row or neither."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import Level
from tesseract.config.tiers import UNITS
from tesseract.errors import InputError, NotFoundError
from tesseract.storage.keys import latest_key
from tesseract.utils.time_utils import to_micros

from .query_world import DATASET, NOW, START, World, level_rows, raw_row, values

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
THROUGH = START + 10 * DAY  # days before START + 9 days are cold

# a record: hour of the 16 days after START, old and new value, where it lies, deleted in the newest version
records = st.dictionaries(
    st.integers(0, 16 * 24 - 1).map(lambda hour: START + hour * HOUR + timedelta(minutes=hour % 60)),
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["archive", "archive2", "buffer", "both"]), st.booleans()),
    max_size=25,
)


def is_cold(at: datetime) -> bool:
    return UNITS["daily"].floor(at) + DAY + DAY + timedelta(minutes=15) <= THROUGH


def place(world: World, plan: dict) -> dict[datetime, dict]:
    """Put records where the plan says, and return those that are visible."""
    old, new, visible = [], [], {}
    for at, (before, after, where, deleted) in plan.items():
        fields = {} if deleted else values(after)
        if where in ("archive2", "both"):
            old.append((at, values(before), False, at))
        if where in ("archive", "archive2"):
            new.append((at, fields, deleted, at + DAY))
        else:
            world.buffer(at, fields, deleted=deleted, marked=THROUGH if is_cold(at) else None)
        if not deleted:
            visible[at] = fields
    for rows in (new, old):  # the older rows come in the later segment: write time decides, not the order of commits
        if rows:
            world.archive(rows)
    world.progress(THROUGH)
    return visible


@settings(max_examples=30, deadline=None)
@given(records, st.integers(0, 16 * 24), st.integers(0, 16 * 24))
def test_raw_rows_are_the_visible_records_of_the_range(plan, a, b):
    world = World()
    visible = place(world, plan)
    start, end = START + min(a, b) * HOUR, START + max(a, b) * HOUR
    world.backend.live.put({"pk": latest_key("w", "A")[0], "sk": "A", "valid_time": "", "version": 1, "stale": True})
    assert world.store.query("w", "A").to_pylist() == [raw_row(at, visible[at]) for at in sorted(visible)]
    result = world.store.read("w", "A", start, end)
    expected = [at for at in sorted(visible) if start <= at < end]
    assert result.table.to_pylist() == [raw_row(at, visible[at]) for at in expected]
    source = {"archive": "only_archive", "archive2": "only_archive", "buffer": "only_buffer", "both": "both"}
    for name in ("only_archive", "only_buffer", "both"):
        assert getattr(result.stats, name) == sum(source[plan[at][2]] == name for at in expected)


@settings(max_examples=25, deadline=None)
@given(records, st.sampled_from(["hourly", "daily"]), st.data())
def test_level_rows_are_those_of_a_recomputation_wherever_they_come_from(plan, level, data):
    world = World()
    visible = place(world, plan)
    periods: dict[datetime, list] = {}
    for at in plan:
        periods.setdefault(UNITS[level].floor(at), [])
    for at in sorted(visible):
        periods[UNITS[level].floor(at)].append((at, visible[at]))
    snapshots = []
    marked = {UNITS["daily"].floor(at) for at, (_, _, where, _) in plan.items() if where in ("buffer", "both")}
    for start, own in periods.items():
        kind = data.draw(st.sampled_from(["kept", "stale", "absent"]))
        if is_cold(start) and UNITS["daily"].floor(start) not in marked:
            if own or kind != "absent":  # of a period without records there may be no row
                snapshots += [(start, own, 2), (start, [(start, values(1))], 1)]
            world.live(level, start, [(start, values(7))])  # not looked at: the day is cold
        elif kind != "absent":
            world.live(level, start, own, stale=kind == "stale")
            snapshots.append((start, [(start, values(9))], 9))  # not looked at: the day is hot
    if snapshots:
        world.snapshot(level, snapshots)
    world.backend.live.put({"pk": latest_key("w", "A")[0], "sk": "A", "valid_time": "", "version": 1, "stale": True})
    result = world.store.read("w", "A", START, START + 20 * DAY, level=level) if plan else None
    if result is not None:
        assert result.table.to_pylist() == level_rows(visible, level)
        assert result.stats.live_items + result.stats.snapshot_rows + result.stats.recomputed == result.stats.rows
        assert world.store.query("w", "A", level=level).to_pylist() == level_rows(visible, level)


def test_the_last_period_is_whole_though_it_reaches_past_the_end():
    world = World()
    world.buffer(START + timedelta(minutes=50), values(3))
    table = world.store.query("w", "A", START, START + timedelta(minutes=10), level="hourly")
    assert table["rows"].to_pylist() == [1]
    assert world.store.query("w", "A", START + timedelta(minutes=10), START + HOUR, level="hourly").num_rows == 0


def test_schema_and_metadata_are_the_same_from_every_source_and_when_empty():
    world = World()
    world.archive([(START, values(1), False, START)])
    world.snapshot("hourly", [(START, [(START, values(1))], 1)])
    world.buffer(START + 12 * DAY, values(2))
    world.progress(THROUGH)
    for level in ("raw", "hourly"):
        tables = [world.store.query("w", "A", start, start + DAY, level=level) for start in (START, START + DAY, START + 12 * DAY)]
        assert [len(table) for table in tables] == [1, 0, 1]
        assert tables[0].schema.equals(tables[1].schema, check_metadata=True)
        assert tables[0].schema.equals(tables[2].schema, check_metadata=True)
    assert tables[0].schema.field("temp_avg").metadata == {b"unit": "°C".encode()}
    assert tables[0].schema.field("temp_count").metadata is None


def test_a_tombstone_that_was_archived_and_a_newer_record_in_the_buffer():
    world = World()
    world.archive([(START, {}, True, START)])
    world.buffer(START, values(4), marked=THROUGH)
    world.progress(THROUGH)
    assert world.store.query("w", "A").to_pylist() == [raw_row(START, values(4))]


def test_an_old_mark_means_that_the_archive_has_it_all():
    world = World()
    world.archive([(START, values(1), False, START)])
    world.buffer(START, values(2), marked=THROUGH - timedelta(minutes=16))
    world.progress(THROUGH)
    assert world.store.read("w", "A", START, START + DAY).stats.buffer_queries == 0


def test_several_groups_all_groups_and_fields():
    world = World()
    for group in ("B", "A", "C%2FD"):
        world.archive([(START, values(1), False, START)], group)
    world.progress(THROUGH)
    assert world.store.groups("w") == ["A", "B", "C/D"]
    assert world.store.query("w")["station"].to_pylist() == ["A", "B", "C/D"]
    assert world.store.query("w", ["B", "A", "B"])["station"].to_pylist() == ["A", "B"]
    assert world.store.query("w", "C/D", fields=["n"]).column_names == ["station", "valid_time", "ref_time", "n"]
    assert world.store.query("w", "A", level="daily", fields=["n", "temp_avg"]).column_names[3:] == [
        *(f"n_{stat}" for stat in ("count", "sum", "avg", "std", "min", "max", "first", "last")),
        "temp_avg",
    ]


def test_learned_columns_widen_over_all_slices_and_a_name_nobody_wrote_is_a_null_column():
    dataset = msgspec.structs.replace(DATASET, fields={}, unknown_fields="keep")
    world = World(dataset)
    world.archive([(START, {"x": 1, "wind.speed": 2}, False, START)])
    world.buffer(START + 12 * DAY, {"x": values(3)["temp"]})
    world.progress(THROUGH)
    table = world.store.query("w", "A")
    assert table.column_names == ["station", "valid_time", "ref_time", "wind.speed", "x"]
    assert table["x"].to_pylist() == [1.0, 0.75]
    assert table["wind.speed"].to_pylist() == [2, None]
    assert world.store.query("w", "A", fields=["y"]).schema.field("y").type == pa.string()
    world.snapshot("hourly", [(START, [(START, {"x": 1, "wind.speed": 2})], 1)])
    counts = world.store.query("w", "A", level="hourly")
    assert counts["wind.speed_count"].to_pylist() == [1, 0]


def test_where_snapshots_are_complete_an_absent_period_has_no_record_and_no_raw_row_is_read():
    world = World()
    days = [START + day * DAY for day in (0, 3, 7)]
    world.archive([(at, values(1), False, at) for at in days])
    for level in ("hourly", "daily"):
        world.snapshot(level, [(at, [(at, values(1))], 1) for at in days])
    world.progress(THROUGH)
    for level in ("hourly", "daily"):
        result = world.store.read("w", "A", START, START + 8 * DAY, level=level)
        assert result.table.to_pylist() == level_rows(dict.fromkeys(days, values(1)), level)
        assert (result.stats.segments, result.stats.recomputed, result.stats.snapshot_rows) == (1, 0, 3)


def test_a_period_that_began_before_its_level_was_kept_is_computed_from_raw_rows():
    since = to_micros(START + DAY + HOUR / 2)
    levels = tuple(msgspec.structs.replace(level, live_from=since) for level in DATASET.levels)
    world = World(msgspec.structs.replace(DATASET, levels=levels))
    records = {START + hour * HOUR: values(hour) for hour in (1, 20, 24, 25, 26, 50)}
    world.archive([(at, fields, False, at) for at, fields in records.items()])
    world.snapshot("hourly", [(at, [(at, records[at])], 1) for at in records if to_micros(at) > since])
    world.snapshot("daily", [(START + 2 * DAY, [(START + 50 * HOUR, values(50))], 1)])
    world.progress(THROUGH)
    for level, computed in (("hourly", 3), ("daily", 2)):
        result = world.store.read("w", "A", START, START + 4 * DAY, level=level)
        assert result.table.to_pylist() == level_rows(records, level)
        assert result.stats.recomputed == computed


def test_a_level_of_a_second_life_reads_only_its_own_items_and_segments():
    since = 1_000_000
    levels = (msgspec.structs.replace(DATASET.levels[0], live_from=since),)
    world = World(msgspec.structs.replace(DATASET, levels=levels))
    world.archive([(START, values(1), False, START)])
    world.snapshot("hourly", [(START, [(START, values(1))], 1)])
    assert world.store.catalog.groups("w", f"hourly@{since}") == ["A"]
    world.progress(THROUGH)
    assert world.store.read("w", "A", START, START + HOUR, level="hourly").stats.snapshot_rows == 1
    world.buffer(START + 12 * DAY, values(2))
    pk, sk = f"w#A#{levels[0].name}", "2026-03-13T00:00:00Z"
    world.backend.live.put({"pk": pk, "sk": sk, "rows": 9, "fields": {}, "version": 1})  # of the former life
    assert world.store.query("w", "A", START + 12 * DAY, level="hourly")["rows"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.query("x"), "there is no dataset 'x' (known datasets: w)"),
        (lambda s: s.query("w", "KFJK"), "dataset w has no group 'KFJK' (did you mean 'KJFK'?)"),
        (lambda s: s.latest("w", "KFJK"), "dataset w has no group 'KFJK' (did you mean 'KJFK'?)"),
        (lambda s: s.query("w", ("A", "B")), "a group of dataset w has 1 part, STATION; 'A/B' is not one"),
        (lambda s: s.query("w", ""), "a group of dataset w has 1 part, STATION; '' is not one"),
        (
            lambda s: s.query("w", "KJFK", "2026-03-02", "2026-03-01"),
            "end 2026-03-01T00:00:00Z is before start 2026-03-02T00:00:00Z",
        ),
        (lambda s: s.query("w", "KJFK", level="weekli"), "there is no level 'weekli' (did you mean 'weekly'?)"),
        (lambda s: s.query("w", "KJFK", fields=["tmp"]), "dataset w has no field 'tmp' (did you mean 'temp'?)"),
        (lambda s: s.query("w", "KJFK", fields=["note"], level="daily"), "dataset w has no field 'note' at level daily"),
        (lambda s: s.query("w", "KJFK", "yesterday"), "start 'yesterday' is not a time"),
        (lambda s: s.query("w", "KJFK", datetime(2026, 3, 1)), "start 2026-03-01T00:00:00 has no time zone"),
        (lambda s: s.dataset("w", 7), "dataset w has no version 7 (versions 1 to 1)"),
    ],
)
def test_bad_questions_are_answered_in_a_sentence(call, says):
    world = World()
    world.archive([(START, values(1), False, START)], "KJFK")
    with pytest.raises(InputError) as caught:
        call(world.store)
    assert str(caught.value).startswith(says)


def test_a_group_that_nobody_but_the_buffer_knows_exists():
    world = World()
    world.buffer(NOW, values(1), group="new")
    assert world.store.query("w", "new", START, START + DAY).num_rows == 0
    with pytest.raises(NotFoundError):
        world.store.query("w", "old", START, START + DAY)


def test_latest_reads_the_item_and_resolves_a_stale_or_absent_one_from_every_tier():
    world = World()
    world.archive([(START, values(1), False, START)])
    world.archive([(START, values(2), False, START), (START + HOUR, {}, True, START)], "B")
    world.progress(NOW - DAY)
    pk, sk = latest_key("w", "C")
    item = {"pk": pk, "sk": sk, "valid_time": "2026-03-02T00:00:00.000000Z", "fields": values(4), "version": 1}
    world.backend.live.put({**item, "ref_time": "2026-03-02T01:00:00.000000Z"})
    found = world.store.latest("w")
    assert [row["station"] for row in found] == ["A", "B", "C"]
    assert found[:2] == [raw_row(START, values(1)), raw_row(START, values(2), "B")]
    assert found[2]["ref_time"] == datetime(2026, 3, 2, 1, tzinfo=UTC)
    assert found[2]["temp"] == 1.0
    world.backend.live.put({**item, "stale": True, "fields": {}})
    world.buffer(NOW, {}, group="C", deleted=True)
    with pytest.raises(NotFoundError, match="has no record"):
        world.store.latest("w", "C")


def test_compound_groups():
    dataset = msgspec.structs.replace(DATASET, group_by=("net", "station"), levels=(Level("hourly", {"avg": ()}),))
    world = World(dataset)
    world.archive([(START, values(1), False, START)], "N%2F1/A")
    world.archive([(START, values(1), False, START)], "N/A")
    world.progress(THROUGH)
    assert world.store.query("w", ("N/1", "A"))["net"].to_pylist() == ["N/1"]
    assert world.store.query("w", ["N/A", ("N/1", "A")])["net"].to_pylist() == ["N", "N/1"]
    with pytest.raises(InputError, match="NET/STATION"):
        world.store.query("w", "N")


def test_sql_reads_only_the_tables_that_it_names():
    world = World()
    world.archive([(START, values(1), False, START), (START + HOUR, values(2), False, START)])
    assert world.store.sql('select count(*) as c, avg(temp) as a from "W"').to_pylist() == [{"c": 2, "a": 0.375}]
    text = "with x as (select * from w_hourly) select count(*) as c from x"
    assert world.store.sql(text).to_pylist() == [{"c": 2}]
    assert world.store.sql("select valid_time from w limit 1").schema.field(0).type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("selct", "SQL: syntax error"),
        ("", "SQL: only one statement that reads"),
        ("select 1; select 2", "SQL: only one statement that reads"),
        ("drop table w", "SQL: only one statement that reads"),
        ("copy w to '/tmp/w.csv'", "SQL: only one statement that reads"),
        ("set enable_external_access = true", "SQL: only one statement that reads"),
        ("select * from weather", "SQL: there is no table 'weather'"),
        ("select * from '/etc/passwd'", "SQL: there is no table '/etc/passwd'"),
        ("select * from read_csv('/etc/passwd')", "SQL: Cannot access file"),
        ("select nope from w", 'SQL: Referenced column "nope" not found'),
        ("select 1 / ", "SQL: syntax error"),
    ],
)
def test_sql_refuses_in_a_sentence(text, says):
    with pytest.raises(InputError) as caught:
        World().store.sql(text)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_level_goes_by_the_snapshots_watermark_and_its_raw_rows_by_the_archives():
    world = World()
    world.archive([(START, values(1), False, START), (START + HOUR, values(2), False, START)])
    world.live("hourly", START, [(START, values(1))])
    world.snapshot("hourly", [(START, [(START, values(7))], 9)])  # not committed through: not looked at
    world.progress(THROUGH, START)
    result = world.store.read("w", "A", START, START + DAY, level="hourly")
    assert result.table.to_pylist() == level_rows({START: values(1), START + HOUR: values(2)}, "hourly")
    assert (result.stats.live_items, result.stats.snapshot_rows, result.stats.recomputed) == (1, 0, 1)
    assert result.stats.buffer_queries == 0


def test_rows_that_move_to_the_archive_while_a_query_runs_are_not_missed(monkeypatch):
    world = World()
    world.buffer(START + 12 * DAY, values(1))
    world.progress(THROUGH)
    read = world.store.catalog.progress

    def then_archive():
        known = read()
        for item in list(world.backend.raw.items()):
            world.archive([(START + 12 * DAY, values(1), False, START + 12 * DAY)])
            world.backend.raw.delete((item["pk"], item["sk"]))
        world.progress(NOW)
        return known

    monkeypatch.setattr(world.store.catalog, "progress", then_archive)
    assert world.store.query("w", "A")["n"].to_pylist() == [1]


def test_before_any_watermark_an_open_query_sees_marked_and_young_days():
    world = World()
    world.buffer(START - timedelta(days=4000), values(1), marked=NOW)
    world.buffer(START, values(2))
    result = world.store.read("w", "A")
    assert result.table["n"].to_pylist() == [1, 2]
    assert result.stats.buffer_queries < 40
    assert world.store.query("w", "A", level="daily")["n_sum"].to_pylist() == [1, 2]


def test_a_level_that_covers_some_fields_only():
    levels = (Level("hourly", {"avg": ("temp",), "count": ("temp", "n")}),)
    world = World(msgspec.structs.replace(DATASET, levels=levels))
    world.buffer(START, values(1))
    table = world.store.query("w", "A", level="hourly")
    assert table.column_names == ["station", "period_start", "rows", "temp_count", "temp_avg", "n_count"]
    assert table.to_pylist()[0]["n_count"] == 1
