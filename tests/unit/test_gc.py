"""Garbage collection: nothing that a kept moment needs is ever removed, and all the rest is, in the end."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from archive import garbage
from tesseract import cli
from tesseract.errors import DamagedError, NotFoundError
from tesseract.model import Manifest
from tesseract.processing import gc
from tesseract.processing.archive_stage import ArchiveStage
from tesseract.processing.segments import RAW, VALID_TIME, Partition, commit_rows
from tesseract.processing.verify import partitions_of, verify
from tesseract.storage import keys, segment_reader
from tesseract.store import Store
from tesseract.utils.time_utils import parse_duration, to_micros
from tests.support.archive_world import weather
from tests.support.keeping_world import DAY, HOUR, KeepingWorld


def run(world: KeepingWorld, dry_run: bool = False) -> gc.Sum:
    (found,) = gc.collect(world.catalog, world.backend.objects, [world.dataset], world.now, dry_run)
    return found


def everything(world: KeepingWorld) -> tuple[list[Any], list[Any]]:
    return [info.key for info in world.backend.objects.list("")], list(world.backend.catalog.items())  # type: ignore[attr-defined]


def check_kept(world: KeepingWorld, since: int) -> None:
    """Every version that was the newest one at a moment from `since` on is there, and so are its objects."""
    there = {info.key for info in world.backend.objects.list("archive/")}
    for part in partitions_of(world.catalog, world.dataset):
        versions = list(world.catalog.manifests("weather", part.level, part.name))
        assert [manifest.version for manifest in versions] == list(range(versions[0].version, versions[-1].version - 1, -1))
        assert versions[-1].version == 1 or versions[-1].committed_at <= since
        for manifest in versions:
            assert {segment.key for segment in manifest.segments} <= there
            copy = world.backend.objects.get(keys.manifest_object("weather", part.level, part.name, manifest.version))
            assert msgspec.json.decode(copy, type=Manifest) == manifest


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("changes", [{"history": "P2D"}, {"history": "P2D", "partitions": 2}])
def test_a_life_under_gc_keeps_what_history_asks_for_and_no_more(seed: int, changes: dict[str, Any]) -> None:
    world, chance = KeepingWorld(weather(**changes)), random.Random(seed)
    removed = 0
    for _ in range(14):
        world.day(chance)
        removed += run(world).objects
        check_kept(world, to_micros(world.now - parse_duration("P2D")))
        assert not verify(world.catalog, world.backend.objects, [world.dataset], world.now).damaged
    assert removed > 0
    before = {group: world.archived(group) for group in world.catalog.groups("weather", RAW)} if "partitions" not in changes else {}
    for _ in range(3):  # nothing happens any more: the newest versions are left, and their objects
        world.now += 3 * DAY
        run(world)
    parts = list(partitions_of(world.catalog, world.dataset))
    newest = [world.catalog.manifest("weather", part.level, part.name) for part in parts]
    assert all(len(list(world.catalog.manifests("weather", part.level, part.name))) == 1 for part in parts)
    there = {info.key for info in world.backend.objects.list("archive/")}
    assert there == {segment.key for manifest in newest for segment in manifest.segments}
    assert len(list(world.backend.objects.list("catalog/manifests/"))) == len(parts)
    assert all(world.archived(group) == rows for group, rows in before.items())
    assert run(world) == gc.Sum("weather", 0, 0, 0)


def test_a_dry_run_changes_nothing_and_says_the_same() -> None:
    world, chance = KeepingWorld(weather(history="P1D")), random.Random(4)
    for _ in range(8):
        world.day(chance)
    before = everything(world)
    said = run(world, dry_run=True)
    assert everything(world) == before
    assert said == run(world) != gc.Sum("weather", 0, 0, 0)
    assert everything(world) != before


@pytest.mark.parametrize("kept", range(0, 30, 3))
def test_a_run_that_is_cut_short_is_continued_by_the_next(kept: int) -> None:
    world, chance = KeepingWorld(weather(history="P1D")), random.Random(5)
    for _ in range(7):
        world.day(chance)
    rows = world.archived("A")
    objects = world.backend.objects
    steps = gc.plan(gc.facts_of(world.catalog, objects, world.dataset), world.now)
    for step in steps[:kept]:
        gc.execute(world.catalog, objects, step)
    check_kept(world, to_micros(world.now - DAY))
    for _ in range(3):
        world.now += 2 * DAY
        run(world)
    assert world.archived("A") == rows
    assert run(world) == gc.Sum("weather", 0, 0, 0)


def test_an_attempt_that_lasts_keeps_its_objects() -> None:
    """The race: objects are put, gc runs at any moment, and only then they are committed."""
    world, chance = KeepingWorld(weather(history="P1D")), random.Random(6)
    for _ in range(3):
        world.day(chance)
    partition = Partition(world.dataset, RAW, "A")
    segment = world.catalog.manifest("weather", RAW, "A").segments[0]
    table = segment_reader.read(world.backend.objects, segment, VALID_TIME)
    end = to_micros(world.now + DAY)
    objects, real = world.backend.objects, world.catalog.commit

    def commit(*arguments: Any) -> Any:
        world.now += HOUR
        run(world)  # an hour after the objects were put, before they are named
        return real(*arguments)

    world.catalog.commit = commit  # type: ignore[method-assign, assignment]
    assert commit_rows(world.catalog, objects, partition, table, "late", end, 0, "test", world.now)
    assert not verify(world.catalog, objects, [world.dataset], world.now).damaged


def test_what_an_attempt_left_goes_after_the_grace_and_nothing_beside_the_archive() -> None:
    world, chance = KeepingWorld(), random.Random(7)
    world.day(chance)
    folder = keys.partition_objects("weather", RAW, "A")
    left = [f"{folder}tier=daily/2024-03-01-x.parquet", f"{folder}tier=daily/2024-03-01-y.parquet"]
    others = ["archive/dataset=other/level=raw/group=A/tier=daily/x.parquet", "exports/x", "quarantine/x", "config/x"]
    others.append(f"{keys.partition_objects('weather', RAW, 'Z')}tier=daily/x.parquet")  # no commit has ever been made there
    for key in left + others:
        world.backend.objects.put(key, b"123")
    world.now += gc.GRACE - timedelta(minutes=1)
    assert run(world) == gc.Sum("weather", 0, 0, 0)
    world.now += timedelta(minutes=2)
    assert run(world) == gc.Sum("weather", 0, 2, 6)
    there = {info.key for info in world.backend.objects.list("")}
    assert there.isdisjoint(left)
    assert there >= set(others)


def test_a_catalog_that_has_lost_manifests_makes_gc_refuse() -> None:
    world, chance = KeepingWorld(), random.Random(8)
    for _ in range(3):
        world.day(chance)
    for item in list(world.backend.catalog.items()):  # type: ignore[attr-defined]
        if item["pk"].startswith("manifest#"):
            world.backend.catalog.delete((item["pk"], item["sk"]))
    world.now += 9 * DAY
    before = everything(world)
    with pytest.raises(DamagedError, match="rebuild-catalog"):
        run(world)
    assert everything(world) == before


def test_a_copy_that_a_crash_has_left_out_is_made_up_for() -> None:
    world, chance = KeepingWorld(), random.Random(9)
    world.day(chance)
    manifest = world.catalog.manifest("weather", RAW, "A")
    key = keys.manifest_object("weather", RAW, "A", manifest.version)
    body = world.backend.objects.get(key)
    world.backend.objects.delete(key)
    run(world)
    assert world.backend.objects.get(key) == body


def test_the_command_asks_the_function(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world, chance = KeepingWorld(weather(history="P1D")), random.Random(4)
    for _ in range(6):
        world.day(chance)
    stage = ArchiveStage(world.backend, world.catalog, world.exports)
    monkeypatch.setattr(garbage, "archive_stage", lambda: stage)
    monkeypatch.setattr(garbage, "utc_now", lambda: world.now)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: Store(world.backend, clock=lambda: world.now))
    called: list[str] = []

    def invoke(stage: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        called.append(name)
        return garbage.handler(payload, None)

    monkeypatch.setattr("tesseract.storage.services.invoke", invoke)
    before = everything(world)
    answers = []
    for arguments in (["--dry-run"], ["weather"]):
        assert cli.run(["archive", "gc", *arguments, "--format", "json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
        assert (everything(world) == before) == (arguments == ["--dry-run"])
    assert answers[0] == answers[1]
    assert answers[0][0]["versions"] > 0
    assert called == ["gc", "gc"]
    with pytest.raises(NotFoundError, match="no dataset 'x'"):
        garbage.handler({"dataset": "x"}, None)


def test_what_was_the_newest_at_a_moment_of_the_history_is_needed() -> None:
    versions = tuple(replace(Manifest("d", RAW, "A"), version=n, committed_at=10 * n) for n in (4, 3, 2, 1))
    for since, count in ((5, 4), (10, 4), (19, 4), (20, 3), (29, 3), (39, 2), (40, 1), (99, 1)):
        kept, gone = gc.needed(versions, since)
        assert len(kept) == count
        assert kept + gone == versions
