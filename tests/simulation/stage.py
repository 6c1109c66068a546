"""A stage in memory with everything that runs on it: tables, streams, exports, functions. No decisions; `actions` takes those."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tesseract.config.cache import Configs
from tesseract.config.dataset import STATS, Dataset, Field, Level
from tesseract.config.manager import apply
from tesseract.ingestion.writer import Writer
from tesseract.processing import archiver, closing, collector, compactor, exporter, stream
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.windows import Settings
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.exports import Export
from tesseract.storage.keys import OUTAGE_PK, is_history, split_raw_key
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import to_micros
from tests.simulation.checks import Checks
from tests.simulation.oracle import Entry, Oracle
from tests.simulation.scheduler import Scheduler, TapObjects, TapTable
from tests.support.archive_world import MemoryExports, MemoryQueue
from tests.support.driver import OURS, Mapping, StreamedTable

START = datetime(2024, 3, 1, tzinfo=UTC)
NAME = "weather"
SETTINGS = Settings(timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=6))
FIELDS = {
    "d": Field("decimal", "d", scale=2),
    "w": Field("int", "w", max=10**38 - 1),
    "f": Field("float", "f"),
}
SKEWS = (-2, -1, 0, 0, 1, 2)


class RawTable(StreamedTable):
    """The raw table: tells the oracle and the exports of every change; creation times are a little behind, images may be spoilt."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(lambda: stage.sim.now, shards=2, seed=stage.seed)
        self.stage = stage

    def _record(self, name: str, key: Any, old: Any, new: Any, identity: Any = None) -> None:
        sim = self.stage.sim
        sim.now += timedelta(milliseconds=1)
        super()._record(name, key, old, new, identity)
        record = self.shards[self.shard_of(key[0])][-1]
        record["dynamodb"]["ApproximateCreationDateTime"] -= sim.r.choice((0, 0, 1))
        self.stage.changed(key, None if new is None else self.get(key), record)


class LiveTable(MemoryTable):
    """The live table: every aggregate item that is written is held against the oracle."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("live")
        self.stage = stage

    def put(self, item: Any, condition: Any = None, until: datetime | None = None) -> None:
        super().put(item, condition)
        self.stage.checks.live_written(item)

    def delete(self, key: Any, condition: Any = None) -> None:
        super().delete(key, condition)
        self.stage.sim.say("live item gone:", *key)


class CatalogTable(MemoryTable):
    """The catalog: the checks are told of every outage that is declared."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("catalog")
        self.stage = stage

    def put(self, item: Any, condition: Any = None, until: datetime | None = None) -> None:
        super().put(item, condition)
        if item["pk"] == item["sk"] == OUTAGE_PK:
            self.stage.sim.say("OUTAGE", item["start"], "to", item["end"])
            self.stage.checks.declared(int(item["start"]), int(item["end"]))


class SlowExports(MemoryExports):
    """Exports that take a while."""

    def __init__(self, backend: Backend, sim: Scheduler) -> None:
        super().__init__(backend, START, 2)
        self.sim = sim
        self.ready: dict[str, datetime] = {}
        self.slow = True

    def request(self, prefix: str, start: datetime, end: datetime, token: str) -> str:
        new = token not in self.tokens
        arn = super().request(prefix, start, end, token)
        if new:
            self.ready[arn] = self.sim.now + timedelta(minutes=self.sim.r.choice((0, 0, 4, 40)))
        return arn

    def describe(self, arn: str) -> Export:
        return self.status[arn] if self.sim.now >= self.ready[arn] or not self.slow else Export("IN_PROGRESS")


class Stage:
    """Tables, bucket, streams, exports, and the functions over them. Functions of one kind share nothing but the storage."""

    def __init__(self, sim: Scheduler, dataset: Dataset, seed: int) -> None:
        self.sim, self.seed = sim, seed
        self.oracle = Oracle(dataset.by_ref_time)
        self.checks = Checks(self)
        self.raw, self.live = RawTable(self), LiveTable(self)
        self.store = Backend(self.raw, self.live, CatalogTable(self), MemoryObjects())
        self.tapped = Backend(
            *(TapTable(t, sim) for t in (self.raw, self.live, self.store.catalog)), TapObjects(self.store.objects, sim)
        )
        self.catalog = Catalog(self.store.catalog, self.store.objects)  # of nobody: for looking
        self.shared = Catalog(self.tapped.catalog, self.tapped.objects)
        self.poison = 0.0
        self.writes: dict[str, list[Entry]] = {}  # by sequence number
        self.newest = apply(self.catalog, dataset, START - timedelta(days=1)).dataset
        self.exports, self.queue = SlowExports(self.store, sim), MemoryQueue()
        self.mappings = {
            name: Mapping(self.raw, self.stream_process(name), batch_size=size, filter=OURS)
            for name, size in (("aggregates", 6), ("latest", 4))
        }
        self.processes = {name: [self.stream_process(name) for _ in range(2)] for name in self.mappings}
        self.reader = Store(self.tapped, "test", sim.clock)

    def changed(self, key: Any, item: Any, record: Any) -> None:
        """The raw table has changed: a put if there is an `item`."""
        at = to_micros(self.sim.now)
        self.exports.log.append((at, *key, item))
        if is_history(key[1]):
            return
        if item is None:
            self.sim.say("TTL removes", *key)
            return
        body = record["dynamodb"]
        label = record["eventSourceARN"].rpartition("/")[2]
        _, group, time = split_raw_key(*key)
        shard = self.raw.shard_of(key[0])
        fields, gone = item["fields"], bool(item.get("deleted"))
        number = int(body["SequenceNumber"])
        entry = Entry(len(self.oracle.log), at, group, to_micros(time), item.get("ref_time"), fields, gone, label, number, shard)
        self.oracle.add(entry)
        self.writes[body["SequenceNumber"]] = [entry]
        self.sim.say(
            "PUT",
            f"#{entry.index}",
            entry,
            f"shard {shard}",
            "expires",
            item["expires_at"],
            "created",
            body["ApproximateCreationDateTime"],
        )
        if self.poison and self.sim.r.random() < self.poison:
            body["NewImage"] = {**body["NewImage"], "fields": {"M": {"d": {"N": "no number"}}}}
            entry.spoilt = True
            self.sim.say("its image in the stream is spoilt")

    # functions ----------------------------------------------------------------------------------------------------------

    def stream_process(self, name: str) -> Callable[[Any], Any]:
        """A process of a stream function, with a cache of configurations of its own."""
        tapped, clock = self.tapped, self.sim.clock
        configs = Configs(self.shared, clock)
        kind = AggregateProcessor if name == "aggregates" else LatestProcessor
        processor = kind(tapped.raw, tapped.live, self.shared, configs, clock)
        return lambda event: stream.run(event, processor.process, configs, tapped.objects)

    def writer_process(self) -> tuple[Writer, Configs]:
        return Writer(self.tapped.raw, self.tapped.live, self.sim.clock), Configs(self.shared, self.sim.clock)

    def export(self, force: bool) -> None:
        """The timers that open windows and collect what is exported."""
        clock = self.sim.clock
        exporter.run(self.shared, self.exports, self.tapped.live, SETTINGS, clock(), force)
        collector.collect_all(self.shared, self.tapped.objects, self.exports, self.queue, clock())

    def work(self, body: str) -> None:
        """A worker's task."""
        task = msgspec.json.decode(body, type=collector.Task)
        archiver.run(self.shared, self.tapped.objects, task, self.sim.clock())

    def close(self) -> None:
        """The timer that snapshots, repairs, and ends outages."""
        closing.run(self.tapped, self.shared, self.sim.clock())

    def compact(self) -> None:
        """The timer that merges segments."""
        compactor.compact(self.shared, self.tapped.objects, [self.newest], self.sim.clock(), whole=True)

    def through(self) -> int:
        return self.catalog.progress().archived_through

    def levels(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.newest.levels)


def dataset(levels: tuple[str, ...], fields: tuple[str, ...], shown: tuple[str, ...], **changes: Any) -> Dataset:
    """A configuration: statistics of `shown` (all fields if it is empty) at each level."""
    return Dataset(
        name=NAME,
        version=1,
        group_by=("station",),
        time_field="time",
        ref_time_field="refTime",
        unknown_fields="reject",
        ladder=("daily", "monthly", "yearly"),
        levels=tuple(Level(name, dict.fromkeys(STATS, shown)) for name in levels),
        fields={name: FIELDS[name] for name in fields},
        max_future_seconds=3 * 86400,
        **changes,
    )
