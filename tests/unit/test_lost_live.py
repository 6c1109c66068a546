"""The live table is lost: what was declared at once keeps every answer right, and everything is as it was after two windows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tesseract import cli
from tesseract.config.manager import apply
from tesseract.processing import closing
from tesseract.processing.aggregator import fold_all, same
from tesseract.processing.live_item import decode_item, live_levels
from tesseract.processing.snapshots import LENGTHS
from tesseract.storage.catalog import Catalog, Outage, Progress
from tesseract.storage.keys import live_pk
from tesseract.storage.memory import MemoryTable, memory_backend
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import weather
from tests.support.level_world import DAY, HOUR, World, plant

GROUPS = ("A", "B", "NEW")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(plant("hourly", "daily"), datetime(2024, 3, 1, 10, 30, tzinfo=UTC))
    apply(made.catalog, weather(name="other"), made.now)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    monkeypatch.setattr("tesseract.cli.live.utc_now", lambda: made.now)
    monkeypatch.setattr("tesseract.storage.services.clock_lag", timedelta)
    return made


def close(world: World) -> None:
    world.archive()
    closing.run(world.backend, world.catalog, world.now)


def lose(world: World) -> None:
    table = world.backend.live
    assert isinstance(table, MemoryTable)
    table._partitions.clear()
    table._order.clear()


def check(world: World) -> None:
    """Every answer is that of a recomputation from what was written."""
    for group in GROUPS:
        rows = world.raw_rows(group)
        assert world.store.query("weather", group).to_pylist() == rows
        assert world.store.query("weather", group, world.now - 40 * DAY, world.now).to_pylist() == rows
        newest = world.store.latest("weather", group)[0]
        assert (newest["valid_time"], newest["i"]) == (rows[-1]["valid_time"], rows[-1]["i"])
        for level in ("hourly", "daily"):
            world.check_level(level, group, world.now - 40 * DAY, world.now + DAY)


def check_items(world: World) -> int:
    """Every live item is what its period's records give, to the last digit; how many there are."""
    count = 0
    for group in GROUPS:
        own = [(to_micros(at), found) for (name, at), found in sorted(world.written.items()) if name == group]
        for level in live_levels(world.dataset):
            for item in world.backend.live.query(live_pk("weather", group, level.name)):
                live = decode_item(item)
                assert live.stale_at is None, live
                length = LENGTHS[level.name]
                records = [(at - live.start, found) for at, found in own if live.start <= at < live.start + length]
                assert same(live.state, fold_all(records)), (live, records)
                count += 1
    return count


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def values(chance: random.Random) -> dict[str, Any]:
    return {"i": chance.randrange(99), "f": Decimal(chance.randrange(99)) / 4}


@pytest.mark.parametrize("seed", range(2))
def test_a_lost_live_table_is_rebuilt_and_nobody_is_answered_wrongly(
    world: World, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        for group in ("A", "B"):
            for ago in (HOUR, 2 * HOUR, 7 * DAY, 30 * DAY):
                world.put(group, world.now - ago * chance.random() - timedelta(minutes=1), values(chance))
        world.drain()
        world.pass_time(DAY)
        close(world)
    world.pass_time(2 * HOUR)
    world.put("A", world.now - 20 * DAY, {"i": 1000})  # late: only its day mark leads readers to it
    world.put("NEW", world.now - HOUR, {"i": 7})  # a group that the archive does not know yet
    world.drain()
    check(world)
    kept = check_items(world)

    lose(world)
    assert world.store.query("weather", "A").to_pylist() != world.raw_rows("A")
    world.put("A", world.now - timedelta(minutes=1), {"i": 5})  # would be folded as the first of its hour, which it is not
    world.put("NEW", world.now - 30 * timedelta(minutes=1), {"i": 8})
    if seed:
        world.drain()
    code, out, err = ask(capsys, "rebuild", "--all", "--lost-table")
    assert code == 0
    assert out.startswith("marked to be computed anew of ")
    assert "nobody believes a live item" in err
    check(world)
    world.drain()
    check(world)
    for _ in range(2):
        world.put("B", world.now - chance.randrange(400) * HOUR, values(chance))
        world.drain()
        check(world)
        world.pass_time(13 * HOUR)
        close(world)
        check(world)
    progress = world.catalog.progress()
    assert progress.marks_since < progress.archived_through
    assert progress.to_readers().archived_through == progress.archived_through
    assert world.catalog.outage() is None
    world.pass_time(DAY)
    close(world)
    close(world)
    check(world)
    assert check_items(world) >= kept


def test_groups_of_one_dataset_or_of_all(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("A", "B"):
        world.put(group, world.now - 3 * HOUR, {"i": 1})
    world.drain()
    for words in (["weather"], ["--all"]):
        code, out, err = ask(capsys, "rebuild", *words)
        assert (code, out.splitlines()[0]) == (0, "marked to be computed anew of 2 groups: 2 hourly, 2 daily")
        assert "dataset weather: group 1 of 2, A" in err
        assert world.catalog.outage() is None
    assert ask(capsys, "rebuild", "other")[1] == "marked to be computed anew of 0 groups: nothing\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a dataset, or give --all"),
        (["weather", "--all"], "--all is of all datasets: leave out weather, or --all"),
        (["weather", "--wait"], "--wait waits for one group"),
        (["weather", "A", "--lost-table"], "a lost table is rebuilt whole: --all --lost-table"),
        (["--all", "--lost-table", "--level", "hourly"], "a lost table is rebuilt whole"),
        (["weather", "--level", "weekly"], "dataset weather has no level 'weekly'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    world.put("A", world.now, {"i": 1})
    world.drain()
    code, out, err = ask(capsys, "rebuild", *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"error: {says}")


def test_progress_counts_for_readers_once_the_marks_are_whole() -> None:
    backend = memory_backend()
    catalog = Catalog(backend.catalog, backend.objects)
    assert catalog.progress().to_readers() == Progress()
    catalog.advance("archived", 20)
    catalog.advance("snapshot", 10)
    assert catalog.progress().to_readers() == Progress(20, 10)
    catalog.advance("marks", 15)
    assert catalog.progress().to_readers() == Progress(20, 0)
    catalog.advance("marks", 12)
    assert catalog.progress().marks_since == 15
    catalog.advance("marks", 21)
    assert catalog.progress().to_readers() == Progress()
    assert catalog.outage() is None or isinstance(catalog.outage(), Outage)
