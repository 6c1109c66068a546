"""Quarantine: what nobody could accept is kept whole, shown, and replayed; nothing newer is replaced in silence."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract import cli
from tesseract.cli.quarantine import archived
from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.errors import BackendError, DamagedError, InputError, Throttled
from tesseract.ingestion.client import report_of
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.quarantine import LATER, OVERWRITE, Options, Replay, Tally, unfold
from tesseract.ingestion.writer import Writer
from tesseract.model import Record
from tesseract.processing.stream import run
from tesseract.storage.items import raw_item, records_of
from tesseract.storage.keys import quarantine_object, raw_key, split_quarantine_object, split_raw_key
from tesseract.storage.memory import memory_backend
from tesseract.storage.quarantine import PART, Entry, decode_entry, encode_entry, object_key, places, read, write
from tesseract.store import Store
from tests.unit.query_world import World as Archive

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
TEXTS = "datasets: {plant: {group_by: g, time_field: t, ref_time_field: r, fields: {x: {type: %s}}}}"
FLOATS = TEXTS % "float"
BOUNDED = TEXTS % "float, max: 30"
STRINGS = TEXTS % "string"
SHARD = "kinesis/tesseract-test-records/shardId-000000000003"


class Road:
    """The ingestion of a stage as a direct invoke reaches it. `before` may look at a chunk, or break."""

    by_group = False

    def __init__(self, service):
        self.service, self.sent, self.before = service, [], lambda lines: None

    def __call__(self, dataset, lines, group):
        self.before(lines)
        self.sent += [line.body for line in lines]
        event = {"dataset": dataset, "records": [json.loads(line.body) for line in lines]}
        return report_of(self.service.handle(event, 28), lines)


class World:
    """A stage in memory: its ingestion, a shard, and the commands."""

    def __init__(self, config=FLOATS):
        self.now, self.backend, self.arrived = NOW, memory_backend(), 0
        clock = lambda: self.now
        self.store = Store(self.backend, "test", clock)
        self.configs = Configs(self.store.catalog, clock)
        self.service = Service(self.configs, Writer(self.backend.raw, self.backend.live, clock), self.backend.objects, clock)
        self.road = Road(self.service)
        self.apply(config)

    def apply(self, config):
        for dataset in parse(config).values():
            apply(self.store.catalog, dataset, self.now)
        self.now += timedelta(minutes=2)  # every function has it

    def shard(self, *payloads):
        """A batch of the shard, as Lambda gives it; the same payloads once more are other records."""
        records = []
        for payload in payloads:
            self.arrived += 1
            data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            kinesis = {"sequenceNumber": str(90 + self.arrived), "data": base64.b64encode(data).decode()}
            kinesis["approximateArrivalTimestamp"] = self.now.timestamp()
            arn = "arn:aws:kinesis:eu-west-1:1:stream/tesseract-test-records"
            identity = f"shardId-000000000003:{kinesis['sequenceNumber']}"
            records.append({"eventID": identity, "eventSourceARN": arn, "kinesis": kinesis})
        return {"Records": records}

    def kinesis(self, *payloads):
        return self.service.handle_kinesis(self.shard(*payloads), 28)["batchItemFailures"]

    def refuse(self, *records):
        assert self.kinesis({"dataset": "plant", "records": list(records)}) == []

    def put(self, *records):
        answer = self.service.handle({"dataset": "plant", "records": list(records)}, 28)
        assert answer["accepted"] == len(records), answer

    def objects(self):
        return {place.key: read(self.backend.objects, place.key) for place in places(self.backend.objects)}

    def kept(self):
        return [
            (place.dataset, entry.record, entry.reason) for place in places(self.backend.objects) for entry in self.entries(place)
        ]

    def entries(self, place):
        return read(self.backend.objects, place.key)

    def replayer(self, road=None, **options):
        return Replay(
            self.backend, Configs(self.store.catalog, lambda: self.now), road or self.road, archived(self.store), Options(**options)
        )

    def replay(self, dataset="plant", **options):
        made, total = self.replayer(**options), Tally()
        for place in list(places(self.backend.objects, dataset)):
            total.add(made.run(place, self.now))
        return total.accepted, total.there, total.kept.total()

    def rows(self):
        found = {}
        for item in self.backend.raw.items():
            _, group, at = split_raw_key(item["pk"], item["sk"])
            found |= {
                (group, at.strftime("%H:%M")): record.fields.get("x") for record in records_of(item, group) if not record.deleted
            }
        return found


@pytest.fixture
def world():
    return World()


def reading(minute=0, x: object = "warm", **changes):
    return {"g": "a", "t": f"2026-01-05T11:{minute:02}:00Z", "x": x} | changes


def entry(sequence="7", record=b"{}", **changes):
    return Entry(record, "no", NOW, SHARD, sequence, **changes)


# Objects ----------------------------------------------------------------------------------------------------------------


@given(st.binary(), st.text(), st.text(), st.datetimes(timezones=st.just(UTC)), st.integers(0, 10**56 - 1))
def test_an_entry_comes_back_byte_for_byte(record, reason, hint, received, sequence):
    kept = Entry(record, reason, received, SHARD, str(sequence), "f", hint, 3)
    line = encode_entry(kept)
    assert decode_entry(line) == kept
    assert b"\n" not in line


def test_half_a_surrogate_pair_in_a_message_does_not_stop_the_shard(world):
    assert decode_entry(encode_entry(entry(field="\ud800"))).field == "?"
    assert world.kinesis({"dataset": "\ud800", "records": []}, b"\xff", b"\xed\xa0\x80") == []
    assert [record for _, record, _ in world.kept()] == [b'{"dataset": "\\ud800", "records": []}', b"\xff", b"\xed\xa0\x80"]


@given(st.lists(st.tuples(st.integers(1, 5), st.binary(max_size=2)), min_size=1, max_size=12), st.randoms())
def test_the_same_records_are_the_same_object_and_others_are_another(pairs, random):
    entries = [entry(str(sequence), record) for sequence, record in dict.fromkeys(pairs)]
    shuffled = [msgspec.structs.replace(one, reason="another", config_version=9) for one in entries]
    random.shuffle(shuffled)
    assert object_key("plant", shuffled) == object_key("plant", entries)
    parts = {object_key("plant", entries[:count]) for count in range(1, len(entries) + 1)}
    assert len(parts) == len(entries)


def test_a_key_says_dataset_day_and_name():
    key = object_key("a/b#", [entry("12"), entry("7", b"1")])
    assert key.startswith("quarantine/dataset=a%2Fb%23/date=2026-01-05/kinesis-shardId-000000000003-0")
    dataset, day, name = split_quarantine_object(key)
    assert (dataset, day, name.split("-")[-2]) == ("a/b#", "2026-01-05", f"{7:056}")
    assert quarantine_object(dataset, day, name) == key
    assert split_quarantine_object("quarantine/dataset=a/other.txt") is None


def test_a_batch_that_comes_again_is_the_same_object_also_on_the_next_day(world):
    batch = world.shard({"dataset": "plant", "records": [reading(), reading(1), reading()]})
    for _ in range(2):
        assert world.service.handle_kinesis(batch, 28)["batchItemFailures"] == []
        world.now += timedelta(hours=20)
    ((key, entries),) = world.objects().items()
    assert "/date=2026-01-05/" in key
    assert [one.record for one in entries] == [
        json.dumps(reading(minute)).encode() for minute in (0, 1)
    ]  # one that came twice is one


def test_a_batch_that_is_cut_otherwise_loses_nothing(world):
    lots = [{"dataset": "plant", "records": [reading(minute)]} for minute in range(4)]
    batch = world.shard(*lots)
    everything = {json.dumps(reading(minute)).encode() for minute in range(4)}
    for start, end in ((0, 4), (0, 2), (2, 4), (0, 1)):
        world.service.handle_kinesis({"Records": batch["Records"][start:end]}, 28)
        assert {record for _, record, _ in world.kept()} == everything
    assert len(world.objects()) == 4


def test_what_comes_again_is_judged_then(world):
    throttled = {"on": True}
    put_many = world.backend.raw.put_many

    def slow(items, until=None):
        if throttled["on"]:
            world.now += timedelta(seconds=30)
            return list(items)
        return put_many(items)

    world.backend.raw.put_many = slow
    batch = world.shard(*({"dataset": "plant", "records": [record]} for record in (reading(0), reading(1, 1), reading(2))))
    assert world.service.handle_kinesis(batch, 28)["batchItemFailures"] == [{"itemIdentifier": "92"}]
    assert len(world.kept()) == 1  # the third comes again with the second
    throttled["on"] = False
    assert world.service.handle_kinesis({"Records": batch["Records"][1:]}, 28)["batchItemFailures"] == []
    assert [record for _, record, _ in world.kept()] == [json.dumps(reading(minute)).encode() for minute in (0, 2)]


def test_an_entry_says_where_it_came_from_and_who_refused_it(world):
    world.refuse(reading())
    ((_, (kept,)),) = world.objects().items()
    assert (kept.origin, kept.sequence, kept.received, kept.config_version, kept.field) == (SHARD, "91", world.now, 1, "x")


def test_many_entries_are_several_objects(world):
    keys = write(world.backend.objects, "plant", [entry(record=b"%d" % number) for number in range(PART + 1)])
    assert [len(world.objects()[key]) for key in keys] == [PART, 1]


def test_a_damaged_object_is_named_and_the_line(world):
    key = quarantine_object("plant", "2026-01-05", "kinesis-x-7-1")
    for line in (b"nonsense", b'{"received":"x"}', b'{"received":"2026-01-05","origin":"","sequence":"1","reason":""}'):
        world.backend.objects.put(key, encode_entry(entry()) + b"\n" + line + b"\n")
        with pytest.raises(DamagedError, match=f"{key}: line 2 is no entry"):
            read(world.backend.objects, key)


def test_changes_that_the_stream_functions_cannot_read_are_kept_whole(world):
    body = {"SequenceNumber": "400", "ApproximateCreationDateTime": NOW.timestamp(), "NewImage": {"fields": {"S": "not a map"}}}
    keys = [
        {"pk": {"S": "plant#a#2026-01-05"}, "sk": {"S": "2026-01-05T11:00:00.000000Z"}},
        {"pk": {"S": "plant"}, "sk": {"S": "x"}},
    ]
    arn = "arn:aws:dynamodb:eu-west-1:1:table/tesseract-test-raw/stream/2026-01-01T00:00:00.000"
    events = [
        {"eventName": "INSERT", "eventSourceARN": arn, "dynamodb": {**body, "SequenceNumber": str(400 + at), "Keys": key}}
        for at, key in enumerate([*keys, {"pk": {"S": "nobody#a#2026-01-05"}, "sk": {"S": "2026-01-05T11:00:00.000000Z"}}])
    ]
    for _ in ("aggregates", "latest"):
        run({"Records": events}, lambda changes: None, world.configs, world.backend.objects)
    ((place, entries),) = world.objects().items()
    assert place.startswith("quarantine/dataset=_stream/date=2026-01-05/stream-2026-01-01T00%3A00%3A00.000-")
    assert [json.loads(one.record) for one in entries] == events
    assert {one.origin for one in entries} == {"stream/tesseract-test-raw/2026-01-01T00:00:00.000"}
    with pytest.raises(InputError, match="cannot be replayed"):
        world.replay("_stream")


# Replay -----------------------------------------------------------------------------------------------------------------


def test_a_configuration_is_mended_and_the_records_are_there():
    world = World(BOUNDED)
    world.refuse(reading(0, 40), reading(1, 1), reading(2, 41), reading(3, 400), reading(4))
    assert world.rows() == {("a", "11:01"): 1}
    assert world.replay() == (0, 0, 4)  # nothing has changed yet
    world.apply(BOUNDED.replace("max: 30", "max: 50"))
    assert world.replay() == (2, 0, 2)
    reasons = ["field 'x' is above its maximum 50", "field 'x' is a number, not text"]
    left = [json.dumps(record).encode() for record in (reading(3, 400), reading(4))]
    assert world.kept() == [("plant", record, reason) for record, reason in zip(left, reasons, strict=True)]
    assert {one.config_version for (entries,) in [world.objects().values()] for one in entries} == {2}
    assert world.rows() == {("a", "11:00"): 40, ("a", "11:01"): 1, ("a", "11:02"): 41}
    before, sent = world.objects(), list(world.road.sent)
    assert world.replay() == (0, 0, 2)
    assert (world.objects(), world.road.sent) == (before, sent)
    world.apply(BOUNDED.replace("max: 30", "max: 500"))
    assert world.replay() == (1, 0, 1)


def mended(world, *records):
    """A stage whose dataset takes text, with these records in a quarantine that was filled before it did."""
    other = World(STRINGS)
    other.now = world.now
    write(other.backend.objects, "plant", [entry(str(100 + at), json.dumps(one).encode()) for at, one in enumerate(records)])
    return other


def test_a_dry_run_changes_nothing(world):
    world = mended(world, reading(0), reading(1, 1))
    before = world.objects()
    assert world.replay(dry_run=True) == (1, 0, 1)
    assert (world.objects(), world.rows(), world.road.sent) == (before, {}, [])


def test_a_crash_between_write_and_removal_only_sends_again(world):
    world = mended(world, reading(0), reading(0, "hot"), reading(1), reading(2, 2))
    keep, world.backend.objects.delete = world.backend.objects.delete, fail
    with pytest.raises(BackendError):
        world.replay()
    world.backend.objects.delete = keep
    stored = list(world.backend.raw.items())
    assert world.rows() == {("a", "11:00"): "hot", ("a", "11:01"): "warm"}
    assert len(world.kept()) == 4 + 1  # what stays was put before the rest may be removed
    assert world.replay() == (0, 3, 2)
    assert [record for _, record, _ in world.kept()] == [json.dumps(reading(2, 2)).encode()]
    assert list(world.backend.raw.items()) == stored


def fail(*_):
    raise BackendError("AWS said no")


def test_a_road_that_ends_in_between_leaves_the_object_as_it_was(world, monkeypatch):
    monkeypatch.setattr("tesseract.ingestion.client.time.sleep", lambda seconds: None)
    world = mended(world, *(reading(at % 60, f"v{at}", g=f"g{at // 60}") for at in range(3000)))
    before = world.objects()

    def tired(lines):
        if len(world.road.sent) > 1000:
            raise Throttled("AWS throttles")

    world.road.before = tired
    with pytest.raises(Throttled):
        world.replay()
    assert world.objects() == before
    arrived = len(world.rows())
    assert 0 < arrived < 3000
    world.road.before = lambda lines: None
    assert world.replay() == (3000 - arrived, arrived, 0)
    assert world.objects() == {}
    assert len(world.rows()) == 3000


def test_a_later_record_of_the_key_is_not_replaced_unless_asked(world):
    world = mended(world, reading(0, "old"), reading(1, "only"))
    world.put(reading(0, "new"))
    assert world.replay() == (1, 0, 1)
    ((_, record, reason),) = world.kept()
    assert (json.loads(record)["x"], reason) == ("old", LATER)
    assert next(iter(world.objects().values()))[0].hint == OVERWRITE
    assert world.rows() == {("a", "11:00"): "new", ("a", "11:01"): "only"}
    assert world.replay() == (0, 0, 1)
    assert world.replay(overwrite=True) == (1, 0, 0)
    assert world.rows()["a", "11:00"] == "old"
    assert world.objects() == {}


def test_an_equal_record_is_there_already(world):
    world = mended(world, reading(0, "same"))
    world.put(reading(0, "same"))
    assert world.replay() == (0, 1, 0)
    assert world.objects() == {}
    assert world.road.sent == []


def test_a_deleted_key_stays_deleted(world):
    world = mended(world, reading(0, "old"))
    deleted = Record("a", datetime(2026, 1, 5, 11, tzinfo=UTC), None, {}, deleted=True)
    world.backend.raw.put(raw_item(world.store.dataset("plant"), deleted, world.now))
    assert world.replay() == (0, 0, 1)
    assert world.rows() == {}


def test_a_row_that_only_the_archive_has_is_seen():
    at = datetime(2026, 3, 1, tzinfo=UTC)
    old = Archive()
    old.archive([(at, {"temp": Decimal(1)}, False, at)])
    old.progress(at + timedelta(days=10))
    assert old.backend.raw.get(raw_key("w", "A", at)) is None
    lines = [json.dumps({"station": "A", "t": f"2026-03-01T0{hour}:00:00Z", "temp": 5}).encode() for hour in (0, 1)]
    write(old.backend.objects, "w", [entry(str(at), line) for at, line in enumerate(lines)])
    clock = lambda: datetime(2026, 3, 20, 12, tzinfo=UTC)
    configs = Configs(old.store.catalog, clock)
    service = Service(configs, Writer(old.backend.raw, old.backend.live, clock), old.backend.objects, clock)
    made = Replay(old.backend, configs, Road(service), archived(old.store), Options())
    (place,) = places(old.backend.objects)
    assert made.run(place, clock()) == Tally(1, 0, {LATER: 1})
    assert [row["temp"] for row in old.store.query("w", "A").to_pylist()] == [1.0, 5.0]


def test_records_of_one_key_keep_their_order_within_a_replay(world):
    world = mended(world, reading(0, "first"), reading(0, "second"))
    later = [entry(str(200 + at), json.dumps(reading(0, x)).encode(), config_version=1) for at, x in enumerate(("third", "fourth"))]
    write(world.backend.objects, "plant", later)
    assert world.replay() == (4, 0, 0)
    assert world.rows() == {("a", "11:00"): "fourth"}
    assert world.objects() == {}


def test_a_producer_between_two_objects_of_a_replay_is_not_replaced(world):
    world = mended(world, reading(0, "first"))
    write(world.backend.objects, "plant", [entry("200", json.dumps(reading(0, "second")).encode())])
    made = world.replayer()
    first, second = places(world.backend.objects)
    assert made.run(first, world.now).accepted == 1
    world.put(reading(0, "now"))
    assert made.run(second, world.now).kept == {LATER: 1}
    assert world.rows() == {("a", "11:00"): "now"}


def test_under_ref_time_order_the_table_decides_and_only_ties_stay(world):
    (dataset,) = parse(STRINGS.replace("plant", "ordered")).values()
    apply(world.store.catalog, msgspec.structs.replace(dataset, revisions="latest_ref"), world.now)
    dataset = world.store.dataset("ordered")
    assert dataset.by_ref_time

    def ref(hour):
        return datetime(2026, 1, 5, hour, tzinfo=UTC)

    for minute, hour in ((0, 5), (1, 5), (2, 5), (3, 5)):
        at = datetime(2026, 1, 5, 11, minute, tzinfo=UTC)
        world.backend.raw.put(raw_item(dataset, Record("a", at, ref(hour), {"x": "row"}), world.now))
    waiting = [(0, "older", 4), (1, "newer", 6), (2, "tie", 5), (3, "row", 5)]
    lines = [reading(minute, x, r=f"2026-01-05T{hour:02}:00:00Z") for minute, x, hour in waiting]
    write(world.backend.objects, "ordered", [entry(str(at), json.dumps(line).encode()) for at, line in enumerate(lines)])
    assert world.replay("ordered") == (2, 1, 1)
    assert [json.loads(record)["x"] for _, record, _ in world.kept()] == ["tie"]


def test_what_the_function_says_counts(world):
    world = mended(world, reading(0))
    made = world.replayer(Road(World().service))  # it takes numbers
    (place,) = places(world.backend.objects)
    assert made.run(place, world.now).kept == {"field 'x' is a number, not text": 1}
    assert world.rows() == {}
    assert world.replay() == (1, 0, 0)


def test_two_replays_at_once_lose_nothing_and_end_alike(world):
    world = mended(world, reading(0), reading(1), reading(2, 2))
    second = world.replayer()
    (place,) = places(world.backend.objects)
    inner = []

    def meanwhile(lines):
        if not inner:
            inner.append(None)
            inner.append(second.run(place, world.now))

    world.road.before = meanwhile
    assert world.replay() == (2, 0, 1)
    assert inner[1].accepted == 2
    assert [record for _, record, _ in world.kept()] == [json.dumps(reading(2, 2)).encode()]
    assert second.run(place, world.now) == Tally()  # gone meanwhile
    assert world.replay() == (0, 0, 1)


def test_a_batch_that_comes_again_while_it_is_replayed_loses_nothing(world):
    batch = world.shard({"dataset": "plant", "records": [reading(0, "1"), reading(1)]})
    world.service.handle_kinesis(batch, 28)
    (place,) = places(world.backend.objects)
    fixed = World(STRINGS)
    fixed.now = world.now
    write(fixed.backend.objects, "plant", world.entries(place))
    body = world.backend.objects.get(place.key)
    fixed.road.before = lambda lines: fixed.backend.objects.put(place.key, body)  # the old function is at it once more
    assert fixed.replay() == (2, 0, 0)
    assert fixed.objects() == {}
    fixed.backend.objects.put(place.key, body)  # and once more, after
    assert fixed.replay() == (0, 2, 0)
    assert fixed.objects() == {}


def test_only_what_was_received_within_the_times_is_replayed(world):
    world = mended(world)
    hours = [
        msgspec.structs.replace(entry(str(at), json.dumps(reading(at)).encode()), received=NOW + timedelta(hours=at))
        for at in range(4)
    ]
    write(world.backend.objects, "plant", hours)
    assert world.replay(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=3)) == (2, 0, 0)
    assert [json.loads(record)["t"] for _, record, _ in world.kept()] == [reading(at)["t"] for at in (0, 3)]
    assert {reason for _, _, reason in world.kept()} == {"no"}


def test_records_that_name_no_dataset_go_where_they_are_told(world):
    world.kinesis(reading(0, 1), {"dataset": "later", "records": [reading(1, 1), reading(2)]}, b"\xff", [reading(3, 3)])
    assert {dataset for dataset, _, _ in world.kept()} == {"_unknown"}
    assert world.replay("_unknown") == (0, 0, 4)
    world.apply(FLOATS.replace("plant", "later"))
    assert world.replay("_unknown") == (1, 0, 4)  # one of two in the envelope is good, and the other now has a dataset
    assert [(dataset, record) for dataset, record, _ in world.kept() if dataset != "_unknown"] == [
        ("later", json.dumps(reading(2)).encode())
    ]
    assert world.replay("_unknown", target="plant") == (2, 0, 1)
    assert [record for dataset, record, _ in world.kept() if dataset == "_unknown"] == [b"\xff"]
    assert world.rows() == {("a", "11:00"): 1, ("a", "11:01"): 1, ("a", "11:03"): 3}


def test_whatever_a_kinesis_record_may_hold_can_be_told_its_dataset(world):
    two = [json.dumps(reading(minute, minute)).encode() for minute in range(2)]
    named = b'{"dataset": "plant", "g": "b", "t": "2026-01-05T11:05:00Z", "x": 5}'
    bodies = [
        b"\n".join(two),
        b"[%b, %b]" % (*two,),
        gzip.compress(b"\n".join([*two, named])),
        b'{"dataset": "typo", "records": []}',
    ]
    write(world.backend.objects, "_unknown", [entry(str(at), body) for at, body in enumerate(bodies)])
    assert world.replay("_unknown", target="plant") == (7, 0, 0)
    assert world.rows() == {("a", "11:00"): 0, ("a", "11:01"): 1, ("b", "11:05"): 5}
    assert world.objects() == {}


def test_an_envelope_that_waits_under_its_dataset_is_opened(world):
    envelope = {"dataset": "plant", "records": [reading(0, 1), reading(1)]}  # its configuration could not be read at the time
    write(world.backend.objects, "plant", [entry(record=json.dumps(envelope).encode())])
    assert world.replay() == (1, 0, 1)
    assert [record for _, record, _ in world.kept()] == [json.dumps(reading(1)).encode()]


def test_an_envelope_of_readings_is_judged_reading_by_reading(world):
    dataset = msgspec.structs.replace(world.store.dataset("plant"), records_path="d.readings")
    shared = {"g": "a", "d": {"readings": [{"t": "2026-01-05T11:00:00Z", "x": 1}, {"t": "2026-01-05T11:01:00Z", "x": "no"}]}}
    whole, none = entry(record=json.dumps(shared).encode()), entry(record=b'{"g": "a"}')
    entries, lines, faults = unfold(dataset, [whole, none])
    assert [json.loads(line) for line in lines] == [{"g": "a"} | one for one in shared["d"]["readings"]] + [{"g": "a"}]
    assert [(fault.index, fault.reason) for fault in faults] == [(2, "there is nothing at records_path 'd.readings'")]
    assert entries[2] == none
    again, same_lines, _ = unfold(dataset, entries[:2])  # an entry of one reading stays as it is
    assert (again, list(map(bytes, same_lines))) == (entries[:2], list(map(bytes, lines[:2])))
    line = entry(record=b'{"d": {"readings": [{"x": 1}]}}')
    assert unfold(dataset, [line])[0] == [line]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", 1, None, True])), max_size=12), st.integers(0, 3))
def test_accepted_there_and_kept_add_up_and_a_second_replay_changes_nothing(pairs, written):
    world = mended(World(), *(reading(minute, x, n=at) for at, (minute, x) in enumerate(pairs)))
    world.put(*(reading(minute, "row") for minute in range(written)))
    waiting = len(world.kept())
    assert sum(world.replay()) == waiting
    before, rows = world.objects(), world.rows()
    for minute in range(written):
        assert rows["a", f"11:{minute:02}"] == "row"
    accepted, there, _ = world.replay()
    assert (accepted, there, world.objects(), world.rows()) == (0, 0, before, rows)


def test_ten_thousand_entries_are_replayed_object_by_object(world):
    world = mended(world)
    for start in range(0, 10_000, 500):
        lot = range(start, start + 500)
        records = (json.dumps(reading(at % 60, "x" * 1000, g=f"g{at // 60}")).encode() for at in lot)
        write(world.backend.objects, "plant", [entry(str(at), record) for at, record in zip(lot, records, strict=True)])
    world.road = Road(Forgetful())
    tracemalloc.start()
    assert world.replay() == (10_000, 0, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert world.objects() == {}
    assert peak < 30_000_000  # the records alone are 10 MB; one object of 0.5 MB at a time, and what was written by hash


class Forgetful:
    """An ingestion that accepts all and keeps nothing."""

    def handle(self, event, seconds):
        return {"status": 200, "accepted": len(event["records"]), "rejected": []}


# The command ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(world, monkeypatch, capsys):
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: world.store)
    monkeypatch.setattr("tesseract.cli.quarantine.utc_now", lambda: world.now)
    monkeypatch.setattr("tesseract.ingestion.client.transport_of", lambda road, stage: {"direct": world.road}[road])

    def command(*arguments):
        code = cli.run(["quarantine", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_the_list_has_an_object_a_line_with_its_reasons(world, ask):
    assert ask("list")[:2] == (0, "\nno rows\n")
    world.refuse(reading(0), reading(1), {"g": "a"})
    world.now += timedelta(hours=2)
    world.kinesis(b"hello")
    code, out, err = ask("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["dataset", "date", "object", "records", "first", "last", "reasons"]
    assert "2 × field 'x' is a number, not text; 1 × the time field 't' is missing" in out
    assert err == "records: 4, objects: 2\n"
    _, out, _ = ask("list", "plant", "--format", "json")
    (row,) = json.loads(out)
    assert row["reasons"] == {"field 'x' is a number, not text": 2, "the time field 't' is missing": 1}
    assert (row["dataset"], row["records"], row["first"]) == ("plant", 3, "2026-01-05T12:02:00.000000Z")
    assert row["key"] in world.objects()
    assert json.loads(ask("list", "--reason", "TIME field", "-f", "json")[1])[0]["records"] == 1
    assert [row["dataset"] for row in json.loads(ask("list", "--since", "-1h", "-f", "json")[1])] == ["_unknown"]
    assert [row["dataset"] for row in json.loads(ask("list", "--until", "-1h", "-f", "json")[1])] == ["plant"]
    assert json.loads(ask("list", "--until", "2026-01-05", "-f", "json")[1]) == []


def test_show_has_the_records_themselves(world, ask):
    world.refuse(*(reading(minute) for minute in range(3)))
    world.kinesis(b"\xff\x1b[2J", b"\x1b[2J{}")
    code, out, err = ask("show", "plant", "--limit", "2")
    assert code == 0
    assert out.count("11:0") == 2
    assert err == "… 1 more; use --limit\n"
    rows = json.loads(ask("show", "plant", "-f", "json")[1])
    assert [json.loads(row["record"]) for row in rows] == [reading(minute) for minute in range(3)]
    assert (rows[0]["origin"], rows[0]["sequence"], rows[0]["config_version"], rows[0]["field"]) == (SHARD, "91", 1, "x")
    assert json.loads(ask("show", "plant", rows[0]["object"], "-f", "json")[1]) == rows
    table = ask("show", "_unknown")[1]
    assert "\x1b" not in table
    assert "\\x1b[2J{}" in table
    rows = json.loads(ask("show", "_unknown", "-f", "json")[1])
    assert [(row["record"], row["record_base64"]) for row in rows] == [(None, "/xtbMko="), ("\x1b[2J{}", None)]


def test_a_replay_says_what_became_of_the_records(world, ask):
    waiting = (reading(0, 1), reading(1), reading(2, "hot"))
    write(world.backend.objects, "plant", [entry(str(at), json.dumps(one).encode()) for at, one in enumerate(waiting)])
    code, out, _ = ask("replay", "plant", "--dry-run")
    reason = "  2 × field 'x' is a number, not text"
    assert (code, out.splitlines()) == (1, ["1 would be accepted, 0 written already, 2 would stay in quarantine", reason])
    assert world.rows() == {}
    code, out, _ = ask("replay", "plant")
    assert (code, out.splitlines()) == (1, ["1 accepted, 0 written already, 2 stay in quarantine", reason])
    assert world.rows() == {("a", "11:00"): 1}
    ((key, _),) = world.objects().items()
    assert ask("replay", "plant", "--until", "-2d") == (0, "0 accepted, 0 written already, 0 stay in quarantine\n", "")
    code, out, err = ask("replay", "plant", key, "--since", "now")
    assert (code, err) == (0, "2 records lie outside the times asked for\n")


def test_a_road_that_ends_says_how_far_it_came(world, ask):
    write(world.backend.objects, "plant", [entry(record=json.dumps(reading(0, 1)).encode())])
    world.road.before = fail
    assert ask("replay", "plant") == (3, "0 accepted, 0 written already, 0 stay in quarantine\n", "error: AWS said no\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list", "plnt"], 1, "there is no dataset 'plnt' (did you mean 'plant'? known datasets: plant)"),
        (["show", "plant", "abc"], 1, "there is no object 'abc' in quarantine (see `tesseract quarantine list plant`)"),
        (["list", "--since", "soon"], 1, "since 'soon' is not a time"),
        (["show", "plant", "--limit", "0"], 2, "--limit"),
        (["show"], 2, "DATASET"),
        (["replay", "plant", "--as", "plant"], 1, "--as is for _unknown alone"),
        (["replay", "_unknown", "--as", "nope"], 1, "there is no dataset 'nope'"),
        (["replay", "nope"], 1, "there is no dataset 'nope'"),
        (["replay", "_stream"], 1, "changes of the raw table are no records and cannot be replayed"),
    ],
)
def test_what_is_wrong_is_one_line(ask, arguments, code, message):
    answer = ask(*arguments)
    assert answer[0] == code
    assert message in answer[2]
    assert answer[2].count("\n") == 1
