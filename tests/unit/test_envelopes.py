"""The forms of HTTP and of bodies: whatever gateway a request came through, it is the same records or one clear refusal."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.ingestion.answers import IN_FULL, NOT_VALID, NOT_WRITTEN, Answer, unwritten
from tesseract.ingestion.bodies import MAX_BODY, MAX_RECORDS, split
from tesseract.ingestion.rejections import Rejection
from tests.support.ingest_world import World, reading, zipped

GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
def world():
    return World()


def rest_api(path="/datasets/plant/records", method="POST", parameters="plant", **event):
    """An event of API Gateway's REST API."""
    return {
        "resource": "/datasets/{dataset}/records",
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "pathParameters": parameters and {"dataset": parameters},
        "requestContext": {"stage": "v1", "httpMethod": method},
        "isBase64Encoded": False,
    } | event


def http_api(path="/datasets/plant/records", method="POST", parameters="plant", **event):
    """An event of API Gateway's HTTP API, or of a function URL, which has no parameters."""
    return (
        {
            "version": "2.0",
            "rawPath": path,
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
            "isBase64Encoded": False,
        }
        | ({"pathParameters": {"dataset": parameters}} if parameters else {} | event)
        | event
    )


def answer(world, event, seconds=28):
    found = world.service.handle(event, seconds)
    return found["statusCode"], json.loads(found["body"]), found["headers"]


@pytest.mark.parametrize(
    "event",
    [
        rest_api(),
        rest_api(parameters="pl%61nt"),  # as it stood in the URL
        rest_api(parameters=None),
        rest_api(pathParameters={"proxy": "datasets/plant/records"}),
        rest_api(path="/base/datasets/plant/records"),  # behind a custom domain
        http_api(),
        http_api(path="/dev/datasets/plant/records"),  # of a named stage
        http_api(parameters=None),  # function URL
        http_api(parameters=None, path="/datasets/pl%61nt/records/"),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_every_form_of_http_gives_the_same_answer(world, event, encoded):
    body = json.dumps(reading()).encode()
    event = event | {"body": base64.b64encode(body).decode() if encoded else body.decode(), "isBase64Encoded": encoded}
    assert answer(world, event) == (200, {"accepted": 1, "rejected": []}, {"content-type": "application/json"})
    assert len(world.stored()) == 1


@pytest.mark.parametrize("form", [rest_api, http_api])
def test_another_path_is_a_404_and_another_method_a_405(world, form):
    status, body, _ = answer(world, form(path="/datasets/plant", parameters=None, body="{}"))
    assert (status, body["error"]) == (
        404,
        "there is nothing at '/datasets/plant'; POST /datasets/{dataset}/records takes records",
    )
    for path in ("/", "/datasets//records", "/datasets/plant/records/1", "/x/datasets/plant/records", "/datasets/a/b/records"):
        assert answer(world, form(path=path, parameters=None, body="{}"))[0] == 404
    status, body, headers = answer(world, form(method="GET"))
    assert (status, headers["allow"]) == (405, "POST")
    assert body["error"] == "GET is not understood here; POST /datasets/{dataset}/records takes records"
    assert world.stored() == {}


def test_an_unknown_dataset_names_the_known_ones_whatever_its_spelling(world):
    for name in ("pl%2561nt", "%00", "pl%20ant", "%ff", "é"):
        status, body, _ = answer(world, http_api(path=f"/datasets/{name}/records", parameters=None, body="{}"))
        assert (status, "known datasets: plant" in body["error"]) == (404, True)


@pytest.mark.parametrize(
    "kind",
    [
        *("", "application/json", "Application/JSON; charset=utf-8", "application/x-ndjson", "application/vnd.senml+json"),
        *("text/plain", "application/octet-stream", "application/gzip", "application/jsonl"),
    ],
)
def test_types_of_json_are_taken(world, kind):
    assert world.send(reading(), headers={"Content-Type": kind})[0] == 200


@pytest.mark.parametrize("kind", ["text/csv", "multipart/form-data; boundary=x", "application/xml", "text/xml", "image/png"])
def test_another_type_is_a_415_that_says_what_is_taken(world, kind):
    status, body = world.send(reading(), headers={"content-type": kind})
    assert (status, body["accepted"]) == (415, 0)
    assert "application/json, application/x-ndjson" in body["error"]
    assert world.stored() == {}


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, br", "gzip, gzip", "compress"])
def test_another_encoding_is_a_415(world, coding):
    status, body = world.send(reading(), headers={"Content-Encoding": coding})
    assert (status, body["error"]) == (415, f"content-encoding {coding!r} is not understood; gzip is, or none")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "identity, gzip", "identity", ""])
def test_the_first_bytes_decide_what_is_gzip(world, coding):
    headers = {"content-encoding": coding}
    plain = json.dumps(reading()).encode()
    assert world.post(zipped(plain), headers=headers)[0] == 200
    assert world.post(plain, headers=headers)[0] == 200  # a gateway has inflated it, and kept the header
    assert world.post(zipped(plain))[0] == 200


def test_headers_that_come_several_times_or_not_as_text_break_nothing(world):
    body = json.dumps(reading())
    assert answer(world, rest_api(body=body, multiValueHeaders={"Content-Encoding": ["gzip", "br"]}))[0] == 415
    assert answer(world, rest_api(body=body, multiValueHeaders=None, headers=None))[0] == 200
    assert answer(world, http_api(body=body, headers={"content-type": None, "x": 5}))[0] == 200
    assert answer(world, {"requestContext": None, "pathParameters": [], "body": body, "headers": []})[0] == 404


# bodies -----------------------------------------------------------------------------------------------------------------


def pieces(body, envelope=True):
    return [bytes(line) for line in split(body, envelope=envelope)]


LINES = [b'{"a":1}', b'{"b":[{"records":[]}]}', b'{"c":"\xc3\xa9 \\n"}']


@pytest.mark.parametrize(
    "body",
    [
        b"\n".join(LINES),
        b"\r\n".join(LINES) + b"\r\n",
        b"\xef\xbb\xbf" + b"\n\n \r\n".join(LINES),
        b"[" + b" ,\n".join(LINES) + b"]",
        b'{"records":[' + b",".join(LINES) + b"]}",
        b'\n { "records" :\n [' + b",".join(LINES) + b"] \n } \n",
    ],
)
def test_the_same_records_in_every_form(body):
    assert pieces(body) == LINES


@pytest.mark.parametrize(
    "body",
    [
        b'{"records":[{}],"more":1}',
        b'{"more":1,"records":[{}]}',
        b'{"records":[{}],"records":[{}]}',
        b'{"records":{"a":1}}',
        b'{"records":5}',
        b'{"records":[{}]',
        b'{"records":[}]}',
    ],
)
def test_only_a_list_and_nothing_beside_it_is_an_envelope(body):
    assert pieces(body) == [body]


def test_an_envelope_is_a_record_where_the_dataset_reads_records_itself():
    body = b'{"records":[{"t":1}]}'
    assert pieces(body, envelope=False) == [body]
    world = World(*parse("datasets: {d: {group_by: records.g, time_field: t, fields: {x: float}}}").values())
    assert world.send({"records": [reading()]}, dataset="d")[1]["rejected"][0]["index"] == 0


def test_an_envelope_of_records_is_answered_by_their_places(world):
    body = json.dumps({"records": [reading(), reading(x="bad"), reading(2)]})
    status, found = world.post(body)
    assert (status, found["accepted"], [entry["index"] for entry in found["rejected"]]) == (207, 2, [1])
    assert world.post('{"records": []}') == (200, {"accepted": 0, "rejected": []})


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2), max_size=5))
def test_an_array_an_envelope_and_lines_cut_alike(records):
    lines = [json.dumps(record).encode() for record in records]
    assert pieces(b"[" + b",".join(lines) + b"]") == pieces(b'{"records": [' + b",".join(lines) + b"]}") == lines
    if len(lines) > 1:
        assert pieces(b"\r\n".join(lines)) == lines


# bombs ------------------------------------------------------------------------------------------------------------------

WIDE = ",".join(f'"f{index}":1' for index in range(300_000))
BOMBS = {
    "deep lists": "[" * 4_000_000,
    "deep objects": '{"a":' * 800_000,
    "deep and closed": '{"g":"a","t":"2026-01-05T11:00:00Z","x":' + "[" * 100_000 + "]" * 100_000 + "}",
    "many fields": '{"g":"a","t":"2026-01-05T11:00:00Z",' + WIDE + "}",
    "one field 400,000 times": "{" + ",".join(['"x":1.5'] * 400_000) + "}",
    "millions of nothing": "[" + "1," * 2_200_000 + "1]",
    "millions of lines": "{}\n" * 1_400_000,
    "a line of blanks": "{}\n" + " " * 4_000_000,
    "a huge number": '{"g":"a","t":"2026-01-05T11:00:00Z","x":' + "9" * 4_000_000 + "}",
    "a huge exponent": '{"g":"a","t":"2026-01-05T11:00:00Z","x":1e' + "9" * 1_000_000 + "}",
    "an endless text": '{"g":"a","t":"2026-01-05T11:00:00Z","x":"' + "\\u0000" * 700_000,
    "a long group": '{"g":"' + "#" * 4_000_000 + '","t":"2026-01-05T11:00:00Z","x":1}',
    "an envelope without an end": '{"records":[' + "{}," * 1_400_000,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("dataset", ["plant", "weather_stations"])
def test_a_bomb_is_refused_and_nothing_is_written(world, name, dataset):
    status, body = world.post(BOMBS[name][:MAX_BODY], dataset=dataset)
    assert (status in (400, 413), body["accepted"]) == (True, 0)
    assert len(json.dumps(body)) < 1_000_000
    assert world.stored() == {}


def test_a_gzip_of_many_empty_parts_or_of_gzip_is_only_what_it_holds(world):
    assert world.post(zipped(b"") * 20_000, headers=GZIP)[0] == 400
    assert world.post(zipped(zipped(b"{}")), headers=GZIP)[0] == 400


# answers ----------------------------------------------------------------------------------------------------------------


def test_a_hint_and_warnings_are_there_only_where_there_are_any():
    entry = {"index": 0, "field": "x", "value": "1", "reason": "r"}
    assert Answer(200, 1).body() == {"accepted": 1, "rejected": []}
    found = Answer(207, 1, [Rejection(**entry)], [Rejection(**entry, hint="h")]).body()
    assert found == {"accepted": 1, "rejected": [entry], "warnings": [entry | {"hint": "h"}]}


@pytest.mark.parametrize("char", ["\x01", "é", "\U0001f600", '"'])
def test_an_answer_fits_what_lambda_returns_whatever_it_quotes(char):
    entries = [Rejection(index, char * 100, char * 100, char * 300, char * 300) for index in range(MAX_RECORDS)]
    for rejected in (entries, entries[: IN_FULL // 2] + unwritten(range(IN_FULL // 2, MAX_RECORDS))):
        answer = Answer(400, 0, rejected, entries)
        assert len(json.dumps(answer.http())) < 6_000_000
        body = answer.body()
        assert [entry["index"] for entry in body["rejected"]] == list(range(MAX_RECORDS))
        assert {entry["reason"] for entry in body["rejected"]} <= {char * 300, NOT_VALID, NOT_WRITTEN}
        assert len(body["warnings"]) <= IN_FULL


def test_half_a_surrogate_pair_spoils_its_own_record_only():
    world = World()
    good = json.dumps(reading(1))
    bad = '{"g": "\\ud800", "t": "2026-01-05T11:00:00Z", "x": 1}'
    for body in (f"[{good}, {bad} ,{good}]", f'{{"records": [{bad},{good}]}}'):
        status, answer = world.post(body)
        assert status == 207
        assert len(answer["rejected"]) == 1
