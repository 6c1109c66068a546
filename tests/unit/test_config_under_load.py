"""A configuration changes while records come in: nobody's record is refused because of the change, and order stays."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.answers import NOT_WRITTEN
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.utils.time_utils import EPOCH
from tests.support.ingest_world import NOW, World, reading

OLD = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: {type: float, max: 10}}}}")["plant"]
NEW = parse("datasets: {plant: {group_by: g, time_field: at, fields: {x: {type: float, max: 100}}}}")["plant"]
ENVELOPES = parse("datasets: {plant: {group_by: g, time_field: t, records_path: r, fields: {x: {type: float, max: 10}}}}")["plant"]
SECOND = timedelta(seconds=1)


def renamed(record):
    return {("at" if name == "t" else name): value for name, value in record.items()}


@pytest.fixture
def world():
    """Version 1 is in force and in the cache."""
    world = World(OLD)
    assert world.send(reading())[0] == 200
    return world


def change(world, dataset=NEW):
    apply(world.catalog, dataset, world.now)


def process(world):
    """Another process of the function, with nothing in its cache."""
    clock = lambda: world.now
    configs = Configs(world.catalog, clock)
    return configs, Service(configs, Writer(world.raw, world.live, clock), world.objects, clock)


def versions(world):
    return {item["sk"][11:16]: item["config_version"] for item in world.raw.items()}


def test_producers_of_both_shapes_are_served_from_the_moment_of_the_change(world):
    world.now += SECOND
    change(world)
    world.now += SECOND
    body = [reading(1), renamed(reading(2)), reading(3, x=50), renamed(reading(4, x=50))]
    status, answer = world.send(*body)
    # the third is valid under neither: 50 came with the new name; the reason is that of the version in force
    assert (status, answer["accepted"]) == (207, 3)
    assert [(entry["index"], entry["reason"]) for entry in answer["rejected"]] == [(2, "the time field 'at' is missing")]
    assert versions(world) == {"11:00": 1, "11:01": 1, "11:02": 2, "11:04": 2}


def test_the_old_shape_is_taken_for_a_minute_after_the_change_and_no_longer(world):
    changed = world.now + SECOND
    world.now = changed
    change(world)
    fresh = Service(
        Configs(world.catalog, lambda: world.now),
        Writer(world.raw, world.live, lambda: world.now),
        world.objects,
        lambda: world.now,
    )
    for after, accepted in ((0, 1), (59.999, 1), (60, 0), (3600, 0)):
        world.now = changed + timedelta(seconds=after)
        answer = fresh.handle({"dataset": "plant", "records": [reading(5)]}, 28)
        assert answer["accepted"] == accepted, after


def test_a_renamed_field_has_either_name_in_records_at_once_and_for_ever(world):
    world.now += SECOND
    spec = "{type: float, max: 10, renamed_from: x}"
    change(world, parse(f"datasets: {{plant: {{group_by: g, time_field: t, fields: {{y: {spec}}}}}}}")["plant"])
    for later in (SECOND, timedelta(days=1)):  # at first the process has version 1 in its cache
        world.now += later
        record = {name: value for name, value in reading(1).items() if name != "x"}
        status, answer = world.send(record | {"y": 5}, reading(2, x=6), reading(3, x=1, y=1))
        assert (status, answer["accepted"]) == (207, 2)
        assert answer["rejected"][0]["reason"] == "the record has 'y' and 'x', which are names of one field"
        assert {item["sk"][14:16]: item["fields"]["x"] for item in world.raw.items()}.items() >= {("01", 5), ("02", 6)}


def test_records_of_a_stream_count_from_when_they_reached_it(world):
    world.now += SECOND
    sent = (world.now - EPOCH).total_seconds()
    change(world)
    world.now += timedelta(hours=9)
    for arrived, kept in ((sent - 3600, 0), (sent + 59, 0), (sent + 61, 1)):
        record = {"dataset": "plant", "records": [reading(6)]}
        assert world.kinesis(record, arrived=arrived) == []
        assert len(world.quarantine()) == kept
    ((_, (entry,)),) = world.quarantine().items()
    assert (entry["config_version"], entry["reason"]) == (2, "the time field 'at' is missing")


def test_several_changes_in_a_minute_are_looked_through(world):
    for name in ("u", "v", "w"):
        world.now += SECOND
        change(world, parse(f"datasets: {{plant: {{group_by: g, time_field: {name}, fields: {{x: float}}}}}}")["plant"])
    for minute, name in enumerate("tuvw"):
        record = reading(minute)
        assert world.send(record | {name: record.pop("t")})[0] == 200
    assert list(versions(world).values()) == [1, 2, 3, 4]


def test_what_is_wrong_under_every_version_is_read_no_more_often_than_once_a_second(world):
    asked = []
    lookup = world.catalog.dataset
    world.catalog.dataset = lambda name, *version: asked.append(version) or lookup(name, *version)
    for _ in range(50):
        world.now += timedelta(milliseconds=100)
        assert world.send(reading(x="bad"))[0] == 400
    assert len(asked) <= 6


def test_the_later_of_two_records_with_one_key_wins_whatever_their_versions(world):
    world.now += SECOND
    change(world)
    world.send(renamed(reading(1, x=1)), reading(1, x=2), reading(2, x=1), renamed(reading(2, x=2)), renamed(reading(3, x=1)))
    assert {sk[11:16]: fields["x"] for (_, sk), fields in world.stored().items()} == {
        "11:00": 1,
        "11:01": 2,
        "11:02": 2,
        "11:03": 1,
    }


def test_after_a_lot_that_was_not_written_none_is_begun(world):
    world.now += SECOND
    change(world)
    world.raw.throttled = lambda item: item["config_version"] == 2
    _, answer = world.send(renamed(reading(1, x=1)), reading(1, x=2), reading(2))
    assert [(entry["index"], entry["reason"]) for entry in answer["rejected"]] == [(i, NOT_WRITTEN) for i in range(3)]
    assert len(world.stored()) == 1


def test_envelopes_and_plain_records_pass_when_records_path_changes(world):
    world.now += SECOND
    change(world, ENVELOPES)
    envelope = {"g": "b", "r": [reading(1), reading(2, x="bad"), reading(3)]}
    status, answer = world.send(reading(1), envelope, {"r": 5}, reading(2), {"r": []})
    assert (status, answer["accepted"]) == (207, 4)
    assert [(entry["index"], entry["reason"][:20]) for entry in answer["rejected"]] == [
        (2, "field 'x' is a numbe"),
        (4, "there is no list at "),
    ]
    assert versions(world) == {"11:00": 1, "11:01": 2, "11:02": 1, "11:03": 2}
    later = Service(
        Configs(world.catalog, lambda: world.now),
        Writer(world.raw, world.live, lambda: world.now),
        world.objects,
        lambda: world.now,
    )
    assert later.handle({"dataset": "plant", "records": [reading(8), envelope]}, 28)["accepted"] == 3


SHAPES = st.sampled_from(["old", "new", "bad", "envelope", "mixed"])


@given(st.lists(SHAPES, max_size=8), st.booleans(), st.integers(0, 90))
@settings(max_examples=60, deadline=None)
def test_every_record_is_accepted_or_rejected_once(shapes, enveloped, after):
    world = World(OLD)
    world.send(reading())
    world.now += SECOND
    change(world, ENVELOPES if enveloped else NEW)
    world.now += timedelta(seconds=after)
    made = {
        "old": lambda i: reading(i),
        "new": lambda i: renamed(reading(i)),
        "bad": lambda i: reading(i, x="bad"),
        "envelope": lambda i: {"r": [reading(i), reading(i, g="b")]},
        "mixed": lambda i: {"g": "c", "r": [reading(i, x="bad"), reading(i), 5]},
    }
    status, answer = world.post(json.dumps([made[shape](i + 1) for i, shape in enumerate(shapes)]))
    indices = [entry["index"] for entry in answer["rejected"]]
    assert indices == sorted(set(indices))
    assert status == (200 if not indices else 207 if answer["accepted"] else 400)
    assert answer["accepted"] == len(world.stored()) - 1
    if after < 59 and not enveloped:
        assert answer["accepted"] == len([shape for shape in shapes if shape in ("old", "new")])


def test_nobody_is_refused_under_load(world):
    """Producers of both shapes, in threads, by processes whose caches are of any age, while the change is applied."""
    lock = threading.Lock()
    refused, sent = [], []
    services = []
    for second in (0, 20, 40, 59):  # when each process reads the configuration
        world.now = NOW + timedelta(seconds=second)
        services.append(process(world))
        services[-1][0].get("plant")
    rounds, gate = 30, threading.Barrier(len(services) * 2 + 1)

    def produce(place, service, shape):
        for step in range(rounds):
            gate.wait()
            minute, second = divmod(step * 16 + place * 2, 60)
            record = reading(0, g=f"{shape}{place}", t=f"2026-01-05T11:{minute:02}:{second:02}Z")
            bodies = [renamed(record) if shape == "new" and step >= changed else record]
            answer = service.handle({"dataset": "plant", "records": bodies}, 28)
            with lock:
                sent.append(place)
                refused.extend(answer["rejected"])
            gate.wait()

    changed = 8
    threads = [
        threading.Thread(target=produce, args=(place, service, shape))
        for place, (_, service) in enumerate(services)
        for shape in ("old", "new")
    ]
    for thread in threads:
        thread.start()
    for step in range(rounds):  # two seconds a round: the last old record comes 44 s after the change
        if step == changed:
            change(world)
        gate.wait()
        gate.wait()
        world.now += timedelta(seconds=2)
    for thread in threads:
        thread.join()
    assert refused == []
    assert len(sent) == rounds * 8
    assert len(world.stored()) == rounds * 8 + 1
