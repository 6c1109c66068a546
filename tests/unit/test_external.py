"""Readers without our code: through the published list and view they find what a query finds, up to `clean_through`."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import duckdb
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.processing.external import list_object, listing, view_object
from tesseract.processing.publisher import catalog_object, publish
from tesseract.storage.memory import MemoryObjects
from tests.support.archive_world import START, World, temp
from tests.support.level_world import World as Streamed
from tests.support.level_world import plant
from tests.unit.test_compactor import segment
from tests.unit.test_levels import live_a_while


class Files(MemoryObjects):
    """A bucket whose objects lie in a folder, too."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def put(self, key, body):
        super().put(key, body)
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / key).write_bytes(body)

    def uri(self, key):
        return str(self.folder / key)


def test_what_is_read_through_the_view_is_what_a_query_gives(tmp_path):
    chance = random.Random(1)
    world = Streamed(plant("hourly", "daily"), datetime(2024, 12, 20, 22, 30, tzinfo=UTC))
    files = Files(tmp_path)
    live_a_while(world, chance, 25)  # corrections and deletes among them
    world.drain()
    world.settle()
    world.pass_time(timedelta(days=400))
    world.compact()
    for info in world.backend.objects.list(""):
        files.put(info.key, world.backend.objects.get(info.key))
    publish(world.catalog, files, world.now)
    document = json.loads(files.get(catalog_object("weather")))
    assert document["clean_through"] == {"raw": None, "hourly": None, "daily": None}
    for level, name, time in (("raw", "weather", "valid_time"), ("hourly", "weather_hourly", "period_start")):
        assert all((tmp_path / line).exists() for line in files.get(list_object("weather", level)).decode().splitlines())
        with duckdb.connect() as connection:
            connection.sql("set timezone = 'UTC'")
            connection.sql(files.get(view_object("weather", level)).decode())
            found = connection.sql(f'select * from "{name}" order by station, {time}').to_arrow_table()
        wanted = world.store.query("weather", level=level)
        assert len(found) > 20
        assert found.select(wanted.column_names).to_pylist() == wanted.to_pylist()


def test_the_list_ends_where_an_overlap_begins_until_it_is_compacted():
    world = World()
    for day in range(3):
        world.put("A", START - timedelta(days=day), temp("1"))
    world.archive()
    world.put("A", START - timedelta(days=1), temp("2"))
    world.archive()
    publish(world.catalog, world.backend.objects, world.now)
    document = json.loads(world.backend.objects.get(catalog_object("weather")))
    assert document["clean_through"]["raw"] == (START - timedelta(days=1)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    (line,) = world.backend.objects.get(list_object("weather", "raw")).decode().splitlines()
    assert f"/{START - timedelta(days=2):%Y-%m-%d}-" in line
    world.now += timedelta(days=400)
    world.compact()
    publish(world.catalog, world.backend.objects, world.now)
    lines = world.backend.objects.get(list_object("weather", "raw")).decode().splitlines()
    assert [line.rsplit("/", 2)[1] for line in lines] == ["tier=yearly"]


def test_a_level_without_files_has_no_view():
    world = World()
    publish(world.catalog, world.backend.objects, world.now)
    assert world.backend.objects.get(view_object("weather", "hourly")) == b'drop view if exists "weather_hourly";\n'
    assert world.backend.objects.get(list_object("weather", "hourly")) == b""


spans = st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair)))


@given(st.lists(st.lists(spans, max_size=8), max_size=3))
def test_what_is_listed_overlaps_nothing_and_nothing_before_its_end_is_missing(partitions):
    own = [[made(first, last) for first, last in spans] for spans in partitions]
    found = listing(own)
    for segments in own:
        for one in segments:
            others = [other for other in segments if other is not one]
            if any(one is other for other in found.segments):
                assert not any(one.first <= other.last and other.first <= one.last for other in others)
            else:
                assert found.clean_through is not None
                assert one.first >= found.clean_through


def made(first, last):
    return replace(segment("s", ("daily",), "daily", START), first=first, last=last)
