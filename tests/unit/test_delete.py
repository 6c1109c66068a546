"""Deletes of ranges: over the whole pipeline in memory, by the client, the ingestion function, and the command."""

from __future__ import annotations

import json
import random
import re
from datetime import datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract import cli
from tesseract.config.cache import Configs
from tesseract.errors import BackendError, NotFoundError, RetryError, Throttled
from tesseract.ingestion import client, deletes
from tesseract.ingestion.lambda_handler import Service
from tesseract.model import Segment
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN, Range
from tesseract.query.portions import HOT_DAY, SHORTEST, portions
from tesseract.storage.revisions import tombstone
from tesseract.utils.time_utils import iso_seconds, to_micros
from tests.support import ingest_world, revisions_world
from tests.support.revisions_world import HOUR, KEYS, LATE, START, record

REVISIONS = ["last_write", "latest_ref", "all"]


class World(revisions_world.World):
    """The stage of the revisions, whose ingestion function deletes."""

    def __init__(self, revisions: str, patch: pytest.MonkeyPatch) -> None:
        super().__init__(revisions)
        clock = lambda: self.now
        self.service = Service(Configs(self.catalog, clock), self.writer, self.backend.objects, clock)
        self.meanwhile, self.calls = [], 0
        patch.setattr(deletes, "invoke", self.invoke)
        patch.setattr(client, "backoff", lambda attempts, at_least=0: 0)

    def invoke(self, stage: str, function: str, payload: dict) -> dict:
        """A direct invoke, after what others write meanwhile."""
        assert (stage, function) == ("test", "ingestHttp")
        self.calls += 1
        if self.meanwhile:
            self.write(self.meanwhile.pop(0))
        return json.loads(json.dumps(self.service.handle(json.loads(msgspec.json.encode(payload)), 28)))

    def delete_range(self, start: datetime | None, end: datetime | None) -> int:
        """Delete, and tell the oracle."""
        self.now += timedelta(seconds=1)
        rows = [row for at, row in self.visible().items() if (start is None or at >= start) and (end is None or at < end)]
        try:
            found = self.store.delete("weather", "A", start, end)
        except NotFoundError:
            assert not rows
            return 0
        for gone in map(tombstone, rows):
            self.puts[gone.valid_time].append(gone)
            self.kept[gone.valid_time, gone.ref_time], self.lost[gone.valid_time, gone.ref_time] = gone, []
        assert found == {"deleted": len(rows), "arrived": 0}
        return len(rows)

    def everywhere(self) -> None:
        """Every reader sees what it should."""
        self.check()
        self.check_streams()
        if self.dataset.revisions == "all":
            self.finish_archive()
            self.check_history()


# the pipeline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revisions", REVISIONS)
def test_deleted_rows_are_gone_from_buffer_levels_and_latest_and_later_from_the_archive(monkeypatch, revisions):
    world = World(revisions, monkeypatch)
    world.write([record(place, 1, place) for place in range(len(KEYS))])
    world.drain()
    assert world.delete_range(START - 2 * HOUR, START) == 3
    world.check()
    world.everywhere()
    assert world.delete_range(START - 2 * HOUR, START) == 0
    world.finish_archive()
    world.snapshot()
    world.everywhere()
    world.now += timedelta(days=5)  # the tombstones, too, have left the buffer
    world.expire_archived()
    world.check()
    world.finish_archive()
    world.compact()
    world.everywhere()
    assert set(world.visible()) == {KEYS[3], *KEYS[4:]}


@pytest.mark.parametrize("revisions", REVISIONS)
def test_rows_that_are_only_in_the_archive_are_deleted_with_marks_and_the_tombstones_purged_at_the_end(monkeypatch, revisions):
    world = World(revisions, monkeypatch)
    world.write([record(place, 2, place) for place in range(len(KEYS))])
    world.finish_archive()
    world.snapshot()
    world.drain()
    world.now += timedelta(days=5)
    world.expire_archived()
    assert not list(world.raw.items())
    assert world.delete_range(None, None) == len(KEYS)
    assert {item["pk"] for item in world.backend.live.query("weather#A#days")} == {"weather#A#days"}
    world.everywhere()
    world.finish_archive()
    world.snapshot()
    world.compact()
    world.everywhere()
    world.now += timedelta(days=400)
    world.expire_archived()
    world.finish_archive()
    world.compact()
    world.compact()
    world.everywhere()
    left = world.archived("A")
    assert all(row is None for row in left.values())
    assert bool(left) == world.dataset.by_ref_time  # where an older revision may still come, its tombstone waits for it


@pytest.mark.parametrize("revisions", REVISIONS)
@pytest.mark.parametrize("archived", [False, True])
def test_a_record_written_again_lives_by_the_rule_of_ref_times(monkeypatch, revisions, archived):
    world = World(revisions, monkeypatch)
    world.write([record(place, 2, place) for place in range(3)])
    world.delete_range(None, None)
    if archived:
        world.drain()
        world.finish_archive()
        world.snapshot()
        world.now += timedelta(days=5)
        world.expire_archived()
        world.compact()
    world.write([record(0, 1, 7), record(1, 2, 8), record(2, 3, 9)])  # older, the same, newer
    assert set(world.visible()) == set(KEYS[1:3] if world.dataset.by_ref_time else KEYS[:3])
    world.everywhere()


@pytest.mark.parametrize("seed", range(12))
def test_any_history_with_deletes_shows_what_it_should_at_every_moment(monkeypatch, seed):
    chance = random.Random(seed)
    world = World(REVISIONS[seed % 3], monkeypatch)
    bounds = [None, *KEYS, LATE + HOUR / 2, START]
    for _ in range(20):
        step = chance.choice(["write", "write", "delete", "open", "work", "compact", "snapshot", "poll", "pass"])
        match step:
            case "write":
                many = [record(chance.randrange(len(KEYS)), chance.randrange(4), chance.randrange(9)) for _ in range(4)]
                world.write(many, throttled=[KEYS[chance.randrange(len(KEYS))]] if chance.random() < 0.3 else ())
            case "delete":
                world.delete_range(*span(chance, bounds))
            case "poll":
                world.step("poll", (chance.randrange(2), chance.randrange(2), chance.randrange(2)))
            case "pass":
                world.drain()  # streams keep a day
                world.step("pass", chance.choice([1, 6, 30]))
            case _:
                world.step(step, chance.randrange(8))
        world.check()
    world.everywhere()
    world.finish_archive()
    world.snapshot()
    world.compact()
    world.everywhere()


def span(chance: random.Random, bounds: list[datetime | None]) -> tuple[datetime | None, datetime | None]:
    start, end = chance.choice(bounds), chance.choice(bounds)
    return (end, start) if start and end and end < start else (start, end)


# the client and the function ------------------------------------------------------------------------------------------


def test_rows_that_arrive_meanwhile_are_deleted_too_until_they_come_as_fast_as_they_go(monkeypatch):
    world = World("latest_ref", monkeypatch)
    world.write([record(0, 1, 1)])
    world.meanwhile = [[record(0, 2, 2)]]  # newer than the tombstone that is on its way: the next look finds it
    assert world.store.delete("weather", "A", KEYS[0], START) == {"deleted": 2, "arrived": 0}
    assert not list(world.store.keys("weather", "A", None, None)())
    busy = World("last_write", monkeypatch)
    busy.write([record(0, 1, 1)])
    busy.meanwhile = [[record(1 + index % 2, 1, index)] for index in range(99)]
    assert busy.store.delete("weather", "A", None, None) == {"deleted": 1 + 4, "arrived": 1}


def test_a_delete_that_ends_half_way_says_so_and_goes_on_when_it_is_run_again(monkeypatch):
    monkeypatch.setattr("tesseract.query.portions.BATCH", 2)
    monkeypatch.setattr(deletes, "PARALLEL", 1)
    world = World("last_write", monkeypatch)
    world.write([record(place, 1, 1) for place in range(len(KEYS))])
    trouble = iter([None, *[Throttled("slow down")] * client.ATTEMPTS])

    def flaky(*call):
        error = next(trouble, None)
        if error:
            raise error
        return world.invoke(*call)

    monkeypatch.setattr(deletes, "invoke", flaky)
    with pytest.raises(RetryError, match="2 rows are deleted, the others are not: slow down"):
        world.store.delete("weather", "A", None, None)
    assert world.store.delete("weather", "A", None, None) == {"deleted": len(KEYS) - 2, "arrived": 0}
    assert world.calls == 1 + 3


def test_what_the_table_does_not_take_in_time_is_sent_again(monkeypatch):
    world = ingest_world.World()
    rows = [[to_micros(ingest_world.NOW) + second, None] for second in range(3)]
    world.raw.throttled = lambda item: item["sk"].endswith("000001Z")
    event = {"dataset": "plant", "delete": {"group": ["a"], "rows": rows}}
    answer = world.service.handle(event, 28, world.tallies.append)
    assert answer == {"status": 207, "accepted": 2, "rejected": [rejection(1)]}
    (tally,) = world.tallies
    assert (tally.dataset, tally.status, tally.accepted, tally.deleted, tally.not_written) == ("plant", 207, 0, 2, 1)
    world.raw.throttled = lambda item: True
    assert world.service.handle(event, 28)["rejected"] == [rejection(index) for index in range(3)]
    world.raw.throttled = lambda item: False
    assert world.service.handle(event, 28) == {"status": 200, "accepted": 3, "rejected": []}
    assert [item["deleted"] for item in world.raw.items()] == [True] * 3


def rejection(index):
    return {"index": index, "field": "", "value": "", "reason": "not written: send this record again"}


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        ({"delete": {"group": ["a"], "rows": []}}, 400, "a direct event is"),
        ({"dataset": "plant", "records": [], "delete": {"group": ["a"], "rows": []}}, 400, "a direct event is"),
        ({"dataset": "plant", "delete": {"group": ["a"]}}, 400, "a delete is .* missing required field `rows`"),
        ({"dataset": "plant", "delete": {"group": ["a"], "rows": [[2**80, None]]}}, 400, "a delete is"),
        ({"dataset": "plant", "delete": {"group": ["a"], "rows": [["2026", None]]}}, 400, "a delete is"),
        (
            {"dataset": "plant", "delete": {"group": ["a", "b"], "rows": [[0, None]]}},
            400,
            "a group of dataset plant has a value for",
        ),
        ({"dataset": "plant", "delete": {"group": [""], "rows": [[0, None]]}}, 400, "a group of dataset plant has a value for"),
        ({"dataset": "nope", "delete": {"group": ["a"], "rows": [[0, None]]}}, 404, "there is no dataset 'nope'"),
        ({"dataset": "plant", "delete": {"group": ["a"], "rows": [[0, None]] * 40_001}}, 413, "40001 records"),
    ],
)
def test_a_request_that_is_none_is_refused_in_one_sentence(event, status, message):
    world = ingest_world.World()
    answer = world.service.handle(event, 28)
    assert answer["status"] == status
    assert re.search(message, answer["error"])
    assert not list(world.raw.items())


def test_trouble_of_the_stage_is_worth_another_try(monkeypatch):
    world = ingest_world.World()
    world.raw.error = world.live.error = BackendError("AccessDenied", operation="PutItem", key="plant#secret#days")
    answer = world.service.handle({"dataset": "plant", "delete": {"group": ["a"], "rows": [[0, None]]}}, 28)
    assert (answer["status"], answer["error"]) == (503, "not written, send it again: PutItem: AccessDenied")


# portions -------------------------------------------------------------------------------------------------------------

moments = st.integers(-(10**15), 10**16)


@given(moments, st.integers(1, 10**16), st.lists(st.tuples(moments, st.integers(0, 10**13), st.integers(1, 10**8))), st.booleans())
def test_portions_cover_the_range_exactly_and_hold_about_so_many_rows(start, length, spans, opened):
    wanted = Range(TIME_MIN, TIME_MAX) if opened else Range(start, start + length)
    segments = [part(first, first + length, min(rows, length + 1)) for first, length, rows in spans]
    found = portions(wanted, segments, [], 10**6)
    assert found[0].start == wanted.start
    assert found[-1].end == wanted.end
    assert all(before.end == after.start for before, after in pairwise(found))
    for one in found:
        held = sum(rows_of(segment, one) for segment in segments)
        assert held <= 1.01e6 or one.end - one.start <= SHORTEST * 2 or max(s.last - s.first for s in segments) <= SHORTEST * 2


def part(first, last, rows):
    return Segment("k", "daily", 0, 0, rows, 1, first, last, 0, 0, 0, "")


def rows_of(segment, span):
    overlap = min(segment.last + 1, span.end) - max(segment.first, span.start)
    return max(overlap, 0) / (segment.last + 1 - segment.first) * segment.rows


def test_days_of_the_buffer_are_cut_and_an_open_range_without_rows_is_not():
    assert portions(Range(TIME_MIN, TIME_MAX), [], []) == [Range(TIME_MIN, TIME_MAX)]
    found = portions(Range(TIME_MIN, TIME_MAX), [], [Range(0, 100 * DAY)], rows=10 * HOT_DAY)
    assert len(found) == 10
    assert max(one.end - one.start for one in found[1:-1]) <= 10 * DAY


# the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch):
    made = World("last_write", monkeypatch)
    made.write([record(place, 1, place) for place in range(len(KEYS))])
    made.drain()
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    return made


def ask(capsys, *arguments):
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


RANGE = ["--start", iso_seconds(LATE), "--end", iso_seconds(LATE + HOUR)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--yes"], 2, "without --start everything on that side would go: give both bounds, or say --all"),
        ([*RANGE[:2], "--yes"], 2, "without --end everything on that side would go: give both bounds, or say --all"),
        (RANGE, 2, "the input is no terminal where one could ask whether you are sure: say --yes"),
        (["--start", "soon", "--end", "now", "--yes"], 1, "start 'soon' is not a time"),
        (["--start", "now", "--end", "-3h", "--yes"], 1, "is before start"),
    ],
)
def test_a_command_that_is_not_clear_deletes_nothing(world, capsys, arguments, code, message):
    found, out, err = ask(capsys, "delete", "weather", "A", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert world.calls == 0


def test_the_command_says_how_many_rows_it_deleted_and_again_that_there_are_none(world, capsys):
    assert ask(capsys, "delete", "weather", "A", *RANGE, "--yes")[:2] == (0, "deleted 1 row\n")
    assert ask(capsys, "delete", "weather", "A", *RANGE, "--yes")[:2] == (0, "deleted 0 rows\n")
    assert ask(capsys, "delete", "weather", "A", "--all", "--end", iso_seconds(START), "--yes")[1] == "deleted 6 rows\n"
    code, _, err = ask(capsys, "delete", "weather", "B", "--all", "--yes")
    assert code == 1
    assert err.endswith("error: dataset weather has no group 'B' (known: A)\n")


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 6), ("n\n", 1, 7)])
def test_on_a_terminal_it_asks_with_the_number_of_rows(world, capsys, monkeypatch, answer, code, left):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda *_: answer))
    monkeypatch.setattr("typer.confirm", lambda text, err: asked.append(text) or answer == "y\n")
    asked = []
    assert ask(capsys, "delete", "weather", "A", *RANGE)[0] == code
    assert asked == [
        "Delete 1 row of dataset weather, group A, from 2023-08-05T07:00:00Z to 2023-08-05T08:00:00Z?",
    ]
    assert len(world.store.query("weather", "A")) == left
