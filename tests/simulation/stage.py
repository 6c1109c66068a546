"""A stage in memory with everything that runs on it: tables, streams, exports, functions. No decisions; `actions` takes those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tesseract.config.cache import Configs
from tesseract.config.dataset import STATS, Dataset, Field, Level
from tesseract.config.manager import apply
from tesseract.ingestion.writer import Writer
from tesseract.processing import archiver, closing, collector, compactor, exporter, gc, stream
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.windows import Settings
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import OUTAGE_PK, is_history, split_raw_key
from tesseract.storage.memory import MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import to_micros
from tests.simulation import patches
from tests.simulation.archive_checks import ArchiveChecks
from tests.simulation.checks import Checks
from tests.simulation.exports import SlowExports
from tests.simulation.oracle import Entry, Oracle
from tests.simulation.scheduler import Scheduler, TapObjects, TapTable
from tests.support.archive_world import MemoryQueue
from tests.support.driver import OURS, Mapping, StreamedTable
from tests.support.keeping_world import ClockedObjects

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
        if self.stage.whole_seconds and sim.now.microsecond:  # where windows end
            sim.now += timedelta(microseconds=1_000_000 - sim.now.microsecond)
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
    """The catalog: the checks are told of every outage that is declared, and of every version of a manifest."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("catalog")
        self.stage = stage

    def put(self, item: Any, condition: Any = None, until: datetime | None = None) -> None:
        super().put(item, condition)
        if item["pk"] == item["sk"] == OUTAGE_PK:
            self.stage.sim.say("OUTAGE", item["start"], "to", item["end"])
            self.stage.checks.declared(int(item["start"]), int(item["end"]))
        self.stage.archive_checks.put(item)


class Bucket(ClockedObjects):
    """The bucket: the checks are told of every object that is removed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(lambda: stage.sim.now)
        self.stage = stage

    def delete(self, key: str) -> None:
        super().delete(key)
        self.stage.archive_checks.removed(key)


@dataclass
class Queue(MemoryQueue):
    """The queue of tasks, which remembers all that were ever sent."""

    sent: list[str] = field(default_factory=list)

    def send(self, bodies: Any) -> None:
        super().send(bodies)
        self.sent += bodies


class Stage:
    """Tables, bucket, streams, exports, and the functions over them. Functions of one kind share nothing but the storage."""

    def __init__(self, sim: Scheduler, dataset: Dataset, seed: int) -> None:
        self.sim, self.seed = sim, seed
        self.oracle = Oracle(dataset.by_ref_time)
        self.checks = Checks(self)
        self.archive_checks = ArchiveChecks(self, lambda body: patches.table_of(body).to_pylist())
        self.raw, self.live = RawTable(self), LiveTable(self)
        self.store = Backend(self.raw, self.live, CatalogTable(self), Bucket(self))
        self.tapped = Backend(
            *(TapTable(t, sim) for t in (self.raw, self.live, self.store.catalog)), TapObjects(self.store.objects, sim)
        )
        self.catalog = Catalog(self.store.catalog, self.store.objects)  # of nobody: for looking
        self.shared = Catalog(self.tapped.catalog, self.tapped.objects)
        self.poison = 0.0
        self.whole_seconds = False  # whether all writes happen at whole seconds
        self.writes: dict[str, list[Entry]] = {}  # by sequence number
        self.newest = apply(self.catalog, dataset, START).dataset
        self.exports, self.queue = SlowExports(self.store, sim, START), Queue()
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
        self.collect()

    def work(self, body: str) -> None:
        """A worker's task."""
        task = msgspec.json.decode(body, type=collector.Task)
        archiver.run(self.shared, self.tapped.objects, task, self.sim.clock())

    def close(self) -> None:
        """The timer that snapshots, repairs, and ends outages."""
        closing.run(self.tapped, self.shared, self.sim.clock())

    def collect(self) -> None:
        """The timer that looks for exports that are complete."""
        collector.collect_all(self.shared, self.tapped.objects, self.exports, self.queue, self.sim.clock())

    def compact(self, whole: bool = True) -> None:
        """The timer that merges segments, or somebody who wants one segment a period."""
        compactor.compact(self.shared, self.tapped.objects, [self.newest], self.sim.clock(), whole=whole)

    def gc(self) -> None:
        """The timer that removes what nobody needs any more."""
        gc.collect(self.shared, self.tapped.objects, [self.newest], self.sim.clock())

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
