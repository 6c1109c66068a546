"""The three roads of the client. Only what is special to a road is here; chunking and retries are in `client`."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from tesseract.errors import BackendError, InputError
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Busy, Report, api_url, report_of
from tesseract.storage.services import Kinesis as Stream
from tesseract.storage.services import SignedHttp, invoke

LONGEST_WAIT = 60.0  # seconds that a server may ask for
RIGHTS = "the caller needs execute-api:Invoke, valid credentials, and a clock that is right"


class Http:
    """POST /datasets/{dataset}/records, signed, gzipped NDJSON."""

    by_group = False

    def __init__(self, stage: str) -> None:
        self._url = api_url(stage)
        self._http = SignedHttp("execute-api")

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        body = gzip.compress(b"\n".join(line.body for line in lines), 1)
        headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
        status, answer, sent = self._http.post(f"{self._url}/datasets/{quote(dataset, safe='')}/records", body, headers)
        try:
            decoded: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError:
            decoded = {"message": answer[:200].decode("utf-8", "replace")}
        if status in (401, 403):
            raise BackendError(f"AWS said no: {decoded.get('message', status)}", operation="POST", key=dataset, hint=RIGHTS)
        pause = _seconds(sent.get("retry-after", ""))
        if "accepted" not in decoded and (status == 429 or status >= 500):  # the gateway's own: no function answered
            raise Busy(f"the API answered {status}: {decoded.get('message', '')}", pause, operation="POST", key=dataset)
        if "accepted" not in decoded:
            raise BackendError(f"the API answered {status}: {decoded.get('message', '')}", operation="POST", key=dataset)
        return report_of({"status": status, **decoded}, lines, pause)


def _seconds(retry_after: str) -> float:
    """What the header asks for, in seconds; a date is not counted."""
    return min(float(retry_after), LONGEST_WAIT) if retry_after.strip().isdecimal() else 0


class Direct:
    """Invoke of the ingestion function."""

    by_group = False

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        payload = {"dataset": dataset, "records": [msgspec.Raw(line.body) for line in lines]}
        try:
            return report_of(invoke(self._stage, "ingestHttp", payload), lines)
        except msgspec.MsgspecError as error:
            raise InputError(f"a record is not JSON: {error}") from error


class Kinesis:
    """One Kinesis record a chunk, its partition key the group, so that a group's records stay in one shard."""

    by_group = True

    def __init__(self, stage: str) -> None:
        self._stream = Stream(f"tesseract-{stage}-records")

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        head = msgspec.json.encode(dataset)
        body = b'{"dataset":' + head + b',"records":[' + b",".join(line.body for line in lines) + b"]}"
        self._stream.put(body, group[:256] or "-")
        return Report(len(lines), [])
