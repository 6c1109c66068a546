"""Groups that share partitions by hash: every road gives what it gives where each group has its own."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from tesseract.processing.segments import RAW
from tesseract.storage.keys import partition_name
from tests.support.level_world import DAY, World, plant
from tests.unit.test_levels import live_a_while, values

GROUPS = tuple("ABCDEF")


@pytest.mark.parametrize("seed", range(2))
def test_a_seeded_life_of_several_groups_in_two_buckets(seed):
    chance = random.Random(seed)
    world = World(plant("hourly", "daily", "monthly", partitions=2), datetime(2024, 12, 20, 22, 30, tzinfo=UTC))
    for _ in range(3):
        for group in GROUPS:
            for _ in range(chance.randrange(4)):
                world.put(group, (world.now - 40 * DAY * chance.random()).replace(microsecond=0), values(chance))
        live_a_while(world, chance, 4)
        world.drain()
        check(world)
    world.settle()
    world.pass_time(400 * DAY)
    world.compact()
    check(world)
    names = world.catalog.partitions(world.dataset, RAW)
    assert names == ["*0000", "*0001"]
    assert {partition_name(world.dataset, group) for group in world.catalog.groups("weather", RAW)} == set(names)
    segments = [segment for name in names for segment in world.catalog.manifest("weather", RAW, name).segments]
    assert {segment.tier for segment in segments} == {"yearly"}
    assert all("/bucket=000" in segment.key for segment in segments)
    groups = [group for segment in segments for group in segment.groups]
    assert set(groups) == set(world.catalog.groups("weather", RAW))


def check(world: World) -> None:
    for group in sorted({group for group, _ in world.written}):
        assert world.store.query("weather", group).to_pylist() == world.raw_rows(group)
        for level in ("hourly", "daily", "monthly"):
            world.check_level(level, group, datetime(2024, 1, 1, tzinfo=UTC), world.now + 400 * DAY)


def test_a_reader_of_one_group_opens_only_files_that_hold_it():
    world = World(plant("daily", partitions=1))
    world.put("A", world.now, {"i": 1})
    world.drain()
    world.settle()
    world.put("B", world.now, {"i": 2})
    world.drain()
    world.settle()
    (name,) = world.catalog.partitions(world.dataset, RAW)
    assert len(world.catalog.manifest("weather", RAW, name).segments) == 2
    assert [len(world.catalog.manifest_of(world.dataset, RAW, group).segments) for group in "ABC"] == [1, 1, 0]
