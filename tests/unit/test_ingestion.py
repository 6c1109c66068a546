"""Envelopes in, answers out: HTTP, direct and Kinesis over a stage in memory. Nothing is lost, nothing breaks, nothing is a 500."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import BackendError, Throttled
from tesseract.ingestion.answers import IN_FULL, NOT_WRITTEN
from tesseract.ingestion.bodies import MAX_BODY, MAX_RECORDS
from tesseract.storage.items import records_of
from tesseract.utils.time_utils import to_micros
from tests.support.ingest_world import NOW, World, reading, zipped


@pytest.fixture
def world():
    return World()


# HTTP -------------------------------------------------------------------------------------------------------------------


def test_all_some_none(world):
    good, bad = reading(), reading(x="warm")
    assert world.send(good) == (200, {"accepted": 1, "rejected": []})
    rejected = {"index": 1, "field": "x", "value": "warm", "reason": "field 'x' is a number, not text"}
    assert world.send(good, bad, reading(1)) == (207, {"accepted": 2, "rejected": [rejected]})
    assert world.send(bad) == (400, {"accepted": 0, "rejected": [rejected | {"index": 0}]})


def test_an_array_lines_and_an_object_over_several_lines_are_the_same(world):
    bodies = [
        json.dumps([reading(), reading(1)]),
        json.dumps(reading()) + "\n" + json.dumps(reading(1)),
        json.dumps(reading(), indent=2),
    ]
    assert [world.post(body)[1]["accepted"] for body in bodies] == [2, 2, 1]
    assert len(world.stored()) == 2


def test_a_bad_line_leaves_the_good_ones(world):
    lines = ["oops", json.dumps(reading()), '{"g": "a"', "", json.dumps(reading(1)), "[]", "7"]
    status, answer = world.post("\n".join(lines))
    assert (status, answer["accepted"]) == (207, 2)
    assert [entry["index"] for entry in answer["rejected"]] == [0, 2, 4, 5]
    assert len(world.stored()) == 2


@pytest.mark.parametrize("body", [None, "", "  \n\t ", b"", b"\xff\xfe\x00", "hello", "[1, 2", "\ud800", '"text"'])
def test_a_body_that_is_none_is_answered_with_one_sentence(world, body):
    status, answer = world.post(body)
    assert (status, answer["accepted"], answer["rejected"]) == (400, 0, [])
    assert answer["error"].startswith("the body is")
    assert "\n" not in answer["error"]


def test_base64_and_gzip_are_undone(world):
    body = json.dumps(reading()).encode()
    gzipped = {"Content-Encoding": "gzip"}
    assert world.post(body)[0] == 200
    assert world.post(zipped(body), headers=gzipped)[0] == 200
    members = b"".join(zipped(json.dumps(reading(minute)).encode() + b"\n") for minute in range(3))
    assert world.post(members, headers=gzipped) == (200, {"accepted": 3, "rejected": []})


@pytest.mark.parametrize(
    ("body", "options", "status", "words"),
    [
        ("not base64!", {"encoded": True}, 400, "not base64"),
        ("é", {"encoded": True}, 400, "not base64"),
        (b"hello", {"headers": {"content-encoding": "gzip"}}, 400, "not gzip"),
        (zipped(b'{"a": 1}' * 100)[:-9], {"headers": {"content-encoding": "gzip"}}, 400, "ends too early"),
        (zipped(b"{}") + b"junk", {"headers": {"content-encoding": "gzip"}}, 400, "not gzip"),
        (zipped(b"\x1f" * 64)[:-8] + b"\0" * 8, {"headers": {"content-encoding": "gzip"}}, 400, "not gzip"),
        (zipped(b" " * 20_000_000), {"headers": {"content-encoding": "gzip"}}, 413, "send it in parts"),
        ("x" * (MAX_BODY + 1), {}, 413, "send it in parts"),
        ("{}\n" * (MAX_RECORDS + 1), {}, 413, f"at most {MAX_RECORDS}"),
        ("{}", {"dataset": "plants"}, 404, "known datasets: plant, weather_stations"),
        ("{}", {"dataset": ""}, 404, "known datasets"),
        ("{}", {"dataset": "\ud800"}, 404, "known datasets"),
        ("{}", {"pathParameters": None}, 404, "known datasets"),
        ("{}", {"pathParameters": {}}, 404, "known datasets"),
        ("hello", {"dataset": "plants"}, 404, "known datasets"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_one_sentence(world, body, options, status, words):
    found, answer = world.post(body, **options)
    assert (found, answer["accepted"], answer["rejected"]) == (status, 0, [])
    assert words in answer["error"]
    assert world.stored() == {}


def test_an_answer_fits_what_lambda_returns_however_much_is_wrong(world):
    body = "\n".join(['{"' + "\x7f" * 60 + '": 1}'] * MAX_RECORDS)
    event = {"requestContext": {}, "pathParameters": {"dataset": "plant"}, "body": body[: MAX_BODY - 9]}
    answer = world.service.handle(event, 28)
    assert len(json.dumps(answer)) < 6_000_000
    rejected = json.loads(answer["body"])["rejected"]
    assert [entry["index"] for entry in rejected] == list(range(len(rejected)))
    assert rejected[IN_FULL - 1]["reason"] == "the group field 'g' is missing"
    assert rejected[IN_FULL]["reason"] == "not valid; see the first ones"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a", "2026-01-05T11:00:00Z"]),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["g", "t", "x", "station_id", "timestamp", "", "a.b"]), part)
    ),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=100),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.lists(JSON, max_size=4).map(lambda values: b"\n".join(json.dumps(value).encode() for value in values)),
    st.lists(JSON, max_size=4).map(
        lambda values: json.dumps([{"g": 1, "t": "2026-01-05T11:00:00Z", "x": v} for v in values]).encode()
    ),
)


@given(BODIES, st.booleans(), st.sampled_from(["plant", "weather_stations"]))
@settings(max_examples=400, deadline=None)
def test_no_body_breaks_anything(body, compress, dataset):
    world = World()
    headers = {"content-encoding": "gzip"} if compress else {}
    status, answer = world.post(zipped(body) if compress else body, dataset=dataset, headers=headers)
    assert status in (200, 207, 400)
    assert answer["accepted"] >= len(world.stored())
    if "error" not in answer:
        indices = [entry["index"] for entry in answer["rejected"]]
        assert indices == sorted(set(indices))
        assert status == (200 if not indices else 207 if answer["accepted"] else 400)


@given(st.lists(JSON, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_what_was_sent_is_accepted_or_rejected(values):
    records = [{"g": "a", "t": f"2026-01-05T11:0{index}:00Z", "x": value} for index, value in enumerate(values)]
    for dataset, names in (("plant", {}), ("weather_stations", {"g": "station_id", "t": "timestamp"})):
        world = World()
        renamed = [{names.get(name, name): value for name, value in record.items()} for record in records]
        _, answer = world.send(*renamed, dataset=dataset)
        assert answer["accepted"] + len(answer["rejected"]) == len(values)
        assert answer["accepted"] == len(world.stored())


# the mission's example --------------------------------------------------------------------------------------------------


def test_the_mission_configuration_loads_as_it_stands_and_takes_what_comes(world):
    dataset = world.configs.get("weather_stations")
    assert (dataset.ladder, dataset.fields, dataset.unknown_fields) == (("daily", "monthly", "yearly"), {}, "keep")
    record = {
        "station_id": "KJFK/1#x",
        "timestamp": "2026-01-05T12:00:00+01:00",
        "temp": 21.30,
        "wind": {"speed": 7, "from": "N"},
        "ok": True,
    }
    assert world.send(record, dataset="weather_stations") == (200, {"accepted": 1, "rejected": []})
    (item,) = world.raw.items()
    (kept,) = records_of(item, "KJFK%2F1%23x")
    assert item["pk"] == "weather_stations#KJFK%2F1%23x#2026-01-05"
    assert kept.valid_time == datetime(2026, 1, 5, 11, tzinfo=UTC)
    assert kept.fields == {"temp": Decimal("21.3"), "wind.speed": 7, "wind.from": "N", "ok": True}


def test_without_names_the_defaults_are_sensor_id_valid_time_and_ref_time():
    dataset = parse("datasets: {d: {}}")["d"]
    assert (dataset.group_by, dataset.time_field, dataset.ref_time_field) == (("sensorId",), "validTime", "refTime")


# writing ----------------------------------------------------------------------------------------------------------------


def test_the_later_of_two_records_with_one_key_wins(world):
    spellings = ["2026-01-05T11:00:00Z", "2026-01-05T12:00:00+01:00", "2026-01-05T11:00:00.000Z"]
    assert world.send(*(reading(t=t, x=x) for x, t in enumerate(spellings)))[1]["accepted"] == 3
    assert list(world.stored().values()) == [{"x": 2}]


def test_what_was_not_written_is_reported_and_shares_the_fate_of_its_key(world):
    world.raw.throttled = lambda item: item["sk"].startswith("2026-01-05T11:01")
    status, answer = world.send(reading(1), reading(2), reading(x="bad"), reading(1, x=5))
    assert (status, answer["accepted"]) == (207, 1)
    assert [(entry["index"], entry["reason"] == NOT_WRITTEN) for entry in answer["rejected"]] == [(0, True), (2, False), (3, True)]


def test_throttling_is_a_429_that_says_when_to_come_back_and_with_what(world):
    world.raw.throttled = lambda item: True
    event = {
        "requestContext": {},
        "pathParameters": {"dataset": "plant"},
        "body": json.dumps([reading(), reading(x="bad"), reading(2)]),
    }
    answer = world.service.handle(event, 28)
    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (429, "2")
    body = json.loads(answer["body"])
    assert (body["error"], body["accepted"]) == ("not written, send it again: the table is throttled", 0)
    assert [(entry["index"], entry["reason"] == NOT_WRITTEN) for entry in body["rejected"]] == [(0, True), (1, False), (2, True)]
    assert world.now <= NOW + timedelta(seconds=28)
    world.raw.throttled = lambda item: False
    assert world.send(reading())[0] == 200


def test_a_day_mark_that_cannot_be_written_leaves_its_records_unwritten(world):
    world.live.error = Throttled("slow down")
    status, answer = world.send(reading(t="2025-12-01T00:00:00Z"))
    assert (status, answer["accepted"], answer["error"]) == (429, 0, "not written, send it again: slow down")
    assert [(entry["index"], entry["reason"]) for entry in answer["rejected"]] == [(0, NOT_WRITTEN)]
    assert world.stored() == {}


def test_trouble_of_the_stage_is_a_503_that_says_what_was_not_written_and_no_key(world):
    world.live.error = BackendError("AccessDenied", operation="PutItem", key="plant#a#days")
    status, answer = world.send(reading(t="2025-12-01T00:00:00Z"), reading(x="bad"))
    assert (status, answer["accepted"], answer["error"]) == (503, 0, "not written, send it again: PutItem: AccessDenied")
    assert [(entry["index"], entry["reason"] == NOT_WRITTEN) for entry in answer["rejected"]] == [(0, True), (1, False)]


def test_no_time_left_is_a_503_and_nothing_is_begun(world):
    event = {"requestContext": {}, "pathParameters": {"dataset": "plant"}, "body": json.dumps(reading())}
    answer = world.service.handle(event, 2)
    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "2")
    assert "there was no time left" in answer["body"]
    assert world.writes == []
    assert world.stored() == {}


def test_a_late_day_is_marked_before_its_records_and_a_recent_one_not_at_all(world):
    times = ["2025-12-01T10:00:00Z", "2025-12-01T11:00:00Z", "2026-01-03T23:59:59Z", "2026-01-04T00:00:00Z"]
    world.send(*(reading(t=time) for time in times))
    tables = [table for table, _, _ in world.writes]
    assert tables == ["live", "live", *["raw"] * 4]
    assert {(pk, sk) for table, pk, sk in world.writes if table == "live"} == {
        ("plant#a#days", "2025-12-01"),
        ("plant#a#days", "2026-01-03"),
    }


def test_a_mark_is_renewed_after_ten_minutes_and_never_moves_back(world):
    late, key = reading(t="2025-12-01T00:00:00Z"), ("plant#a#days", "2025-12-01")
    marked = lambda: world.live.get(key)["marked_at"]
    for minutes, expected in ((0, 0), (9, 0), (10, 0), (11, 11), (20, 11), (22, 22)):
        world.now = NOW + timedelta(minutes=minutes)
        world.send(late)
        assert marked() == to_micros(NOW + timedelta(minutes=expected))
    ahead = to_micros(NOW + timedelta(hours=9))
    world.live.put({"pk": key[0], "sk": key[1], "marked_at": ahead})
    world.now += timedelta(minutes=30)
    assert world.send(late)[0] == 200
    assert marked() == ahead


def test_a_raw_item_has_no_trace_of_when_on_the_day_it_came(world):
    world.send(reading())
    before = list(world.raw.items())
    world.now += timedelta(hours=11)
    world.send(reading())
    assert list(world.raw.items()) == before


# direct -----------------------------------------------------------------------------------------------------------------


def test_a_direct_event_is_answered_without_an_envelope(world):
    assert world.service.handle({"dataset": "plant", "records": [reading(), reading(1)]}, 28) == {
        "status": 200,
        "accepted": 2,
        "rejected": [],
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [1], 10**400])
def test_a_direct_record_that_json_cannot_say_is_rejected_alone(world, value):
    answer = world.service.handle({"dataset": "plant", "records": [reading(), reading(1, x=value)]}, 28)
    assert answer["accepted"] == 1
    assert [entry["index"] for entry in answer["rejected"]] == [1]
    assert json.dumps(answer)


@pytest.mark.parametrize("event", [{}, {"dataset": "plant"}, {"dataset": 5, "records": []}, {"dataset": "plant", "records": {}}])
def test_a_direct_event_of_another_form_is_refused(world, event):
    assert "a direct event is" in world.service.handle(event, 28)["error"]


def test_a_direct_event_for_no_dataset_names_those_there_are(world):
    for name in ("nope", "\ud800", "x" * 5000):
        assert "known datasets: plant" in world.service.handle({"dataset": name, "records": [{}]}, 28)["error"]


# Kinesis ----------------------------------------------------------------------------------------------------------------


def test_a_batch_of_a_shard_is_written_and_bad_records_go_to_quarantine(world):
    envelope = {"dataset": "plant", "records": [reading(), reading(x="bad"), reading(1)]}
    assert (
        world.kinesis(
            envelope, {"dataset": "weather_stations", "records": [{"station_id": 1, "timestamp": "2026-01-05T11:00:00Z"}]}
        )
        == []
    )
    assert len(world.stored()) == 3
    ((key, entries),) = world.quarantine().items()
    assert key.startswith("quarantine/dataset=plant/date=2026-01-05/kinesis-shardId-000000000003-")
    reason = "field 'x' is a number, not text"
    entry = {"sequence": "99", "record": json.dumps(reading(x="bad")), "field": "x", "reason": reason, "config_version": 1}
    assert [{name: stored[name] for name in entry} for stored in entries] == [entry]
    world.kinesis(envelope)  # redelivered: the same objects again
    assert len(world.quarantine()) == 1


NO_ENVELOPES = [
    *(b"", b"\xff", b"hello", b"[" * 100_000, b'{"x": 1}', b'{"dataset": 1, "records": []}'),
    *(b'{"dataset": "\xff", "records": []}', b'{"dataset": "\\ud800", "records": []}', b'{"dataset": "nope", "records": [{}]}'),
]


@pytest.mark.parametrize("data", NO_ENVELOPES)
def test_what_is_no_envelope_is_kept_and_stops_nobody(world, data):
    assert world.kinesis(data, {"dataset": "plant", "records": [reading()]}) == []
    assert len(world.stored()) == 1
    ((key, (entry,)),) = world.quarantine().items()
    assert key.startswith("quarantine/dataset=_unknown/")
    assert entry["sequence"] == "99"
    assert entry["reason"]


def test_the_lowest_unwritten_sequence_number_is_asked_for_again(world):
    world.raw.throttled = lambda item: item["sk"] >= "2026-01-05T11:01"
    lots = [{"dataset": "plant", "records": [reading(minute), reading(minute, g="b")]} for minute in (0, 2, 1)]
    assert world.kinesis(*lots) == ["100"]  # as text "100" < "99": numbers are meant
    world.raw.throttled = lambda item: True
    assert world.kinesis(*lots) == ["99"]
    world.raw.throttled = lambda item: False
    assert world.kinesis(*lots) == []
    assert len(world.stored()) == 6


@given(st.lists(BODIES, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_kinesis_record_breaks_a_batch(payloads):
    world = World()
    wrapped = [b'{"dataset": "plant", "records": [' + payload + b"]}" for payload in payloads]
    assert world.kinesis(*payloads, *wrapped, {"dataset": "plant", "records": [reading(59)]}) == []
    assert ("plant#a#2026-01-05", "2026-01-05T11:59:00.000000Z") in world.stored()
