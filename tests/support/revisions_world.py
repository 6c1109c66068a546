"""A stage in memory, whole, that takes revisions in any order: the real code from writer to queries, and an oracle beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tesseract.config.cache import Configs
from tesseract.errors import NotFoundError, Throttled
from tesseract.ingestion.writer import Writer
from tesseract.model import Record
from tesseract.processing import raw_rows
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.aggregator import fold, identity, shown
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.segments import DAY, RAW, REVISIONS, VALID_TIME
from tesseract.processing.stream import run
from tesseract.storage import segment_reader
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import HISTORY as HISTORY_SK
from tesseract.storage.keys import is_history
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.storage.newest import HISTORY, newest
from tesseract.storage.revisions import tombstone
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros
from tests.support import archive_world
from tests.support.archive_world import MemoryExports, MemoryQueue, weather
from tests.support.driver import Mapping, StreamedTable

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
REFS = [None, *(datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3))]
LATE = datetime(2023, 8, 5, 7, tzinfo=UTC)
KEYS = [
    START - 2 * HOUR,
    START - 2 * HOUR + timedelta(minutes=1),
    START - HOUR,
    START - 31 * HOUR,
    *(LATE + n * HOUR for n in range(3)),
]


class Crash(Exception):
    """The process ends here."""


class Table(StreamedTable):
    """The raw table: every write is remembered for exports, some are throttled once, and some are the last of their process."""

    def __init__(self, world):
        super().__init__(lambda: world.now)
        self.world, self.ticks = world, 0
        self.crash = ""  # before or after a current item is put
        self.throttled = []
        self.untils = []

    def put(self, item, condition=None, until=None):
        with self._lock:
            current = not is_history(item["sk"])
            self.untils.append(until)
            at = item["sk"].removeprefix(HISTORY_SK)[: len(iso_micros(START))]
            if at in self.throttled:
                self.throttled.remove(at)
                raise Throttled("slow down")
            if current and self.crash == "before":
                raise Crash
            old = self.get((item["pk"], item["sk"]))
            super().put(item, condition, until)
            if old != item:
                self.log(item["pk"], item["sk"], item)
            if current and self.crash == "after":
                raise Crash

    def put_many(self, items, until=None):
        left = []
        for item in items:
            try:
                self.put(item, None, until)
            except Throttled:
                left.append(item)
        return left

    def delete(self, key, condition=None):
        there = self.get(key) is not None
        super().delete(key, condition)
        if there:
            self.log(*key, None)

    def log(self, pk, sk, item):
        self.ticks += 1
        self.world.exports.log.append((to_micros(self.world.now) + self.ticks, pk, sk, item))


class World(archive_world.World):
    """A stage in memory, whole, and the revisions that were put, in order."""

    def __init__(self, revisions):
        self.now = START
        clock = lambda: self.now
        self.raw, objects = Table(self), MemoryObjects()
        self.backend = Backend(self.raw, MemoryTable("live"), MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        self.exports, self.queue, self.tasks = MemoryExports(self.backend, START), MemoryQueue(), []
        self.dataset = weather(revisions=revisions, buffer_ttl_hours=24)
        self.catalog.put_dataset(self.dataset, START)
        self.writer = Writer(self.raw, self.backend.live, clock)
        configs = Configs(self.catalog, clock)
        aggregates = AggregateProcessor(self.backend.raw, self.backend.live, self.catalog, configs, clock)
        latest = LatestProcessor(self.raw, self.backend.live, self.catalog, configs, clock)
        self.mappings = [
            Mapping(self.raw, lambda event, process=function.process: run(event, process, configs, objects), batch_size=4)
            for function in (aggregates, latest)
        ]
        self.store = Store(self.backend, "test", clock)
        self.puts = {}  # valid time → its revisions in the order of their puts
        self.kept, self.lost = {}, {}  # (valid time, ref time) → the last that was acknowledged; those whose process died after it

    # what happens -------------------------------------------------------------------------------------------------------

    def write(self, records, crash="", throttled=()):
        self.now += timedelta(seconds=1)
        written = {record.valid_time for record in records}
        self.raw.crash, self.raw.throttled = crash, [iso_micros(at) for at in throttled if at in written]
        try:
            assert self.writer.write(self.dataset, enumerate(records), self.now + timedelta(minutes=15)) == []
        except Crash:
            self.raw.crash = ""
        for record in records:
            key = (record.valid_time, record.ref_time)
            if crash:
                self.lost.setdefault(key, []).append(record)
            else:
                self.kept[key], self.lost[key] = record, []
            if crash != "before":
                self.puts.setdefault(record.valid_time, []).append(record)

    def delete(self, at):
        row = self.visible().get(at)
        if row is not None:
            self.write([tombstone(row)])

    def step(self, name, argument):
        match name:
            case "write":
                records, throttled = argument
                self.write([record(*one) for one in records], throttled=[KEYS[place] for place in throttled])
            case "crash":
                place, revisions, when = argument
                self.write([record(place, *revision) for revision in revisions], crash=when)
            case "delete":
                self.delete(KEYS[argument])
            case "open":
                self.open()
                self.tasks += self.collect()
            case "work" if self.tasks:
                self.work(self.tasks.pop(argument % len(self.tasks)))
            case "compact":
                self.compact()
            case "snapshot":
                self.snapshot()
            case "poll":
                function, shard, again = argument
                self.mappings[function].redeliver(shard, again)
                self.mappings[function].poll(shard)
            case "pass":
                if argument > 12:  # streams keep a day
                    self.drain()
                self.now += argument * HOUR
                self.expire_archived()

    def drain(self):
        for mapping in self.mappings:
            mapping.drain()

    def finish_archive(self):
        self.open()
        self.tasks += self.collect()
        for task in self.tasks:
            self.work(task)
        self.tasks = []

    def expire_archived(self):
        """TTL takes what has expired; what the archive does not have yet, it leaves: exports are never two days late."""
        through = self.catalog.progress().archived_through
        written = {(pk, sk): moment for moment, pk, sk, item in self.exports.log if item}
        for item in list(self.raw.items()):
            key = (item["pk"], item["sk"])
            if item["expires_at"] <= self.now.timestamp() and written[key] < through:
                self.raw.delete(key)

    # what is seen -------------------------------------------------------------------------------------------------------

    def visible(self):
        """The oracle: greatest ref time, then last put; or the last put."""
        rows = {}
        for at, puts in self.puts.items():
            order = lambda pair: (pair[1].ref_time or datetime.min.replace(tzinfo=UTC), pair[0])
            _, row = max(enumerate(puts), key=order) if self.dataset.by_ref_time else (0, puts[-1])
            if not row.deleted:
                rows[at] = row
        return rows

    def check(self):
        """What every acknowledged write must show at once."""
        rows = self.visible()
        try:
            found = self.store.query("weather", "A").to_pylist()
        except NotFoundError:
            found = []
        assert [(row["valid_time"], row["ref_time"], row["temp"]) for row in found] == [shape(rows[at]) for at in sorted(rows)]
        days = sorted({to_micros(at) // DAY for at in KEYS})
        manifest = self.catalog.manifest("weather", RAW, "A")
        snapshot = [(from_micros(at), values) for at, values in raw_rows.read(self.backend, manifest, self.dataset, days)]
        assert snapshot == [(at, rows[at].fields) for at in sorted(rows)]

    def check_streams(self):
        """What is right once the streams have come so far."""
        self.drain()
        rows = self.visible()
        if rows:
            (row,) = self.store.latest("weather", "A")
            assert (row["valid_time"], row["ref_time"], row["temp"]) == shape(rows[max(rows)])
        elif self.puts:
            with pytest.raises(NotFoundError):
                self.store.latest("weather", "A")
        if not self.puts:
            return
        for level in self.dataset.levels:
            found = self.store.query("weather", "A", level=level.name).to_pylist() if rows else []
            assert [(row["period_start"], row["rows"], numbers(row)) for row in found] == self.levels(level, rows)

    def levels(self, level, rows):
        states = {}
        for at in sorted(rows):
            start = at.replace(minute=0, hour=at.hour if level.name == "hourly" else 0)
            offset = (at - start) // timedelta(microseconds=1)
            states[start] = fold(states.get(start, identity()), rows[at].fields, offset)
        kept = {start: shown(state, level).get("temp", {}) for start, state in states.items()}
        return [(start, states[start].rows, {n: None if v is None else float(v) for n, v in kept[start].items()}) for start in kept]

    def check_history(self):
        """Every revision that was acknowledged is in the archive once, the last put of its ref time; one that was not may be."""
        segments = self.catalog.manifest("weather", REVISIONS, "A").segments
        tables = [segment_reader.read(self.backend.objects, s, VALID_TIME) for s in segments]
        rows = newest(tables, HISTORY)[0].to_pylist() if tables else []
        found = {(row["valid_time"], row["ref_time"]): (row["temp"], row["__deleted"]) for row in rows}
        assert set(self.kept) <= set(found) <= set(self.kept) | {key for key, lost in self.lost.items() if lost}
        for key, row in found.items():
            candidates = [*([self.kept[key]] if key in self.kept else []), *self.lost.get(key, [])]
            assert row in [(one.fields.get("temp") and float(one.fields["temp"]), one.deleted) for one in candidates]
        assert len(rows) == len(found)


def record(place, ref, value, deleted=False):
    return Record("A", KEYS[place], REFS[ref], {} if deleted else {"temp": value}, deleted)


def shape(row):
    return row.valid_time, row.ref_time, float(row.fields["temp"])


def numbers(row):
    return {name.removeprefix("temp_"): value for name, value in row.items() if name.startswith("temp_")}
