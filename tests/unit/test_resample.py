"""Intervals of any length, days of any zone and levels that are not kept: what a recomputation gives, whatever they are made of."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from tesseract.config.bases import named_level, unkept_level
from tesseract.config.dataset import STATS, Level
from tesseract.config.tiers import UNITS
from tesseract.errors import InputError
from tesseract.query import raw_folds
from tesseract.query.buckets import calendar, parse
from tesseract.query.level_bases import base_of
from tesseract.query.plan import EVERYTHING, Facts, Range
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support.level_world import DAY, FIELDS, HOUR, NUMBERS, World, plant, recomputed
from tests.unit.test_levels import live_a_while, values

BERLIN, NEW_YORK, KOLKATA = "Europe/Berlin", "America/New_York", "Asia/Kolkata"
ASKED = [("90min", ""), ("6h", ""), ("1d", NEW_YORK), ("1d", KOLKATA), ("2w", ""), ("1mo", BERLIN), ("1y", "")]


def check(world: World, every: str, zone: str, start: datetime | None, end: datetime | None, **options: object) -> None:
    """The rows are those of a recomputation: to the last digit, `avg` and `std` to 1e-12."""
    table = world.store.resample("weather", "A", start, end, every=every, tz=zone or None, **options)
    assert str(table.schema.field("period_start").type) == f"timestamp[us, tz={zone or 'UTC'}]"
    compare(table.to_pylist(), oracle(world, every, zone, start, end))


def oracle(world: World, every: str, zone: str, start: datetime | None, end: datetime | None) -> list[dict]:
    periods: dict[datetime, list] = {}
    for (group, at), own in sorted(world.written.items()):
        begin = wall_start(at, every, zone)
        if group == "A" and (start is None or start <= begin) and (end is None or begin < end):
            periods.setdefault(begin, []).append(own)
    return [
        {"station": "A", "period_start": at, "rows": len(own)}
        | {f"{name}_{stat}": value for name in NUMBERS for stat, value in recomputed(name, own).items()}
        for at, own in periods.items()
    ]


def wall_start(at: datetime, every: str, zone: str) -> datetime:
    """The start of a moment's interval, by datetime's own arithmetic."""
    wall = at.astimezone(ZoneInfo(zone or "UTC"))
    day = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    match every:
        case "1d":
            return day.astimezone(UTC)
        case "1mo":
            return day.replace(day=1).astimezone(UTC)
        case "1y":
            return day.replace(day=1, month=1).astimezone(UTC)
        case "2w":
            origin = datetime(1969, 12, 29, tzinfo=UTC)
            return origin + (at - origin) // (14 * DAY) * (14 * DAY)
    step = {"90min": 1.5 * HOUR, "6h": 6 * HOUR}[every]
    origin = datetime(1970, 1, 1, tzinfo=UTC)
    return origin + (at - origin) // step * step


def compare(found: list[dict], wanted: list[dict]) -> None:
    assert [row["period_start"] for row in found] == [row["period_start"] for row in wanted]
    for row, expected in zip(found, wanted, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            near = name.endswith(("_avg", "_std")) and value is not None and row[name] is not None
            assert math.isclose(row[name], value, rel_tol=1e-12) if near else row[name] == value, (name, row, expected)


@pytest.mark.parametrize("seed", range(4))
def test_a_seeded_life_gives_what_recomputation_gives(seed, monkeypatch):
    monkeypatch.setattr(raw_folds, "CELLS", 500_000)  # several portions a day of the buffer
    monkeypatch.setattr(raw_folds, "FEW", 0)
    chance = random.Random(seed)
    names = [("hourly", "daily"), ("15min", "monthly"), ("daily", "weekly", "monthly"), ("1min",)][seed]
    world = World(plant(*names, partitions=seed % 2), datetime(2024, 11, 20, 22, 30, tzinfo=UTC))
    for _ in range(2):
        live_a_while(world, chance, 5)
        world.drain()
        world.put("A", world.now, values(chance))
        world.drain()
        for every, zone in ASKED:
            check(world, every, zone, None, None)
            start = world.now - chance.random() * 60 * DAY
            check(world, every, zone, start, start + chance.random() * 40 * DAY)
        for level in UNITS:
            world.check_level(level, "A", datetime(2024, 1, 1, tzinfo=UTC), world.now + 400 * DAY)
    world.settle()
    for every, zone in ASKED:
        check(world, every, zone, None, None)
        past = world.store.resample("weather", "A", every=every, tz=zone or None, as_of=world.now)
        compare(past.to_pylist(), oracle(world, every, zone, None, None))


def test_days_across_a_change_of_the_clock_come_from_hourly_states():
    world = World(plant("hourly"), datetime(2024, 4, 3, tzinfo=UTC))
    for hour in range(120):
        world.put("A", datetime(2024, 3, 29, tzinfo=UTC) + hour * HOUR, {"i": hour})
    world.drain()
    world.settle()
    span = (None, datetime(2024, 4, 4, tzinfo=UTC))
    result = world.store.read("weather", "A", *span, level="daily", tz="Europe/Berlin", fields=["i"])
    assert result.table["rows"].to_pylist() == [23, 24, 23, 24, 24, 2]  # the 31st has 23 hours, the first day begins at 1:00
    assert (result.stats.recomputed, result.stats.snapshot_rows, result.stats.buffer_queries) == (0, 120, 0)
    other = world.store.read("weather", "A", *span, level="daily", tz="Asia/Kolkata", fields=["i"])
    assert other.table["rows"].to_pylist() == [19, 24, 24, 24, 24, 5]
    assert (other.stats.recomputed, other.stats.snapshot_rows) == (6, 0)


def test_a_zone_whose_offset_was_another_once_has_its_rows_read_there():
    world = World(plant("hourly"), datetime(2016, 8, 20, tzinfo=UTC))  # Pyongyang was at +8:30 from August 2015 to May 2018
    for day in range(0, 1200, 40):
        world.put("A", datetime(2015, 6, 1, 15, 10, tzinfo=UTC) + day * DAY, {"i": day})
        world.put("A", datetime(2015, 6, 1, 15, 40, tzinfo=UTC) + day * DAY, {"i": -day})
        world.now += 60 * DAY
    world.drain()
    world.settle()
    check(world, "1d", "Asia/Pyongyang", None, None)
    stats = world.store.read("weather", "A", level="daily", tz="Asia/Pyongyang").stats
    assert stats.recomputed > 0
    assert stats.snapshot_rows > 0


def test_a_level_that_is_not_kept_shows_what_the_coarsest_finer_one_keeps():
    some = Level("daily", {"avg": ("f",), "max": ("f", "i")})
    world = World(replace(plant(), levels=(Level("hourly", {"min": ("d",)}), some)))
    world.put("A", world.now - 40 * DAY, {"f": Decimal("1.5"), "i": 3, "d": Decimal(2)})
    world.put("A", world.now, {"f": Decimal("2.5"), "i": 7, "d": Decimal(2)})
    world.drain()
    table = world.store.query("weather", "A", level="yearly")
    assert table.column_names == ["station", "period_start", "rows", "f_avg", "f_max", "i_max"]
    rows = table.to_pylist()
    assert [(row["rows"], row["f_max"]) for row in rows] in ([(2, 2.5)], [(1, 1.5), (1, 2.5)])
    assert named_level(replace(plant(), levels=()), "monthly").stats == dict.fromkeys(STATS, ())
    with pytest.raises(InputError) as error:
        world.store.query("weather", "A", level="monthyl")
    assert "there is no level 'monthyl' (did you mean 'monthly'?)" in str(error.value)


def test_the_coarsest_kept_level_that_fits_is_the_base():
    now = to_micros(datetime(2025, 1, 1, tzinfo=UTC))
    facts = Facts(0, {}, horizon=now, settled=now)

    def base(every: str, zone: str = "", *levels: str, **changes: object) -> str | None:
        dataset = plant(*levels, **changes)
        found = base_of(
            dataset, unkept_level(dataset, every, length=parse(every, zone).length), parse(every, zone), EVERYTHING, facts
        )
        return found and found.name

    assert base("1y", "", "hourly", "daily", "weekly", "monthly") == "monthly"
    assert base("1y", "Europe/Berlin", "hourly", "daily", "weekly", "monthly") == "hourly"
    assert base("1y", "", "daily", "weekly") == "daily"
    assert base("4w", "", "daily", "weekly") == "weekly"
    assert base("7d", "", "daily", "weekly") == "daily"
    assert base("6h", "", "15min", "hourly", "daily") == "hourly"
    assert base("20min", "", "15min", "hourly") is None
    assert base("30min", "Asia/Kathmandu", "15min", "hourly") == "15min"
    assert base("1d", "Asia/Kathmandu", "hourly") is None
    assert base("1mo", "", "hourly", "daily", retention={"daily": {"*": "P1Y"}}) == "hourly"  # it reaches back farther
    level = Level("hourly", {"avg": ("f",)})
    dataset = replace(plant(), levels=(level, Level("daily", {"avg": ("i",)})))
    assert base_of(dataset, Level("1w", {"max": ("f",)}), calendar("weekly"), EVERYTHING, facts) == level
    assert base_of(dataset, Level("1w", {"max": ("d",)}), calendar("weekly"), EVERYTHING, facts) is None


def test_only_the_fields_asked_for_decide_and_are_read():
    world = World(replace(plant(), levels=(Level("hourly", {"avg": ("f",)}), Level("daily", {"avg": ("i",)}))))
    for day in range(30):
        world.put("A", world.now - day * DAY, {"f": Decimal(day), "i": day, "d": Decimal(1)})
    world.drain()
    world.settle()
    for field, computed in (("i", False), ("f", False), ("d", True)):
        start = world.now - 40 * DAY
        question = {"every": "10d", "stats": ["max"], "fields": [field]}
        table = world.store.resample("weather", "A", start, world.now, **question)
        assert table.column_names == ["station", "period_start", "rows", f"{field}_max"]
        assert sum(table["rows"].to_pylist()) == 30
        requests = world.store.plan("weather", "A", start, world.now, level="monthly", fields=[field])
        assert requests.requests
        assert computed == (field == "d")


def test_retention_of_the_base_leaves_out_periods_that_lack_some_of_its_rows():
    dataset = plant("daily", retention={"daily": {"*": "P90D"}, "raw": {"*": "P90D"}})
    wanted = Range(to_micros(datetime(2023, 1, 1, tzinfo=UTC)), to_micros(datetime(2024, 1, 1, tzinfo=UTC)))
    settled = to_micros(datetime(2024, 1, 1, tzinfo=UTC))
    found = base_of(
        dataset, unkept_level(dataset, "1mo", length=parse("1mo").length), parse("1mo"), wanted, Facts(0, {}, settled=settled)
    )
    assert found is not None
    assert found.name == "daily"


def test_fields_that_nobody_declared():
    world = World(replace(plant("hourly"), fields={name: FIELDS[name] for name in "fi"}, unknown_fields="keep"))
    for hour in range(60):
        world.put("A", world.now - hour * HOUR, {"i": hour, "x": Decimal(hour) / 4, "y": hour, "note": "text"})
    world.drain()
    for _ in range(2):
        rows = world.store.resample("weather", "A", every="2d", stats=["sum", "max", "count"]).to_pylist()
        assert sum(row["x_sum"] for row in rows) == 442.5
        assert sum(row["y_sum"] for row in rows) == 1770
        assert max(row["y_max"] for row in rows) == 59
        assert sum(row["y_count"] for row in rows) == 60
        assert not any("note" in name for name in rows[0])
        world.settle()


def test_several_groups_filters_and_an_empty_answer():
    world = World(plant("hourly"))
    for hour in range(48):
        for group in ("A", "B"):
            world.put(group, world.now - hour * HOUR, {"i": hour if group == "A" else 100})
    world.drain()
    table = world.store.resample("weather", ["A", "B"], every="1d", stats=["max"], fields=["i"], where="i_max > 30")
    assert set(table["station"].to_pylist()) == {"A", "B"}
    assert all(row["i_max"] > 30 for row in table.to_pylist())
    start = world.now - 400 * DAY
    empty = world.store.resample("weather", "A", start, start + DAY, every="1h", fill="null")
    some = world.store.resample("weather", "A", world.now - DAY, world.now, every="1h", fill="null")
    assert len(empty) == 0
    assert empty.schema == some.schema
    assert empty.schema.metadata[b"tesseract.level"] == b"1h"
    assert empty.schema.field("d_max").metadata == {b"unit": "€".encode()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"every": "1h", "stats": ["mean"]}, "there is no statistic 'mean'"),
        ({"every": "1h", "stats": []}, "stats names no statistic"),
        ({"every": "1h", "fill": "spline"}, "fill 'spline' is no way to fill gaps (none, null, previous, linear, or a number)"),
        ({"every": "1h", "fill": math.nan}, "fill nan is no way to fill gaps"),
        ({"every": "1h", "fill": True}, "fill True is no way to fill gaps"),
        ({"every": "1 fortnight"}, "every '1 fortnight' is no interval"),
        ({"every": "1h", "tz": "Mars"}, "there is no time zone 'Mars'"),
        ({"every": "1h", "fields": ["ff"]}, "dataset weather has no field 'ff'"),
        ({"every": "1h", "stats": ["max"], "fields": ["i"], "fill": 0.5}, "fill 0.5 does not fit into i_max (it holds int64)"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(options, says):
    world = World(plant("hourly"))
    world.put("A", world.now, {"i": 1})
    world.drain()
    with pytest.raises(InputError) as error:
        world.store.resample("weather", "A", world.now - DAY, world.now, **options)
    assert says in str(error.value)


def test_a_range_begins_with_the_first_start_in_it():
    world = World(plant("hourly"))
    for hour in range(72):
        world.put("A", datetime(2024, 3, 1, tzinfo=UTC) + hour * HOUR, {"i": hour})
    start = datetime(2024, 3, 1, 5, tzinfo=UTC)
    table = world.store.resample("weather", "A", start, start + 25 * HOUR, every="12h", stats=["first"], fields=["i"])
    starts = [datetime(2024, 3, 1, 12, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)]
    assert table["period_start"].to_pylist() == starts
    assert table["i_first"].to_pylist() == [12, 24]
    assert from_micros(to_micros(starts[0])) == starts[0]
    assert timedelta(hours=12) == 12 * HOUR


def test_what_a_level_costs_grows_with_the_groups_alone():
    world = World(plant("hourly", ladder=("yearly",)))
    groups = [f"G{place}" for place in range(8)]
    for group in groups:
        for hour in range(30):
            world.put(group, world.now - 40 * DAY - hour * HOUR, {"i": hour})
    world.drain()
    world.settle()
    start, end = world.now - 60 * DAY, world.now - 30 * DAY
    for question in ({"level": "hourly"}, {"level": "daily"}, {"level": "daily", "tz": BERLIN}):
        world.store.read("weather", groups, start, end, **question)  # what a process learns once: the dataset's life
        one = world.store.read("weather", groups[0], start, end, **question).stats
        all_ = world.store.read("weather", groups, start, end, **question).stats
        assert (one.s3_requests, one.recomputed, one.buffer_queries, one.live_items) == (1, 0, 0, 0)
        assert all_.s3_requests == len(groups)
        per_group = one.dynamodb_requests - 2  # the watermark, and whether there is an outage
        assert all_.dynamodb_requests - 2 == per_group * len(groups) == 2 * len(groups)  # manifest and marks


def test_a_level_that_is_not_kept_shows_what_the_level_it_is_made_of_shows():
    """A month of a dataset whose days have more statistics than its hours has those of days; half an hour has those of hours."""
    dataset = plant("hourly", "daily")
    hourly, daily = Level("hourly", {"avg": ("f",)}), Level("daily", {"sum": ("f", "i")})
    dataset = replace(dataset, levels=(hourly, daily))
    for name, length, kept in (
        ("monthly", None, daily),
        ("weekly", None, daily),
        ("6h", 6 * 3600 * 10**6, hourly),
        ("15min", None, hourly),
        ("1mo", 30 * 86400 * 10**6, daily),
    ):
        assert unkept_level(dataset, name, length=length).stats == kept.stats
    assert unkept_level(replace(dataset, levels=()), "1mo").stats.keys() == set(STATS)
