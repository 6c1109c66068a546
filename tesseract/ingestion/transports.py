"""The three roads of the client. Only what is special to a road is here; chunking and retries are in `client`."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from tesseract.errors import BackendError, InputError, Throttled
from tesseract.ingestion.client import Line, Report, api_url, report_of
from tesseract.storage.services import Kinesis as Stream
from tesseract.storage.services import SignedHttp, invoke


class Http:
    """POST /datasets/{dataset}/records, signed, gzipped NDJSON."""

    by_group = False

    def __init__(self, stage: str) -> None:
        self._url = api_url(stage)
        self._http = SignedHttp("execute-api")

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        body = gzip.compress(b"\n".join(line.body for line in lines), 1)
        headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
        status, answer = self._http.post(f"{self._url}/datasets/{quote(dataset, safe='')}/records", body, headers)
        if status in (429, 502, 503, 504):
            raise Throttled(f"the API answered {status}", operation="POST", key=dataset)
        try:
            decoded: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise BackendError(f"the API answered {status}: {answer[:200]!r}", operation="POST", key=dataset) from error
        if status in (401, 403):
            raise BackendError(f"AWS said no: {decoded.get('message', status)}", operation="POST", key=dataset)
        return report_of({"status": status, **decoded}, lines)


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
