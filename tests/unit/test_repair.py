"""What stream functions cannot know is computed from the archive, exactly once, while they go on."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import pytest

from tesseract.config.dataset import Level
from tesseract.config.manager import apply
from tesseract.errors import NotFoundError
from tesseract.model import Item
from tesseract.processing import closing, mismatches
from tesseract.processing.aggregator import decode_state, same
from tesseract.processing.live_item import usable
from tesseract.processing.marking import mark
from tesseract.processing.snapshots import folded
from tesseract.processing.worklist import entries, entry
from tesseract.storage.keys import latest_key, live_pk
from tesseract.utils.time_utils import from_iso, iso_micros, to_micros
from tests.support.archive_world import START
from tests.support.level_world import ALL, DAY, HOUR, World, plant

AT = START + 12 * HOUR


def exact(world: World, group: str = "A") -> None:
    """Every live item is whole, right to the last digit, and nothing waits."""
    written = sorted((to_micros(at), values) for (name, at), values in world.written.items() if name == group)
    for level in world.dataset.levels:
        items = list(world.backend.live.query(live_pk("weather", group, level.name)))
        assert all(usable(item, level) for item in items), items
        starts = {to_micros(from_iso(item["sk"])): decode_state(item["state"]) for item in items}
        wanted = folded(written, level, sorted(starts))
        assert all(same(state, wanted[start]) for start, state in starts.items())
        assert sum(state.rows for state in starts.values()) == len(written)
    assert not list(entries(world.backend.live))


def stale(world: World) -> list[Item]:
    return [item for item in world.backend.live.items() if "stale_at" in item]


def close(world: World) -> closing.Outcome:
    """A window over all that was written, and what follows its close."""
    world.now += timedelta(seconds=20)
    world.archive()
    return closing.run(world.backend, world.catalog, world.now)


def test_what_may_have_expired_is_repaired_with_the_next_window_and_folded_on_from_there():
    world = World(plant("hourly", "daily"))
    for minute in range(5):
        world.put("A", AT + timedelta(minutes=minute), {"i": minute, "d": Decimal(minute) / 100})
    world.drain()
    exact(world)
    close(world)
    world.pass_time(4 * DAY)
    close(world)
    world.put("A", AT + timedelta(minutes=1), {"i": 9})  # an insert, since the first copy has expired
    world.drain()
    assert len(stale(world)) == 2
    outcome = close(world)
    assert (outcome.repairs.repaired, outcome.repairs.waiting) == (2, 0)
    exact(world)
    world.pass_time(timedelta(seconds=10))
    world.put("A", AT + timedelta(minutes=1), {"i": 12})  # still the greatest: nothing has to be looked up
    world.drain()
    exact(world)


@pytest.mark.parametrize("seed", range(20))
def test_a_repair_counts_no_change_twice_wherever_the_stream_is(seed):
    dice = random.Random(seed)
    world = World(plant("hourly", "daily"))
    times = [AT + timedelta(minutes=dice.randrange(180)) for _ in range(6)]
    levels = {level.name: level for level in world.dataset.levels}
    for _ in range(60):
        choice = dice.random()
        if choice < 0.5:
            world.put("A", dice.choice(times), {"i": dice.randrange(9), "f": Decimal(dice.randrange(99)) / 8}, dice.random() < 0.2)
        elif choice < 0.7:
            dice.choice(world.mappings).poll(dice.randrange(2))
        elif choice < 0.8:
            name = dice.choice(sorted(levels))
            start = dice.choice(times).replace(minute=0, hour=AT.hour if name == "hourly" else 0)
            mark(world.backend.live, (live_pk("weather", "A", name), f"{start:%Y-%m-%dT%H:00:00Z}"), levels[name], world.now)
        elif choice < 0.9:
            world.pass_time(timedelta(seconds=dice.choice((1, 4, 30))))
        else:
            close(world)
    world.drain()
    for _ in range(2):
        close(world)
        world.drain()
    exact(world)
    for level in ("hourly", "daily"):
        world.check_level(level, "A", START, START + DAY)


def test_a_level_that_was_added_later_appears_for_older_periods_once_they_are_marked():
    world = World(plant("hourly"))
    world.catalog.mark_used("weather")
    world.put("A", AT, {"i": 1})
    world.drain()
    close(world)
    wanted = plant("hourly", "daily")
    world.now += timedelta(minutes=10)
    world.dataset = apply(world.catalog, wanted, world.now).dataset
    daily = world.dataset.level("daily")
    assert daily is not None
    world.pass_time(timedelta(hours=2))
    key = (live_pk("weather", "A", "daily"), "2024-03-01T00:00:00Z")
    mark(world.backend.live, key, daily, world.now)
    close(world)
    item = world.backend.live.get(key)
    assert item["fields"]["i"]["sum"] == 1
    assert item["live_from"] == daily.live_from
    world.pass_time(timedelta(seconds=10))
    world.put("A", AT, {"i": 3})
    world.drain()
    exact(world)


def test_an_outage_that_loses_changes_is_healed_from_the_archive():
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    close(world)
    world.raw.retention = DAY
    world.put("A", AT + HOUR, {"i": 2})
    world.put("B", AT + HOUR, {"i": 5})
    world.pass_time(2 * HOUR)
    world.put("A", AT + 2 * HOUR, {"i": 3})
    world.pass_time(23 * HOUR)
    world.drain()
    assert [mapping.lost for mapping in world.mappings] == [2, 2]
    assert world.catalog.outage()
    for level in ("hourly", "daily"):  # readers trust nothing meanwhile
        world.check_level(level, "A", START, START + DAY)
        world.check_level(level, "B", START, START + DAY)
    assert world.store.latest("weather", "B")[0]["i"] == 5
    world.pass_time(timedelta(minutes=3))
    close(world)
    assert world.catalog.outage() is None
    world.pass_time(timedelta(minutes=1))
    close(world)
    exact(world, "A")
    exact(world, "B")
    assert world.store.latest("weather", "B")[0]["i"] == 5


def test_an_item_that_missed_a_change_is_seen_marked_and_repaired():
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    world.raw.retention = DAY
    world.put("A", AT + timedelta(minutes=1), {"i": 2})
    world.pass_time(25 * HOUR)
    world.drain()
    assert [mapping.lost for mapping in world.mappings] == [1, 1]
    outcome = close(world)
    assert len([seen for report in outcome.windows for seen in report.different]) == 3  # the hour, the day, and the latest value
    assert not outcome.missed
    world.pass_time(mismatches.AGAIN)
    outcome = close(world)
    assert len(outcome.missed) == 3
    close(world)
    exact(world)
    assert world.backend.live.get(latest_key("weather", "A"))["fields"] == {"i": 2}


def test_a_latest_value_that_the_buffer_cannot_tell_is_resolved_from_the_archive():
    world = World(plant("hourly"))
    world.put("A", AT, {"i": 1, "s": "old", "b": True, "t": iso_micros(AT)})
    world.drain()
    close(world)
    world.pass_time(20 * DAY)
    world.put("A", world.now - HOUR, {"i": 2})
    at = world.now - HOUR
    world.drain()
    world.put("A", max(time for _, time in world.written), None, deleted=True)
    world.drain()
    key = latest_key("weather", "A")
    assert world.backend.live.get(key)["stale"]
    assert world.store.latest("weather", "A")[0]["i"] == 1
    close(world)
    item = world.backend.live.get(key)
    assert (item["valid_time"], item["fields"]) == (iso_micros(AT), {"i": 1, "s": "old", "b": True, "t": iso_micros(AT)})
    world.put("A", AT, None, deleted=True)
    world.drain()
    close(world)
    assert world.backend.live.get(key)["none"]
    with pytest.raises(NotFoundError):
        world.store.latest("weather", "A")
    world.put("A", at, {"i": 7})
    world.drain()
    assert world.store.latest("weather", "A")[0]["i"] == 7


def test_a_change_of_a_stale_latest_value_is_waited_for():
    world = World(plant("hourly"))
    for minute in range(3):
        world.put("A", AT + timedelta(minutes=minute), {"i": minute})
    world.drain()
    world.backend.live.put(world.backend.live.get(latest_key("weather", "A")) | {"stale": True, "stale_at": 1})
    world.backend.live.put(entry(latest_key("weather", "A"), world.now))
    world.now += timedelta(seconds=20)
    world.archive()
    world.put("A", AT + timedelta(minutes=1), {"i": 8})  # after the window's end, before its repair
    world.drain()
    assert closing.run(world.backend, world.catalog, world.now).repairs.waiting == 1
    close(world)
    assert world.backend.live.get(latest_key("weather", "A"))["fields"] == {"i": 2}


def test_an_entry_without_a_mark_is_dropped_when_no_mark_can_follow_and_not_before():
    world = World(plant("hourly"))
    world.put("A", AT, {"i": 1})
    world.drain()
    world.backend.live.put(entry((live_pk("weather", "A", "hourly"), "2024-03-01T12:00:00Z"), world.now))
    close(world)
    assert len(list(entries(world.backend.live))) == 1
    world.pass_time(timedelta(minutes=16))
    assert close(world).repairs.dropped == 1
    exact(world)


def test_snapshots_count_only_as_far_as_repairs_are_done():
    world = World(plant("hourly"))
    world.put("A", AT, {"i": 1})
    close(world)
    progress = world.catalog.progress()
    assert progress.snapshot_through == progress.archived_through


def test_an_item_of_a_level_that_is_no_longer_kept_leaves_the_worklist():
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    mark(world.backend.live, (live_pk("weather", "A", "daily"), "2024-03-01T00:00:00Z"), Level("daily", dict(ALL)), world.now)
    apply(world.catalog, plant("hourly"), world.now)
    close(world)
    assert not list(entries(world.backend.live))
