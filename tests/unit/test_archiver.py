"""From an export's files to committed segments: AWS's layout, what is refused, and that running anything again changes nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tesseract.errors import DamagedError, RetryError
from tesseract.model import Window, WindowKind
from tesseract.processing import collector
from tesseract.processing.collector import SUMMARY, collect, tasks_of, window_of
from tesseract.processing.export_tables import Known, decode_file
from tesseract.processing.segments import RAW
from tesseract.storage.exports import Export
from tesseract.storage.segment_reader import read
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import START, World, temp, weather
from tests.support.export_files import export_arn
from tests.support.export_fixtures import END, EXPORT, FOLDER, PREFIX, WRITTEN

HOUR = timedelta(hours=1)


def load(case: str) -> tuple[World, Window]:
    """A world in which the export of one kept case has just completed."""
    world = World()
    for path in sorted((FOLDER / case).rglob("*")):
        if path.is_file():
            world.backend.objects.put(f"{PREFIX}/{path.relative_to(FOLDER / case)}", path.read_bytes())
    kind: WindowKind = "full" if case == "full" else "incremental"
    window = Window(to_micros(START), to_micros(END), "exporting", export_arn=export_arn(EXPORT), kind=kind)
    world.catalog.open_window(window)
    world.exports.status[window.export_arn] = Export("COMPLETED")
    world.now = END
    return world, window


def run(world: World) -> Window:
    for task in world.collect():
        world.work(task)
    (window,) = world.catalog.windows()
    return window


def known(world: World) -> Known:
    """What a decoder knows of the world's datasets."""
    return Known({world.dataset.name: world.dataset}.__getitem__)


def edit(world: World, name: str, old: bytes, new: bytes) -> None:
    """Change a manifest of the kept export, and its checksum with it."""
    key = f"{PREFIX}/AWSDynamoDB/{EXPORT}/{name}"
    body = world.backend.objects.get(key).replace(old, new)
    world.backend.objects.put(key, body)
    world.backend.objects.put(key.replace("json", "checksum"), b64encode(hashlib.md5(body).digest()))


def at(day: int, hour: int) -> int:
    return to_micros(datetime(2024, 2, day, hour, tzinfo=UTC))


@pytest.mark.parametrize("case", ["incremental", "several", "full", "many", "unknown"])
def test_the_kept_exports_archive_to_the_same_rows(case: str) -> None:
    world, _ = load(case)
    window = run(world)
    assert window.state == "closed"
    assert window.files == {"incremental": 1, "several": 2, "full": 2, "many": 23, "unknown": 1}[case]
    assert world.archived("KJFK") == {at(27, 6): {"temp": -3.25, "wind": 12}, at(28, 7): {"temp": 0.1}, at(28, 9): None}
    assert world.catalog.progress().archived_through == window.end


@pytest.mark.parametrize(("case", "files", "items"), [("ttl", 1, 2), ("empty", 0, 0)])
def test_an_export_without_rows_closes_its_window(case: str, files: int, items: int) -> None:
    world, _ = load(case)
    window = run(world)
    assert (window.state, window.files, window.items) == ("closed", files, items)
    assert world.catalog.groups("weather", RAW) == []
    assert world.catalog.progress().archived_through == window.end


def test_an_encoded_group_is_a_partition_of_its_own_and_decoded_in_its_column() -> None:
    world, _ = load("groups")
    run(world)
    assert world.catalog.groups("weather", RAW) == ["KJFK", "ST%2F1%23x"]
    (segment,) = world.catalog.manifest("weather", RAW, "ST%2F1%23x").segments
    assert "/group=ST%252F1%2523x/tier=daily/2024-02-28-" in segment.key
    table = read(world.backend.objects, segment, "valid_time")
    assert table["station"].to_pylist() == ["ST/1#x"]


def test_write_times_come_from_the_lines_and_of_a_full_export_from_its_time() -> None:
    for case, written in (("incremental", WRITTEN), ("full", to_micros(END))):
        world, _ = load(case)
        (task, *_) = world.collect()
        stream = world.backend.objects.open(task.key)
        moment = END if case == "full" else None
        (((_, table),),) = (tables.values() for tables in decode_file(stream, task.key, task.md5, task.items, known(world), moment))
        first = table.to_pylist()[0]
        assert to_micros(first["__write_time"]) == written
        assert (first["temp"], first["wind"]) == (-3.25, 12)


def test_nothing_is_collected_before_dynamodb_says_complete() -> None:
    world, window = load("incremental")
    world.exports.status[window.export_arn] = Export("IN_PROGRESS")
    assert world.collect() == []
    world.exports.status[window.export_arn] = Export("COMPLETED")
    assert len(world.collect()) == 1
    assert world.collect() == []  # sent once; only what stays unfinished for long is sent again
    world.now += collector.RESEND
    assert len(world.collect()) == 1


def test_a_summary_names_its_window() -> None:
    world, window = load("incremental")
    assert window_of(world.catalog, f"{PREFIX}/AWSDynamoDB/{EXPORT}/{SUMMARY}") == window
    assert window_of(world.catalog, f"exports/20200101T000000Z/AWSDynamoDB/{EXPORT}/{SUMMARY}") is None
    assert window_of(world.catalog, "config/datasets.json") is None


def test_keys_without_the_prefix_as_in_the_guide_are_found() -> None:
    world, window = load("incremental")
    for name in (SUMMARY, "manifest-files.json"):
        edit(world, name, f'"{PREFIX}/'.encode(), b'"')
    (task,) = tasks_of(world.backend.objects, window)
    assert task.key.startswith(f"{PREFIX}/AWSDynamoDB/data/")


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        (SUMMARY, b'"itemCount":3', b'"itemCount":4', "3 items, the summary says 4"),
        (SUMMARY, f"export/{EXPORT}".encode(), b"export/01709254800000-ffffffff", "the window's export is"),
        (SUMMARY, b"{", b"[", "does not decode"),
        (SUMMARY, b'"exportType":"INCREMENTAL_EXPORT"', b'"exportType":"FULL_EXPORT"', "the window is incremental"),
    ],
)
def test_manifests_that_contradict_each_other_are_refused(name: str, old: bytes, new: bytes, reason: str) -> None:
    world, window = load("incremental")
    edit(world, name, old, new)
    with pytest.raises(DamagedError, match=reason):
        tasks_of(world.backend.objects, window)


@pytest.mark.parametrize("name", [SUMMARY, "manifest-files.json"])
@pytest.mark.parametrize("ending", ["checksum", "md5"])
def test_a_manifest_that_is_not_what_its_checksum_says_is_refused(name: str, ending: str) -> None:
    world, window = load("incremental")
    place = f"{PREFIX}/AWSDynamoDB/{EXPORT}/{name}"
    checksum = world.backend.objects.get(place.replace("json", "checksum"))
    world.backend.objects.delete(place.replace("json", "checksum"))
    world.backend.objects.put(place.replace("json", ending), checksum)
    assert tasks_of(world.backend.objects, window)
    world.backend.objects.put(place, world.backend.objects.get(place) + b" ")
    with pytest.raises(DamagedError, match=f"{name} does not match its checksum"):
        tasks_of(world.backend.objects, window)


def test_a_full_export_of_another_time_is_refused() -> None:
    world, window = load("full")
    with pytest.raises(DamagedError, match="ends at another time"):
        tasks_of(world.backend.objects, replace(window, end=window.end + 1_000_000))


@pytest.mark.parametrize("damage", ["byte", "cut", "text", "line"])
def test_a_damaged_file_commits_nothing(damage: str) -> None:
    world, _ = load("incremental")
    (task,) = world.collect()
    body = bytearray(world.backend.objects.get(task.key))
    if damage == "byte":
        body[9] ^= 1  # the operating system in gzip's header: it still unpacks
    elif damage == "cut":
        body = body[:-9]
    elif damage == "text":
        body = bytearray(b"not gzip")
    else:
        body = bytearray(gzip.compress(b'{"Metadata":{}}\n'))
    world.backend.objects.put(task.key, bytes(body))
    with pytest.raises(DamagedError):
        world.work(task)
    assert world.catalog.groups("weather", RAW) == []
    assert world.catalog.windows()[0].state == "collecting"


def test_the_number_of_lines_is_checked() -> None:
    world, _ = load("incremental")
    (task,) = world.collect()
    with pytest.raises(DamagedError, match="3 lines, its manifest says 2"):
        list(decode_file(world.backend.objects.open(task.key), task.key, task.md5, 2, known(world), None))


def test_a_file_of_several_gzip_members_and_long_lines_is_read_whole() -> None:
    world, _ = load("incremental")
    (task,) = world.collect()
    text = gzip.decompress(world.backend.objects.get(task.key)) * 5000
    half = text.index(b"\n", len(text) // 2) - 7
    body = gzip.compress(text[:half]) + gzip.compress(text[half:])
    md5 = b64encode(hashlib.md5(body).digest()).decode()
    (tables,) = decode_file(io.BytesIO(body), "k", md5, 15_000, known(world), None)
    assert sum(len(table) for _, table in tables.values()) == 15_000


def test_rows_of_an_unknown_dataset_wait_for_it() -> None:
    world, _ = load("incremental")
    (task,) = world.collect()
    world.catalog.table.delete(("config#weather", "v000000000001"))
    with pytest.raises(RetryError, match="does not know"):
        world.work(task)
    world.catalog.put_dataset(weather(), START)
    assert world.work(task).window_closed


def test_a_task_that_is_run_again_changes_nothing_at_any_time() -> None:
    world = World(parts=3)
    for hour in range(30):
        world.put("A", START - HOUR * hour, temp("1.5", hour))
        world.put("B", START - HOUR * hour, temp("2.5"))
    world.open()
    tasks = world.collect()
    assert len(tasks) == 3
    world.work(tasks[1])
    before = world.state()
    again = world.work(tasks[1])
    assert (again.commits, again.window_closed) == (0, False)
    assert world.state() == before
    for task in tasks:
        world.work(task)
    closed = world.state()
    assert world.catalog.windows()[0].state == "closed"
    for task in random.Random(1).sample(tasks * 2, 6):
        assert world.work(task).commits == 0
    assert world.state() == closed


def test_a_crash_between_commit_and_finish_is_mended_by_the_second_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(parts=1)
    world.put("A", START, temp("1"))
    world.open()
    (task,) = world.collect()
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "finish_file", lambda *_: (_ for _ in ()).throw(RuntimeError("crash")))
        with pytest.raises(RuntimeError):
            world.work(task)
    done = world.work(task)
    assert (done.commits, done.window_closed) == (0, True)
    assert len(world.catalog.manifest("weather", RAW, "A").segments) == 1


def test_windows_may_close_in_any_order_but_progress_follows_the_unbroken_run() -> None:
    world = World(parts=1)
    tasks = []
    for number in range(3):
        world.put("A", START, temp("1", number))
        world.open()
        tasks += world.collect()
    first, second, third = world.catalog.windows()
    world.work(tasks[2])
    assert world.catalog.progress().archived_through == first.start
    world.work(tasks[0])
    assert world.catalog.progress().archived_through == first.end
    world.work(tasks[1])
    assert world.catalog.progress().archived_through == third.end
    assert world.archived("A") == {to_micros(START): {"temp": 1.0, "wind": 2}}
    assert second.end == third.start


def test_a_task_delivered_late_cannot_bring_back_what_was_purged() -> None:
    world = World(parts=1)
    world.put("A", START, temp("1"))
    world.open()
    (late,) = world.collect()
    world.work(late)
    world.put("A", START, deleted=True)
    world.archive()
    world.put("A", START + HOUR, temp("2"))
    world.archive()
    world.compact()
    assert world.archived("A") == {to_micros(START + HOUR): {"temp": 2.0}}
    before = world.state()
    assert world.work(late).commits == 0
    assert world.state() == before


def test_only_files_of_the_export_that_counts_are_taken() -> None:
    world = World(parts=1)
    world.put("A", START, temp("1"))
    (window,) = world.open()
    (task,) = world.collect()
    world.catalog.change_window(window.id, lambda stored: replace(stored, state="exporting", attempt=2, export_arn=export_arn("2")))
    assert world.work(task).outcome == "superseded"
    assert world.catalog.groups("weather", RAW) == []


def test_a_window_over_a_year_writes_months_and_no_segment_crosses_one() -> None:
    world = World(parts=1)
    for day in range(330):
        world.put("A", datetime(2023, 1, 1, 12, tzinfo=UTC) + timedelta(days=day), temp("1", day))
    world.archive()
    manifest = world.catalog.manifest("weather", RAW, "A")
    assert {segment.tier for segment in manifest.segments} == {"monthly"}
    assert len(manifest.segments) == 11
    assert all(segment.start <= segment.first <= segment.last < segment.end for segment in manifest.segments)
    assert sum(segment.rows for segment in manifest.segments) == 330
    assert manifest.version == 1


def test_tombstones_are_rows() -> None:
    world = World(parts=1)
    world.put("A", START, deleted=True)
    world.archive()
    assert world.archived("A") == {to_micros(START): None}


def test_what_ttl_removes_stays_in_the_archive() -> None:
    world = World()
    world.put("A", START, temp("1"))
    world.archive()
    world.expire("A", START)
    world.archive()
    assert world.archived("A") == {to_micros(START): {"temp": 1.0}}


def test_an_item_that_came_and_went_in_one_window_is_a_remove_alone() -> None:
    world = World()
    world.put("A", START, temp("1"))
    world.expire("A", START)
    world.archive()
    assert world.archived("A") == {}


def test_collect_on_a_closed_window_does_nothing() -> None:
    world, _ = load("incremental")
    window = run(world)
    assert collect(world.catalog, world.backend.objects, world.exports, world.queue, window, world.now) == "closed"
