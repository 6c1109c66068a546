"""Live aggregates and latest values through the stream driver, against an oracle: random writes, faults and redelivery."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.errors import Throttled
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.model import Record
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.aggregator import encode_state, fold, identity, shown
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.live_item import usable
from tesseract.processing.stream import run
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.codec import item_bytes
from tesseract.storage.items import raw_item
from tesseract.storage.keys import latest_key
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tests.support.driver import Faults, Mapping, StreamedTable

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
CONFIG = """
datasets:
  plant:
    group_by: machine
    time_field: at
    aggregations: {hourly: &all [count, sum, avg, std, min, max, first, last], daily: *all}
    fields: {a: float, b: int, c: float, d: float, e: float}
"""


class World:
    """A stage in memory, its clock, and its two stream functions."""

    def __init__(self, config: str = CONFIG) -> None:
        self.now = START
        clock = lambda: self.now
        self.raw = StreamedTable(clock)
        self.live, objects = MemoryTable("live"), MemoryObjects()
        self.backend = Backend(self.raw, self.live, MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        for dataset in parse(config).values():
            apply(self.catalog, dataset, self.now)
        self.configs = Configs(self.catalog, clock)
        self.service = Service(self.configs, Writer(self.raw, self.live, clock), objects, clock)
        self.clock = clock
        self.connect(self.live, self.raw)

    def connect(self, live, raw, batch=7):
        aggregates = AggregateProcessor(raw, live, self.catalog, self.configs, self.clock)
        latest = LatestProcessor(raw, live, self.catalog, self.configs, self.clock)
        objects = self.backend.objects
        self.aggregates = Mapping(self.raw, lambda event: run(event, aggregates.process, self.configs, objects), batch_size=batch)
        self.latest = Mapping(self.raw, lambda event: run(event, latest.process, self.configs, objects), batch_size=5)

    def put(self, group, at, deleted=False, **fields):
        record = Record(group, at, None, {k: v for k, v in fields.items() if v is not None}, deleted)
        self.raw.put(raw_item(self.configs.get("plant"), record, self.now))

    def item(self, level, start, group="m"):
        return self.live.get((f"plant#{group}#{level}", start))


def expected(world, level_name, group="m"):
    """Every period's numbers, recomputed from the buffer."""
    dataset = world.configs.get("plant")
    level = dataset.level(level_name)
    length = 13 if level_name == "hourly" else 10
    states = {}
    for item in sorted(world.raw.items(), key=lambda item: item["sk"]):
        if item["pk"].split("#")[1] == group and not item.get("deleted"):
            at = datetime.fromisoformat(item["sk"])
            start = at.replace(minute=0, second=0, microsecond=0)
            start = start.replace(hour=0) if level_name == "daily" else start
            name = start.isoformat()[:length]
            states[name] = fold(states.get(name, identity()), item["fields"], (at - start) // timedelta(microseconds=1))
    return {name: (state.rows, shown(state, level)) for name, state in states.items()}


def stored(world, level_name, group="m"):
    level = world.configs.get("plant").level(level_name)
    length = 13 if level_name == "hourly" else 10
    items = world.live.query(f"plant#{group}#{level_name}")
    return {item["sk"][:length]: (item["rows"], item["fields"]) for item in items if usable(item, level)}


@pytest.mark.parametrize("seed", range(12))
def test_inserts_in_any_order_with_faults_and_redelivery_count_exactly_once(seed):
    dice = random.Random(seed)
    world = World()
    live = Faults(world.live, dice, 0.05, Throttled("slow down"))
    world.connect(live, world.raw)
    times = [START - timedelta(minutes=dice.randrange(60 * 60)) for _ in range(150)]
    for index, at in enumerate(times):
        if not world.raw.get((f"plant#m#{at:%Y-%m-%d}", at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))):
            world.put("m", at, a=Decimal(dice.randrange(1000)) / 10, b=dice.choice([None, index]))
        if dice.random() < 0.3:
            mapping = dice.choice([world.aggregates, world.latest])
            shard = dice.randrange(2)
            mapping.poll(shard)
            if dice.random() < 0.3:
                mapping.redeliver(shard, dice.randrange(9))
    live.armed = False
    world.aggregates.drain()
    world.latest.drain()
    for level in ("hourly", "daily"):
        assert stored(world, level) == expected(world, level)
    newest = max(world.raw.items(), key=lambda item: item["sk"])
    latest = world.live.get(latest_key("plant", "m"))
    assert (latest["valid_time"], latest["fields"]) == (newest["sk"], newest["fields"])


def test_an_exact_duplicate_changes_nothing_and_costs_no_stream_record():
    world = World()
    for _ in range(3):
        world.put("m", START, a=1)
    assert sum(map(len, world.raw.shards)) == 1
    world.aggregates.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["rows"] == 1


@pytest.mark.parametrize("seed", range(24))
def test_corrections_deletes_and_rewrites_are_counted_exactly_with_faults_and_redelivery(seed):
    dice = random.Random(seed)
    world = World()
    live, raw = (Faults(table, dice, 0.03, Throttled("slow down")) for table in (world.live, world.raw))
    world.connect(live, raw)
    times = [START - timedelta(minutes=dice.randrange(60 * 30)) for _ in range(25)]
    for index in range(200):
        at = dice.choice(times)
        values = {"a": Decimal(dice.randrange(60)) / dice.choice((1, 10, 1000)), "b": dice.choice([None, index, True, "x"])}
        world.put("m", at, deleted=True) if dice.random() < 0.25 else world.put("m", at, **values)
        if dice.random() < 0.3:
            mapping = dice.choice([world.aggregates, world.latest])
            shard = dice.randrange(2)
            mapping.poll(shard)
            if dice.random() < 0.3:
                mapping.redeliver(shard, dice.randrange(9))
    live.armed = raw.armed = False
    world.aggregates.drain()
    world.latest.drain()
    for level in ("hourly", "daily"):
        found = {name: numbers for name, numbers in stored(world, level).items() if numbers[0]}
        assert found == expected(world, level)
    assert not [item for item in world.live.items() if "stale_at" in item or "pending" in item]
    visible = [item for item in world.raw.items() if not item.get("deleted")]
    newest = max(visible, key=lambda item: item["sk"])
    latest = world.live.get(latest_key("plant", "m"))
    assert (latest["valid_time"], latest["fields"]) == (newest["sk"], newest["fields"])


def test_an_extreme_that_the_look_up_cannot_tell_is_not_shown_until_it_is_known():
    world = World()
    world.connect(world.live, world.raw, batch=1)
    for minute, value in enumerate((3, 1, 2)):
        world.put("m", START + timedelta(minutes=minute), a=value)
    world.aggregates.drain()
    world.put("m", START + timedelta(minutes=1), deleted=True)
    world.put("m", START + timedelta(minutes=3), a=0)  # raw is ahead: the look-up sees it, the item has not counted it yet
    (shard,) = [index for index, records in enumerate(world.raw.shards) if records]
    world.aggregates.poll(shard)
    item = world.item("hourly", "2026-01-05T12:00:00Z")
    assert item["pending"] is True
    assert not {"rows", "fields"} & set(item)
    assert not usable(item, world.configs.get("plant").level("hourly"))
    world.aggregates.poll(shard)
    item = world.item("hourly", "2026-01-05T12:00:00Z")
    assert (item["rows"], item["fields"]["a"]["min"]) == (3, 0)
    assert world.item("daily", "2026-01-05T00:00:00Z")["fields"]["a"]["min"] == 0


def test_the_extremes_of_a_day_come_from_its_hours_not_from_raw_items():
    world = World()
    for hour in range(9):
        world.put("m", START - timedelta(hours=hour), a=hour)
    world.aggregates.drain()
    asked = []
    query = world.raw.query
    world.raw.query = lambda pk, low=None, high=None, **options: asked.append((low, high)) or query(pk, low, high, **options)
    world.put("m", START - timedelta(hours=8), a=-1)  # was the maximum
    world.aggregates.drain()
    assert world.item("daily", "2026-01-05T00:00:00Z")["fields"]["a"]["max"] == 7
    assert asked == []  # the hour had one value only
    world.put("m", START + timedelta(minutes=1), a=9)
    world.put("m", START + timedelta(minutes=1), deleted=True)
    world.aggregates.drain()
    assert world.item("daily", "2026-01-05T00:00:00Z")["fields"]["a"]["max"] == 7
    assert [low[:13] for low, _ in asked] == ["2026-01-05T12"] * len(asked)


def test_a_look_up_after_raw_items_may_have_expired_marks_the_item_stale():
    world = World()
    world.put("m", START, a=1)
    world.put("m", START + timedelta(minutes=1), a=2)
    world.aggregates.drain()
    world.now += timedelta(days=9)  # both may have expired, TTL has removed neither
    world.put("m", START, a=0)
    world.put("m", START + timedelta(minutes=1), deleted=True)
    world.aggregates.drain()
    for level, start in (("hourly", "2026-01-05T12:00:00Z"), ("daily", "2026-01-05T00:00:00Z")):
        item = world.item(level, start)
        assert item["stale_at"] >= int(world.now.timestamp())
        assert not {"rows", "fields", "state", "pending"} & set(item)
    entries = [item for item in world.live.items() if item["pk"].startswith("worklist#")]
    assert {entry["sk"] for entry in entries} == {
        "plant#m#hourly|2026-01-05T12:00:00Z",
        "plant#m#daily|2026-01-05T00:00:00Z",
    }


def test_an_item_that_does_not_hold_what_the_stream_takes_out_is_marked_stale():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    item = world.item("hourly", "2026-01-05T12:00:00Z")
    world.live.put(item | {"state": encode_state(identity()), "version": item["version"] + 1})
    world.put("m", START, a=2)
    world.aggregates.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["stale_at"]
    assert world.item("daily", "2026-01-05T00:00:00Z")["fields"]["a"]["sum"] == 2


def test_a_batch_of_changes_older_than_twenty_hours_declares_an_outage_in_which_nothing_is_folded():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    world.put("m", START + timedelta(minutes=1), a=2)
    world.now += timedelta(hours=21)
    world.aggregates.drain()
    outage = world.catalog.outage()
    assert outage.start <= int(START.timestamp())
    assert outage.end >= int(world.now.timestamp())
    assert world.item("hourly", "2026-01-05T12:00:00Z")["stale_at"]
    world.put("m", world.now, a=3)
    world.aggregates.drain()
    assert world.item("hourly", "2026-01-06T09:00:00Z")["stale_at"]


def test_an_insert_after_the_first_copy_may_have_expired_is_not_folded():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    world.now += timedelta(days=9)
    world.raw.expire(world.now)
    world.put("m", START, a=1)  # the same record, sent again: an INSERT, since TTL has removed the first copy
    world.aggregates.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["stale_at"]


def test_the_same_record_on_another_day_is_not_counted_again_but_the_item_may_expire_later():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    world.now += timedelta(days=6)
    world.put("m", START, a=1)  # another day of receipt: a MODIFY with equal fields
    world.aggregates.drain()
    item = world.item("hourly", "2026-01-05T12:00:00Z")
    assert (item["rows"], item["version"]) == (1, 2)


def test_another_stream_marks_the_item_stale():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    world.raw.label = "2027-01-01T00:00:00.000"
    world.put("m", START + timedelta(minutes=1), a=2)
    world.aggregates.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["stale_at"]


def test_a_level_added_later_is_stale_for_periods_that_may_hold_earlier_records():
    world = World(CONFIG.replace(", daily: *all", ""))
    world.catalog.mark_used("plant")
    world.put("m", START, a=1)
    apply(world.catalog, parse(CONFIG)["plant"], world.now)
    world.now += timedelta(minutes=2)
    world.put("m", START + timedelta(minutes=1), a=2)
    world.put("m", START + timedelta(days=2), a=2)
    world.aggregates.drain()
    assert world.item("daily", "2026-01-05T00:00:00Z")["stale_at"]
    assert world.item("daily", "2026-01-07T00:00:00Z")["rows"] == 1
    assert world.item("hourly", "2026-01-05T12:00:00Z")["rows"] == 2


def test_a_record_that_cannot_be_read_is_kept_and_its_periods_are_stale():
    world = World()
    world.put("m", START, a=1)
    world.aggregates.drain()
    key = ("plant#m#2026-01-05", "2026-01-05T12:30:00.000000Z")
    world.raw.put({"pk": key[0], "sk": key[1], "fields": "not a map", "expires_at": 1, "config_version": 1})
    world.aggregates.drain()
    world.latest.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["stale_at"]
    kept = [info.key for info in world.backend.objects.list("quarantine/")]
    assert len(kept) == 1
    assert b"not a map" in world.backend.objects.get(kept[0])


def test_an_item_of_an_unknown_dataset_is_kept_aside_and_does_not_hold_up_its_shard():
    world = World()
    world.raw.put(
        {"pk": "nobody#m#2026-01-05", "sk": "2026-01-05T12:30:00.000000Z", "fields": {}, "expires_at": 1, "config_version": 1}
    )
    world.put("m", START, a=1)
    world.aggregates.drain()
    world.latest.drain()
    assert world.item("hourly", "2026-01-05T12:00:00Z")["rows"] == 1
    assert len(list(world.backend.objects.list("quarantine/"))) == 1


def test_the_latest_value_follows_corrections_and_deletes():
    world = World()
    world.put("m", START, a=1)
    world.put("m", START + timedelta(minutes=1), a=2)
    world.latest.drain()
    world.put("m", START + timedelta(minutes=1), a=3)
    world.latest.drain()
    assert world.live.get(latest_key("plant", "m"))["fields"] == {"a": 3}
    world.put("m", START + timedelta(minutes=1), deleted=True)
    world.latest.drain()
    assert world.live.get(latest_key("plant", "m"))["fields"] == {"a": 1}
    world.put("m", START, deleted=True)
    world.latest.drain()
    item = world.live.get(latest_key("plant", "m"))
    assert item["stale"] is True
    assert "fields" not in item


def test_an_item_of_five_fields_stays_within_the_kilobyte_that_is_billed():
    world = World()
    for minute in range(60):
        values = {name: Decimal(1000 + 7 * minute + index) / 100 for index, name in enumerate("acde")}
        world.put("m", START + timedelta(minutes=minute), b=minute * 37, **values)
    world.aggregates.drain()
    assert item_bytes(world.item("hourly", "2026-01-05T12:00:00Z")) <= 1024
    assert item_bytes(world.item("daily", "2026-01-05T00:00:00Z")) <= 1024
