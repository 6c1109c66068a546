"""Envelopes to records and back to answers: HTTP API and function URL, direct invoke, Kinesis. The entry points call these."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.manager import Configs
from tesseract.errors import BackendError, DamagedError, InputError, NotFoundError, RetryError, UnknownDataset
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.validators import Rejection, Validator, split_body
from tesseract.ingestion.writer import Writer
from tesseract.storage.base import Objects
from tesseract.storage.keys import quarantine_object
from tesseract.utils.time_utils import iso_day

MAX_BODY = 4_500_000  # Lambda takes 6 MB of event, and base64 adds a third
MAX_RECORDS = 40_000  # so that an answer that lists them all fits the 6 MB that Lambda returns
IN_FULL = 500  # rejections that an answer explains; the others only say that they are
SPARE = timedelta(seconds=3)  # before the deadline, to answer in
NOT_WRITTEN = "not written: the table is throttled; send this record again"
NOT_VALID = "not valid; see the first ones"


class Answer(msgspec.Struct, frozen=True):
    """What happened to a request: how many records were accepted, and what was wrong with the others."""

    status: int
    accepted: int = 0
    rejected: list[Rejection] = []
    error: str = ""

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        listed = [
            entry if place < IN_FULL or entry.reason == NOT_WRITTEN else Rejection(entry.index, "", "", NOT_VALID)
            for place, entry in enumerate(self.rejected)
        ]
        plain: dict[str, Any] = {"accepted": self.accepted, "rejected": [msgspec.structs.asdict(entry) for entry in listed]}
        return {"error": self.error, **plain} if self.error else plain


class Service:
    """Ingestion of one stage: shared by the entry points, and by tests over any backend."""

    def __init__(self, configs: Configs, writer: Writer, objects: Objects, clock: Callable[[], datetime]) -> None:
        self._configs, self._writer, self._objects, self._clock = configs, writer, objects, clock
        self._validators: dict[tuple[str, int], Validator] = {}

    # HTTP and direct invoke -----------------------------------------------------------------------------------------

    def handle(self, event: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Answer an event: of an HTTP API or function URL (payload 2.0), else a direct `{"dataset": …, "records": […]}`.

        `seconds` is what is left of the function's time.
        """
        if "requestContext" not in event:
            return self._answer_direct(event, seconds)
        dataset = str((event.get("pathParameters") or {}).get("dataset", ""))
        answer = self._answer(dataset, lambda: self._lines(dataset, event), seconds)
        headers = {"content-type": "application/json"}
        if answer.status == 503:
            headers["retry-after"] = "2"
        return {"statusCode": answer.status, "headers": headers, "body": msgspec.json.encode(answer.body()).decode()}

    def _answer_direct(self, event: dict[str, Any], seconds: float) -> dict[str, Any]:
        records = event.get("records")
        if not isinstance(event.get("dataset"), str) or not isinstance(records, list):
            return {"status": 400, **Answer(400, error='a direct event is {"dataset": NAME, "records": [{…}, …]}').body()}
        # the standard library's encoder: what is no JSON (NaN, half a surrogate pair) is for the decoder to refuse, by record
        answer = self._answer(event["dataset"], lambda: [json.dumps(record).encode() for record in records], seconds)
        return {"status": answer.status, **answer.body()}

    def _answer(self, dataset: str, read: Callable[[], Sequence[bytes | msgspec.Raw]], seconds: float) -> Answer:
        try:
            lines = read()
            if len(lines) > MAX_RECORDS:
                raise _TooLarge(f"the body has {len(lines)} records, at most {MAX_RECORDS} go into one request")
            return self.ingest(dataset, lines, seconds)
        except _TooLarge as error:
            return Answer(413, error=f"{error}; send it in parts")
        except UnknownDataset as error:
            return Answer(404, error=str(error))
        except (RetryError, NotFoundError, BackendError, DamagedError) as error:  # of the stage, not of what was sent
            return Answer(503, error=f"not written, send it again: {error}")
        except InputError as error:
            return Answer(400, error=str(error))
        except RecursionError:
            return Answer(400, error="the records are nested too deeply")

    def _lines(self, dataset: str, event: dict[str, Any]) -> Sequence[bytes | msgspec.Raw]:
        body = _body(event)
        if len(body) > MAX_BODY:
            raise _TooLarge(f"the body has {len(body)} bytes, at most {MAX_BODY} go into one request")
        self._configs.get(dataset)  # an unknown dataset is answered before what is wrong with the body
        return split_body(body)

    def ingest(self, name: str, lines: Sequence[bytes | msgspec.Raw], seconds: float) -> Answer:
        """Validate and write the records of one request. Raises NotFoundError for an unknown dataset."""
        now = self._clock()
        dataset = self._configs.get(name)
        decoded = self._validator(dataset).decode(lines, now)
        unwritten = self._writer.write(dataset, decoded.records, now + timedelta(seconds=seconds) - SPARE)
        rejected = decoded.rejected + [Rejection(index, "", "", NOT_WRITTEN) for index in unwritten]
        rejected.sort(key=lambda rejection: rejection.index)
        accepted = len(lines) - len(rejected)
        status = 200 if not rejected else 207 if accepted else 503 if unwritten else 400
        return Answer(status, accepted, rejected)

    def _validator(self, dataset: Dataset) -> Validator:
        key = (dataset.name, dataset.version)
        if key not in self._validators:
            self._validators[key] = Validator(dataset)
        return self._validators[key]

    # Kinesis --------------------------------------------------------------------------------------------------------

    def handle_kinesis(self, event: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Write a batch of one shard. What cannot be valid goes to quarantine; what was not written is asked for again.

        Each Kinesis record is `{"dataset": NAME, "records": [{…}, …]}`.
        """
        lots: dict[str, list[tuple[str, bytes | msgspec.Raw]]] = {}
        refused: dict[str, list[dict[str, Any]]] = {}
        for entry in event["Records"]:
            sequence = entry["kinesis"]["sequenceNumber"]
            data = base64.b64decode(entry["kinesis"]["data"])
            try:
                envelope = msgspec.json.decode(data, type=Envelope)
                self._configs.get(envelope.dataset)
                lots.setdefault(envelope.dataset, []).extend((sequence, line) for line in envelope.records)
            except BAD_JSON as error:
                reason = f'not {{"dataset": NAME, "records": [{{…}}, …]}}: {error}'
                refused.setdefault("_unknown", []).append(_refused(sequence, data, "", reason))
            except InputError as error:
                refused.setdefault("_unknown", []).append(_refused(sequence, data, "dataset", str(error)))
        failed: list[str] = []
        for name, lot in lots.items():
            answer = self.ingest(name, [line for _, line in lot], seconds)
            for rejection in answer.rejected:
                sequence, line = lot[rejection.index]
                if rejection.reason == NOT_WRITTEN:
                    failed.append(sequence)
                else:
                    refused.setdefault(name, []).append(_refused(sequence, bytes(line), rejection.field, rejection.reason))
        self._quarantine(event, refused)
        lowest = min(failed, key=int, default=None)
        return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}

    def _quarantine(self, event: dict[str, Any], refused: dict[str, list[dict[str, Any]]]) -> None:
        """Keep what nobody can be told about. Named by shard and sequence number: a batch that comes again writes it again."""
        day = iso_day(self._clock())
        shard = str(event["Records"][0].get("eventID", "shard")).partition(":")[0]
        for dataset, entries in refused.items():
            by_sequence = Counter(entry["sequence"] for entry in entries)
            name = f"kinesis-{shard}-{min(by_sequence, key=int)}"
            self._objects.put(quarantine_object(dataset, day, name), b"\n".join(map(msgspec.json.encode, entries)) + b"\n")


class _TooLarge(Exception):
    """More than one request may hold."""


class Envelope(msgspec.Struct):
    """A Kinesis record: which dataset, and its records."""

    dataset: str
    records: list[msgspec.Raw]


def _refused(sequence: str, data: bytes, field: str, reason: str) -> dict[str, Any]:
    return {"sequence": sequence, "record": data.decode("utf-8", "replace"), "field": field, "reason": reason}


def _body(event: dict[str, Any]) -> bytes:
    """The body as bytes: base64 and gzip undone. Raises InputError where it is not what the envelope says."""
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "surrogatepass")
    try:
        plain = base64.b64decode(body, validate=True)
    except ValueError as error:
        raise InputError(f"the body is not base64: {error}") from error
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    return _inflate(plain) if "gzip" in headers.get("content-encoding", "") else plain


def _inflate(body: bytes) -> bytes:
    """Gunzip, but never more than a body may hold: a small request must not fill the memory."""
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_BODY + 1)
    except EOFError as error:
        raise InputError("the gzip body ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"the body is not gzip, though its content-encoding says so: {error}") from error
