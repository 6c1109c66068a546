"""A field that nobody declared comes as a number and as text: its numbers count when they are read back from the archive."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from tesseract.processing.marking import mark
from tesseract.storage.keys import live_pk
from tesseract.utils.time_utils import iso_seconds
from tests.support.archive_world import START
from tests.support.level_world import DAY, HOUR, World, plant

AT = START + 12 * HOUR
MINUTE = HOUR / 60
SHOWN = ["rows", "wind_count", "wind_sum", "wind_min", "wind_max", "wind_first", "wind_last"]
RIGHT = [{"rows": 4, "wind_count": 2, "wind_sum": 272.5, "wind_min": 2.5, "wind_max": 270, "wind_first": 270, "wind_last": 2.5}]


def made(together: bool) -> World:
    """Values of one hour, of one file or of several, with their snapshots; the buffer is empty."""
    world = World(replace(plant("hourly", "daily"), fields={}, unknown_fields="keep"))
    for place, value in enumerate((270, "VRB", Decimal("2.5"), "007")):
        world.put("A", AT + place * MINUTE, {"wind": value, "runway": ("22", "04L", "9", "13")[place]})
        if not together:
            world.drain()
            world.pass_time(2 * MINUTE)
            world.archive()
    world.drain()
    world.settle()
    return world


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("compacted", [True, False])
def test_a_repair_counts_the_numbers_of_a_text_column(together, compacted):
    world = made(together)
    if compacted:
        world.pass_time(40 * DAY)
        world.compact()
    for level in world.dataset.levels:
        unit_start = AT if level.name == "hourly" else START
        for change in (lambda: None, lambda level=level, at=unit_start: _repair(world, level, at)):
            change()
            table = world.store.query("weather", "A", AT - DAY, AT + DAY, level=level.name)
            assert table.select(SHOWN).to_pylist() == RIGHT
            assert [name for name in table.column_names if name.startswith("runway")] == []  # text that looks like numbers


def test_a_late_record_leaves_the_numbers_of_its_day_as_they_are():
    world = made(together=True)
    world.put("A", AT + 9 * MINUTE, {"wind": 100})
    world.drain()
    world.settle()
    (row,) = world.store.query("weather", "A", AT - DAY, AT + DAY, level="hourly").to_pylist()
    assert (row["rows"], row["wind_count"], row["wind_sum"], row["wind_last"]) == (5, 3, 372.5, 100)


def _repair(world: World, level, at) -> None:
    mark(world.backend.live, (live_pk("weather", "A", level.name), iso_seconds(at)), level, world.now)
    world.pass_time(MINUTE)
    world.archive()
    world.snapshot()
