"""Requests signed by hand carry the signature that botocore gives them; connections are kept, and made anew once they are dead."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime
from http.client import HTTPException
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tesseract.storage import signed
from tesseract.storage.signed import Host, Keys, encode_path, sign

MOMENT = datetime(2026, 3, 1, 12, 30, 59, tzinfo=UTC)
words = st.text("abcXYZ019/+=-_.~", min_size=1, max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda name: f"/{name}")


@given(words, words, st.none() | words, st.sampled_from(["s3", "dynamodb"]), names, st.binary(max_size=50), st.integers(0, 10**9))
def test_a_signature_is_that_of_botocore(access, secret, token, service, name, body, first):
    target = encode_path(name)
    method = "POST" if service == "dynamodb" else "GET"
    if service == "dynamodb":
        target, headers = "/", {"x-amz-target": "DynamoDB_20120810.Query", "content-type": "application/x-amz-json-1.0"}
        digest = signed.hashlib.sha256(body).hexdigest()
    else:
        body, digest = b"", signed.NOTHING
        headers = {"range": f"bytes={first}-", "x-amz-content-sha256": digest}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signed, "utc_now", lambda: MOMENT)
        patch.setattr("botocore.auth.get_current_datetime", lambda: MOMENT.replace(tzinfo=None))
        found = sign(Keys(access, secret, token), "eu-west-1", service, "host.example:4566", method, target, headers, digest)
        request = AWSRequest(method, f"http://host.example:4566{target}", headers=dict(headers), data=body)
        signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(access, secret, token), service, "eu-west-1")
        signer.add_auth(request)
    assert found["authorization"] == request.headers["authorization"]
    assert found["x-amz-date"] == request.headers["x-amz-date"]
    assert found.get("x-amz-security-token") == request.headers.get("x-amz-security-token")


def test_a_path_is_sent_as_s3_reads_it():
    assert encode_path("/b/a=ü/c d+%2F.parquet") == "/b/" + quote("a=ü", safe="") + "/c%20d%2B%252F.parquet"


class Server:
    """Answers each request with the number of its connection; `closing` says after how many requests it hangs up, and how."""

    def __init__(self, requests: int = 10**9, headers: str = "", cut: bool = False) -> None:
        self.requests, self.headers, self.cut = requests, headers, cut
        self.connections = 0
        self.closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/prefix/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection, self.connections), daemon=True).start()

    def _answer(self, connection: socket.socket, number: int) -> None:
        with connection:
            for _ in range(self.requests):
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        return
                    head += part
                body = b"%d" % number
                length = len(body) + self.cut
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{self.headers}\r\n".encode() + body)
                if self.cut:
                    return
        self.closed.set()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def served():
    servers = []

    def serve(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def host(server: Server, size: int = 4, timeout: tuple[float, float] = (5, 5)) -> Host:
    return Host(server.url, timeout, size, "")


def test_a_connection_is_kept(served):
    server = served()
    one = host(server)
    assert one.path == "/prefix"
    assert [one.send("GET", "/prefix/x", {}).body for _ in range(3)] == [b"1"] * 3


def test_a_connection_that_was_closed_meanwhile_is_not_used(served):
    server = served(requests=1)
    one = host(server)
    assert one.send("GET", "/", {}).body == b"1"
    server.closed.wait(5)
    assert one.send("GET", "/", {}).body == b"2"


def test_a_connection_that_is_to_be_closed_is_not_kept(served):
    one = host(served(headers="Connection: close\r\n"))
    assert [one.send("GET", "/", {}).body for _ in range(2)] == [b"1", b"2"]


def test_no_more_connections_are_kept_than_allowed(served):
    one = host(served(), size=2)
    gate = threading.Barrier(5)

    def call() -> None:
        gate.wait()
        one.send("GET", "/", {})

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(one._kept) <= 2


def test_an_answer_that_breaks_off_is_an_error_and_its_connection_is_gone(served):
    one = host(served(cut=True))
    with pytest.raises(HTTPException):
        one.send("GET", "/", {})
    assert not one._kept


def test_who_does_not_answer_in_time_is_left(served):
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(TimeoutError):
        Host(f"http://127.0.0.1:{silent.getsockname()[1]}", (5, 0.05), 4, "").send("GET", "/", {})


def test_the_name_of_a_host_is_as_it_is_signed():
    assert Host("https://dynamodb.eu-west-1.amazonaws.com:443/", (1, 1), 1, "").name == "dynamodb.eu-west-1.amazonaws.com"
    assert Host("http://127.0.0.1:4566", (1, 1), 1, "").name == "127.0.0.1:4566"
    assert Host("http://[::1]:4566", (1, 1), 1, "").name == "[::1]:4566"
