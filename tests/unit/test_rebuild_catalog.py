"""A catalog that was lost is rebuilt from the bucket alone: the same manifests, the same answers, and the stage goes on."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from tesseract.config.manager import apply
from tesseract.errors import DamagedError
from tesseract.model import Manifest, Record, Window
from tesseract.processing import closing, compactor, gc, rebuild_catalog
from tesseract.processing.rebuild_progress import last_window
from tesseract.processing.segments import RAW
from tesseract.processing.verify import partition_levels, verify
from tesseract.storage import keys
from tesseract.storage.items import raw_item
from tesseract.storage.memory import MemoryTable
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support.archive_world import weather
from tests.support.keeping_world import KeepingWorld
from tests.support.level_world import DAY, HOUR, World, plant

GROUPS = ("A", "B")
BEGIN = datetime(2024, 2, 26, 6, tzinfo=UTC)


def wipe(table: Any) -> None:
    """The table is lost, and a new one made in its place."""
    assert isinstance(table, MemoryTable)
    table._partitions.clear()
    table._order.clear()


def live(world: World, chance: random.Random, days: int) -> None:
    """Days of records, corrections and deletes, late ones too, of two datasets; an export a day, at times more."""
    for _ in range(days):
        for _ in range(chance.randrange(3, 9)):
            known = sorted(world.written)
            if known and chance.random() < 0.4:
                group, at = chance.choice(known)
            else:
                group, at = chance.choice(GROUPS), world.now - chance.choice((0, 0, 0, 2, 20)) * DAY - chance.randrange(20) * HOUR
            gone = chance.random() < 0.2
            world.put(group, at, {} if gone else {"i": chance.randrange(99), "f": Decimal(chance.randrange(99)) / 4}, gone)
            if chance.random() < 0.3:
                other(world, chance)
        world.drain()
        world.pass_time(chance.choice((HOUR, 5 * HOUR, DAY)))
        if chance.random() < 0.8:
            world.archive()
            if chance.random() < 0.8:
                closing.run(world.backend, world.catalog, world.now)
        if chance.random() < 0.4:
            compactor.compact(world.catalog, world.backend.objects, world.catalog.datasets(), world.now)


def other(world: World, chance: random.Random) -> None:
    """A record of the other dataset."""
    dataset = world.catalog.dataset("other")
    assert dataset is not None
    world.now += timedelta(milliseconds=1)
    item = raw_item(dataset, Record(chance.choice("XY"), world.now - chance.randrange(9) * HOUR, None, {"temp": 1}), world.now)
    world.raw.put(item)
    world.exports.log.append((to_micros(world.now), item["pk"], item["sk"], item))


def born(seed: int, **changes: Any) -> World:
    world = World(plant("hourly", "daily", "weekly", **changes), BEGIN)
    apply(world.catalog, weather(name="other"), BEGIN)
    live(world, random.Random(seed), 6)
    return world


def manifests(world: World) -> list[Manifest]:
    found = []
    for dataset in world.catalog.datasets():
        for level in partition_levels(world.catalog, dataset):
            for name in world.catalog.partitions(dataset, level):
                found += list(world.catalog.manifests(dataset.name, level, name))
    return found


def answers(world: World, moments: tuple[datetime, ...]) -> list[Any]:
    """What a client may ask, and is answered."""
    store = world.store
    found: list[Any] = [store.groups(name) for name in store.datasets()]
    for name, level in (("weather", None), ("weather", "hourly"), ("weather", "daily"), ("weather", "weekly"), ("other", "daily")):
        found.append(store.query(name, None, level=level or "raw").to_pylist())
    found += [store.query("weather", None, as_of=moment).to_pylist() for moment in moments]
    return [*found, store.latest("weather"), store.latest("other")]


@pytest.mark.parametrize(
    ("seed", "changes"), [(0, {}), (1, {"partitions": 2}), (2, {"revisions": "latest_ref", "ladder": ("weekly", "yearly")})]
)
def test_a_lost_catalog_is_rebuilt_and_the_stage_goes_on(seed: int, changes: dict[str, Any]) -> None:
    world = born(seed, **changes)
    moments = tuple(from_micros(manifest.committed_at) for manifest in manifests(world)[::7])
    configurations = {item["sk"]: item for item in world.catalog.table.query(keys.config_pk("weather"))}
    before, wanted, progress = manifests(world), answers(world, moments), world.catalog.progress()
    wipe(world.catalog.table)
    if seed == 1:
        world.exports.begun = BEGIN + HOUR
        world.open()  # the timer comes before the operator

    planned = rebuild_catalog.run(world.catalog, world.backend.objects, world.now, dry_run=True)
    assert not list(world.catalog.table.query(keys.DATASETS_PK))
    report = rebuild_catalog.run(world.catalog, world.backend.objects, world.now)
    assert (planned, report.faults) == (report, [])
    assert manifests(world) == before
    assert {item["sk"]: item for item in world.catalog.table.query(keys.config_pk("weather"))} == configurations
    assert world.catalog.progress().archived_through <= progress.archived_through
    assert world.catalog.progress().snapshot_through <= progress.snapshot_through
    assert answers(world, moments) == wanted
    again = rebuild_catalog.run(world.catalog, world.backend.objects, world.now)
    assert again.nothing

    live(world, random.Random(99 + seed), 3)
    check(world)
    world.pass_time(5 * DAY)
    world.archive()
    closing.run(world.backend, world.catalog, world.now)
    check(world)
    gc.collect(world.catalog, world.backend.objects, world.catalog.datasets(), world.now)
    assert not verify(world.catalog, world.backend.objects, world.catalog.datasets(), world.now).damaged


def check(world: World) -> None:
    """Raw rows and levels are those of a recomputation."""
    for group in GROUPS:
        rows = world.store.query("weather", group).to_pylist() if world.raw_rows(group) else []
        assert rows == world.raw_rows(group)
        for level in ("hourly", "daily", "weekly"):
            world.check_level(level, group, world.now - 99 * DAY, world.now + 9 * DAY)


# what the copies prove ----------------------------------------------------------------------------------------------------


class Died(Exception):
    """The process has ended."""


def archived(hours: int = 3) -> KeepingWorld:
    """A small archive: one group, one window a record."""
    world = KeepingWorld(weather())
    world.catalog.publish("weather")
    for hour in range(hours):
        world.put("A", world.now - hour * HOUR, {"temp": hour})
        world.archive()
    world.snapshot()
    return world


def rebuilt(world: KeepingWorld) -> rebuild_catalog.Report:
    return rebuild_catalog.run(world.catalog, world.backend.objects, world.now)


@pytest.mark.parametrize("road", ["task", "snapshot"])
def test_what_was_said_to_be_done_has_a_copy_though_an_attempt_died_before_it(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = archived()
    world.put("A", world.now, {"temp": 9})
    world.now += DAY
    world.open()
    (task, *_) = [task for task in world.collect() if task.items]
    step = partial(world.work, task) if road == "task" else world.snapshot
    if road == "snapshot":
        world.work(task)

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as crash:
        crash.setattr("tesseract.storage.copies.keep", die)
        with pytest.raises(Died):
            step()
    newest = {name: world.catalog.manifest("weather", name, "A") for name in (RAW, "hourly", "daily")}
    step()
    wipe(world.catalog.table)
    rebuilt(world)
    level = RAW if road == "task" else "hourly"
    assert world.catalog.manifest("weather", level, "A") == newest[level]


def test_a_lost_catalog_does_not_begin_anew_over_the_copies() -> None:
    world = archived()
    copies = {info.key: world.backend.objects.get(info.key) for info in world.backend.objects.list(keys.MANIFESTS)}
    wipe(world.catalog.table)
    world.catalog.put_dataset(world.dataset, world.now)  # somebody helps himself
    world.put("A", world.now, {"temp": 1})
    world.now += HOUR
    world.open()
    tasks = [task for task in world.collect() if task.items]
    with pytest.raises(DamagedError, match="rebuild-catalog"):
        world.work(tasks[0])
    assert {info.key: world.backend.objects.get(info.key) for info in world.backend.objects.list(keys.MANIFESTS)} == copies
    report = rebuilt(world)
    assert report.partitions["weather", RAW] == 1
    for task in tasks:
        world.work(task)
    assert {row and row["temp"] for row in world.archived("A").values()} == {0, 1, 2}


def test_a_run_that_is_cut_short_anywhere_is_continued_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    world = archived()
    rebuilt(world)
    wipe(world.catalog.table)
    rebuilt(world)
    wanted = list(world.catalog.table.items())  # type: ignore[attr-defined]
    put, calls = world.catalog.table.put, 0
    for limit in range(len(wanted) + 2):
        wipe(world.catalog.table)
        calls = 0

        def cut(item: Any, *rest: Any, limit: int = limit) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise Died
            put(item, *rest)

        with monkeypatch.context() as crash, suppress(Died):
            crash.setattr(world.catalog.table, "put", cut)
            rebuilt(world)
        known = list(world.catalog.table.query(keys.config_pk("weather")))
        assert not known or world.catalog.manifest("weather", RAW, "A").version == 3  # configurations come last
        rebuilt(world)
        assert sorted(map(repr, world.catalog.table.items())) == sorted(map(repr, wanted))  # type: ignore[attr-defined]
    assert calls == len(wanted)


def test_two_first_commits_at_once_are_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    world = KeepingWorld(weather())
    read = world.catalog.manifest

    def slow(dataset: str, level: str, group: str) -> Manifest:
        found = read(dataset, level, group)
        monkeypatch.undo()
        world.catalog.commit(dataset, level, group, lambda old: replace(old, operation="first"), world.now)
        return found

    monkeypatch.setattr(world.catalog, "manifest", slow)
    world.catalog.commit("weather", RAW, "A", lambda old: replace(old, operation="second"), world.now)
    assert [found.operation for found in world.catalog.manifests("weather", RAW, "A")] == ["second", "first"]


def test_what_cannot_be_brought_back_is_said_and_left() -> None:
    world = archived()
    manifest = world.catalog.manifest("weather", RAW, "A")
    newest = keys.manifest_object("weather", RAW, "A", manifest.version)
    body = world.backend.objects.get(newest)
    wipe(world.catalog.table)
    world.backend.objects.put(newest, body[:-9])
    report = rebuilt(world)
    assert [fault.partition(": ")[0] for fault in report.faults] == ["nothing of manifest#weather#raw#A is brought back"]
    assert world.catalog.manifest("weather", RAW, "A").version == 0
    world.backend.objects.put(newest, body)
    assert not rebuilt(world).faults
    assert world.catalog.manifest("weather", RAW, "A") == manifest


def test_a_former_version_without_a_copy_is_named() -> None:
    world = archived()
    world.backend.objects.delete(keys.manifest_object("weather", RAW, "A", 2))
    wipe(world.catalog.table)
    assert rebuilt(world).faults == ["1 former versions of weather raw A have no copy: --as-of shows the one before instead"]
    assert [manifest.version for manifest in world.catalog.manifests("weather", RAW, "A")] == [3, 1]


def test_large_manifests_and_versions_beyond_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesseract.storage.catalog.SPILL_BYTES", 600)
    world = archived(6)
    old = world.catalog.manifest("weather", RAW, "A")
    world.now += 9 * DAY
    world.put("A", world.now, {"temp": 9})
    world.archive()
    wanted = world.catalog.manifest("weather", RAW, "A")
    wipe(world.catalog.table)
    assert not rebuilt(world).faults
    assert list(world.catalog.manifests("weather", RAW, "A")) == [wanted, old]  # history is 7 days
    assert "object" in next(iter(world.catalog.table.query(keys.manifest_pk("weather", RAW, "A"))))


def test_configurations_come_back_with_all_their_versions_and_no_other() -> None:
    world = World(plant("hourly"), BEGIN)
    for ttl in (30, 40):
        apply(world.catalog, replace(world.dataset, buffer_ttl_hours=ttl), world.now)
    wanted = list(world.catalog.table.query(keys.config_pk("weather")))
    wipe(world.catalog.table)
    report = rebuild_catalog.run(world.catalog, world.backend.objects, world.now)
    assert report.configurations == {"weather": 3}
    assert list(world.catalog.table.query(keys.config_pk("weather"))) == wanted
    assert not world.catalog.unused("weather")
    item = wanted[0] | {"body": wanted[0]["body"].replace(":24", ":25")}
    world.catalog.table.put(item)
    (fault,) = rebuild_catalog.run(world.catalog, world.backend.objects, world.now).faults
    assert fault == "version 1 of dataset weather is another one in the bucket: it was applied anew"


def test_windows_begin_again_where_snapshots_are_proven() -> None:
    second, now = 1_000_000, datetime(2024, 3, 5, tzinfo=UTC)
    through = to_micros(datetime(2024, 3, 4, 12, tzinfo=UTC))
    notes = [f"catalog/pending/{name}.json" for name in ("20240303T110000Z", "20240304T110000Z", "20240304T130000Z", "what")]
    window = last_window(notes, through, now)
    assert window == Window(
        through - 3600 * second, through - second, "closed", closed_at=to_micros(now), snapshot_at=to_micros(now)
    )
    assert last_window(notes[2:], through, now) is None
    short = last_window(["catalog/pending/20240304T115959Z.json"], through, now)
    assert short is not None
    assert (short.end, short.kind) == (through, "incremental")
    assert last_window(notes[:1], through, now).kind == "full"  # type: ignore[union-attr]


def test_where_point_in_time_recovery_begins_later_a_full_export_closes_the_gap() -> None:
    world = archived()
    world.put("A", world.now, {"temp": 7})
    world.now += HOUR
    wipe(world.catalog.table)
    world.exports.begun = world.now
    world.open(7200)
    world.collect()
    assert rebuilt(world).through < world.catalog.windows()[0].start
    for _ in range(3):
        rebuilt(world)
        world.archive()
    windows = world.catalog.windows()
    assert [window.kind for window in windows].count("full") == 1
    assert all(window.state == "closed" for window in windows)
    assert {row and row["temp"] for row in world.archived("A").values()} == {0, 1, 2, 7}
