"""The stand-in for DynamoDB's exports: `python -m tesseract.local.exports_server PORT UPSTREAM FOLDER MIN_WINDOW`.

It answers ExportTableToPointInTime, DescribeExport, ListExports and the calls about continuous backups; it forwards every other
call to the laptop cloud. It follows the stream of every table that it is asked to export, from the stream's beginning.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tesseract.local.exports import Json, Request, files, refusal
from tesseract.local.follower import Follower
from tesseract.utils.aws_helpers import client
from tesseract.utils.time_utils import utc_now

PREFIX = "DynamoDB_20120810."


class Refused(Exception):
    """An answer with an error code, as AWS gives it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Exports:
    """The exports of one laptop cloud, and since when its tables can be restored."""

    def __init__(self, folder: Path, min_window: int) -> None:
        self._folder, self._min_window = folder, min_window
        self._earliest: dict[str, int] = {}
        self._followers: dict[str, Follower] = {}
        self._exports: dict[str, tuple[Request, Json]] = {}
        self._lock = threading.Lock()

    def answer(self, operation: str, body: Json) -> Json | None:
        """The answer to a call, None where it is to be forwarded. Raises Refused."""
        match operation:
            case "ExportTableToPointInTime":
                return {"ExportDescription": self._start(body)}
            case "DescribeExport":
                return {"ExportDescription": self._known(body["ExportArn"])}
            case "ListExports":
                table = body.get("TableArn")
                chosen = [d for request, d in self._exports.values() if table in (None, request.table_arn)]
                return {"ExportSummaries": [{n: d[n] for n in ("ExportArn", "ExportStatus", "ExportType")} for d in chosen]}
            case "DescribeContinuousBackups":
                return {"ContinuousBackupsDescription": self._backups(_name(body["TableName"]))}
            case "UpdateContinuousBackups":
                on = bool(body["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"])
                return {"ContinuousBackupsDescription": self._switch(_name(body["TableName"]), on)}
        return None

    def _switch(self, table: str, on: bool) -> Json:
        streamed = "LatestStreamArn" in client("dynamodb").describe_table(TableName=table)["Table"]
        with self._lock:
            if on:
                self._earliest.setdefault(table, int(time.time()))
                if streamed:
                    self._follower(table)
            else:
                self._earliest.pop(table, None)
        return self._backups(table)

    def _backups(self, table: str) -> Json:
        earliest = self._earliest.get(table)
        recovery: Json = {"PointInTimeRecoveryStatus": "DISABLED" if earliest is None else "ENABLED"}
        if earliest is not None:
            times = {"EarliestRestorableDateTime": earliest, "LatestRestorableDateTime": int(time.time())}
            recovery |= {"RecoveryPeriodInDays": 35, **times}
        return {"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery}

    def _known(self, arn: str) -> Json:
        if arn not in self._exports:
            raise Refused("ExportNotFoundException", f"Export not found: {arn}")
        return self._exports[arn][1]

    def _start(self, body: Json) -> Json:
        table_arn = body["TableArn"]
        now, table = time.time(), _name(table_arn)
        request = _request(body, table_arn, now)
        with self._lock:
            for other, description in self._exports.values():
                if other.token == request.token:
                    if other.parameters != request.parameters:
                        raise Refused("ExportConflictException", "the ClientToken was used with other parameters")
                    return description
            why = refusal(body, now, self._earliest.get(table), self._min_window)
            if why:
                raise Refused(*why)
            description = _description(request, now)
            self._exports[request.arn] = (request, description)
            follower = self._follower(table)
        threading.Thread(target=self._write, args=(request, description, follower), daemon=True).start()
        return description

    def _follower(self, table: str) -> Follower:
        if table not in self._followers:
            self._followers[table] = Follower(table, self._folder / f"{table}.changes")
        return self._followers[table]

    def _write(self, request: Request, description: Json, follower: Follower) -> None:
        try:
            follower.drain(request.end)  # nothing that was acknowledged before the call may be missing
            objects = files(request, follower.changes(), utc_now(), str(uuid.UUID(int=0)))
            storage = client("s3")
            for key, body in objects.items():
                storage.put_object(Bucket=request.bucket, Key=key, Body=body)
                if key.endswith("manifest-summary.json"):
                    summary = json.loads(body)
                    description |= {"ItemCount": summary["itemCount"], "BilledSizeBytes": summary["billedSizeBytes"]}
                    description |= {"ExportStatus": "COMPLETED", "EndTime": int(time.time()), "ExportManifest": key}
        except Exception as error:  # a failed export says why, as on AWS; it must not die in silence
            description |= {"ExportStatus": "FAILED", "FailureCode": type(error).__name__, "FailureMessage": str(error)}


def _name(table: str) -> str:
    return table.rpartition("/")[2]


def _request(body: Json, table_arn: str, now: float) -> Request:
    window = body.get("IncrementalExportSpecification") or {}
    incremental = body.get("ExportType") == "INCREMENTAL_EXPORT"
    end = window.get("ExportToTime", now) if incremental else body.get("ExportTime", now)
    return Request(
        arn=f"{table_arn}/export/{int(now * 1000):014d}-{uuid.uuid4().hex[:8]}",
        table_arn=table_arn,
        bucket=body["S3Bucket"],
        prefix=body.get("S3Prefix", ""),
        token=body.get("ClientToken") or uuid.uuid4().hex,
        end=int(end),
        start=int(window.get("ExportFromTime", 0)) if incremental else None,
        view=window.get("ExportViewType", "NEW_AND_OLD_IMAGES"),
        parameters={name: value for name, value in body.items() if name != "ClientToken"},
    )


def _description(request: Request, now: float) -> Json:
    return {
        "ExportArn": request.arn,
        "ExportStatus": "IN_PROGRESS",
        "StartTime": int(now),
        "TableArn": request.table_arn,
        "S3Bucket": request.bucket,
        "S3Prefix": request.prefix,
        "ClientToken": request.token,
        "ExportFormat": "DYNAMODB_JSON",
        **(
            {"ExportType": "FULL_EXPORT", "ExportTime": request.end}
            if request.start is None
            else {
                "ExportType": "INCREMENTAL_EXPORT",
                "IncrementalExportSpecification": {
                    "ExportFromTime": request.start,
                    "ExportToTime": request.end,
                    "ExportViewType": request.view,
                },
            }
        ),
    }


class Proxy(BaseHTTPRequestHandler):
    """One connection: kept open, its calls forwarded over a connection of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    exports: Exports
    upstream: tuple[str, int]

    def setup(self) -> None:
        super().setup()
        self._connection = http.client.HTTPConnection(*self.upstream, timeout=120)

    def finish(self) -> None:
        self._connection.close()
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        target = self.headers.get("x-amz-target", "")
        try:
            answer = self.exports.answer(target.removeprefix(PREFIX), json.loads(body)) if target.startswith(PREFIX) else None
        except Refused as refused:
            error = {"__type": f"com.amazonaws.dynamodb.v20120810#{refused.code}", "message": refused.message}
            self._reply(400, json.dumps(error).encode())
            return
        except Exception as error:  # the caller must get an answer, whatever went wrong here
            body = json.dumps({"__type": "InternalServerError", "message": f"the stand-in failed: {error!r}"}).encode()
            self._reply(500, body)
            return
        if answer is None:
            self._forward(body)
        else:
            self._reply(200, json.dumps(answer).encode())

    do_GET = do_POST  # noqa: N815 - names of the base class

    def _forward(self, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        headers["Host"] = self.headers.get("host", "")
        for attempt in (1, 2):  # a kept connection may have been closed at the other end
            try:
                self._connection.request(self.command, self.path, body, headers)
                answer = self._connection.getresponse()
                break
            except (http.client.HTTPException, ConnectionError, OSError):
                self._connection.close()
                if attempt == 2:
                    self._reply(503, b'{"__type":"ServiceUnavailable","message":"the laptop cloud does not answer"}')
                    return
        self._reply(answer.status, answer.read(), answer.getheader("x-amz-crc32"))

    def _reply(self, status: int, body: bytes, checksum: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(body)))
        if checksum:
            self.send_header("x-amz-crc32", checksum)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent: the laptop cloud's own log has every call."""


class Server(ThreadingHTTPServer):
    """Threads end with the process."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until the process is ended."""
    port, upstream, folder, min_window = sys.argv[1:5]
    parts = urlsplit(upstream)
    Proxy.upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
    Proxy.exports = Exports(Path(folder), int(min_window))
    Server(("127.0.0.1", int(port)), Proxy).serve_forever()


if __name__ == "__main__":
    main()
