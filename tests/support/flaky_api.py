"""The stage's HTTP API in this process, over a stage in memory, that misbehaves request by request as a script says.

ok         answers
drop       closes the connection before it has looked at the request
lose       does the work, then closes the connection without an answer
half       does the work, sends half of the answer, closes
busy       the gateway's 429, with retry-after
down       the gateway's 503
partial    the table takes only a part, the answer names the others
none       the table takes nothing
wait       waits for `gate` to open, then answers
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.ingest_world import World


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *details: object) -> None:
        """A client that is gone, such as one that a test has killed."""


class FlakyApi:
    """Use in a `with` block. `arrived` holds the bodies that were worked on, as lists of records, in order."""

    def __init__(self, world: World, script: Iterable[str] = ()) -> None:
        self.world, self.script = world, iter(script)
        self.arrived: list[list[dict]] = []
        self.modes: list[str] = []
        self.signatures: list[str] = []
        self.connections = 0
        self.gate, self.reached = threading.Event(), threading.Event()
        self._turn = threading.Lock()
        self._server = Server(("127.0.0.1", 0), handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FlakyApi:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def next_mode(self) -> str:
        with self._turn:
            self.modes.append(next(self.script, "ok"))
            return self.modes[-1]

    def work(self, dataset: str, body: bytes, headers: dict[str, str], mode: str) -> dict:
        """The function's answer."""
        with self._turn:
            seen = 0

            def throttled(item: dict) -> bool:
                nonlocal seen
                seen += 1
                return mode == "none" or (mode == "partial" and hash(item["sk"]) % 2 == 0)

            self.world.raw.throttled = throttled
            plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            self.arrived.append([json.loads(line) for line in plain.splitlines()])
            event = {"version": "2.0", "requestContext": {}, "headers": headers, "pathParameters": {"dataset": dataset}}
            return self.world.service.handle(event | {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}, 28)


def handler_of(api: FlakyApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            api.connections += 1
            super().setup()

        def do_POST(self) -> None:
            mode = api.next_mode()
            if mode == "drop":
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers["content-length"]))
            if mode in ("busy", "down"):
                self.answer(429 if mode == "busy" else 503, {"retry-after": "1"}, b'{"message": "Service Unavailable"}')
                return
            if mode == "wait":
                api.reached.set()
                api.gate.wait(30)
            dataset = self.path.split("/")[2]
            api.signatures.append(self.headers.get("authorization", ""))
            answer = api.work(dataset, body, {name.lower(): value for name, value in self.headers.items()}, mode)
            sent = answer["body"].encode()
            if mode == "lose":
                self.close_connection = True
            else:
                self.answer(answer["statusCode"], answer["headers"], sent, cut=mode == "half")

        def answer(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

        def log_message(self, *details: object) -> None:
            pass

    return Handler
