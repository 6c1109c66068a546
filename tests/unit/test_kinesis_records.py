"""What a Kinesis record may hold: envelopes, records that name their dataset, lines, gzip, and aggregates of the KPL."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import DamagedError
from tesseract.ingestion import kpl
from tesseract.ingestion.bodies import MAX_BODY, MAX_RECORDS
from tests.support.ingest_world import DATASETS, World, reading, zipped
from tests.support.kpl import aggregate, member, sealed, varint


@pytest.fixture
def world():
    return World()


def named(minute=0, **changes):
    return {"dataset": "plant"} | reading(minute, **changes)


def data(*values):
    return b"\n".join(json.dumps(value).encode() for value in values)


def envelope(*records):
    return {"dataset": "plant", "records": list(records)}


def reasons(world):
    """(dataset, record, reason) of what is in quarantine."""
    return [
        (key.split("/")[1].removeprefix("dataset="), entry.get("record"), entry["reason"])
        for key, entries in world.quarantine().items()
        for entry in entries
    ]


@pytest.mark.parametrize(
    "payload",
    [
        data(envelope(reading(0), reading(1))),
        data(named(0), named(1)),
        data(named(0), named(1)).replace(b"\n", b"\r\n") + b"\r\n\r\n",
        data([named(0), named(1)]),
        data(named(0), envelope(reading(1))),
        json.dumps(envelope(reading(0), reading(1)), indent=1).encode(),
        zipped(data(named(0), named(1))),
        aggregate(("a", data(named(0))), ("b", data(named(1)))),
        aggregate(("a", data(named(0), named(1))), hash_keys=["7"], tagged=True),
        aggregate(("a", zipped(data(envelope(reading(0))))), ("a", data(named(1)))),
    ],
)
def test_every_form_is_the_same_records(world, payload):
    assert world.kinesis(payload) == []
    assert {sk[:16] for _, sk in world.stored()} == {"2026-01-05T11:00", "2026-01-05T11:01"}
    assert set(map(str, world.stored().values())) == {"{'x': 1}"}  # without the dataset's name
    assert world.quarantine() == {}
    assert [(tally.dataset, tally.accepted, tally.rejected) for tally in world.tallies] == [("plant", 2, 0)]


def test_datasets_may_be_mixed_and_a_bad_line_stops_nobody(world):
    weather = {"dataset": "weather_stations", "station_id": 1, "timestamp": "2026-01-05T11:00:00Z", "temp": 2}
    lines = data(named(0), weather) + b"\noops\n" + data(named(1, x="bad"), {"dataset": "nope", "x": 1}, {"dataset": 5})
    assert world.kinesis(lines) == []
    assert {pk.split("#")[0] for pk, _ in world.stored()} == {"plant", "weather_stations"}
    assert sorted(reasons(world)) == [
        ("_unknown", "oops", "the record names no dataset"),
        ("_unknown", '{"dataset": "nope", "x": 1}', "there is no dataset 'nope'"),
        ("_unknown", '{"dataset": 5}', "the record names no dataset"),
        ("plant", '{"g":"a","t":"2026-01-05T11:01:00Z","x":"bad"}', "field 'x' is a number, not text"),
    ]


def test_the_name_stays_where_it_is_a_value_of_the_datasets_own():
    own = parse("datasets: {plant: {group_by: dataset, time_field: t, fields: {x: float, g: string}}}").values()
    world = World(*own)
    assert world.kinesis(data(named(0))) == []
    assert [pk for pk, _ in world.stored()] == ["plant#plant#2026-01-05"]


def test_records_that_name_no_dataset_go_to_the_stages_own():
    world = World(kinesis_dataset="plant")
    assert world.kinesis(data(reading(0), named(1)) + b"\noops") == []
    assert len(world.stored()) == 2
    ((dataset, record, reason),) = reasons(world)
    assert (dataset, record, reason.startswith("not JSON")) == ("plant", "oops", True)
    world = World(kinesis_dataset="gone")
    assert world.kinesis(data(reading(0), named(1))) == []
    ((dataset, _, reason),) = reasons(world)
    assert dataset == "_unknown"
    assert reason == "the record names no dataset, and of the stage's kinesisDataset there is no dataset 'gone'"


def test_an_unknown_dataset_is_looked_up_once_a_batch(world):
    asked = []
    lookup = world.catalog.dataset
    world.catalog.dataset = lambda name, *version: asked.append(name) or lookup(name, *version)
    world.kinesis(data(*[{"dataset": "nope"}] * 500))
    assert asked == ["nope"]
    assert len(reasons(world)) == 1  # a record that is there twice is kept once


def test_a_broken_configuration_stops_its_own_dataset_only(world):
    for item in list(world.catalog.table.items()):
        if item["pk"] == "config#weather_stations" and "body" in item:
            world.catalog.table.put(item | {"body": "{"})
    weather = {"dataset": "weather_stations", "station_id": 1, "timestamp": "2026-01-05T11:00:00Z", "temp": 2}
    assert world.kinesis(data(weather, named(0)), data(named(1))) == []
    assert len(world.stored()) == 2
    assert [dataset for dataset, _, _ in reasons(world)] == ["weather_stations"]


# bounds -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (gzip.compress(b"[" + b" " * MAX_BODY + b"]"), f"more than {MAX_BODY} bytes when it is inflated"),
        (aggregate(*[("a", gzip.compress(b" " * 1_000_000))] * 5), f"more than {MAX_BODY} bytes"),
        (data(envelope(*[1] * (MAX_RECORDS + 1))), f"at most {MAX_RECORDS}"),
        (aggregate(*[("a", data([named()] * 30_000))] * 2), f"at most {MAX_RECORDS}"),
        (zipped(data(named()))[:-4], "ends too early"),
        (b"\x1f\x8b" + b"junk" * 9, "not gzip"),
        (b"", "the body is empty"),
    ],
)
def test_what_is_too_much_or_cannot_be_read_is_kept_whole(world, payload, words):
    assert world.kinesis(payload, data(named(5))) == []
    assert len(world.stored()) == 1
    ((dataset, _, reason),) = reasons(world)
    assert (dataset, words in reason) == ("_unknown", True)


def test_a_batch_larger_than_the_memory_goes_in_portions_and_stops_at_what_was_not_written(world):
    wide = [zipped(data(envelope(*[reading(minute, u="u" * 300_000)] * 8, reading(minute)))) for minute in range(6)]
    judged = []
    run = world.service._ingestion.run
    world.service._ingestion.run = lambda name, lines, *rest: judged.append(len(lines)) or run(name, lines, *rest)
    world.raw.throttled = lambda item: item["sk"] >= "2026-01-05T11:02"
    assert world.kinesis(*wide) == ["101"]
    assert judged == [18, 18]
    world.raw.throttled = lambda item: False
    assert world.kinesis(*wide) == []
    assert len(world.stored()) == 6


def test_many_datasets_share_the_time_that_the_function_has(world):
    world.raw.throttled = lambda item: item["pk"].startswith("plant")
    weather = {"dataset": "weather_stations", "station_id": 1, "timestamp": "2026-01-05T11:00:00Z", "temp": 2}
    start = world.now
    assert world.kinesis(data(named(0)), data(weather)) == ["99"]
    assert (world.now - start).total_seconds() <= 30


# KPL --------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=300)), max_size=20), st.booleans())
def test_an_aggregate_is_read_as_it_was_composed(records, tagged):
    payload = aggregate(*records, hash_keys=["1"], tagged=tagged)
    assert kpl.is_aggregate(payload)
    assert [tuple(record) for record in kpl.user_records(payload)] == records


DAMAGED = [
    (aggregate(("a", b"{}"), seal=b"\0" * 16), "checksum"),
    (aggregate(("a", b"{}"))[:-1], "checksum"),
    (b"\xf3\x89\x9a\xc2", "checksum"),
    (b"\xf3\x89\x9a\xc2" + b"\0" * 15, "checksum"),
    (sealed(b"\x1a\x7f{}"), "ends within a member"),
    (sealed(b"\x1a\xff"), "ends within a number"),
    (sealed(b"\xff" * 11), "more than 64 bits"),
    (sealed(b"\x1b"), "wire type 3"),
    (sealed(b"\x08\x01"), "a number where bytes belong"),
    (sealed(member(3, member(1, 0) + member(3, b"{}"))), "not in its tables"),
    (sealed(member(1, b"k") + member(3, member(1, 0) + member(2, 0) + member(3, b"{}"))), "not in its tables"),
    (sealed(member(1, b"k") + member(3, member(3, b"{}"))), "not in its tables"),
    (sealed(member(1, b"k") + member(3, member(1, 0))), "no data"),
    (sealed(member(1, b"k") + member(3, member(1, 0) + member(3, 5))), "a number where bytes belong"),
]


@pytest.mark.parametrize(("payload", "words"), DAMAGED)
def test_a_damaged_aggregate_is_kept_as_it_is(world, payload, words):
    assert world.kinesis(payload, data(named())) == []
    assert len(world.stored()) == 1
    ((dataset, _, reason),) = reasons(world)
    assert (dataset, words in reason) == ("_unknown", True)


def test_members_that_a_later_version_adds_are_passed_over():
    record = member(9, b"new") + member(1, 0) + varint(8 * 8 + 1) + b"8bytes.." + varint(7 * 8 + 5) + b"four" + member(3, b"{}")
    payload = sealed(member(12, 5) + member(1, b"k") + member(3, record))
    assert kpl.user_records(payload) == [("k", b"{}")]


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_under_a_right_checksum_are_read_or_refused(message):
    with suppress(DamagedError):
        assert all(isinstance(record.data, bytes) for record in kpl.user_records(sealed(message)))


PAYLOADS = [data(named()), zipped(data(named())), b"[]", b'{"dataset":"plant"}', b'{"dataset":"plant","records":[{}]}']


@given(st.lists(st.binary(max_size=40) | st.sampled_from(PAYLOADS), max_size=4))
@settings(max_examples=200, deadline=None)
def test_nothing_in_a_stream_breaks_a_batch(payloads):
    world = World(*DATASETS, kinesis_dataset="weather_stations")
    assert world.kinesis(*payloads, aggregate(*[("k", payload) for payload in payloads]), data(named(59))) == []
    assert ("plant#a#2026-01-05", "2026-01-05T11:59:00.000000Z") in world.stored()
