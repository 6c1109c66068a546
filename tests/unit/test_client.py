"""The producer's side: chunks in lanes, the order of equal keys, retries, and reports that miss nobody. The cloud is a fake."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import BackendError, InputError, NotFoundError, Throttled
from tesseract.ingestion import client, transports
from tesseract.ingestion.client import ATTEMPTS, CHUNK_BYTES, CHUNK_RECORDS, RECORD_BYTES, Line, Report, chunks, report_of, send
from tesseract.ingestion.lambda_handler import NOT_WRITTEN
from tesseract.ingestion.validators import Rejection

DATASET = parse("datasets: {d: {group_by: [net, site.id], time_field: t, fields: {x: float}}}")["d"]


def line(net="n", site=1, t="2026-01-05T11:00:00Z", **fields):
    return json.dumps({"net": net, "site": {"id": site}, "t": t, **fields}).encode()


def cut(records, by_group=False):
    rejected = []
    return list(chunks(DATASET, records, by_group, rejected.append)), rejected


class Cloud:
    """A transport that keeps what arrives, in order of arrival, and fails on demand."""

    by_group = False

    def __init__(self, fail=lambda lines: None):
        self.fail, self.arrived, self.lock, self.calls = fail, [], threading.Lock(), 0

    def __call__(self, dataset, lines, group):
        with self.lock:
            self.calls += 1
            error = self.fail(lines)
            if error:
                raise error
            self.arrived += lines
        return Report(len(lines), [])


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


KEYED = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from(["11:00:00Z", "12:00:00+01:00", "11:00:00z", "11:30:00Z"]))
)


@given(KEYED, st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_record_travels_once_and_equal_keys_in_order(keys, by_group):
    records = [line(str(net), site, f"2026-01-0{site}T{t}", x=index) for index, (net, site, t) in enumerate(keys)]
    found, rejected = cut(records, by_group)
    assert rejected == []
    assert sorted(entry.index for _, _, chunk in found for entry in chunk) == list(range(len(records)))
    lanes = {}
    for lane, group, chunk in found:
        for entry in chunk:
            net, site, _ = keys[entry.index]
            before = lanes.setdefault((net, site), (lane, group, -1))
            assert before[:2] == (lane, group)
            assert before[2] < entry.index
            lanes[net, site] = (lane, group, entry.index)
            assert group == (f"{net}/{site}" if by_group else "")


def test_a_chunk_is_bounded_in_records_and_bytes():
    found, _ = cut([line(x=1)] * (CHUNK_RECORDS * 2 + 1))
    assert [len(chunk) for _, _, chunk in found] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]
    found, _ = cut([line(text="x" * 400_000)] * 3)
    assert [len(chunk) for _, _, chunk in found] == [2, 1]
    assert CHUNK_BYTES + RECORD_BYTES < 2**20  # with the envelope, what a Kinesis record holds


def test_a_line_that_would_spoil_its_chunk_is_rejected_before_it_is_sent():
    bad = [b"oops", b'{"net": "\xff"}', b"[" * 100_000, b'{"a": 1}, {"b": 2}', line(text="x" * RECORD_BYTES)]
    cloud = Cloud()
    report = send(DATASET, [line(x=0), *bad, line(x=1)], cloud)
    assert [entry.index for entry in cloud.arrived] == [0, 6]
    assert report.accepted == 2
    assert [entry.index for entry in report.rejected] == [1, 2, 3, 4, 5]
    assert [entry.reason.startswith("not JSON") for entry in report.rejected] == [True] * 4 + [False]


def test_a_record_without_group_or_time_is_for_the_server_to_judge():
    records = [b"{}", b"5", b'"text"', b'{"net": 1, "site": 2}', line(t=5), line(t="soon"), line(t="0001-01-01T00:00:00+01:00")]
    found, rejected = cut(records)
    assert rejected == []
    assert sum(len(chunk) for _, _, chunk in found) == len(records)


def test_chunks_of_a_lane_wait_for_each_other_and_lanes_do_not(monkeypatch):
    monkeypatch.setattr(client, "CHUNK_RECORDS", 2)
    cloud = Cloud()
    told = []
    records = [line(str(index % 5), 1, x=index) for index in range(100)]
    report = send(DATASET, records, cloud, told.append)
    assert (report.accepted, report.rejected, sum(told)) == (100, [], 100)
    for net in range(5):
        arrived = [entry.index for entry in cloud.arrived if entry.index % 5 == net]
        assert arrived == sorted(arrived)


def test_what_was_throttled_is_sent_again_with_jitter(waits):
    refusals = iter([Throttled("slow"), Throttled("slow"), None])
    cloud = Cloud(lambda lines: next(refusals))
    assert send(DATASET, [line()], cloud).accepted == 1
    assert cloud.calls == 3
    assert len(waits) == 2
    assert 0 <= waits[0] <= 0.2 and 0 <= waits[1] <= 0.4  # noqa: PT018 - full jitter under a ceiling that doubles


def test_only_what_was_not_written_is_sent_again(waits):
    answers = iter([Report(1, [Rejection(1, "", "", NOT_WRITTEN), Rejection(2, "a", "x", "text")]), Report(1, [])])
    sent = []

    class Road:
        by_group = False

        def __call__(self, dataset, lines, group):
            sent.append([entry.index for entry in lines])
            return next(answers)

    report = send(DATASET, [line(), line(), line()], Road())
    assert sent == [[0, 1, 2], [1]]
    assert report == Report(2, [Rejection(2, "a", "x", "text")])


def test_patience_ends_with_the_error():
    cloud = Cloud(lambda lines: Throttled("slow"))
    with pytest.raises(Throttled):
        send(DATASET, [line()], cloud)
    assert cloud.calls == ATTEMPTS


def test_another_error_is_not_repeated():
    cloud = Cloud(lambda lines: BackendError("AWS said no"))
    with pytest.raises(BackendError):
        send(DATASET, [line()], cloud)
    assert cloud.calls == 1


def test_rejections_are_counted_in_the_input_and_in_its_order():
    lines = [Line(index, b"{}") for index in (7, 3, 9)]
    entry = {"field": "x", "value": "v", "reason": "r"}
    report = report_of({"accepted": 1, "rejected": [{"index": 0, **entry}, {"index": 2, **entry}]}, lines)
    assert report == Report(1, [Rejection(7, "x", "v", "r"), Rejection(9, "x", "v", "r")])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"errorMessage": "out of memory"}, BackendError),
        ({"message": None}, BackendError),
        ({"status": 404, "error": "there is no dataset 'x' (known datasets: d)", "accepted": 0, "rejected": []}, NotFoundError),
        ({"status": 503, "error": "not written, send it again: x", "accepted": 0, "rejected": []}, Throttled),
        ({"error": "the body is empty", "accepted": 0, "rejected": []}, InputError),
    ],
)
def test_an_answer_that_is_no_report_is_an_error(answer, error):
    with pytest.raises(error):
        report_of(answer, [])


def test_an_unknown_road_names_the_known_ones():
    with pytest.raises(InputError, match="one of http, kinesis, direct"):
        client.transport_of("pigeon", "local")


# store.put --------------------------------------------------------------------------------------------------------------


def put(monkeypatch, records):
    cloud = Cloud()
    monkeypatch.setattr(client, "transport_of", lambda road, stage: cloud)
    return client.send_direct("local", "d", records), cloud


def test_records_of_python_are_sent_as_json(monkeypatch):
    record = {"t": datetime(2026, 1, 5, tzinfo=UTC), "x": Decimal("1.50"), "n": None}
    answer, cloud = put(monkeypatch, [record])
    assert answer == {"accepted": 1, "rejected": []}
    assert [entry.body for entry in cloud.arrived] == [b'{"t":"2026-01-05T00:00:00Z","x":1.50,"n":null}']


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {"deep": -float("inf")}, "\ud800", {"\ud800": 1}, object(), {1, object()}, "x" * RECORD_BYTES],
)
def test_what_json_cannot_say_is_rejected_alone(monkeypatch, value):
    answer, cloud = put(monkeypatch, [{"x": 1}, {"x": value, "n": None}, {"x": 2}])
    assert answer["accepted"] == 2
    assert [entry.index for entry in cloud.arrived] == [0, 2]
    assert [entry["index"] for entry in answer["rejected"]] == [1]


def test_many_large_records_are_put_in_parts(monkeypatch):
    _, cloud = put(monkeypatch, [{"x": "x" * 100_000}] * 12)
    assert (len(cloud.arrived), cloud.calls) == (12, 3)


# roads ------------------------------------------------------------------------------------------------------------------


class Post:
    def __init__(self, status, body):
        self.status, self.body = status, body

    def __call__(self, url, body, headers):
        self.url, self.sent, self.headers = url, body, headers
        return self.status, self.body


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"", Throttled),
        (429, b"", Throttled),
        (403, b'{"message": "Forbidden"}', BackendError),
        (500, b'{"message": "Internal Server Error"}', BackendError),
        (500, b"<html>", BackendError),
        (404, b'{"message": "Not Found"}', BackendError),
        (404, b'{"error": "there is no dataset", "accepted": 0, "rejected": []}', NotFoundError),
        (413, b'{"error": "send it in parts", "accepted": 0, "rejected": []}', InputError),
        (400, b'{"error": "the body is empty", "accepted": 0, "rejected": []}', InputError),
    ],
)
def test_an_http_status_is_the_error_that_says_what_to_do(monkeypatch, status, body, error):
    road = http(monkeypatch, Post(status, body))
    with pytest.raises(error):
        road("d", [Line(0, b"{}")], "")


def http(monkeypatch, post):
    monkeypatch.setenv("TESSERACT_API_URL", "http://127.0.0.1:1/")
    monkeypatch.setattr(transports, "SignedHttp", lambda service: type("Http", (), {"post": staticmethod(post)}))
    return transports.Http("local")


def test_http_sends_gzipped_lines(monkeypatch):
    import gzip

    post = Post(207, b'{"accepted": 1, "rejected": [{"index": 1, "field": "", "value": "", "reason": "r"}]}')
    report = http(monkeypatch, post)("a/b", [Line(4, b"{}"), Line(8, b"[]")], "")
    assert post.url == "http://127.0.0.1:1/datasets/a%2Fb/records"
    assert gzip.decompress(post.sent) == b"{}\n[]"
    assert report == Report(1, [Rejection(8, "", "", "r")])


def test_kinesis_keeps_a_group_in_one_shard(monkeypatch):
    sent = []
    monkeypatch.setattr(
        transports, "Stream", lambda name: type("S", (), {"put": staticmethod(lambda *record: sent.append(record))})
    )
    road = transports.Kinesis("local")
    assert road.by_group
    assert road("d", [Line(0, b'{"x":1}'), Line(1, b'{"x":2}')], "KJFK") == Report(2, [])
    road("d", [Line(0, b"{}")], "")
    assert sent == [(b'{"dataset":"d","records":[{"x":1},{"x":2}]}', "KJFK"), (b'{"dataset":"d","records":[{}]}', "-")]
