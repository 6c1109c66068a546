"""Snapshots of aggregate levels: every ended period that was touched has the row that its raw rows give, window by window."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tesseract.config.dataset import Level
from tesseract.model import Window
from tesseract.processing import snapshots, touched
from tesseract.processing.aggregator import State, decode_state, fold, identity, shown
from tesseract.processing.live_item import LiveItem, encode_item
from tesseract.processing.segments import PERIOD_START, Partition
from tesseract.processing.snapshots import LENGTHS
from tesseract.storage import segment_reader
from tesseract.storage.columns import LIVE_FROM, ORDER, STATE
from tesseract.storage.keys import level_partition, live_pk
from tesseract.utils.time_utils import from_micros, iso_seconds, to_micros
from tests.support.archive_world import STATS, World, temp, weather

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PAST = datetime(2023, 6, 10, tzinfo=UTC)


def rows(world: World, level: Level, group: str = "A") -> dict[int, tuple[int, State]]:
    """Period start → (order, state) of the newest rows of a level, after the order of the segments' windows."""
    found: dict[int, tuple[int, State]] = {}
    manifest = world.catalog.manifest("weather", level_partition(level), group)
    for segment in manifest.segments:
        table = segment_reader.read(world.backend.objects, segment, PERIOD_START)
        for row in table.to_pylist():
            start = to_micros(row["period_start"])
            if start not in found or found[start][0] < row[ORDER]:
                found[start] = (row[ORDER], decode_state(row[STATE]))
                assert row["rows"] == found[start][1].rows
    return found


def expected(world: World, level: Level, group: str = "A") -> dict[int, State]:
    """The state of each period, folded from the last write of every key."""
    last = {(pk, sk): item for _, pk, sk, item in world.exports.log if item is not None}
    states: dict[int, State] = {}
    for (pk, sk), item in sorted(last.items()):
        if pk.split("#")[1] == group and not item.get("deleted"):
            at = to_micros(datetime.fromisoformat(sk))
            start = at // LENGTHS[level.name] * LENGTHS[level.name]
            states[start] = fold(states.get(start) or identity(), item["fields"], at - start)
    return states


def check(world: World) -> None:
    for level in world.dataset.levels:
        found = {start: state for start, (_, state) in rows(world, level).items() if state.rows}
        assert found == expected(world, level)


def test_every_touched_period_that_has_ended_has_its_row() -> None:
    world = World(parts=2)
    for hour in range(60):
        world.put("A", PAST + hour * HOUR / 2, temp(f"{hour}.25", hour))
    world.archive()
    (report,) = world.snapshot()
    assert (report.rows, report.commits) == (30 + 2, 2)
    assert len(report.different) == report.compared + 1 == 33  # no stream has made live items here, nor a latest value
    check(world)
    (window,) = world.catalog.windows()
    assert window.snapshot_at
    assert world.catalog.progress().snapshot_through == window.end
    assert {order for order, _ in rows(world, world.dataset.levels[0]).values()} == {window.end}
    assert world.snapshot() == []


def test_plain_numbers_stand_beside_the_state() -> None:
    world = World(parts=1)
    world.put("A", PAST, temp("1.5", 4))
    world.put("A", PAST + HOUR / 2, temp("2.5"))
    world.archive()
    world.snapshot()
    (segment,) = world.catalog.manifest("weather", "hourly", "A").segments
    (row,) = segment_reader.read(world.backend.objects, segment, PERIOD_START).to_pylist()
    assert {name: row[name] for name in ("station", "rows", "temp_avg", "temp_count", "wind_sum", "wind_std")} == {
        "station": "A",
        "rows": 2,
        "temp_avg": 2.0,
        "temp_count": 2,
        "wind_sum": 4,
        "wind_std": None,
    }
    assert row[LIVE_FROM] is None
    assert segment.tier == "daily"
    assert "/level=hourly/" in segment.key


def test_a_change_in_a_later_window_gives_a_newer_row_and_a_delete_one_without_rows() -> None:
    world = World(parts=1)
    world.put("A", PAST, temp("1"))
    world.put("A", PAST + DAY, temp("2"))
    world.archive()
    world.snapshot()
    world.put("A", PAST, temp("7"))
    world.put("A", PAST + DAY, deleted=True)
    world.archive()
    world.snapshot()
    check(world)
    assert rows(world, world.dataset.levels[0])[to_micros(PAST + DAY)][1] == identity()
    world.compact()
    check(world)
    assert rows(world, world.dataset.levels[0])[to_micros(PAST + DAY)][1] == identity()


def test_a_period_that_ended_after_it_was_touched_is_snapshot_when_it_ends() -> None:
    start = datetime(2024, 3, 1, 10, 20, tzinfo=UTC)
    world = World(parts=1, start=start)
    world.put("A", start - HOUR / 4, temp("1"))
    world.archive()
    world.snapshot()
    assert rows(world, world.dataset.levels[0]) == {}
    world.now = start + HOUR
    world.archive()
    world.snapshot()
    assert list(rows(world, world.dataset.levels[0])) == [to_micros(start.replace(minute=0))]
    assert rows(world, world.dataset.levels[1]) == {}
    world.now = start + 20 * HOUR
    world.archive()
    (report,) = world.snapshot()
    assert report.rows == 1  # the day; its hour had its row before
    check(world)
    assert touched.read(world.backend.objects, f"catalog/pending/{world.catalog.windows()[-1].id}.json") == {}


def test_snapshots_wait_for_an_earlier_window() -> None:
    world = World(parts=1)
    tasks = []
    for _ in range(2):
        world.put("A", PAST, temp("1"))
        world.open()
        tasks += world.collect()
    world.work(tasks[1])
    assert world.snapshot() == []
    world.work(tasks[0])
    assert [report.window for report in world.snapshot()] == [window.id for window in world.catalog.windows()]


def test_windows_that_have_counted_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(parts=1)
    for _ in range(5):
        world.put("A", PAST, temp("1"))
        world.archive()
        world.snapshot()
    world.put("A", PAST, temp("2"))
    world.archive()
    read, windows = [], world.catalog.windows

    def noted(since: int | None = None) -> list[Window]:
        read.append(windows(since))
        return read[-1]

    monkeypatch.setattr(world.catalog, "windows", noted)
    assert [len(report.window) for report in snapshots.run(world.backend, world.catalog, world.now)] == [16]
    snapshots.settle(world.catalog, to_micros(world.now))
    assert [len(found) for found in read] == [2, 2]  # the last one that has counted, and the new one
    assert world.catalog.progress().snapshot_through == windows()[-1].end


def test_a_full_window_does_not_count_beyond_one_within_it_that_is_not_snapshot() -> None:
    world = World()
    spans = [(0, 90, 1), (10, 20, 1), (20, 90, 0), (90, 95, 1)]
    for start, end, done in spans:
        world.catalog.open_window(Window(start * 10**6, end * 10**6, "closed", snapshot_at=done))
    snapshots.settle(world.catalog, 10**9)
    assert world.catalog.progress().snapshot_through == 20 * 10**6
    world.catalog.change_window(world.catalog.windows()[2].id, lambda window: replace(window, snapshot_at=1))
    snapshots.settle(world.catalog, 10**9)
    assert world.catalog.progress().snapshot_through == 95 * 10**6


def test_rows_come_from_archive_and_buffer_together() -> None:
    world = World(parts=1)
    for minute in range(4):
        world.put("A", PAST + minute * HOUR / 4, temp("1.25", minute))
    world.archive()
    world.backend.raw.delete((f"weather#A#{PAST:%Y-%m-%d}", "2023-06-10T00:00:00.000000Z"))  # as TTL would
    world.put("A", PAST + HOUR / 4, temp("100"))  # newer than the window, not yet exported
    world.snapshot()
    check(world)


def test_a_crash_at_any_commit_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(parts=1)
    for hour in range(5):
        world.put("A", PAST + hour * HOUR, temp("1", hour))
    world.archive()
    commit = world.catalog.commit
    for stop in (1, 2):
        calls = []

        def crash(*arguments: object, stop: int = stop, calls: list[int] = calls) -> object:
            calls.append(1)
            if len(calls) == stop:
                raise RuntimeError("crash")
            return commit(*arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(world.catalog, "commit", crash)
            with pytest.raises(RuntimeError):
                world.snapshot()
        assert world.catalog.progress().snapshot_through == 0
    world.snapshot()
    check(world)
    assert [len(world.catalog.manifest("weather", level, "A").segments) for level in ("hourly", "daily")] == [1, 1]


def test_windows_snapshot_late_are_snapshot_in_order_and_none_is_refused() -> None:
    world = World(parts=1)
    for value in ("1", "2", "3"):
        world.put("A", PAST, temp(value))
        world.archive()
    assert [report.commits for report in world.snapshot()] == [2, 2, 2]
    check(world)


def test_live_items_that_differ_are_counted_and_stale_ones_are_not() -> None:
    world = World(parts=1)
    level = world.dataset.levels[0]
    for hour in range(3):
        world.put("A", PAST + hour * HOUR, temp("1", hour))
        right = fold(identity(), temp("1", hour), 0)
        state = right if hour else fold(right, temp("5"), 1)
        item = LiveItem(
            live_pk("weather", "A", "hourly"), iso_seconds(PAST + hour * HOUR), state, 1, stale_at=9 if hour == 2 else None
        )
        world.backend.live.put(encode_item(item, level, world.now))
    world.archive()
    (report,) = world.snapshot()
    assert report.compared == 3
    assert [(*seen.key, seen.version) for seen in report.different] == [
        ("weather#A#hourly", "2023-06-10T00:00:00Z", 1),
        ("weather#A#daily", "2023-06-10T00:00:00Z", 0),  # absent, as the latest value is
        ("weather#latest#3", "A", 0),
    ]
    assert shown(rows(world, level)[to_micros(PAST)][1], level)["temp"]["max"] == 1


def test_a_level_that_was_added_later_has_a_partition_of_its_own() -> None:
    since = to_micros(PAST + 2 * HOUR)
    world = World(weather(levels=(Level("hourly", dict(STATS), since),)), parts=1)
    for hour in range(5):
        world.put("A", PAST + hour * HOUR, temp("1", hour))
    world.archive()
    world.snapshot()
    assert world.catalog.groups("weather", "hourly") == []
    assert sorted(rows(world, world.dataset.levels[0])) == [to_micros(PAST + hour * HOUR) for hour in range(5)]


def test_touched_hours_are_stored_as_runs() -> None:
    world = World()
    hours = {("weather", "A"): set(range(100, 9000)), ("weather", "B"): {5, 7, 8}, ("x", "A"): set[int]()}
    touched.write(world.backend.objects, "t.json", hours)
    assert len(world.backend.objects.get("t.json")) < 150
    assert touched.read(world.backend.objects, "t.json") == {name: found for name, found in hours.items() if found}


def test_a_seeded_life_of_windows_ends_in_the_right_rows() -> None:
    for seed in range(6):
        chance = random.Random(seed)
        world = World(parts=chance.choice([1, 3]), start=datetime(2024, 3, 1, 22, 30, tzinfo=UTC))
        for _ in range(8):
            for _ in range(chance.randrange(6)):
                at = world.now.replace(minute=0, second=0, microsecond=0) - chance.randrange(40) * HOUR / 2
                world.put("A", at, temp(str(chance.randrange(100) / 8), 1), deleted=chance.random() < 0.2)
            world.now += chance.choice([HOUR / 4, HOUR, 9 * HOUR])
            world.archive()
            if chance.random() < 0.6:
                world.snapshot()
            if chance.random() < 0.4:
                world.compact()
        world.now += 2 * DAY
        world.archive()
        world.snapshot()
        check(world)
        world.compact()
        check(world)
        for level in world.dataset.levels:
            assert all(order <= world.catalog.windows()[-1].end for order, _ in rows(world, level).values())


def test_partitions_of_levels_know_their_time_column() -> None:
    assert Partition(weather(), "hourly@5", "A").time_column == PERIOD_START
    assert replace(Level("hourly", {}), live_from=5).live_since() == from_micros(5)
