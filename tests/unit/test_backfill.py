"""Files straight into the archive: the same as sending them, whatever is there, and whatever stops it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from tesseract.config.tiers import UNITS
from tesseract.ingestion import backfill
from tesseract.ingestion.journal import Identity, begin, resume
from tesseract.processing import backfill_runs
from tesseract.processing.live_item import decode_item
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.storage.keys import live_key
from tests.support.backfill_world import Around, BackfillWorld, Interrupted, Reading, interrupt, line
from tests.support.level_world import DAY, HOUR, plant

NOW = datetime(2024, 3, 20, 9, 30, tzinfo=UTC)
LEVELS = ("hourly", "daily", "weekly", "monthly")


def values(chance: random.Random) -> dict:
    found = {"f": Decimal(chance.randrange(-500, 500)) / 10, "i": chance.randrange(9), "s": chance.choice("xyz")}
    return {name: value for name, value in found.items() if chance.random() < 0.9}


def readings(chance: random.Random, count: int, groups: str = "AB", days: int = 900, until: datetime = NOW) -> list[Reading]:
    """Readings at half hours of some days, some of them of one key."""
    return [
        (chance.choice(groups), until.replace(minute=0) - chance.randrange(2 * 24 * days) * HOUR / 2, values(chance))
        for _ in range(count)
    ]


def check(world: BackfillWorld, levels: tuple[str, ...] = LEVELS) -> None:
    """Every road gives what was written."""
    for group in sorted({group for group, _ in world.written}):
        assert world.store.query("weather", group).to_pylist() == world.raw_rows(group)
        for level in levels:
            world.check_level(level, group, datetime(2019, 1, 1, tzinfo=UTC), world.now + 400 * DAY)
        newest = max(at for name, at in world.written if name == group)
        assert world.store.latest("weather", group)[0]["valid_time"] == newest


def settle(world: BackfillWorld) -> None:
    """Streams, windows, snapshots, repairs and compaction, until the buffer is empty."""
    world.drain()
    world.settle()
    world.drain()
    world.compact()


@pytest.mark.parametrize("partitions", [0, 2])
@pytest.mark.parametrize("seed", range(1))
def test_years_into_an_empty_stage(tmp_path, seed, partitions):
    chance = random.Random(seed)
    world = BackfillWorld(plant("hourly", "daily", "weekly", "monthly", partitions=partitions), tmp_path, NOW)
    given = readings(chance, 400)
    tally = world.backfill(given)
    keys = {(group, at) for group, at, _ in given}
    assert (tally.read, tally.accepted, tally.rejected) == (400, 400, 0)
    assert tally.superseded == 400 - len(keys)
    assert tally.tiers.total() + tally.buffered == len(keys)
    assert tally.buffered == world.sent
    assert set(tally.tiers) <= {"daily", "monthly", "yearly"}
    check(world)
    settle(world)
    check(world)


@pytest.mark.parametrize("partitions", [0, 2])
@pytest.mark.parametrize("seed", range(1))
def test_into_a_life_of_late_records_corrections_deletes_and_compactions(tmp_path, seed, partitions):
    chance = random.Random(100 + seed)
    dataset = plant("hourly", "daily", "monthly", partitions=partitions, ladder=chance.choice(LADDERS))
    world = BackfillWorld(dataset, tmp_path, NOW - 30 * DAY)
    for _ in range(4):
        live(world, chance)
        world.backfill(readings_at(world, chance), readings_at(world, chance))
        world.drain()  # a level may be behind by what the stream is
        check(world, ("hourly", "daily", "monthly"))
    settle(world)
    check(world, ("hourly", "daily", "monthly"))


LADDERS = (("daily", "monthly", "yearly"), ("weekly", "yearly"), ("daily",), ("monthly",))


def readings_at(world: BackfillWorld, chance: random.Random) -> list[Reading]:
    days = chance.choice((3, 10, 60, 400))
    hour = world.now.replace(minute=0, second=0, microsecond=0)
    return [
        (chance.choice("AB"), hour - chance.randrange(24 * days) * HOUR, values(chance)) for _ in range(chance.randrange(1, 30))
    ]


def live(world: BackfillWorld, chance: random.Random) -> None:
    """Days pass: records come late, some replace or delete what is there, and the archive works now and then."""
    for _ in range(chance.randrange(1, 5)):
        for group, at, found in readings_at(world, chance)[:8]:
            there = sorted(place for place in world.written if place[0] == group)
            if there and chance.random() < 0.4:
                group, at = chance.choice(there)
            gone = chance.random() < 0.25
            world.put(group, at, {} if gone else found, gone)
        if chance.random() < 0.7:
            world.drain()
        if chance.random() < 0.7:
            world.pass_time(timedelta(seconds=chance.choice((2, 7, 3600))))
            world.archive()
            if chance.random() < 0.8:
                world.snapshot()
        world.pass_time(chance.choice((HOUR, DAY, 3 * DAY)))
        if chance.random() < 0.4:
            world.compact(chance.random() < 0.5)
    # an export now, so that nothing is lost that expires: the hold is two days
    world.archive()
    world.snapshot()


def small(tmp_path: Path) -> tuple[BackfillWorld, list[Reading]]:
    """A stage with records of two days of an old year, one of which has live items, and what is to be backfilled there."""
    world = BackfillWorld(plant("hourly", "daily"), tmp_path, NOW - 10 * DAY)
    world.put("A", OLD, {"i": 1})
    world.put("A", OLD + 30 * HOUR, {"i": 2})
    world.drain()
    settle(world)
    assert world.now < NOW
    world.now = NOW
    times = (OLD, OLD + HOUR / 2, OLD + 5 * HOUR, OLD + 50 * HOUR, OLD + 30 * HOUR)
    return world, [("A", at, {"i": 10 + place, "f": Decimal("0.5")}) for place, at in enumerate(times)]


OLD = datetime(2022, 5, 3, 8, tzinfo=UTC)


def writes(tmp_path: Path) -> int:
    world, given = small(tmp_path)
    world.around = Around(0, interrupt)
    world.backfill(given)
    return world.around.count


def test_a_run_that_is_cut_short_at_any_write_is_done_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    count = writes(made(tmp_path / "first"))
    assert count > 15
    for at in range(1, count + 1):
        world, given = small(made(tmp_path / str(at)))
        world.around = Around(at, interrupt)  # before the next write is after this one
        identity = Identity("test", "weather", "backfill", f"{at}", 1, 1, 1)
        kept = begin(identity)
        before = world.store.query("weather", "A").to_pylist()
        with pytest.raises(Interrupted):
            world.backfill(given, journal=kept)
        kept.close(remove=False)
        assert world.store.query("weather", "A").to_pylist() in (before, world.raw_rows("A"))
        world.around = None
        if at % 2:  # before the next run comes
            world.drain()
            world.settle()
            world.compact()
        kept = resume(identity)
        world.backfill(given, journal=kept)
        kept.close(remove=True)
        check(world, ("hourly", "daily"))
        for hours in (0, 5, 50):  # a late record makes live items count again
            world.put("A", OLD + hours * HOUR + HOUR / 4, {"i": hours})
        world.drain()
        check(world, ("hourly", "daily"))
        settle(world)
        check(world, ("hourly", "daily"))


def test_writes_and_windows_at_any_moment_of_a_backfill(tmp_path):
    for at in range(1, writes(made(tmp_path / "first")) + 1, 2):
        world, given = small(made(tmp_path / str(at)))

        def interfere(world: BackfillWorld = world) -> None:
            world.put("A", OLD + 6 * HOUR, {"i": 100})  # on a day that is written
            world.put("A", OLD + 50 * HOUR + HOUR / 4, {"i": 102})  # on one that had nothing before
            world.put("A", OLD + HOUR / 2, {"i": 101})  # of a key that is written
            world.put("A", OLD + 30 * HOUR, {}, deleted=True)
            world.drain()
            world.pass_time(timedelta(seconds=8))
            world.archive()
            world.snapshot()
            world.compact()

        world.around = Around(at, interfere)
        world.backfill(given)
        # either the put came first, and the backfill through the buffer; or it came after the look, and is the newer
        found = {row["valid_time"]: row["i"] for row in world.store.query("weather", "A").to_pylist()}
        assert (found[OLD + HOUR / 2], found.get(OLD + 30 * HOUR)) in ((11, 14), (101, None))
        world.drain()
        check(world, ("hourly", "daily"))
        settle(world)
        check(world, ("hourly", "daily"))


def test_a_record_that_came_right_after_the_look_marks_periods_before_the_stream_has_seen_it(tmp_path):
    """A stream function that has read the manifest before the commit may write a new item after all our other marks."""
    world, given = small(tmp_path)
    world.around = Around(1, lambda: world.put("A", OLD + 50 * HOUR + HOUR / 4, {"i": 102}))
    assert world.backfill(given).buffered == 0
    for level in world.dataset.levels:
        item = world.backend.live.get(live_key("weather", "A", UNITS[level.name], OLD + 50 * HOUR))
        assert item is not None
        assert decode_item(item).stale_at is not None
    world.drain()
    check(world, ("hourly", "daily"))


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_running_again_changes_nothing_and_the_last_run_of_several_wins(tmp_path):
    world = BackfillWorld(plant("hourly", "daily"), tmp_path, NOW)
    first, second = ([("A", OLD + place * HOUR, {"i": number + place}) for place in range(3)] for number in (10, 20))
    assert world.backfill(first).tiers == {"yearly": 3}
    manifest = world.catalog.manifest("weather", RAW, "A")
    assert world.backfill(first).tiers == {}
    assert world.catalog.manifest("weather", RAW, "A") == manifest
    for given in (second, first, second):
        world.pass_time(timedelta(seconds=1))
        assert world.backfill(given).tiers == {"yearly": 3}
        check(world, ("hourly", "daily"))
    settle(world)
    check(world, ("hourly", "daily"))


def test_the_later_line_is_the_later_put_through_files_and_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(backfill, "BLOCK_BYTES", 400)
    monkeypatch.setattr(backfill_runs, "TOGETHER", 3)
    chance = random.Random(7)
    world = BackfillWorld(plant("daily", partitions=2), tmp_path, NOW)
    files = [readings(chance, 60, "ABC", 1, OLD) for _ in range(3)]
    tally = world.backfill(*files)
    assert tally.accepted == 180
    assert tally.superseded == 180 - len(world.written) > 30
    check(world, ("daily",))


def test_processes_that_read_give_what_one_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(backfill, "BLOCK_BYTES", 20_000)
    world = BackfillWorld(plant("daily"), tmp_path, NOW)
    tally = world.backfill(readings(random.Random(1), 600, "ABC", 700), workers=2)
    assert tally.accepted == 600
    check(world, ("daily",))


def test_rejected_records_come_back_with_their_place_and_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(backfill, "BLOCK_BYTES", 300)
    monkeypatch.setattr(backfill, "STEP", 2)
    world = BackfillWorld(plant("daily"), tmp_path, NOW)
    good = [line("A", OLD + place * HOUR, {"i": place}) for place in range(9)]
    good[3] = good[3].replace('"i": 3', '"i": "three"')
    good[7] = "{]\n"
    path = tmp_path / "given.ndjson"
    path.write_text("".join(good))
    tally = world.backfill_files([path])
    assert (tally.read, tally.accepted, tally.rejected) == (9, 7, 2)
    assert [(name, entry.index, entry.field) for name, entry in tally.shown] == [(str(path), 3, "i"), (str(path), 7, "")]
    (rejects,) = tmp_path.glob("*.rejects.ndjson")
    assert rejects.read_text() == good[3] + good[7]
    assert len(world.store.query("weather", "A")) == 7


def test_values_of_undeclared_fields_keep_their_type_whatever_the_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(backfill, "BLOCK_BYTES", 1)
    world = BackfillWorld(replace(plant("daily", unknown_fields="keep"), fields={}), tmp_path, NOW)
    kinds = [1, 2**60 + 1, Decimal("2.5"), "text", True]
    rows = [{"v": value, "n": number} for number, value in enumerate(kinds)]
    world.backfill([("A", OLD + place * HOUR, row) for place, row in enumerate(rows)])
    found = world.store.query("weather", "A").to_pylist()
    assert [row["n"] for row in found] == [0, 1, 2, 3, 4]
    assert [row["v"] for row in found] == ["1", str(2**60 + 1), "2.5", "text", "true"]


@pytest.mark.parametrize("revisions", ["latest_ref", "all"])
def test_the_greatest_ref_time_wins_over_what_is_there_and_in_the_file(tmp_path, revisions):
    world = BackfillWorld(plant("hourly", revisions=revisions), tmp_path, NOW)
    path = tmp_path / "given.ndjson"
    numbers = [5, 9, 7]
    text = "".join(
        line("A", OLD + place * HOUR / 2, {"i": number}).replace("}", f', "refTime": "2022-06-0{number}T00:00:00Z"}}')
        for place in range(3)
        for number in numbers
    )
    path.write_text(text)
    world.backfill_files([path])
    older = tmp_path / "older.ndjson"
    older.write_text(text.replace("2022-06", "2021-06").replace('"i": ', '"i": 3'))
    world.backfill_files([older])
    assert [row["i"] for row in world.store.query("weather", "A").to_pylist()] == [9, 9, 9]
    assert [row["i_sum"] for row in world.store.query("weather", "A", level="hourly").to_pylist()] == [18, 9]
    history = world.catalog.manifest("weather", REVISIONS, "A").segments
    assert sum(segment.rows for segment in history) == (18 if revisions == "all" else 0)
    settle(world)
    assert [row["i"] for row in world.store.query("weather", "A").to_pylist()] == [9, 9, 9]
    assert [row["i_sum"] for row in world.store.query("weather", "A", level="hourly").to_pylist()] == [18, 9]


def test_a_recent_day_and_one_that_the_buffer_holds_go_through_it(tmp_path):
    world = BackfillWorld(plant("daily"), tmp_path, NOW)
    world.put("A", OLD, {"i": 1})
    given = [("A", OLD + HOUR, {"i": 2}), ("A", OLD + DAY, {"i": 3}), ("A", NOW - HOUR, {"i": 4}), ("B", OLD, {"i": 5})]
    tally = world.backfill(given)
    assert (tally.buffered, tally.tiers) == (2, {"yearly": 2})
    assert world.sent == 2
    world.drain()
    check(world, ("daily",))


@pytest.mark.parametrize("revisions", ["last_write", "all"])
def test_a_day_that_comes_in_parts_beside_what_is_there_has_all_its_periods(tmp_path, monkeypatch, revisions):
    monkeypatch.setattr(backfill_runs, "SPOOL_ROWS", 1)
    world = BackfillWorld(plant("hourly", "daily", revisions=revisions), tmp_path, NOW - 20 * DAY)
    world.put("A", world.now, {"i": 0})
    settle(world)
    world.backfill([("A", OLD, {"i": 1})])
    world.now += HOUR
    world.backfill([("A", OLD + hour * HOUR, {"i": hour}) for hour in (2, 3, 5)])
    rows = world.store.query("weather", "A", end=OLD + DAY, level="hourly").to_pylist()
    assert [(row["period_start"], row["i_sum"]) for row in rows] == [(OLD + hour * HOUR, hour or 1) for hour in (0, 2, 3, 5)]
