"""The producer's side: chunks in lanes, the order of equal keys, retries, and reports that miss nobody. The cloud is a fake."""

from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import BackendError, InputError, NotFoundError, RetryError, Throttled
from tesseract.ingestion import chunks as chunking
from tesseract.ingestion import client, transports
from tesseract.ingestion.answers import NOT_WRITTEN
from tesseract.ingestion.chunks import CHUNK_BYTES, CHUNK_RECORDS, RECORD_BYTES, Line, chunks
from tesseract.ingestion.client import ATTEMPTS, Report, report_of, send
from tesseract.ingestion.validators import Rejection
from tesseract.storage import services
from tesseract.storage.services import Reply
from tesseract.utils import aws_helpers
from tests.support.flaky_api import FlakyApi
from tests.support.ingest_world import World

DATASET = parse("datasets: {d: {group_by: [net, site.id], time_field: t, fields: {x: float}}}")["d"]


def line(net="n", site=1, t="2026-01-05T11:00:00Z", **fields):
    return json.dumps({"net": net, "site": {"id": site}, "t": t, **fields}).encode()


def cut(records, by_group=False):
    rejected = []
    return list(chunks(DATASET, records, by_group, lambda body, rejection: rejected.append(rejection))), rejected


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
    bad = [b"oops", b'{"net": "\xff"}', b"[" * 100_000, b'{"a": 1}, {"b": 2}', b"[{}]", b"5", line(text="x" * RECORD_BYTES)]
    cloud = Cloud()
    report = send(DATASET, [line(x=0), *bad, line(x=1)], cloud)
    assert [entry.index for entry in cloud.arrived] == [0, 8]
    assert report.accepted == 2
    assert [entry.index for entry in report.rejected] == [1, 2, 3, 4, 5, 6, 7]
    said = [entry.reason.partition(":")[0] for entry in report.rejected]
    assert said[:6] == ["not JSON"] * 4 + ["a record is a JSON object"] * 2


def test_a_record_without_group_or_time_is_for_the_server_to_judge():
    records = [b"{}", b'{"x": 1e999}', b'{"net": 1, "site": 2}', line(t=5), line(t="soon"), line(t="0001-01-01T00:00:00+01:00")]
    found, rejected = cut(records)
    assert rejected == []
    assert sum(len(chunk) for _, _, chunk in found) == len(records)


def test_chunks_of_a_lane_wait_for_each_other_and_lanes_do_not(monkeypatch):
    monkeypatch.setattr(chunking, "CHUNK_RECORDS", 2)
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


def test_what_is_never_written_ends_it_so_that_nothing_overtakes_it():
    sent = []

    class Road:
        by_group = False

        def __call__(self, dataset, lines, group):
            sent.append(len(lines))
            return Report(len(lines) - 1, [Rejection(lines[0].index, "", "", NOT_WRITTEN)])

    with pytest.raises(Throttled, match="1 of 1 records are not written"):
        send(DATASET, [line()] * (CHUNK_RECORDS + 1), Road())
    assert sent == [CHUNK_RECORDS] + [1] * (ATTEMPTS - 1)


def test_a_server_that_says_how_long_to_wait_is_waited_for(waits):
    answers = iter([client.Busy("slow", 7), None])
    assert send(DATASET, [line()], Cloud(lambda lines: next(answers))).accepted == 1
    assert 7 <= sum(waits) <= 7.7  # naps add up to the pause, the last one whole


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


def test_two_spellings_of_a_key_share_a_lane():
    nested, flat = line(x=0), json.dumps({"net": "n", "site.id": "1", "t": "2026-01-05T12:00:00+01:00"}).encode()
    found, _ = cut([nested, flat] * 3)
    assert [[entry.index for entry in chunk] for _, _, chunk in found] == [[0, 1, 2, 3, 4, 5]]


def test_without_a_zone_or_in_epochs_a_group_is_one_lane():
    local = parse("datasets: {d: {group_by: g, time_field: t, time_zone: Europe/Berlin, fields: {x: float}}}")["d"]
    records = [
        json.dumps({"g": 1, "t": t}).encode() for t in ("2026-01-05T23:30:00Z", "2026-01-06T00:30:00", "2025-05-05T00:00:00")
    ]
    assert len(list(chunks(local, records, False, lambda *refused: None))) == 1


def test_an_envelope_is_sent_as_envelopes_of_one_record_each():
    dataset = parse("datasets: {d: {group_by: g, time_field: t, records_path: data.rows, fields: {x: float}}}")["d"]
    rows = [{"g": str(place % 3), "t": "2026-01-05T00:00:00Z", "x": place} for place in range(6)]
    whole = json.dumps({"data": {"rows": rows}, "site": 1}).encode()
    found = list(chunks(dataset, [whole, b'{"data": 5}'], True, lambda *refused: None))
    lines = sorted((entry for _, _, chunk in found for entry in chunk), key=lambda entry: entry.index)
    assert [json.loads(entry.body) for entry in lines[:6]] == [{"data": {"rows": [{"site": 1, **row}]}} for row in rows]
    assert json.loads(lines[6].body) == {"data": 5}  # holds no records: for the server to say
    assert {group for _, group, _ in found} == {"0", "1", "2", ""}


def test_a_record_over_several_lines_is_sent_on_one():
    found, _ = cut([b'{"net": 1,\r\n "site":\r{"id": 2}}\n'])
    assert found[0].lines[0].body == b'{"net": 1,   "site": {"id": 2}}'


def test_many_groups_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(chunking, "GATHERED_BYTES", 1000)
    found, _ = cut([line(str(net)) for net in range(100)], by_group=True)
    assert sum(len(chunk) for _, _, chunk in found) == 100
    assert [chunk[0].index for _, _, chunk in found] == list(range(100))


def test_what_is_known_is_left_out_until_something_of_its_lane_is_not(monkeypatch):
    monkeypatch.setattr(chunking, "CHUNK_RECORDS", 1)
    cloud = Cloud()
    client.deliver(
        DATASET,
        [line(x=x) for x in range(4)],
        cloud,
        lambda *arrived: None,
        lambda *refused: None,
        known=lambda lines: lines[0].index != 1,
    )
    assert [entry.index for entry in cloud.arrived] == [1, 2, 3]


# roads ------------------------------------------------------------------------------------------------------------------


class Post:
    def __init__(self, status, body):
        self.status, self.body = status, body

    def __call__(self, url, body, headers):
        self.url, self.sent, self.headers = url, body, headers
        return Reply(self.status, self.body, {"retry-after": "3"})


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"", Throttled),
        (429, b"", Throttled),
        (503, b'{"error": "not written, send it again", "accepted": 0, "rejected": []}', Throttled),
        (403, b'{"message": "Forbidden"}', BackendError),
        (500, b'{"message": "Internal Server Error"}', Throttled),
        (500, b"<html>", Throttled),
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
    assert report.retry_after == 3
    assert post.url == "http://127.0.0.1:1/datasets/a%2Fb/records"
    assert gzip.decompress(post.sent) == b"{}\n[]"
    assert (report.accepted, report.rejected) == (1, [Rejection(8, "", "", "r")])


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


# connections ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def test_where_nobody_answers_it_may_be_tried_again(keys):
    with pytest.raises(RetryError, match="no answer from AWS"):
        services.SignedHttp("execute-api").post("http://127.0.0.1:1/", b"", {})


def test_a_silent_server_is_left_after_a_while(keys, monkeypatch):
    monkeypatch.setattr(services, "HTTP_TIMEOUT", (5, 0.05))
    with FlakyApi(World(), ["wait"]) as api, pytest.raises(RetryError, match=r"no answer from AWS.*[Tt]imeout"):
        services.SignedHttp("execute-api").post(f"{api.url}/datasets/plant/records", b"{}", {})


def test_a_server_that_is_not_who_it_should_be_is_not_tried_again(keys):
    with FlakyApi(World()) as api, pytest.raises(BackendError, match="SSL"):
        services.SignedHttp("execute-api").post(api.url.replace("http", "https"), b"", {})


def test_a_killed_connection_is_made_anew_at_once(keys):
    with FlakyApi(World(), ["drop", "ok", "drop", "drop"]) as api:
        http = services.SignedHttp("execute-api")
        assert http.post(f"{api.url}/datasets/plant/records", b"", {}).status == 400
        with pytest.raises(RetryError, match="the connection was closed before an answer came"):
            http.post(f"{api.url}/datasets/plant/records", b"", {})
        http.close()


def test_calls_of_kinesis_and_lambda_that_nobody_answers_may_be_tried_again(keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    aws_helpers.client.cache_clear()
    with pytest.raises(RetryError, match="no answer from AWS"):
        services.Kinesis("s").put(b"x", "k")
    with pytest.raises(RetryError, match="no answer from AWS"):
        services.invoke("test", "ingestHttp", {})
    aws_helpers.client.cache_clear()
