"""The archive's entry points over memory, and what a client asks of them: export now, compact now."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from tesseract.cli import archive_status
from tesseract.cli import run as cli
from tesseract.errors import BackendError, DamagedError, InputError, RetryError
from tesseract.model import Window
from tesseract.processing.archive_stage import ArchiveStage
from tesseract.remote import compact_now, export_now, reached
from tesseract.storage.exports import Export
from tesseract.storage.services import Message
from tesseract.store import Store
from tests.support.archive_world import LAPTOP, START, World, temp

HOUR = timedelta(hours=1)
PAST = datetime(2023, 6, 10, tzinfo=UTC)


class Context:
    """What Lambda tells a function of its call."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass
class DeadLetters:
    """A queue of dead letters: what is received is hidden, and stays if it is not removed."""

    bodies: list[str] = field(default_factory=list)
    broken: bool = False
    hidden: set[str] = field(default_factory=set)

    def depth(self) -> int:
        if self.broken:
            raise RetryError("no answer")
        return len(self.bodies)

    def receive(self) -> list[Message]:
        found = [place for place in range(len(self.bodies)) if self.bodies[place] not in self.hidden][:10]
        self.hidden |= {self.bodies[place] for place in found if self.bodies[place] == "hello"}
        return [Message(self.bodies[place], self.bodies[place]) for place in found]

    def remove(self, messages: list[Message]) -> None:
        for message in messages:
            self.bodies.remove(message.receipt)


class Functions:
    """The deployed functions: calls go to the real entry points, their queue is worked off at once."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.calls: list[str] = []
        stage = ArchiveStage(world.backend, world.catalog, world.exports)
        self.modules: dict[str, ModuleType] = {}
        for name in ("export", "collect", "worker", "snapshot", "compact", "metadata"):
            module = self.modules[name] = importlib.import_module(f"archive.{name}")
            patch.setattr(module, "archive_stage", lambda: stage)
            patch.setattr(module, "utc_now", lambda: world.now)
        patch.setattr(self.modules["collect"], "work_queue", lambda: world.queue)
        patch.setattr(self.modules["collect"].time, "sleep", self.sleep)  # type: ignore[attr-defined]
        patch.setattr(ArchiveStage, "settings", lambda _: LAPTOP)

    def sleep(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    def call(self, stage: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        assert stage == "test"
        self.calls.append(name)
        answer: dict[str, Any] = json.loads(json.dumps(self.modules[name].handler(payload, Context())))
        if name == "export" and answer["opened"]:
            self.event(answer["opened"][-1]["id"])
        return answer

    def event(self, window: str) -> None:
        key = f"exports/{window}/AWSDynamoDB/01 x/manifest-summary.json"
        self.modules["collect"].handler({"Records": [{"s3": {"object": {"key": quote(key)}}}]}, None)
        self.work()

    def work(self) -> dict[str, Any]:
        bodies, self.world.queue.bodies = self.world.queue.bodies, []
        records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
        answer: dict[str, Any] = self.modules["worker"].handler({"Records": records}, None)
        return answer

    def export(self, **options: Any) -> Window:
        return export_now("test", self.world.catalog, call=self.call, clock=lambda: self.world.now, sleep=self.sleep, **options)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Functions:
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "ERROR")
    return Functions(World(), monkeypatch)


def test_export_now_archives_what_was_written_before_the_call_and_lets_the_rest_follow(functions: Functions) -> None:
    world = functions.world
    for hour in range(40):
        world.put("A", PAST + hour * HOUR, temp("1", hour))
    called = world.now
    said: list[str] = []
    window = functions.export(say=said.append)
    assert window.end >= int(called.timestamp() * 1_000_000)
    assert len(world.archived("A")) == 40
    assert world.catalog.progress().snapshot_through == window.end
    assert functions.calls == ["export", "export", "snapshot", "metadata"]
    assert said[0].startswith("the next window is possible in")
    assert reached(window).endswith("Z")
    published = json.loads(world.backend.objects.get("catalog/weather.json"))
    assert {(tier["level"], tier["tier"]): tier["rows"] for tier in published["tiers"]} == {
        ("raw", "daily"): 40,
        ("hourly", "daily"): 40,
        ("daily", "daily"): 2,
    }
    assert published["archived_through"] == published["snapshot_through"]
    assert json.loads(world.backend.objects.get("config/datasets.json"))["datasets"]["weather"]["version"] == 1
    merges = compact_now("test", "weather", functions.call)
    assert [merge["step"] for merge in merges if merge["level"] == "raw"] == ["daily→monthly", "monthly→yearly"]
    assert compact_now("test", None, functions.call) == []


def test_a_lost_event_is_made_up_for(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    functions.world.put("A", PAST, temp("1"))
    monkeypatch.setattr(functions, "event", lambda _: None)
    real = functions.call

    def call(stage: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        answer = real(stage, name, payload)
        functions.work()
        return answer

    monkeypatch.setattr(functions, "call", call)
    functions.export()
    assert "collect" in functions.calls
    assert len(functions.world.archived("A")) == 1


def test_an_export_that_is_not_complete_yet_is_waited_for_by_the_event(functions: Functions) -> None:
    world = functions.world
    world.put("A", PAST, temp("1"))
    (window,) = world.open()
    world.exports.status[window.export_arn] = Export("IN_PROGRESS")
    functions.event(window.id)
    assert world.catalog.windows()[0].state == "exporting"
    world.exports.status[window.export_arn] = Export("COMPLETED")
    functions.event(window.id)
    assert world.catalog.windows()[0].state == "closed"


def test_when_no_window_is_possible_soon_it_says_when(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = type(LAPTOP)(timedelta(minutes=5), timedelta(minutes=15), timedelta(days=1))
    monkeypatch.setattr(ArchiveStage, "settings", lambda _: slow)
    with pytest.raises(InputError, match="2024-03-01T00:20:00Z on"):
        functions.export()
    functions.world.now = START + timedelta(minutes=40)
    with pytest.raises(InputError, match="2024-03-01T00:45:00Z on"):
        functions.export(covering=functions.world.now)
    assert reached(functions.export()) == "2024-03-01T00:35:00Z"  # what AWS can export already


def test_a_window_that_does_not_close_in_time_is_named(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    functions.world.put("A", PAST, temp("1"))
    monkeypatch.setattr(functions, "work", dict)
    with pytest.raises(BackendError, match="is still collecting"):
        functions.export(timeout=timedelta(seconds=30))


def test_the_worker_answers_with_the_tasks_that_must_come_again(functions: Functions) -> None:
    world = functions.world
    world.put("A", PAST, temp("1"))
    world.open()
    (good,) = world.collect()
    bad = msgspec.structs.replace(good, md5="x")
    world.queue.bodies = [msgspec.json.encode(bad).decode(), "{}", msgspec.json.encode(good).decode()]
    assert functions.work() == {"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}]}
    assert world.catalog.windows()[0].state == "closed"


def test_the_timer_opens_a_window_only_when_the_cadence_has_passed(functions: Functions) -> None:
    functions.world.now = START + timedelta(hours=23)
    assert functions.call("test", "export", {}) == {"opened": [], "next_possible": None}
    functions.world.now = START + timedelta(hours=25)
    assert [w["end"] for w in functions.call("test", "export", {})["opened"]] == ["2024-03-02T00:00:00Z"]


def test_the_command_shows_windows_lag_and_tiers(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = functions.world
    store = Store(world.backend, "test")
    monkeypatch.setattr("tesseract.cli.archive.open_store", lambda _: store)
    monkeypatch.setattr("tesseract.cli.archive.utc_now", lambda: world.now)
    dead = [DeadLetters()]
    monkeypatch.setattr("tesseract.storage.services.queue", lambda _, role: dead[0] if role == "work-dead" else world.queue)
    assert cli(["archive", "status"]) == 0
    assert "nothing yet" in capsys.readouterr().out
    world.put("A", PAST, temp("1"))
    functions.export()
    world.now += timedelta(hours=3)
    assert cli(["archive", "status", "weather"]) == 0
    shown = capsys.readouterr().out
    assert "snapshot" in shown
    assert "2024-03-01T00:00:01Z, 3h 0m behind" in shown
    assert "6d 21h" in shown  # of a buffer of a week
    assert "1d 21h" in shown  # of the hold
    assert "dead letters      0" in shown
    assert cli(["archive", "status", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["archived_lag"] == facts["snapshot_lag"] == 3 * 3600
    assert facts["headroom"] == [{"dataset": "weather", "buffer": "168 h", "on_time": 165 * 3600, "late": 45 * 3600}]
    assert [(window["state"], window["kind"], window["files"], window["archived"]) for window in facts["windows"]] == [
        ("snapshot", "incremental", 1, 1)
    ]
    assert facts["dead_letters"] == 0
    assert facts["tiers"][0]["rows"] == 1
    dead[0] = DeadLetters(broken=True)
    assert cli(["archive", "status"]) == 0
    broken = capsys.readouterr()
    assert "dead letters      unknown" in broken.out
    assert "no answer" in broken.err
    assert cli(["archive", "status", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[:2][0] == "dataset,level,tier,segments,rows,bytes"
    assert cli(["archive", "status", "nope"]) == 1
    assert "known datasets: weather" in capsys.readouterr().err
    stubs = {"call": functions.call, "clock": lambda: world.now, "sleep": functions.sleep}
    monkeypatch.setattr(export_now, "__kwdefaults__", {**export_now.__kwdefaults__, **stubs})
    assert cli(["archive", "export"]) == 0
    assert "archived 0 items in 0 files; every write before 2024-03-01T03:00:01Z is in" in capsys.readouterr().out
    for hour in range(3):
        world.put("A", PAST + hour * HOUR, temp("2"))
    assert cli(["archive", "export", "weather"]) == 0
    assert "archived 3 rows of weather; every write before" in capsys.readouterr().out


def test_dead_letters_go_back_to_the_workers_each_once(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = functions.world
    dead = DeadLetters()
    monkeypatch.setattr("tesseract.cli.archive.open_store", lambda _: Store(world.backend, "test"))
    monkeypatch.setattr("tesseract.storage.services.queue", lambda _, role: dead if role == "work-dead" else world.queue)
    assert cli(["archive", "retry"]) == 0
    assert "there are no dead letters" in capsys.readouterr().out
    world.put("A", PAST, temp("1"))
    world.put("B", PAST, temp("1"))
    (window,) = world.open()
    first, second = [msgspec.json.encode(task).decode() for task in world.collect()]
    dead.bodies = [first] * 12 + ["hello", second]
    assert dead.depth() == 14
    assert cli(["archive", "retry"]) == 0
    shown = capsys.readouterr()
    assert f"window {window.id}: 2 tasks" in shown.out
    assert "sent 2 dead letters back" in shown.out
    assert "no tasks, left in the queue: 1" in shown.err
    assert dead.bodies == ["hello"]
    assert world.queue.bodies == [first, second]
    assert functions.work() == {"batchItemFailures": []}
    assert world.catalog.windows()[0].state == "closed"


def test_a_window_whose_file_is_damaged_is_exported_anew(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, dead = functions.world, DeadLetters()
    monkeypatch.setattr("tesseract.cli.archive.open_store", lambda _: Store(world.backend, "test"))
    monkeypatch.setattr("tesseract.storage.services.queue", lambda _, role: dead if role == "work-dead" else world.queue)
    world.put("A", PAST, temp("1"))
    (window,) = world.open()
    (task,) = world.collect()
    body = world.backend.objects.get(task.key)
    world.backend.objects.put(task.key, body[:-9])
    with pytest.raises(DamagedError):
        world.work(task)
    dead.bodies = [msgspec.json.encode(task).decode()]
    assert cli(["archive", "retry", "--anew"]) == 0
    assert f"window {window.id}: exported anew" in capsys.readouterr().out
    assert dead.bodies == []
    world.open()
    for again in world.collect():
        assert again.export != task.export
        assert world.work(again).outcome == "committed"
    assert len(world.archived("A")) == 1
    world.backend.objects.delete(task.key)
    assert world.work(task).outcome == "superseded"
    dead.bodies = [msgspec.json.encode(task).decode()]
    assert cli(["archive", "retry", "--anew"]) == 0
    assert "no window waits for a dead letter" in capsys.readouterr().out
    world.backend.objects.delete(again.key)
    assert world.work(again).outcome == "late"


def test_a_bar_follows_the_files_and_ends_with_them_or_when_nothing_moves(functions: Functions) -> None:
    world = functions.world
    world.put("A", PAST, temp("1"))
    world.put("B", PAST, temp("1"))
    world.open()
    tasks = world.collect()
    assert len(tasks) == 2
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        functions.sleep(seconds)
        if len(slept) > 100 and tasks:
            world.work(tasks.pop())

    archive_status.follow(world.catalog, lambda: world.now, sleep)
    assert 55 <= len(slept) <= 65  # nothing moved for half a minute
    archive_status.follow(world.catalog, lambda: world.now, sleep)
    assert len(slept) <= 125
    archive_status.follow(world.catalog, lambda: world.now, sleep)
    assert world.catalog.windows()[0].state == "closed"


def test_the_lag_is_measured_while_no_export_can_be_had(functions: Functions, capsys: pytest.CaptureFixture[str]) -> None:
    world = functions.world
    functions.call("test", "export", {})
    world.exports.down = True
    world.now += 30 * HOUR
    capsys.readouterr()
    with pytest.raises(RetryError):
        functions.call("test", "export", {})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "ExportLagSeconds" in line]
    assert json.loads(line)["ExportLagSeconds"] == [30 * 3600]


def test_compact_of_an_unknown_dataset_says_so(functions: Functions) -> None:
    with pytest.raises(InputError, match="no dataset 'x'"):
        functions.call("test", "compact", {"dataset": "x"})
