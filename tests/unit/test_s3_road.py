"""The short road to objects is taken where botocore would go the same way, and what does not go well goes through botocore."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tesseract.errors import BackendError, NotFoundError, RetryError
from tesseract.storage.s3_manager import S3Objects
from tesseract.storage.s3_road import road

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, credentials):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def client(region="eu-west-1", **options):
    return boto3.client("s3", region_name=region, **{**KEYS, **options})


class Sent(Exception):
    """What botocore would send now."""


def stop(request, **_):
    raise Sent(request.url)


@pytest.mark.parametrize(
    ("made", "host", "path"),
    [
        (client, "bucket.s3.eu-west-1.amazonaws.com", ""),
        (lambda: client("us-east-1"), "bucket.s3.amazonaws.com", ""),
        (lambda: client("cn-north-1"), "bucket.s3.cn-north-1.amazonaws.com.cn", ""),
        (lambda: client(config=Config(use_fips_endpoint=True)), "bucket.s3-fips.eu-west-1.amazonaws.com", ""),
        (lambda: client(config=Config(s3={"addressing_style": "path"})), "s3.eu-west-1.amazonaws.com", "/bucket"),
        (lambda: client(endpoint_url="http://127.0.0.1:4566"), "127.0.0.1:4566", "/bucket"),
        (
            lambda: client(endpoint_url="http://s3.local:4566/x", config=Config(s3={"addressing_style": "virtual"})),
            "bucket.s3.local:4566",
            "",
        ),
    ],
)
def test_the_road_goes_where_botocore_goes(made, host, path):
    s3 = made()
    found = road(s3, "bucket")
    assert (found._host.name, found._path) == (host, path)
    s3.meta.events.register("before-send.s3.GetObject", stop)
    with pytest.raises(Sent) as sent:
        s3.get_object(Bucket="bucket", Key="k")
    assert str(sent.value).endswith(f"://{host}{found._host.path}{path}/k")


@pytest.mark.parametrize(
    "made",
    [
        lambda: client(config=Config(s3={"use_accelerate_endpoint": True})),
        lambda: client(config=Config(s3={"use_dualstack_endpoint": True})),
        lambda: client(config=Config(signature_version=UNSIGNED)),
        lambda: client(config=Config(signature_version="s3")),
    ],
)
def test_a_client_set_up_otherwise_goes_its_own_way(made):
    assert road(made(), "bucket") is None


def test_there_is_no_road_to_what_is_no_bucket_nor_through_a_proxy(monkeypatch):
    assert road(client(), "arn:aws:s3:eu-west-1:123456789012:accesspoint/x") is None
    assert road(client(), "b.c")._path == "/b.c"
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    assert road(client(), "bucket") is None


class Bucket:
    """A bucket that answers as it is told: (status, code of the error, body)."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, bytes]] = []
        self.asked: list[tuple[str, str | None, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                agent = "botocore" if "Botocore" in (self.headers.get("user-agent") or "") else "us"
                outer.asked.append((self.path, self.headers.get("range"), agent))
                status, code, body = outer.answers.pop(0)
                if not status:
                    self.close_connection = True
                    return
                body = body or (f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b"")
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        quick = Config(retries={"mode": "standard", "total_max_attempts": 1})
        self.objects = S3Objects(client(endpoint_url=endpoint, config=quick), "bucket")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def bucket():
    bucket = Bucket()
    yield bucket
    bucket.close()


def test_what_goes_well_is_one_request_of_ours(bucket):
    bucket.answers = [(200, "", b"abc"), (206, "", b"bc")]
    assert bucket.objects.get("a/k=ü") == b"abc"
    assert bucket.objects.get("a/k=ü", 1, 2) == b"bc"
    assert bucket.asked == [("/bucket/a/k%3D%C3%BC", None, "us"), ("/bucket/a/k%3D%C3%BC", "bytes=1-2", "us")]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, "NoSuchKey", b""), NotFoundError),
        ((403, "AccessDenied", b""), BackendError),
        ((500, "InternalError", b""), RetryError),
    ],
)
def test_what_does_not_is_told_as_botocore_tells_it(bucket, answer, error):
    bucket.answers = [answer, answer]
    with pytest.raises(error):
        bucket.objects.get("k")
    assert [agent for _, _, agent in bucket.asked] == ["us", "botocore"]


def test_a_whole_object_in_place_of_a_range_is_not_taken_for_it(bucket):
    bucket.answers = [(200, "", b"abcdef"), (206, "", b"bc")]
    assert bucket.objects.get("k", 1, 2) == b"bc"


def test_a_connection_that_is_closed_without_an_answer_is_made_anew(bucket):
    bucket.answers = [(0, "", b""), (200, "", b"abc")]
    assert bucket.objects.get("k") == b"abc"
    assert [agent for _, _, agent in bucket.asked] == ["us", "botocore"]
