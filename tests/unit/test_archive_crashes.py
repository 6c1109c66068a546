"""A crash before and after every storage call of the archive's round, on both sides; then the timers go on, and nothing differs.

What a process that dies leaves behind is what is stored: the state between two calls that change something. A crash after one of
them, before the next, and at every call in between that only reads, leave the same one. So each of these states is tried once:
every step of the scenario is run up to it, from the state in which the step found the stage, and the timers take over from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest

from tesseract.config.dataset import Level
from tesseract.ingestion.writer import Writer
from tesseract.model import FieldValue, Record, Segment
from tesseract.processing import archiver, closing, collector, compactor, exporter, gc
from tesseract.processing.publisher import publish
from tesseract.processing.verify import inspect, verify
from tesseract.storage import parquet_writer, segment_reader
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import to_micros
from tests.simulation.scheduler import Serial
from tests.support.archive_world import LAPTOP, START, STATS, MemoryExports, MemoryQueue, temp, weather
from tests.support.keeping_world import ClockedObjects

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHANGES = ("put", "put_many", "put_checked", "delete", "upload", "send", "request")
LATE = START - 40 * DAY


class Crash(BaseException):
    """The process ends here."""


class Calls:
    """Counts the calls of one process, and ends it right before the `last`th one that changes something."""

    def __init__(self, last: int = -1) -> None:
        self.count, self.changes, self.last, self.dead = 0, 0, last, False

    def made(self, name: str) -> None:
        self.dead = self.dead or (name in CHANGES and self.changes == self.last)
        if self.dead:  # whatever a dying process still tries has no effect
            raise Crash
        self.count += 1
        self.changes += name in CHANGES


class Tapped:
    """A table, a bucket, a queue or the export service, whose calls are counted."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            if name == "put_many":  # items of a batch are written one by one
                for item in arguments[0]:
                    self.put(item)
                return []
            self._calls.made(name)
            return found(*arguments, **options)

        return call


class Raw(MemoryTable):
    """The raw table: exports have every change of it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("raw")
        self.stage = stage

    def put(self, item: Any, condition: Any = None, until: Any = None) -> None:
        super().put(item, condition)
        self.stage.now += timedelta(milliseconds=1)
        self.stage.exports.log.append((to_micros(self.stage.now), item["pk"], item["sk"], item))


class Stage:
    """A stage in memory whose state can be kept and brought back."""

    def __init__(self, **changes: Any) -> None:
        self.dataset = weather(buffer_ttl_hours=24, history="P1D", **changes)
        self.now = START
        self.backend = Backend(Raw(self), MemoryTable("live"), MemoryTable("catalog"), ClockedObjects(lambda: self.now))
        self.exports, self.queue = MemoryExports(self.backend, START), MemoryQueue()
        Catalog(self.backend.catalog, self.backend.objects).put_dataset(self.dataset, START)

    def state(self) -> tuple[Any, ...]:
        tables = [
            ({pk: dict(own) for pk, own in table._partitions.items()}, {pk: list(own) for pk, own in table._order.items()})
            for table in self._tables()
        ]
        exports = list(self.exports.log), dict(self.exports.status), dict(self.exports.tokens)
        return self.now, tables, dict(self.backend.objects._objects), exports, list(self.queue.bodies)  # type: ignore[attr-defined]

    def bring_back(self, state: tuple[Any, ...]) -> None:
        self.now, tables, objects, (log, status, tokens), bodies = state
        for table, (partitions, order) in zip(self._tables(), tables, strict=True):
            table._partitions, table._order = (
                {pk: dict(own) for pk, own in partitions.items()},
                {k: list(v) for k, v in order.items()},
            )
        self.backend.objects._objects = dict(objects)  # type: ignore[attr-defined]
        self.exports.log, self.exports.status, self.exports.tokens = list(log), dict(status), dict(tokens)
        self.queue.bodies = list(bodies)

    def _tables(self) -> list[Any]:
        return [self.backend.raw, self.backend.live, self.backend.catalog]

    def process(self, calls: Calls) -> Process:
        """A process that lives until `calls` end it."""
        objects, backend = Tapped(self.backend.objects, calls), self.backend
        tapped = Backend(*(Tapped(table, calls) for table in (backend.raw, backend.live, backend.catalog)), objects)
        return Process(self, tapped, Catalog(tapped.catalog, objects), Tapped(self.exports, calls), Tapped(self.queue, calls))

    def expire(self) -> None:
        """TTL removes what is due."""
        for item in [item for item in self.backend.raw.items() if item["expires_at"] <= self.now.timestamp()]:  # type: ignore[attr-defined]
            self.backend.raw.delete((item["pk"], item["sk"]))
            self.exports.log.append((to_micros(self.now), item["pk"], item["sk"], None))


class Process(NamedTuple):
    """One life of a process of the stage: its timers, its worker, its writer."""

    stage: Stage
    backend: Backend
    catalog: Catalog
    exports: Any
    queue: Any

    def write(self, *records: Record) -> None:
        stage = self.stage
        writer = Writer(self.backend.raw, self.backend.live, lambda: stage.now)
        assert writer.write(stage.dataset, enumerate(records), stage.now + HOUR) == []

    def export(self) -> None:
        exporter.run(self.catalog, self.exports, self.backend.live, LAPTOP, self.stage.now, force=True)

    def collect(self) -> None:
        collector.collect_all(self.catalog, self.backend.objects, self.exports, self.queue, self.stage.now)

    def work(self) -> None:
        """A task is on the queue until it is done."""
        bodies = self.stage.queue.bodies
        while bodies:
            task = msgspec.json.decode(bodies[0], type=collector.Task)
            archiver.run(self.catalog, self.backend.objects, task, self.stage.now)
            del bodies[0]

    def close(self) -> None:
        closing.run(self.backend, self.catalog, self.stage.now)

    def compact(self) -> None:
        compactor.compact(self.catalog, self.backend.objects, [self.stage.dataset], self.stage.now)

    def compact_whole(self) -> None:
        compactor.compact(self.catalog, self.backend.objects, [self.stage.dataset], self.stage.now, whole=True)

    def publish(self) -> None:
        publish(self.catalog, self.backend.objects, self.stage.now)

    def gc(self) -> None:
        gc.collect(self.catalog, self.backend.objects, [self.stage.dataset], self.stage.now)


Step = Callable[[Process], None]
ROUND: list[Step] = [Process.export, Process.collect, Process.work, Process.close]


def record(group: str, at: datetime, value: str | None, ref: int = 1) -> Record:
    fields: dict[str, FieldValue] = {} if value is None else temp(value, ref)
    return Record(group, at, START - DAY + ref * HOUR, fields, value is None)


FIRST = [record("A", START, "1"), record("A", LATE, "4"), record("B", LATE + HOUR, "5")]
# a correction, a delete, and one more of a group and day that the archive has
SECOND = [record("A", START, "1.5", 2), record("A", LATE, None, 2), record("B", LATE + 2 * HOUR, "6")]
# each with how much time passes before it
SCENARIO: list[tuple[timedelta, Step]] = [
    (HOUR, lambda process: process.write(*FIRST)),
    *((2 * HOUR, step) for step in ROUND),
    (HOUR, lambda process: process.write(*SECOND)),
    *((18 * HOUR, step) for step in ROUND),
    (HOUR, Process.compact),
    (HOUR, Process.compact_whole),
    (HOUR, Process.publish),
    (30 * HOUR, Process.gc),
]


def recover(stage: Stage, step: Step) -> None:
    """Who wrote tries again; then the timers run, as they always do, and TTL, until the archive alone has everything."""
    for again in (step, *ROUND, Process.compact, Process.publish):
        again(stage.process(Calls()))
        stage.now += HOUR
    stage.now += 3 * DAY
    stage.expire()
    for timer in (*ROUND, Process.compact_whole):
        stage.now += HOUR
        timer(stage.process(Calls()))
    for _ in range(2):  # what the first forgets, the second removes
        stage.now += 50 * HOUR
        stage.process(Calls()).gc()


def answers(stage: Stage) -> dict[str, Any]:
    """What everybody sees. The buffer is empty: the archive has it."""
    store = Store(stage.backend, "test", lambda: stage.now)
    rows = {
        name: store.query("weather", level=name).to_pylist() for name in ("raw", *(level.name for level in stage.dataset.levels))
    }
    return rows | {"latest": store.latest("weather")}


def check(stage: Stage) -> None:
    """The archive is sound, nothing waits, and nothing is left of attempts that died."""
    catalog = Catalog(stage.backend.catalog, stage.backend.objects)
    report = verify(catalog, stage.backend.objects, [stage.dataset], stage.now)
    assert [finding for finding in report.findings if finding.kind in ("damaged", "orphan")] == []
    assert not stage.queue.bodies
    assert all(window.state == "closed" and window.snapshot_at for window in catalog.windows())
    assert list(stage.backend.raw.items()) == []  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools of threads run their jobs one after the other, so that the nth call is the same one in every run.

    Files are coded, read and inspected once for each content: the runs write the same ones over and over.
    """
    of_body = lambda objects, segment, *rest, **more: (objects.get(segment.key), repr(rest), repr(more))
    replaced = {
        ThreadPoolExecutor: Serial,
        parquet_writer.encode: remembering(parquet_writer.encode, lambda table, *rest: (ipc(table), repr(rest))),
        segment_reader.read: remembering(segment_reader.read, of_body),
        inspect: remembering(inspect, lambda objects, part, segment: (*of_body(objects, segment, part.level), anonymous(segment))),
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("tesseract."):
            for attribute, value in list(vars(module).items()):
                if callable(value) and value.__hash__ and value in replaced:
                    monkeypatch.setattr(module, attribute, replaced[value])


def remembering(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def call(*arguments: Any, **options: Any) -> Any:
        name = key(*arguments, **options)
        if name not in known:
            known[name] = function(*arguments, **options)
        return known[name]

    return call


def anonymous(segment: Segment) -> str:
    return repr(msgspec.structs.replace(segment, key=""))


def ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


SHARED = {"partitions": 2, "revisions": "latest_ref", "levels": (Level("daily", dict(STATS)),)}


@pytest.mark.parametrize("changes", [{}, SHARED])
def test_nothing_differs_after_a_crash_at_any_call(changes: dict[str, Any]) -> None:
    stage = Stage(**changes)
    calls = states = 0
    for pause, step in SCENARIO:
        stage.now += pause
        before = stage.state()
        life = Calls()
        step(stage.process(life))
        after = stage.state()
        recover(stage, step)
        check(stage)
        right = answers(stage)
        for last in range(life.changes + 1):
            stage.bring_back(before)
            death = Calls(last)
            if last < life.changes:
                with pytest.raises(Crash):
                    step(stage.process(death))
            else:
                step(stage.process(death))  # it ends with its last call, before anybody hears of it
            stage.now = after[0]
            recover(stage, step)
            check(stage)
            assert answers(stage) == right, f"call {last} of {life.changes}"
        stage.bring_back(after)
        calls, states = calls + life.count, states + life.changes + 1
    assert (calls > 350, states > 110) == (True, True)
