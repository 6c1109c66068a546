"""The mark of use: a level that is added before a dataset's first record has all records, whoever is first by a hair."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset, Level
from tesseract.config.manager import apply, plan
from tesseract.config.schema import parse
from tesseract.errors import ConfigError, Throttled
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tests.support.ingest_world import NOW, World, reading

BARE = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}")["plant"]
BARE = replace(BARE, levels=())
FULL = replace(BARE, levels=(Level("hourly", {"avg": ()}), Level("weekly", {"avg": ()})))
MORE = replace(BARE, levels=(Level("hourly", {"avg": (), "max": ()}),))


def life(catalog: Catalog) -> int | None:
    level = catalog.dataset("plant").level("hourly")
    assert level is not None
    return level.live_from


def test_before_the_first_record_a_level_is_added_as_if_it_had_been_there_from_the_start():
    world = World(BARE)
    planned = plan(world.catalog.versions("plant"), FULL, NOW, world.catalog.unused("plant"))
    assert planned.verdict == "compatible"
    assert {change.why for change in planned.changes if change.setting == "aggregations.hourly"} == {
        "no record has come yet: it has all of them"
    }
    apply(world.catalog, FULL, NOW)
    assert life(world.catalog) is None
    assert apply(world.catalog, MORE, NOW).verdict == "compatible"
    assert (life(world.catalog), world.catalog.dataset("plant").levels[0].since) == (None, {})
    apply(world.catalog, BARE, NOW)
    apply(world.catalog, FULL, NOW)
    assert life(world.catalog) is None


def test_what_is_refused_is_no_use_and_the_first_record_is():
    world = World(BARE)
    assert world.send(reading(x="bad"))[0] == 400
    assert world.catalog.unused("plant")
    assert world.send(reading(x="bad"), reading())[1]["accepted"] == 1
    assert not world.catalog.unused("plant")
    assert apply(world.catalog, FULL, world.now).verdict == "needs backfill"
    assert life(world.catalog) is not None


def test_a_dataset_without_a_mark_is_taken_for_used():
    """An earlier release applied it."""
    catalog = Catalog(MemoryTable(), MemoryObjects())
    catalog.put_dataset(plan([], BARE, NOW).dataset, NOW)
    assert not catalog.unused("plant")
    apply(catalog, FULL, NOW)
    assert life(catalog) is not None


def test_a_process_marks_a_dataset_once_and_reads_it_once_more():
    world = World(BARE)
    marks, reads = [], []
    mark, read = world.catalog.mark_used, world.catalog.dataset
    world.catalog.mark_used = lambda name: marks.append(name) or mark(name)
    world.catalog.dataset = lambda name, *version: reads.append(name) or read(name, *version)
    for minute in range(9):
        assert world.send(reading(minute))[0] == 200
    assert marks == ["plant"]
    assert reads == ["plant"] * 2


def test_where_the_mark_cannot_be_put_nothing_is_written():
    world = World(BARE)

    def throttled(name: str) -> None:
        raise Throttled("AWS throttles: slow down")

    put, world.catalog.mark_used = world.catalog.mark_used, throttled
    status, answer = world.send(reading())
    assert (status, world.stored()) == (429, {})
    assert "slow down" in answer["error"]
    world.catalog.mark_used = put
    assert world.send(reading())[0] == 200


class Stepped:
    """A catalog table in which something happens before the nth call, once."""

    def __init__(self, table: MemoryTable, call: int, hook) -> None:
        self.table, self.left, self.hook = table, call, hook

    def __getattr__(self, name):
        method = getattr(self.table, name)
        if not callable(method):
            return method
        self.left -= 1
        if self.left == 0:
            self.hook()
        return method


def service(world: World, catalog: Catalog) -> Service:
    """A process of its own."""
    clock = lambda: world.now
    return Service(Configs(catalog, clock), Writer(world.raw, world.live, clock), world.objects, clock)


def check(world: World, records: int) -> None:
    """A level without a moment of its own has every record: none was written for a version before it."""
    level = world.catalog.dataset("plant").level("hourly")
    written = [item["config_version"] for item in world.raw.items()]
    assert len(written) == records
    if level is not None and level.live_from is None:
        assert all(version >= 2 for version in written)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("call", range(1, 12))
def test_a_level_is_added_at_any_moment_of_the_first_write(call: int, warm: bool):
    world = World(BARE)
    stepped = Stepped(world.catalog.table, 0, lambda: apply(world.catalog, FULL, world.now))
    writer = service(world, Catalog(stepped, world.objects))
    if warm:  # the old version is in the cache
        writer.handle({"dataset": "plant", "records": [reading(x="bad")]}, 28)
    stepped.left = call
    assert writer.handle({"dataset": "plant", "records": [reading()]}, 28)["accepted"] == 1
    check(world, 1)


@pytest.mark.parametrize("call", range(1, 8))
def test_the_first_record_comes_at_any_moment_of_adding_a_level(call: int):
    world = World(BARE)
    stepped = Stepped(world.catalog.table, call, lambda: world.send(reading()))
    done = apply(Catalog(stepped, world.objects), FULL, world.now)
    assert done.dataset == world.catalog.dataset("plant")
    happened = stepped.left <= 0
    check(world, int(happened))
    assert happened == (call <= 6)
    late = done.dataset.level("hourly").live_from is not None
    assert late == (done.verdict == "needs backfill")
    assert late == (call <= 4)  # the fourth puts the version


def test_somebody_elses_version_is_not_taken_for_the_first_record():
    world = World(BARE)
    other = replace(BARE, description="other")

    def both() -> None:
        apply(world.catalog, other, world.now, "bob")
        world.send(reading())

    with pytest.raises(ConfigError, match="somebody applied version 2 at the same time"):
        apply(Catalog(Stepped(world.catalog.table, 4, both), world.objects), FULL, world.now, "ann")
    assert [found.description for found in world.catalog.versions("plant")] == ["", "other"]


def test_ten_years_of_history_that_follow_a_level_are_kept_by_it():
    world = World(BARE)
    apply(world.catalog, FULL, world.now)
    for year in range(2016, 2026):
        assert world.send(reading() | {"t": f"{year}-05-01T00:00:00Z"})[0] == 200
    found: Dataset = world.catalog.dataset("plant")
    assert found.version == 2
    assert all(level.live_from is None and not level.since for level in found.levels)
    world.now += timedelta(days=1)
    apply(world.catalog, MORE, world.now)
    assert life(world.catalog) is None
    assert world.catalog.dataset("plant").levels[0].since.keys() == {"x"}
