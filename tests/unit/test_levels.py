"""Every level, from a minute to a month, gives what a recomputation from raw gives, wherever its records lie and lay."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from tesseract.config.bases import base_level
from tesseract.config.dataset import Level
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.config.tiers import LEVELS, LIVE_LEVELS
from tests.support.level_world import ALL, DAY, HOUR, World, plant

MINUTE = timedelta(minutes=1)


def values(chance: random.Random) -> dict:
    fields = {
        "f": Decimal(repr(chance.uniform(-50, 50))),
        "i": chance.randrange(-(2**62), 2**62),
        "d": Decimal(chance.randrange(-(10**12), 10**12)) / 100,
        "w": chance.randrange(10**36),
    }
    return {name: value for name, value in fields.items() if chance.random() < 0.8}


def live_a_while(world: World, chance: random.Random, steps: int) -> None:
    """Records of now and of up to seven weeks ago, corrections, deletes; windows, snapshots and compactions between them."""
    for _ in range(steps):
        for _ in range(chance.randrange(8)):
            age = chance.choice([MINUTE, HOUR, DAY, 50 * DAY]) * chance.random()
            at = (world.now - age).replace(microsecond=0)
            again = [at for group, at in world.written if group == "A"]
            at = chance.choice(again) if again and chance.random() < 0.2 else at
            world.put("A", at, values(chance), deleted=chance.random() < 0.15)
        step = chance.choice([MINUTE, HOUR, DAY, DAY, DAY])
        if step == DAY or chance.random() < 0.5:  # the archive may lag by less than the hold of two days
            world.archive()
        world.pass_time(step)
        if chance.random() < 0.7:
            world.drain()
        if chance.random() < 0.6:
            world.snapshot()
        if chance.random() < 0.3:
            world.compact()


@pytest.mark.parametrize("seed", range(6))
def test_a_seeded_life_gives_what_recomputation_gives_at_every_level(seed):
    chance = random.Random(seed)
    names = [LEVELS, ("weekly", "monthly"), ("hourly", "monthly"), ("daily", "weekly")][seed % 4]
    world = World(plant(*names), datetime(2024, 12, 20, 22, 30, tzinfo=UTC))
    for _ in range(3):
        live_a_while(world, chance, 5)
        world.drain()
        if not any(group == "A" for group, _ in world.written):
            continue
        for level in names:
            world.check_level(level, "A", datetime(2024, 1, 1, tzinfo=UTC), world.now + 400 * DAY)
            start = world.now - chance.random() * 60 * DAY
            world.check_level(level, "A", start, start + chance.random() * 40 * DAY)
    world.drain()
    world.settle()
    for level in names:
        world.check_level(level, "A", datetime(2024, 1, 1, tzinfo=UTC), world.now)


def test_a_week_is_an_iso_week_whatever_the_tiers_cut():
    world = World(plant(ladder=("weekly", "yearly")), datetime(2024, 12, 20, tzinfo=UTC))
    for day in range(20):
        world.put("A", world.now, {"i": day})
        world.pass_time(DAY)
        world.drain()
    world.settle()
    world.pass_time(400 * DAY)
    world.compact()
    table = world.store.query("weather", "A", level="weekly")
    assert table["period_start"].to_pylist() == [datetime(2024, 12, 16 + 7 * week, tzinfo=UTC) for week in range(3)] + [
        datetime(2025, 1, 6, tzinfo=UTC)
    ]
    assert table["rows"].to_pylist() == [3, 7, 7, 3]
    assert table["i_last"].to_pylist() == [2, 9, 16, 19]


def test_a_merged_level_takes_the_coarsest_level_that_covers_its_fields():
    def base(*levels: Level, **changes: object) -> str | None:
        found = base_level(replace(plant(), levels=levels, **changes), levels[-1])
        return found and found.name

    every, some, weekly = dict(ALL), {"avg": ("f", "i")}, Level("weekly", dict(ALL))
    assert base(Level("hourly", every), Level("daily", every), weekly) == "daily"
    assert base(Level("hourly", every), Level("daily", some), weekly) == "hourly"
    assert base(Level("daily", some), weekly) is None
    assert base(Level("daily", some), Level("monthly", {"max": ("f",)})) == "daily"
    assert base(Level("daily", some), Level("monthly", {"max": ("d",)})) is None
    assert base(Level("1min", {"max": ("f", "i", "d", "w")}), weekly) == "1min"
    assert base(Level("1min", {"max": ("f", "i", "d", "w")}), weekly, unknown_fields="keep") is None
    assert base(weekly) is None


@pytest.mark.parametrize("added", ["daily", "hourly", "15min"])
def test_a_level_added_later_gives_its_states_from_then_on_and_raw_rows_before(added):
    world = World(plant("weekly", "monthly"))
    for _ in range(2):
        for _ in range(40):
            world.put("A", world.now, values(random.Random(world.now.timestamp())))
            world.drain()
            world.pass_time(7 * HOUR)
            world.archive()
        world.snapshot()
        world.check_level("weekly", "A", world.now - 90 * DAY, world.now)
        wanted = replace(world.dataset, levels=plant(added, "weekly", "monthly").levels)
        world.dataset = apply(world.catalog, wanted, world.now).dataset
    world.put("A", world.now - 20 * DAY, {"i": 7})  # late, before the level was kept
    world.drain()
    for _ in range(2):
        for level in (added, "weekly", "monthly"):
            world.check_level(level, "A", world.now - 90 * DAY, world.now)
        assert world.store.read("weather", "A", level="monthly").stats.recomputed
        world.settle()


def test_the_configuration_takes_every_level():
    text = "datasets: {d: {aggregations: {monthly: [max], 1min: [avg], weekly: [avg], 15min: [avg], daily: [avg], hourly: [avg]}}}"
    assert tuple(level.name for level in parse(text)["d"].levels) == LEVELS


def test_merged_levels_have_segments_and_no_item():
    world = World(plant())
    world.put("A", world.now - 40 * DAY, {"i": 1})
    world.drain()
    world.settle()
    keys = {item["pk"].rpartition("#")[2] for item in world.backend.live.items() if "rows" in item}
    assert keys == set(LIVE_LEVELS)
    assert all(world.catalog.groups("weather", level) for level in LEVELS)


def test_minutes_have_live_items_and_snapshot_rows_of_their_own():
    world = World(plant("1min", "15min"))
    for second in range(0, 3600, 30):
        world.put("A", world.now.replace(minute=0, second=0, microsecond=0) + timedelta(seconds=second), {"i": second})
    world.drain()
    for level, count in (("1min", 60), ("15min", 4)):
        result = world.store.read("weather", "A", level=level)
        assert (len(result.table), result.stats.live_items, result.stats.recomputed) == (count, count, 0)
    world.settle()
    for level, count in (("1min", 60), ("15min", 4)):
        result = world.store.read("weather", "A", level=level)
        assert (len(result.table), result.stats.snapshot_rows, result.stats.recomputed) == (count, count, 0)
        world.check_level(level, "A", world.now - 300 * DAY, world.now)


def test_sparse_minutes_get_no_empty_rows_but_where_one_must_hide_an_older_row():
    world = World(plant("1min"))
    at = world.now.replace(microsecond=0)
    world.put("A", at, {"i": 1})
    world.put("A", at + 30 * MINUTE, {"i": 2})
    world.pass_time(2 * HOUR)
    world.archive()
    (report,) = world.snapshot()
    assert report.rows == 2
    world.put("A", at, deleted=True)
    world.pass_time(timedelta(seconds=2))
    world.archive()
    world.snapshot()
    world.drain()
    world.settle()
    world.check_level("1min", "A", at - DAY, at + DAY)
