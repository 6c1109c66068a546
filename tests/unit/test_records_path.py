"""records_path: one message with many readings, of one sensor or several, on every road."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.schema import parse
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.bodies import MAX_RECORDS
from tesseract.ingestion.records_path import MAX_EXPANDED, alone, expand
from tests.support.ingest_world import World, reading

PLANT = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float, unit: string}}}")["plant"]


def at(path):
    return replace(PLANT, records_path=path)


def expanded(path, *envelopes):
    found = expand(at(path), [json.dumps(envelope).encode() for envelope in envelopes])
    return [json.loads(bytes(line)) for line in found.lines]


MESSAGE = {
    "g": "a",
    "unit": "C",
    "readings": [{"t": "2026-01-05T11:00:00Z", "x": 1}, {"t": "2026-01-05T11:01:00Z", "x": 2, "g": "b"}],
}


def test_what_the_envelope_has_is_each_records_default_and_the_records_own_wins():
    assert expanded("readings", MESSAGE) == expanded("$.readings[*]", MESSAGE) == [
        {"g": "a", "unit": "C", "t": "2026-01-05T11:00:00Z", "x": 1},
        {"g": "b", "unit": "C", "t": "2026-01-05T11:01:00Z", "x": 2},
    ]  # fmt: skip
    assert expanded("r", {"w": {"a": 1, "b": 2}, "r": [{"w": {"a": 5}}]}) == [{"w": {"a": 5}}]  # as a whole


@pytest.mark.parametrize(
    ("path", "envelope", "records"),
    [
        ("device.readings", {"device": {"id": 1, "readings": [{"x": 1}]}}, [{"device": {"id": 1}, "x": 1}]),
        ("device.readings", {"device": {"readings": [{"x": 1}]}, "g": 1}, [{"g": 1, "x": 1}]),
        ("$['a.b'].c", {"a.b": {"c": [{"x": 1}]}}, [{"x": 1}]),
        ("$.m[1].r", {"g": 1, "m": [{}, {"r": [{"x": 1}], "lost": 1}]}, [{"g": 1, "x": 1}]),
        ("$.m[0]", {"g": 1, "m": [[{"x": 1}, {"x": 2}]]}, [{"g": 1, "x": 1}, {"g": 1, "x": 2}]),
        ("r", {"g": 1, "r": []}, []),
        ("r", {"g": 1, "r": [{}, 5, [], None]}, [{"g": 1}, 5, [], None]),
        ("r", {"r": [{"n": 1.50, "big": 10**37}]}, [{"n": 1.5, "big": 10**37}]),
    ],
)
def test_the_path_may_lead_through_objects_and_places(path, envelope, records):
    assert expanded(path, envelope) == records


def test_nothing_in_a_record_is_decoded_or_rewritten():
    (line,) = expand(at("r"), [b'{"g":1.10,"r":[{"x":1e2, "y":[1.0,{"z":"\xff"}]}]}']).lines
    assert bytes(line) == b'{"g":1.10,"x":1e2,"y":[1.0,{"z":"\xff"}]}'


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        ({"g": "a"}, "there is nothing at records_path '$.m.r[*]'"),
        ({"m": {}}, "there is nothing at records_path '$.m.r[*]'"),
        ({"m": 5}, "there is no list at records_path '$.m.r[*]'"),
        ({"m": {"r": None}}, "there is no list at records_path '$.m.r[*]'"),
        ({"m": {"r": {"t": 1}}}, "there is no list at records_path '$.m.r[*]'"),
    ],
)
def test_an_object_without_the_list_is_rejected_as_one_record(envelope, reason):
    world = World(at("$.m.r[*]"))
    good = {"m": {"r": [reading(0), reading(1)]}}
    status, answer = world.send(good, envelope, good | {"g": "b"})
    assert (status, answer["accepted"], len(world.stored())) == (207, 4, 2)
    (rejected,) = answer["rejected"]
    assert (rejected["index"], rejected["reason"]) == (2, reason)
    assert "in a list there" in rejected["hint"]


def test_places_are_counted_over_the_whole_body():
    world = World(at("readings"))
    bad = {"g": "a", "readings": [reading(0), reading(1, x="bad"), 7, reading(2)]}
    for body in ([bad, "no object", bad], {"records": [bad, "no object", bad]}):
        answer = world.post(json.dumps(body))[1]
        assert (answer["accepted"], [entry["index"] for entry in answer["rejected"]]) == (4, [1, 2, 4, 6, 7])
    direct = world.service.handle({"dataset": "plant", "records": [bad, 5]}, 28)
    assert (direct["accepted"], [entry["index"] for entry in direct["rejected"]]) == (2, [1, 2, 4])


def test_several_sensors_in_one_message_and_records_named_records():
    world = World(at("records"))
    assert world.post(json.dumps({"records": [reading(), reading(g="b")]}))[1]["accepted"] == 2
    assert world.post(json.dumps({"unit": "C", "records": [reading(2)]}))[1]["accepted"] == 1
    assert {pk for pk, _ in world.stored()} == {"plant#a#2026-01-05", "plant#b#2026-01-05"}


def test_what_kinesis_refuses_can_be_sent_again_alone():
    world = World(at("$.m.r[*]"))
    envelope = {"g": "a", "unit": "C", "m": {"r": [reading(0), {"t": "2026-01-05T11:01:00Z", "x": "bad"}, 7]}}
    assert world.kinesis({"dataset": "plant", "records": [envelope, {"m": 1}]}) == []
    ((_, entries),) = world.quarantine().items()
    assert [json.loads(entry["record"]) for entry in entries] == [
        {"m": {"r": [{"g": "a", "unit": "C", "t": "2026-01-05T11:01:00Z", "x": "bad"}]}},
        {"m": {"r": [7]}},
        {"m": 1},
    ]
    mended = json.loads(entries[0]["record"].replace('"bad"', "5"))
    assert world.send(mended)[1]["accepted"] == 1
    assert len(world.stored()) == 2


@given(
    st.sampled_from(["r", "$.a.r[*]", "a.b.c", "$.a[0].r", "$['x y'].r", "$.a[2]"]),
    st.dictionaries(st.sampled_from("xyz"), st.integers(), max_size=3),
)
def test_a_record_alone_is_that_record(path, record):
    line = json.dumps(record).encode()
    assert [bytes(found) for found in expand(at(path), [alone(at(path), line)]).lines] == [line]


def test_defaults_do_not_fill_the_memory():
    world = World(at("r"))
    wide = {"g": "a", "unit": "C" * 1000, "r": [{}] * (MAX_EXPANDED // 1000)}
    status, answer = world.send(wide)
    assert (status, f"more than {MAX_EXPANDED} bytes" in answer["error"]) == (413, True)
    status, answer = world.send({"r": [{}] * (MAX_RECORDS + 1)})
    assert (status, f"at most {MAX_RECORDS}" in answer["error"]) == (413, True)
    with pytest.raises(TooLarge):
        expand(at("r"), [b'{"r":[' + b"1," * MAX_RECORDS + b"1]}"])
    assert world.stored() == {}


def test_kinesis_takes_together_what_fits_and_keeps_what_never_will():
    world = World(at("r"))
    wide = {
        "g": "a",
        "unit": "C" * 10_000,
        "r": [{"t": f"2026-01-05T10:{minute // 60:02}:{minute % 60:02}Z"} for minute in range(900)],
    }
    world.kinesis(*[{"dataset": "plant", "records": [wide]}] * 3)
    assert (len(world.stored()), world.quarantine()) == (900, {})
    assert world.kinesis({"dataset": "plant", "records": [wide | {"r": [{}] * 2000}, wide]}) == []
    ((_, (entry,)),) = world.quarantine().items()
    assert "with the members of their envelopes" in entry["reason"]
