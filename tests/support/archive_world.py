"""A raw table whose every write is remembered, exports of it in AWS's layout, and the archive over both: all in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from tesseract.config.dataset import Dataset, Field, Level
from tesseract.errors import BackendError, RetryError
from tesseract.model import FieldValue, Item, Record, Window
from tesseract.processing import archiver, closing, collector, compactor, exporter, snapshots
from tesseract.processing.collector import Task
from tesseract.processing.segments import RAW, VALID_TIME, Partition, micros
from tesseract.processing.windows import Settings
from tesseract.storage import segment_reader
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import DELETED
from tesseract.storage.exports import Export
from tesseract.storage.items import raw_item
from tesseract.storage.keys import raw_key
from tesseract.storage.memory import memory_backend
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import to_micros
from tests.support.export_files import change_line, export_arn, export_files, item_line, remove_line

START = datetime(2024, 3, 1, tzinfo=UTC)
STATS = dict.fromkeys(("count", "sum", "avg", "min", "max", "first", "last", "std"), ())
LAPTOP = Settings(timedelta(0), timedelta(seconds=1), timedelta(days=1))


def weather(**changes: object) -> Dataset:
    """A dataset of two fields, hourly and daily levels, three tiers."""
    dataset = Dataset(
        name="weather",
        version=1,
        group_by=("station",),
        time_field="time",
        ref_time_field="refTime",
        unknown_fields="reject",
        buffer_ttl_hours=168,
        ladder=("daily", "monthly", "yearly"),
        levels=(Level("hourly", dict(STATS)), Level("daily", dict(STATS))),
        fields={"temp": Field("float", "temp"), "wind": Field("int", "wind")},
    )
    return msgspec.structs.replace(dataset, **changes)


@dataclass
class MemoryQueue:
    """Messages in order; `take` empties it."""

    bodies: list[str] = field(default_factory=list)

    def send(self, bodies: object) -> None:
        self.bodies += list(bodies)  # type: ignore[call-overload]

    def take(self) -> list[Task]:
        tasks = [msgspec.json.decode(body, type=Task) for body in self.bodies]
        self.bodies.clear()
        return tasks


class MemoryExports:
    """Exports of a log of writes, complete as soon as they are asked for; the next `break_next` fail instead.

    `begun` is since when point-in-time recovery is on, None where it is off; while they are `down`, AWS does not answer.
    """

    def __init__(self, backend: Backend, begun: datetime | None = START, parts: int = 2) -> None:
        self.backend, self.begun, self.parts = backend, begun, parts
        self.down = False
        self.log: list[tuple[int, str, str, Item | None]] = []
        self.status: dict[str, Export] = {}
        self.tokens: dict[str, str] = {}
        self.break_next = 0

    def earliest(self) -> datetime | None:
        self._answers()
        return self.begun

    def _answers(self) -> None:
        if self.down:
            raise RetryError("no answer from AWS")

    def request(self, prefix: str, start: datetime | None, end: datetime, token: str) -> str:
        self._answers()
        if token in self.tokens:
            return self.tokens[token]
        if self.begun is None or (start or end) < self.begun:
            raise BackendError("InvalidExportTimeException")
        export = f"{1700000000000 + len(self.tokens):014d}-{len(self.tokens):08x}"
        arn = self.tokens[token] = export_arn(export)
        if self.break_next:
            self.break_next -= 1
            self.status[arn] = Export("FAILED", "S3NoSuchBucket")
            return arn
        last: dict[tuple[str, str], tuple[int, Item | None]] = {}
        for moment, pk, sk, item in self.log:
            if (start is None or to_micros(start) <= moment) and moment < to_micros(end):
                last[pk, sk] = (moment, item)
        files: list[list[bytes]] = [[] for _ in range(self.parts)]
        for (pk, sk), (moment, item) in last.items():
            if start is None and item is None:
                continue
            line = remove_line(pk, sk, moment) if item is None else change_line(item, moment) if start else item_line(item)
            files[sum((pk + sk).encode()) % self.parts].append(line)
        for key, body in export_files(prefix, export, files, start or end, end, start is None).items():
            self.backend.objects.put(key, body)
        self.status[arn] = Export("COMPLETED")
        return arn

    def describe(self, arn: str) -> Export:
        self._answers()
        return self.status.get(arn, Export("GONE"))


class World:
    """A stage in memory with a clock of its own."""

    def __init__(self, dataset: Dataset | None = None, parts: int = 2, start: datetime = START) -> None:
        self.dataset = dataset or weather()
        self.backend = memory_backend()
        self.catalog = Catalog(self.backend.catalog, self.backend.objects)
        self.exports = MemoryExports(self.backend, start, parts)
        self.queue = MemoryQueue()
        self.now = start
        self.catalog.put_dataset(self.dataset, start)

    def put(self, group: str, at: datetime, fields: dict[str, FieldValue] | None = None, deleted: bool = False) -> None:
        """A write now, a millisecond after the one before."""
        self.now += timedelta(milliseconds=1)
        item = raw_item(self.dataset, Record(group, at, None, fields or {}, deleted), self.now)
        self.backend.raw.put(item)
        self.exports.log.append((to_micros(self.now), item["pk"], item["sk"], item))

    def expire(self, group: str, at: datetime) -> None:
        """TTL removes an item."""
        key = raw_key(self.dataset.name, group, at)
        self.backend.raw.delete(key)
        self.exports.log.append((to_micros(self.now), *key, None))

    def open(self, seconds: int = 2) -> list[Window]:
        """Let time pass, and open a window over all that was written."""
        self.now += timedelta(seconds=seconds)
        return list(exporter.run(self.catalog, self.exports, self.backend.live, LAPTOP, self.now, force=True).opened)

    def collect(self) -> list[Task]:
        """Collect all open windows; the tasks that were sent."""
        collector.collect_all(self.catalog, self.backend.objects, self.exports, self.queue, self.now)
        return self.queue.take()

    def work(self, task: Task) -> archiver.Done:
        return archiver.run(self.catalog, self.backend.objects, task, self.now)

    def archive(self) -> None:
        """Everything written, through to the archive."""
        self.open()
        for task in self.collect():
            self.work(task)

    def snapshot(self) -> list[snapshots.Report]:
        return closing.run(self.backend, self.catalog, self.now).windows

    def compact(self, whole: bool = True) -> list[compactor.Merged]:
        return compactor.compact(self.catalog, self.backend.objects, [self.dataset], self.now, whole=whole)

    def archived(self, group: str) -> dict[int, dict[str, object] | None]:
        """Valid time (µs) → values in the archive alone; None for a tombstone."""
        segments = self.catalog.manifest(self.dataset.name, RAW, group).segments
        tables = [
            segment_reader.read(self.backend.objects, s, VALID_TIME) for s in sorted(segments, key=lambda s: (s.window_end, s.key))
        ]
        if not tables:
            return {}
        table, _ = newest(tables, Partition(self.dataset, RAW, group).order)
        names = [name for name in self.dataset.fields if name in table.column_names]
        rows = zip(micros(table, VALID_TIME), table[DELETED].to_pylist(), table.select(names).to_pylist(), strict=True)
        return {at: None if gone else {n: v for n, v in row.items() if v is not None} for at, gone, row in rows}

    def state(self) -> tuple[object, ...]:
        """Everything that a repeated task must leave as it was."""
        groups = self.catalog.groups(self.dataset.name, RAW)
        manifests = tuple(self.catalog.manifest(self.dataset.name, RAW, group) for group in groups)
        return manifests, tuple(self.catalog.windows()), self.catalog.progress()


def temp(value: str, wind: int | None = None) -> dict[str, FieldValue]:
    """Fields as ingestion writes them."""
    number = Decimal(value)
    fields: dict[str, FieldValue] = {"temp": int(number) if number == number.to_integral_value() else number}
    return fields if wind is None else {**fields, "wind": wind}
