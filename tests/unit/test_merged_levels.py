"""Weeks and months as segments of their own: always what the days give, whatever is written, repaired, or cut short when."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from tesseract.config.manager import apply
from tesseract.config.tiers import UNITS
from tesseract.model import Manifest
from tesseract.processing import publisher
from tesseract.processing.aggregator import decode_state, encode_state, fold, identity, merge, shift, shown
from tesseract.processing.coarser import commit_merged
from tesseract.processing.marking import mark
from tesseract.processing.segments import PERIOD_START, Partition, commit_rows
from tesseract.storage import segment_reader
from tesseract.storage.columns import STATE, LevelRow, level_table
from tesseract.storage.keys import level_partition, live_pk, partition_name
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import iso_seconds, to_micros
from tests.support.level_world import DAY, HOUR, World, plant
from tests.unit.test_levels import live_a_while, values

LADDERS = [("daily", "monthly", "yearly"), ("weekly", "yearly"), ("daily", "weekly", "monthly"), ("yearly",)]
START = datetime(2019, 1, 1, tzinfo=UTC)


def stored(world: World, level: str, group: str = "A") -> dict[datetime, tuple[int, bytes]]:
    """Period start → (rows, state) of the newest rows of a level's own segments."""
    name = partition_name(world.dataset, group)
    partition = Partition(world.dataset, level_partition(world.dataset.level(level)), name)
    segments = world.catalog.manifest(world.dataset.name, partition.level, name).segments
    for segment in segments:  # a row lies in the tier period that has its start
        assert segment.start <= segment.first <= segment.last < segment.end
    segments = sorted(segments, key=lambda segment: (segment.window_end, segment.key))
    tables = [segment_reader.read(world.backend.objects, segment, PERIOD_START) for segment in segments]
    rows = newest(tables, partition.order)[0].to_pylist() if tables else []
    return {row["period_start"]: (row["rows"], row[STATE]) for row in rows if row["station"] == group}


def check_stored(world: World, level: str, base: str = "daily", group: str = "A") -> None:
    """What a level's segments have is what those of its base give."""
    unit, wanted = UNITS[level], {}
    for start, (_, body) in stored(world, base, group).items():
        outer = unit.floor(start)
        if unit.end(outer) <= world.now:
            moved = shift(decode_state(body), to_micros(start) - to_micros(outer))
            wanted[outer] = merge(wanted.get(outer, identity()), moved)
    found = {start: decode_state(body) for start, (_, body) in stored(world, level, group).items()}
    assert {start: state for start, state in found.items() if state.rows} == {s: state for s, state in wanted.items() if state.rows}


def year(world: World, step: timedelta = 3 * DAY, days: int = 420) -> None:
    """A record a step until now, everything in the archive and in every level."""
    first = world.now - days * DAY
    for place in range(days * DAY // step):
        world.put("A", first + place * step, {"i": place, "f": Decimal(place) / 10})
    world.drain()
    world.settle()
    world.pass_time(40 * DAY)
    world.compact()


def opened(world: World, *question: object, **more: object) -> list[str]:
    """The levels of the segments that a query opens, one for each."""
    keys: list[str] = []
    get = world.backend.objects.get

    def noted(key: str, start: int = 0, length: int | None = None) -> bytes:
        keys.append(key)
        return get(key, start, length)

    world.backend.objects.get = noted  # type: ignore[method-assign]
    try:
        world.store.query("weather", "A", *question, **more)
    finally:
        del world.backend.objects.get
    return [key.split("/level=")[1].split("/")[0] for key in keys if key.startswith("archive/")]


@pytest.mark.parametrize("seed", range(3))
def test_a_seeded_life_gives_the_same_before_and_after_every_step_of_the_archive(seed):
    chance = random.Random(seed)
    names = [("daily", "weekly", "monthly"), ("hourly", "weekly"), ("hourly", "daily", "monthly")][seed]
    world = World(plant(*names, ladder=LADDERS[seed], partitions=seed % 2), datetime(2024, 12, 20, 22, 30, tzinfo=UTC))
    base = next(name for name in reversed(names) if name not in ("weekly", "monthly"))
    for _ in range(2):
        live_a_while(world, chance, 3)
        world.put("A", world.now, values(chance))
        for step in (world.drain, world.archive, world.snapshot, world.compact):
            step()
            world.drain()
            for level in set(names) & {"weekly", "monthly"}:
                world.check_level(level, "A", START, world.now + 400 * DAY)
    world.settle()
    for level in set(names) & {"weekly", "monthly"}:
        check_stored(world, level, base)
        world.pass_time(60 * DAY)
        world.archive()
        world.snapshot()
        check_stored(world, level, base)
        world.check_level(level, "A", START, world.now)


def test_a_query_of_a_cold_year_opens_the_segments_of_its_level_alone():
    world = World(plant("daily", "weekly", "monthly"))
    year(world)
    start = datetime(2023, 2, 1, tzinfo=UTC)
    for level in ("weekly", "monthly"):
        assert opened(world, start, start + 365 * DAY, level=level) == [level] * 2  # two years
        result = world.store.read("weather", "A", start, start + 365 * DAY, level=level)
        assert (result.stats.recomputed, result.stats.buffer_queries, result.stats.live_items) == (0, 0, 0)
        assert result.stats.snapshot_rows == len(result.table)
        world.check_level(level, "A", start, start + 365 * DAY)
        check_stored(world, level)


def test_a_late_correction_is_seen_at_once_and_a_newer_row_wins():
    world = World(plant("daily", "weekly", "monthly"))
    year(world, days=120)
    at = datetime(2023, 12, 31, 0, tzinfo=UTC)  # the last day of a month, of a year, and of an ISO week
    before = stored(world, "weekly")[datetime(2023, 12, 25, tzinfo=UTC)]
    for change in ({"i": -5}, None):
        world.put("A", at, change, deleted=change is None)
        world.drain()
        for level in ("weekly", "monthly"):
            world.check_level(level, "A", START, world.now)
            assert set(opened(world, at - 60 * DAY, at + 60 * DAY, level=level)) >= {level, "daily"}
        world.settle()
        for level in ("weekly", "monthly"):
            world.check_level(level, "A", START, world.now)
            check_stored(world, level)
    rows = stored(world, "weekly")
    assert (before[0], rows[datetime(2023, 12, 25, tzinfo=UTC)][0], rows[datetime(2024, 1, 1, tzinfo=UTC)][0]) == (2, 2, 3)


def test_a_period_whose_records_are_all_deleted_has_a_row_that_hides_the_older_one():
    world = World(plant("daily", "weekly"))
    at = datetime(2024, 1, 3, tzinfo=UTC)
    world.put("A", at, {"i": 1})
    world.put("A", at + 7 * DAY, {"i": 2})
    world.drain()
    world.settle()
    world.put("A", at, deleted=True)
    world.drain()
    world.settle()
    for _ in range(2):
        assert {start.day: rows for start, (rows, _) in stored(world, "weekly").items()} == {1: 0, 8: 1}
        world.check_level("weekly", "A", START, world.now)
        world.compact()


def test_a_week_gets_its_row_when_it_ends_though_its_group_is_silent():
    world = World(plant("daily", "weekly", "monthly"), datetime(2024, 2, 27, 12, tzinfo=UTC))  # a Tuesday
    world.put("A", world.now, {"i": 1})
    world.drain()
    found = []
    for _ in range(8):
        world.pass_time(DAY)
        world.archive()
        world.snapshot()
        found.append((bool(stored(world, "weekly")), bool(stored(world, "monthly"))))
    assert found == [(False, False)] * 2 + [(False, True)] * 3 + [(True, True)] * 3
    world.check_level("weekly", "A", START, world.now)


def spoil(world: World, at: datetime) -> None:
    """A day's row of the archive that its records do not give, and its weeks and months merged from that."""
    level = world.dataset.level("daily")
    end = world.catalog.progress().snapshot_through
    state = fold(identity(), {"i": 1000}, 5)
    row = LevelRow(at, 1, shown(state, level), encode_state(state), end + 1, None)
    partition = Partition.of(world.dataset, "daily", "A")
    table = level_table(world.dataset, level, "A", [row])
    assert commit_rows(world.catalog, world.backend.objects, partition, table, "spoilt", end + 1, end, "spoil", world.now)
    commit_merged(world.backend, world.catalog, "weather", {"daily": {"A": [to_micros(at)]}}, end + 1, world.now)
    assert "1000" in str(world.store.query("weather", "A", level="weekly")["i_max"].to_pylist())


@pytest.mark.parametrize("way", ["snapshot", "repair"])
def test_a_crash_between_the_commit_of_days_and_that_of_weeks_is_healed(monkeypatch, way):
    world = World(plant("daily", "weekly", "monthly"))
    at = datetime(2024, 1, 3, tzinfo=UTC)
    world.put("A", at, {"i": 1})
    world.drain()
    world.settle()
    if way == "repair":
        spoil(world, at)
        mark(world.backend.live, (live_pk("weather", "A", "daily"), iso_seconds(at)), world.dataset.level("daily"), world.now)
    else:
        world.put("A", at, {"i": 7})
        world.drain()
    world.pass_time(timedelta(seconds=20))
    world.archive()
    through, commit = world.catalog.progress().snapshot_through, world.catalog.commit
    for level in ("weekly", "monthly"):

        def dying(dataset: str, name: str, *rest: object, level: str = level) -> Manifest | None:
            if name == level:
                raise RuntimeError("crash")
            return commit(dataset, name, *rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(world.catalog, "commit", dying)
            with pytest.raises(RuntimeError):
                world.snapshot()
        assert world.catalog.progress().snapshot_through == through
        if way == "snapshot":
            world.check_level("weekly", "A", START, world.now)
    world.snapshot()
    assert world.catalog.progress().snapshot_through > through
    for _ in range(2):
        for level in ("weekly", "monthly"):
            check_stored(world, level)
            world.check_level(level, "A", START, world.now)
        world.settle()


def test_of_two_that_merge_one_week_the_one_that_has_seen_more_wins_whoever_writes_last(monkeypatch):
    world = World(plant("daily", "weekly"))
    at = datetime(2024, 1, 3, tzinfo=UTC)
    world.put("A", at, {"i": 1})
    world.drain()
    world.settle()
    commit = world.catalog.commit

    def overtaken(*arguments: object) -> Manifest | None:
        monkeypatch.undo()  # another merges a newer state of the days, and writes it, before our write
        world.put("A", at + DAY, {"i": 2})
        world.drain()
        world.settle()
        return commit(*arguments)  # type: ignore[arg-type]

    world.put("A", at, {"i": 5})
    world.pass_time(timedelta(seconds=2))
    world.drain()
    world.archive()
    world.snapshot()
    manifest = world.catalog.manifest("weather", "weekly", "A")
    monkeypatch.setattr(world.catalog, "commit", overtaken)
    world.catalog.forget(manifest)  # so that the merge is made once more
    commit_merged(world.backend, world.catalog, "weather", {"daily": {"A": [to_micros(at)]}}, 2**52, world.now)
    check_stored(world, "weekly")
    world.check_level("weekly", "A", START, world.now)
    world.compact()
    check_stored(world, "weekly")


def test_groups_that_share_partitions_are_committed_together():
    world = World(plant("hourly", "daily", "weekly", "monthly", partitions=2), datetime(2024, 2, 27, 12, tzinfo=UTC))
    groups = [f"G{place}" for place in range(6)]
    for group in groups:
        for day in range(9):
            world.put(group, world.now - day * DAY, {"i": day})
    world.drain()
    world.pass_time(timedelta(seconds=2))
    world.archive()
    (report,) = world.snapshot()
    assert report.commits == 2 * 3  # partitions × levels: no month has ended yet
    for name in world.catalog.partitions(world.dataset, "weekly"):
        assert world.catalog.manifest("weather", "weekly", name).version == 1
    world.settle()
    for group in groups:
        for level in ("weekly", "monthly"):
            check_stored(world, level, group=group)
            world.check_level(level, group, START, world.now)


def test_a_level_that_is_added_is_merged_for_all_that_is_there_and_one_that_comes_back_begins_anew():
    world = World(plant("daily"))
    year(world, days=200)
    for kept in (("daily", "weekly"), ("daily",), ("daily", "weekly")):
        world.dataset = apply(world.catalog, replace(world.dataset, levels=plant(*kept).levels), world.now).dataset
        if "weekly" in kept:
            world.check_level("weekly", "A", START, world.now)
        world.put("A", world.now - 100 * DAY, {"i": 77})  # late: while the level is away nobody keeps its rows up to date
        world.drain()
        world.settle()
        if "weekly" in kept:
            world.check_level("weekly", "A", START, world.now)
            check_stored(world, "weekly")
            assert set(opened(world, START, world.now - 60 * DAY, level="weekly")) == {level_partition(world.dataset.levels[1])}
    assert len({level_partition(version.levels[1]) for version in world.catalog.versions("weather")[1::2]}) == 2


def test_a_field_that_the_days_got_later_is_not_read_from_older_weeks():
    some = replace(plant("daily").levels[0], stats={"max": ("i",)})
    world = World(replace(plant("daily", "weekly"), levels=(some, replace(some, name="weekly"))))
    year(world, 12 * HOUR, 60)
    more = tuple(replace(level, stats={"max": ("i", "f")}) for level in world.dataset.levels)
    world.dataset = apply(world.catalog, replace(world.dataset, levels=more), world.now).dataset
    assert world.dataset.levels[0].since
    for _ in range(2):
        table = world.store.query("weather", "A", START, world.now, level="weekly").to_pylist()
        for row in table:
            own = [v for (_, at), v in world.written.items() if UNITS["weekly"].floor(at) == row["period_start"]]
            assert (row["i_max"], row["f_max"]) == (max(v["i"] for v in own), float(max(v["f"] for v in own)))
        world.put("A", world.now - 90 * DAY, {"i": 5000, "f": Decimal(9999)})
        world.drain()
        world.settle()


def test_what_is_published_of_a_merged_level_is_what_a_query_gives():
    world = World(plant("daily", "weekly"))
    year(world)
    publisher.publish(world.catalog, world.backend.objects, world.now)
    lines = world.backend.objects.get("catalog/external/dataset=weather/level=weekly/_symlink_format_manifest/manifest").split()
    segments = sorted(world.catalog.manifest("weather", "weekly", "A").segments, key=lambda segment: segment.first)
    assert [line.decode().partition("/archive/")[2] for line in lines] == [s.key.partition("archive/")[2] for s in segments]
    document = json.loads(world.backend.objects.get("catalog/weather.json"))
    assert document["clean_through"]["weekly"] is None
    columns = ["period_start", "rows", "i_sum", "f_avg", "f_std"]
    found = [segment_reader.read(world.backend.objects, s, PERIOD_START).select(columns) for s in segments]
    rows = [row for table in found for row in table.to_pylist()]
    end = max(row["period_start"] for row in rows) + 7 * DAY
    assert rows == world.store.query("weather", "A", START, end, level="weekly").select(columns).to_pylist()
