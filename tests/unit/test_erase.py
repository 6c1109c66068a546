"""Erasure over the whole pipeline in memory: nothing is left of what was erased, everything else is as it was, crash or not."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from tesseract import cli, erasing
from tesseract.errors import RetryError
from tesseract.ingestion.erase_quarantine import Match, erase, found
from tesseract.processing import closing, erased
from tesseract.processing.publisher import publish
from tesseract.processing.rebuild import FIRST, LAST
from tesseract.processing.segments import RAW
from tesseract.processing.verify import verify
from tesseract.storage.quarantine import STREAM, UNKNOWN, Entry, places, read, write
from tesseract.utils.time_utils import iso_micros, iso_seconds, to_micros
from tests.support import revisions_world
from tests.support.keeping_world import ClockedObjects
from tests.support.revisions_world import HOUR, KEYS, LATE, START, record
from tests.unit import test_delete

REVISIONS = ["last_write", "latest_ref", "all"]
MINUTE = timedelta(minutes=1)


class World(test_delete.World):
    """A stage that erases. Its objects are as old as its clock says."""

    def __init__(self, revisions: str, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(revisions_world, "MemoryObjects", lambda: ClockedObjects(lambda: self.now))
        super().__init__(revisions, patch)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def export(self, cut: datetime | None = None) -> None:
        self.drain()
        self.finish_archive()
        closing.run(self.backend, self.catalog, self.now)

    def erase(self, start: datetime | None = None, end: datetime | None = None, group: str = "A") -> dict[str, int]:
        texts = [None if at is None else iso_seconds(at) for at in (start, end)]
        return erasing.run(self.store, "weather", group, *texts, self.export, lambda: self.now, self.sleep)

    def left(self, start: datetime | None = None, end: datetime | None = None, group: str = "A") -> list[erased.Left]:
        texts = [None if at is None else iso_seconds(at) for at in (start, end)]
        subject = erasing.subject_of(self.store, "weather", group, *texts, self.now)
        return list(erased.scan(self.backend, self.catalog, subject, self.now))

    def lived(self) -> None:
        """Records, corrections, a compaction, and a day in between: several states, tiers and windows."""
        for value in range(3):
            self.write([record(place, 1 + value, value) for place in range(len(KEYS))])
            self.export()
            if value == 1:
                self.compact()
        self.now += timedelta(days=1)

    def gone(self, start: datetime, end: datetime) -> None:
        """Tell the oracle."""
        for at in [at for at in self.puts if start <= at < end]:
            del self.puts[at]
            self.kept = {key: row for key, row in self.kept.items() if key[0] != at}
            self.lost = {key: row for key, row in self.lost.items() if key[0] != at}


@pytest.fixture(params=REVISIONS)
def world(request, monkeypatch):
    made = World(request.param, monkeypatch)
    made.lived()
    return made


def test_of_a_range_nothing_is_left_and_the_rest_is_as_it_was(world):
    assert len(world.left(LATE, LATE + 3 * HOUR)) > 3
    done = world.erase(LATE, LATE + 3 * HOUR)
    assert done["deleted"] == 3
    assert done["rows"] >= 3
    assert done["states"] > 0
    assert world.left(LATE, LATE + 3 * HOUR) == []
    world.gone(LATE, LATE + 3 * HOUR)
    world.everywhere()
    assert not verify(world.catalog, world.backend.objects, [world.dataset], world.now).damaged
    again = world.erase(LATE, LATE + 3 * HOUR)
    assert {name for name, number in again.items() if number} <= {"export files", "objects"}  # what only the forgotten states named
    world.now += timedelta(days=9)
    world.expire_archived()
    world.finish_archive()
    world.compact()
    world.everywhere()


def test_of_a_whole_group_nothing_is_left_that_names_it(world):
    world.write([record(0, 3, 5)])
    world.drain()
    world.erase()
    assert {left.what for left in world.left()} <= {"day mark"}  # as long as writers and readers go by them
    world.now += timedelta(minutes=20)
    world.export()
    world.erase()
    assert world.left() == []
    assert world.catalog.groups("weather", RAW) == []
    world.puts, world.kept, world.lost = {}, {}, {}
    world.write([record(0, 1, 7)])  # a group that begins anew
    world.everywhere()
    world.finish_archive()
    world.everywhere()


def test_records_written_again_meanwhile_stay(world):
    """Written after the tombstones: before the window that takes these to the archive ends, and after it."""
    real = world.export

    def export(cut=None):
        world.now += MINUTE
        world.write([record(4, 3, 9), record(5, 3, 8)])
        real()
        world.write([record(6, 3, 7)])  # in the buffer alone

    world.export = export
    world.erase(LATE, LATE + 3 * HOUR)
    world.export = real
    for at in KEYS[4:7]:
        world.puts[at] = world.puts[at][-1:]
    assert set(KEYS[4:7]) <= set(world.visible())
    assert sum(left.number for left in world.left(LATE, LATE + 3 * HOUR) if left.what == "raw rows") == 2
    world.check()
    world.check_streams()


def test_a_record_written_and_deleted_while_an_erasure_runs_does_not_come_back(monkeypatch):
    """A window ends between the two: its export has the record, and the tombstone has been removed before it is committed."""
    world = World("last_write", monkeypatch)
    world.lived()
    real = world.export

    def export(cut=None):
        real()
        world.now += MINUTE
        world.write([record(4, 3, 9)])
        world.open()
        world.now += MINUTE
        world.delete(KEYS[4])

    before = {at: row for at, row in world.visible().items() if not LATE <= at < LATE + 3 * HOUR}
    texts = [iso_seconds(at) for at in (LATE, LATE + 3 * HOUR)]
    exports = iter([export])
    done = erasing.run(
        world.store, "weather", "A", *texts, lambda cut: next(exports, real)(cut), lambda: world.now, world.sleep
    )  # fmt: skip
    assert done["deleted again"] == 1
    seen = {row["valid_time"] for row in world.store.query("weather", "A").to_pylist()}
    assert seen == set(before)
    real()
    assert {row["valid_time"] for row in world.store.query("weather", "A").to_pylist()} == set(before)
    world.erase(LATE, LATE + 3 * HOUR)
    assert world.left(LATE, LATE + 3 * HOUR) == []


def test_a_query_is_answered_though_an_erasure_removes_what_it_was_about_to_read(monkeypatch):
    world = World("last_write", monkeypatch)
    world.lived()
    objects = world.backend.objects
    real = objects.get
    held = {
        segment.key for segment in world.catalog.manifest("weather", RAW, "A").segments if segment.first < to_micros(LATE + HOUR)
    }

    def get(key, *span):
        if key in held and objects.get is not real:
            monkeypatch.setattr(objects, "get", real)
            world.erase(LATE, LATE + 3 * HOUR)
        return real(key, *span)

    monkeypatch.setattr(objects, "get", get)
    found = {row["valid_time"] for row in world.store.query("weather", "A").to_pylist()}
    assert found == {at for at in world.visible() if not LATE <= at < LATE + 3 * HOUR}
    assert objects.get is real


class Stop(Exception):
    """The process ends."""


@pytest.mark.parametrize("step", range(0, 60, 5))
def test_whatever_call_it_ends_at_running_it_again_finishes_it(monkeypatch, step):
    world = World(REVISIONS[step // 5 % 3], monkeypatch)
    world.lived()
    calls = [step]

    def counted(function):
        def call(*arguments, **options):
            calls[0] -= 1
            if calls[0] == -1:
                raise Stop
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for part, name in ((world.backend.objects, "delete"), (world.raw, "delete"), (world.catalog, "commit")):
            patch.setattr(part, name, counted(getattr(part, name)))
        patch.setattr(world.catalog, "forget", counted(world.catalog.forget))
        with contextlib.suppress(Stop):
            world.erase(LATE, LATE + 3 * HOUR)
    world.now += timedelta(days=step % 5)
    world.erase(LATE, LATE + 3 * HOUR)
    named = {
        segment.key
        for level in (RAW, "revisions")
        for manifest in world.catalog.manifests("weather", level, "A")
        for segment in manifest.segments
    }
    unnamed = {info.key for info in world.backend.objects.list("archive/")} - named
    assert {left.place for left in world.left(LATE, LATE + 3 * HOUR)} <= unnamed
    world.now += timedelta(days=2)  # what the attempt that ended had written and nobody names
    world.erase(LATE, LATE + 3 * HOUR)
    assert world.left(LATE, LATE + 3 * HOUR) == []
    world.gone(LATE, LATE + 3 * HOUR)
    world.check()


def test_nothing_is_erased_before_the_tombstones_are_archived(monkeypatch):
    world = World("last_write", monkeypatch)
    world.lived()
    monkeypatch.setattr(world, "export", lambda cut: None)
    before = world.state()
    with pytest.raises(RetryError, match="the tombstones are not archived yet"):
        world.erase(LATE, LATE + 3 * HOUR)
    assert world.state() == before


# groups that share a partition ----------------------------------------------------------------------------------------


def test_in_a_shared_partition_the_other_groups_stay_to_the_row(monkeypatch):
    world = World("last_write", monkeypatch)
    world.dataset = replace(world.dataset, partitions=1, version=2)
    world.catalog.put_dataset(world.dataset, world.now)
    for value in range(2):
        world.write([record(place, 1, value) for place in range(len(KEYS))])
        world.write([replace(record(place, 1, value), group="B") for place in range(len(KEYS))])
        world.export()
    wanted = world.store.query("weather", "B").to_pylist()
    assert len(wanted) == len(KEYS)
    assert any(left.what == "raw rows" for left in world.left())
    world.erase()
    world.now += timedelta(minutes=20)
    world.export()
    world.erase()
    assert world.left() == []
    assert world.store.query("weather", "B").to_pylist() == wanted
    assert world.catalog.groups("weather", RAW) == ["B"]
    assert not verify(world.catalog, world.backend.objects, [world.dataset], world.now).damaged
    assert any(left.what == "raw rows" for left in world.left(group="B"))


# quarantine -----------------------------------------------------------------------------------------------------------


def entry(record, sequence="1", origin="kinesis/records/shard-0"):
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    return Entry(body, "no", START, origin, sequence)


def test_records_in_quarantine_that_are_or_may_be_of_the_group_go(monkeypatch):
    world = World("last_write", monkeypatch)
    objects = world.backend.objects
    span = [to_micros(at) for at in (LATE, LATE + HOUR)]
    inside, outside = iso_seconds(LATE), iso_seconds(LATE + HOUR)
    other = {"station": "AB", "time": inside, "note": "A"}
    records = [
        {"station": "A", "time": inside, "temp": "x"},
        {"station": "A", "time": outside, "temp": "x"},
        {"station": "A", "time": "soon"},
        other,
        b"station: A, broken",
        b"station: b, broken",
    ]
    write(objects, "weather", [entry(one, str(place)) for place, one in enumerate(records)])
    write(objects, UNKNOWN, [entry({"dataset": "wether", "records": [records[0]]})])
    change = {"dynamodb": {"Keys": {"pk": {"S": "weather#A#2023-08-05"}, "sk": {"S": iso_micros(LATE)}}}}
    write(objects, STREAM, [entry(change, origin="stream/raw/1"), entry({**change, "x": 1}, "2", "stream/raw/1")])
    match = Match(world.dataset, "A", (span[0], span[1]))
    assert [len(own) for _, own, _ in found(objects, match, "weather")] == [3, 1, 2]
    assert erase(objects, match, "weather") == 6
    assert list(found(objects, match, "weather")) == []
    (place,) = places(objects)
    assert [one.record for one in read(objects, place.key)] == [
        json.dumps(records[1]).encode(),
        json.dumps(other).encode(),
        records[5],
    ]
    assert erase(objects, Match(world.dataset, "A", (FIRST, LAST)), "weather") == 1


# the commands ---------------------------------------------------------------------------------------------------------


def test_the_commands(monkeypatch, capsys):
    world = World("last_write", monkeypatch)
    world.lived()

    def invoked(stage, function, payload):
        if function == "metadata":
            publish(world.catalog, world.backend.objects, world.now)
            return {}
        return world.invoke(stage, function, payload)

    def ask(*arguments):
        code = cli.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: world.store)
    monkeypatch.setattr("tesseract.storage.services.clock_lag", timedelta)
    monkeypatch.setattr("tesseract.storage.services.invoke", invoked)
    monkeypatch.setattr("tesseract.remote.export_now", lambda *_, **options: world.export(options["covering"]))
    monkeypatch.setattr("tesseract.cli.delete.utc_now", lambda: world.now)
    monkeypatch.setattr("time.sleep", world.sleep)
    span = ["weather", "A", "--start", iso_seconds(LATE), "--end", iso_seconds(LATE + 3 * HOUR)]
    code, out, err = ask("archive", "erased", *span)
    assert (code, "raw rows" in out, "is still there" in err) == (1, True, True)
    before = world.state()
    code, out, _ = ask("delete", *span, "--erase", "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "visible rows" in line] == ["delete"]
    assert {"rewrite", "forget", "beside", "items"} <= {line.split()[0] for line in out.splitlines() if line.strip()}
    assert world.state() == before
    assert ask("delete", *span, "--dry-run")[0] == 2
    assert ask("delete", *span, "--erase")[0] == 2  # no terminal
    code, out, _ = ask("delete", *span, "--erase", "--yes")
    assert (code, out.startswith("deleted 3, rows ")) == (0, True)
    code, out, err = ask("archive", "erased", *span)
    assert (code, out) == (0, "")
    assert "nothing is there\nnot looked at: point-in-time recovery of the tables, empty of what was erased until now by 20" in err
    assert ask("delete", "weather", "Z", "--all", "--erase", "--yes")[0] == 1
