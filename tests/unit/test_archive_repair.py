"""Damaged segments are made again from whatever still has their rows, and what is lost is said, never passed over."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from tesseract import cli
from tesseract.config.dataset import Level
from tesseract.model import Applied, Manifest, Segment
from tesseract.processing import archive_repair
from tesseract.processing.archive_repair import Facts, Step, plan
from tesseract.processing.archive_repair_run import Done, run
from tesseract.processing.segments import RAW, Partition
from tesseract.processing.verify import verify
from tesseract.storage import keys
from tesseract.store import Store
from tests.support.archive_world import START, STATS, temp, weather
from tests.support.keeping_world import DAY, HOUR, KeepingWorld

LEVELS = tuple(Level(name, dict(STATS)) for name in ("hourly", "daily", "weekly"))


def lived(days: int = 4, **changes: Any) -> KeepingWorld:
    world, chance = KeepingWorld(weather(levels=LEVELS, **changes)), random.Random(3)
    world.exports.parts = 1
    for _ in range(days):
        world.day(chance)
    world.snapshot()
    return world


def answers(world: KeepingWorld) -> list[Any]:
    """Of the archive alone, as queries see it."""
    store = Store(world.backend, "test", lambda: world.now)
    return [store.query("weather", None, level=level, as_of=world.now).to_pylist() for level in (RAW, "hourly", "daily", "weekly")]


def mend(world: KeepingWorld, **arguments: Any) -> list[Done]:
    return run(world.backend, world.catalog, [world.dataset], world.now, **arguments)


def sound(world: KeepingWorld) -> bool:
    return not verify(world.catalog, world.backend.objects, [world.dataset], world.now).damaged


def segments(world: KeepingWorld, level: str) -> list[Segment]:
    names = world.catalog.partitions(world.dataset, level)
    return [segment for name in names for segment in world.catalog.manifest("weather", level, name).segments]


def damage(world: KeepingWorld, segment: Segment, how: str = "gone") -> None:
    if how == "gone":
        world.backend.objects.delete(segment.key)
        return
    body = world.backend.objects.get(segment.key)
    world.backend.objects.put(segment.key, body[:40] + bytes([body[40] ^ 1]) + body[41:])


def forget_exports(world: KeepingWorld) -> None:
    for info in list(world.backend.objects.list("exports/")):
        world.backend.objects.delete(info.key)


@pytest.mark.parametrize("changes", [{}, {"partitions": 1}])
def test_every_segment_is_made_again_as_it_was(changes: dict[str, Any]) -> None:
    world = lived(**changes)
    before = answers(world)
    for level in (RAW, "hourly", "daily", "weekly"):
        for place, segment in enumerate(segments(world, level)):
            damage(world, segment, ("gone", "changed")[place % 2])
    assert not sound(world)
    planned = mend(world, dry_run=True)
    assert {one.outcome for one in planned} == {"planned"}
    done = mend(world)
    assert {one.outcome for one in done} == {"repaired"}
    assert {one.source for one in done} >= {"raw rows", "the rows of its days"}
    assert [one.key for one in done] == [one.key for one in planned]
    assert sound(world)
    assert answers(world) == before
    assert mend(world) == []
    world.now += 40 * DAY
    world.archive()
    world.snapshot()
    world.compact()
    assert answers(world)[0] == before[0]
    assert sound(world)


def test_a_merged_segment_comes_from_its_inputs_and_those_from_their_files() -> None:
    world = lived(0)
    for day in range(3):
        world.put("A", START + day * HOUR, temp(str(day)))
        world.now += HOUR
        world.archive()
    before = world.archived("A")
    world.now += 40 * DAY
    world.archive()
    inputs = segments(world, RAW)
    world.compact()
    (merged,) = segments(world, RAW)
    damage(world, merged)
    assert mend(world)[0].source == "3 older segments"
    assert world.archived("A") == before
    (merged,) = segments(world, RAW)
    damage(world, merged)
    damage(world, inputs[1])
    assert mend(world)[0].source == "2 older segments and 1 export files"
    assert world.archived("A") == before
    (merged,) = segments(world, RAW)
    damage(world, merged)
    forget_exports(world)
    (done,) = mend(world)
    assert (done.source, done.outcome, done.rows, done.lost) == ("2 older segments and the buffer", "lost", 3, 1)


def test_rows_that_cannot_have_left_the_buffer_come_from_there() -> None:
    world = lived(0)
    for hour in range(3):
        world.put("A", world.now - hour * HOUR, temp(str(hour)))
    world.put("A", world.now - HOUR, deleted=True)
    world.archive()
    before = world.archived("A")
    forget_exports(world)
    for segment in segments(world, RAW):
        damage(world, segment)
    assert {one.source for one in mend(world)} == {"the buffer"}
    assert world.archived("A") == before
    world.put("A", world.now - 2 * HOUR, temp("9"))  # what was restored never hides what comes later
    world.archive()
    world.compact()
    assert sorted(world.archived("A").values(), key=str) != sorted(before.values(), key=str)
    assert {"temp": 9.0} in world.archived("A").values()


def test_what_is_lost_is_said_and_left_unless_the_loss_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = lived(0)
    old = world.now - 60 * DAY
    for hour in range(3):
        world.put("A", old + hour * HOUR, temp(str(hour)))
    world.archive()
    forget_exports(world)
    (segment,) = segments(world, RAW)
    damage(world, segment)
    world.expire("A", old)
    store = Store(world.backend, "test", lambda: world.now)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: store)
    monkeypatch.setattr("tesseract.cli.keeping.utc_now", lambda: world.now)

    def ask(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        code = cli.run(["archive", "repair", "weather", *words, "--format", "json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    manifest = world.catalog.manifest("weather", RAW, "A")
    for words, outcome, lost in (["--dry-run"], "planned", 3), ([], "lost", 1):
        code, (row,), err = ask(*words)
        assert (code, row["outcome"], row["lost"], row["rows"], row["groups"]) == (1, outcome, lost, 3, "A")
        assert row["period"] == "2024-01-01T00:00:00Z/2024-01-02T00:00:00Z"
        assert "1 with rows that are lost" in err
        assert world.catalog.manifest("weather", RAW, "A") == manifest
    code, (row,), _ = ask("--accept-loss")
    assert (code, row["outcome"], row["lost"]) == (1, "accepted", 1)
    assert world.catalog.manifest("weather", RAW, "A").operation == "repair from the buffer, 1 rows lost"
    assert len(world.archived("A")) == 2
    assert ask()[:2] == (0, [])


def test_no_level_is_computed_from_raw_rows_that_are_lost() -> None:
    world = lived(0)
    old = world.now - 60 * DAY
    for hour in range(3):
        world.put("A", old + hour * HOUR, temp(str(hour)))
    world.put("A", old - 9 * DAY, temp("7"))
    world.archive()
    world.snapshot()
    forget_exports(world)
    before = answers(world)
    for level in (RAW, "hourly"):
        for segment in segments(world, level):
            if segment.rows > 1:
                damage(world, segment, "changed")
    damage(world, min(segments(world, "daily"), key=lambda one: one.first))  # of the other day
    world.expire("A", old)
    assert [(one.level, one.outcome) for one in mend(world)] == [(RAW, "lost"), ("hourly", "lost"), ("daily", "repaired")]
    done = mend(world, accept_loss=True)
    assert [(one.level, one.outcome, one.lost) for one in done] == [(RAW, "accepted", 1), ("hourly", "accepted", 3)]
    assert sound(world)
    after = answers(world)
    assert [len(rows) for rows in after[:2]] == [len(rows) - 1 for rows in before[:2]]
    assert after[2:] == before[2:]


def test_a_large_manifest_is_written_again_from_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesseract.storage.catalog.SPILL_BYTES", 600)
    world = lived(2)
    before = answers(world)
    spilled = [info.key for info in world.backend.objects.list(keys.MANIFESTS) if not keys.split_manifest_object(info.key)[2]]
    assert spilled
    for key in spilled:
        world.backend.objects.delete(key)
    mend(world)
    assert [info.key for info in world.backend.objects.list(keys.MANIFESTS) if info.key in spilled] == spilled
    assert answers(world) == before


# the plan -----------------------------------------------------------------------------------------------------------------


def one(name: str, **changes: Any) -> Segment:
    return replace(Segment(name, "daily", 0, 86_400_000_000, 5, 9, 0, 9, 1, 0, 0, ""), **changes)


def history(*steps: tuple[str, tuple[Segment, ...], str]) -> tuple[Manifest, ...]:
    """Versions, newest first, of (operation, segments, commit)."""
    made = [
        Manifest("weather", RAW, "A", place + 1, own, (Applied(commit, 1),) if commit else (), 0, 0, operation)
        for place, (operation, own, commit) in enumerate(steps)
    ]
    return tuple(reversed(made))


def test_the_plan_takes_the_very_rows_first_and_never_what_an_erasure_left_out() -> None:
    part, now = Partition(weather(), RAW, "A"), START + 900 * DAY
    a, b, merged = one("a"), one("b"), one("merged")
    versions = history(("archive 5 rows", (a,), "w/e/1"), ("archive 5 rows", (a, b), "w/e/2"), ("compact daily", (merged,), ""))
    assert archive_repair.commits(versions) == {"w/e/1", "w/e/2"}
    assert archive_repair.candidates(versions, [merged]) == [b, a] or archive_repair.candidates(versions, [merged]) == [a, b]

    def step(sound: set[str], files: set[str], given: tuple[Manifest, ...] = versions) -> Step:
        facts = Facts(part, given, (given[0].segments[0],), frozenset(sound), frozenset(files))
        return plan(facts, now)[0]

    assert step({"a", "b"}, {"w/e/1", "w/e/2"}) == Step(part, "restore", merged, (a, b))
    assert step({"a"}, {"w/e/2"}) == Step(part, "restore", merged, (a,), ("w/e/2",))
    assert step(set(), {"w/e/1", "w/e/2"}) == Step(part, "restore", merged, (), ("w/e/1", "w/e/2"))
    assert step({"a"}, set()) == Step(part, "lost", merged, (a,), (), True)
    assert step(set(), set()) == Step(part, "lost", merged, (), (), True)
    erased = (*history(("archive 5 rows", (a,), "w/e/1"), ("erase", (one("less"),), "")),)
    assert step({"a"}, {"w/e/1"}, erased).action == "lost"
    assert step({"a"}, {"w/e/1"}, erased).segments == ()
    assert step({"a", "b"}, {"w/e/1"}, (versions[0], versions[2])).action == "lost"  # a version is missing in between
    young = Facts(part, (replace(versions[0], segments=(merged,)),), (merged,))
    assert plan(young, START - 20_000 * DAY)[0] == Step(part, "restore", merged, (), (), True)


def test_the_plan_computes_levels_from_rows_that_retention_has_left() -> None:
    segment = one("x")
    for level, raw_from, action in (
        ("hourly", -(2**63), "compute"),
        ("hourly", 1, "lost"),
        ("weekly", 1, "merge"),
        ("hourly@7", -(2**63), "lost"),  # a former life
    ):
        part = Partition(weather(levels=LEVELS), level, "A")
        facts = Facts(part, (Manifest("weather", level, "A", 9, (segment,)),), (segment,), raw_from=raw_from)
        assert plan(facts, START)[0].action == action
