"""Every envelope into records and back to an answer: HTTP of any form, direct invoke, Kinesis. The entry points call these."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tesseract.config.cache import Configs
from tesseract.errors import DamagedError, InputError, TesseractError, Throttled, UnknownDataset
from tesseract.ingestion.answers import Answer, Refused, TooLarge, unwritten
from tesseract.ingestion.bodies import Line, check_count, split
from tesseract.ingestion.envelopes import Request, is_http, read_request
from tesseract.ingestion.kinesis_records import KinesisRecord, Part, Reader, Unread, chunks
from tesseract.ingestion.records_path import reads
from tesseract.ingestion.service import STAGE_TROUBLE, Ingestion, Outcome
from tesseract.ingestion.tombstones import read_rows, tombstones
from tesseract.ingestion.writer import Writer
from tesseract.storage.base import Objects
from tesseract.storage.quarantine import UNKNOWN, Entry, from_kinesis, write
from tesseract.utils.time_utils import EPOCH

SPARE = timedelta(seconds=3)  # before the deadline, to answer in
DIRECT = 'a direct event is {"dataset": NAME, "records": [{…}, …]}, or has "delete" in place of "records"'


class Tally(msgspec.Struct):
    """What became of the records of one dataset in one event, for logs and metrics: numbers, and no value of a record."""

    dataset: str
    status: int = 0  # of an answer; Kinesis gets none
    accepted: int = 0
    rejected: int = 0
    warnings: int = 0
    not_written: int = 0
    deleted: int = 0  # rows that tombstones were written for
    throttled: int = 0  # those of `not_written` that the table's throttling kept out
    bytes: int = 0
    writes: Counter[str] = msgspec.field(default_factory=Counter)  # what Writer.counts counted
    error: str = ""

    def count(self, outcome: Outcome, lines: Sequence[Line]) -> None:
        """Add an outcome."""
        self.accepted += outcome.accepted
        self.rejected += len(outcome.rejected)
        self.warnings += len(outcome.warnings)
        self.not_written += len(outcome.unwritten)
        self.throttled += len(outcome.unwritten) if outcome.throttled else 0
        self.bytes += sum(map(len, lines))
        self.writes += outcome.writes
        if outcome.trouble is not None:
            self.error = _said(outcome.trouble)


Tell = Callable[[Tally], None]


class Service:
    """Ingestion of one stage: shared by the entry points, and by tests over any backend.

    `kinesis_dataset` is where Kinesis records go that name no dataset; empty: to quarantine.
    """

    def __init__(
        self, configs: Configs, writer: Writer, objects: Objects, clock: Callable[[], datetime], kinesis_dataset: str = ""
    ) -> None:
        self._configs, self._objects, self._clock, self._kinesis_dataset = configs, objects, clock, kinesis_dataset
        self._writer, self._ingestion = writer, Ingestion(configs, writer, clock)

    # HTTP and direct invoke -----------------------------------------------------------------------------------------

    def handle(self, event: dict[str, Any], seconds: float, tell: Tell = lambda tally: None) -> dict[str, Any]:
        """Answer an event: an HTTP one of any form, else a direct one: `dataset`, and `records` or `delete`.

        `seconds` is what is left of the function's time; `tell` gets the tally of the event.
        """
        deadline, tally = self._deadline(seconds), Tally(UNKNOWN)
        read, shape = (self._http_lines, Answer.http) if is_http(event) else (self._direct_lines, Answer.direct)
        try:
            if "delete" in event and not is_http(event):
                answer = self._delete(event, tally, deadline)
            else:
                lines = read(event, tally)
                outcome = self._ingestion.run(tally.dataset, lines, deadline)
                tally.count(outcome, lines)
                answer = _answer(outcome)
        except Refused as error:
            answer = Answer(error.status, error=str(error))
        except UnknownDataset as error:
            answer = Answer(404, error=str(error))
        except STAGE_TROUBLE as error:
            tally.error = _said(error)
            answer = Answer(429 if isinstance(error, Throttled) else 503, error=f"not written, send it again: {_said(error)}")
        except InputError as error:
            answer = Answer(400, error=str(error))
        except RecursionError:
            answer = Answer(400, error="the records are nested too deeply")
        tally.status = answer.status
        tell(tally)
        return shape(answer)

    def _http_lines(self, event: dict[str, Any], tally: Tally) -> list[Line]:
        request: Request = read_request(event)
        dataset = self._configs.get(request.dataset)  # an unknown dataset is answered before what is wrong with the body
        tally.dataset = dataset.name
        return split(request.body(), envelope=not reads(dataset, "records"))

    def _direct_lines(self, event: dict[str, Any], tally: Tally) -> list[Line]:
        name, records = event.get("dataset"), event.get("records")
        if not isinstance(name, str) or not isinstance(records, list):
            raise InputError(DIRECT)
        tally.dataset = self._configs.get(name).name
        check_count(len(records))
        # the standard library's encoder: what is no JSON (NaN, half a surrogate pair) is for the decoder to refuse, by record
        return [json.dumps(record).encode() for record in records]

    def _delete(self, event: dict[str, Any], tally: Tally, deadline: datetime) -> Answer:
        """Write tombstones for the rows that an event names: `accepted` counts them, `rejected` lists those to be sent again."""
        name, asked = event.get("dataset"), read_rows(event["delete"])
        if not isinstance(name, str) or "records" in event:
            raise InputError(DIRECT)
        check_count(len(asked.rows))
        tally.dataset = self._configs.get(name).name
        dataset, before = self._configs.use(name), self._writer.counts
        left = self._writer.write(dataset, tombstones(dataset, asked, self._clock()), deadline)
        tally.writes = self._writer.counts - before
        tally.deleted, tally.not_written = len(asked.rows) - len(left), len(left)
        status = 200 if not left else 207 if tally.deleted else 503
        return Answer(status, tally.deleted, unwritten(left))

    def _deadline(self, seconds: float) -> datetime:
        return self._clock() + timedelta(seconds=seconds) - SPARE

    # Kinesis --------------------------------------------------------------------------------------------------------

    def handle_kinesis(self, event: dict[str, Any], seconds: float, tell: Tell = lambda tally: None) -> dict[str, Any]:
        """Write a batch of one shard. What cannot be valid goes to quarantine; what was not written is asked for again.

        `tell` gets a tally per dataset. A batch that comes again is counted again.
        """
        deadline = self._deadline(seconds)
        tallies: dict[str, Tally] = {}
        lowest = None
        for chunk in chunks(Reader(self._configs.get, self._kinesis_dataset), event["Records"]):
            lowest = self._chunk(chunk, deadline, tallies)
            if lowest is not None:  # from it on all come again
                break
        for tally in tallies.values():
            tell(tally)
        return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}

    def _chunk(self, chunk: list[tuple[KinesisRecord, Part | Unread]], deadline: datetime, tallies: dict[str, Tally]) -> str | None:
        """Write a part of a batch; the lowest sequence number of what was not written. The refused ones before it are kept."""
        now = self._clock()
        lots: dict[str, list[tuple[KinesisRecord, Line]]] = {}
        refused: dict[str, list[Entry]] = {}
        for record, part in chunk:
            if isinstance(part, Part):
                lots.setdefault(part.dataset, []).append((record, part.line))
                continue
            entry = from_kinesis(record, part.data, now, reason=part.reason, field=part.field, hint=part.hint)
            refused.setdefault(part.dataset, []).append(entry)
            tallies.setdefault(part.dataset, Tally(part.dataset)).rejected += 1
        failed: list[str] = []
        for name, lot in lots.items():
            tally = tallies.setdefault(name, Tally(name))
            failed += self._lot(name, lot, deadline, refused.setdefault(name, []), tally)
        lowest = min(failed, key=int, default=None)
        for name, entries in refused.items():
            write(self._objects, name, [entry for entry in entries if lowest is None or int(entry.sequence) < int(lowest)])
        return lowest

    def _lot(
        self, name: str, lot: list[tuple[KinesisRecord, Line]], deadline: datetime, refused: list[Entry], tally: Tally
    ) -> list[str]:
        """Write the lines of one dataset; the sequence numbers of those not written. Adds those refused to `refused`."""
        now, lines = self._clock(), [line for _, line in lot]
        try:
            outcome = self._ingestion.run(name, lines, deadline, min(_arrival(record, now) for record, _ in lot))
        except (TooLarge, DamagedError) as error:
            if isinstance(error, TooLarge) and len(lot) > 1:  # together they are too many, once they are expanded
                half = len(lot) // 2
                return [seq for part in (lot[:half], lot[half:]) for seq in self._lot(name, part, deadline, refused, tally)]
            refused += [from_kinesis(record, bytes(line), now, reason=str(error)) for record, line in lot]
            tally.rejected += len(lot)
            return []
        tally.count(outcome, lines)
        version, sources = outcome.dataset.version, outcome.expanded.sources
        for why in outcome.rejected:
            record, sent = lot[sources[why.index]][0], outcome.sent(why.index)
            refused.append(
                from_kinesis(record, sent, now, reason=why.reason, field=why.field, hint=why.hint, config_version=version)
            )
        return [lot[sources[index]][0]["kinesis"]["sequenceNumber"] for index in outcome.unwritten]


def _arrival(record: KinesisRecord, now: datetime) -> datetime:
    """When a record reached its stream."""
    seconds = record["kinesis"].get("approximateArrivalTimestamp")
    return now if seconds is None else EPOCH + timedelta(seconds=seconds)


def _answer(outcome: Outcome) -> Answer:
    rejected = sorted([*outcome.rejected, *unwritten(outcome.unwritten)], key=lambda entry: entry.index)
    if not rejected or outcome.accepted or not outcome.unwritten:
        status = 200 if not rejected else 207 if outcome.accepted else 400
        return Answer(status, outcome.accepted, rejected, outcome.warnings)
    why = "the table is throttled" if outcome.throttled else "there was no time left"
    error = f"not written, send it again: {_said(outcome.trouble) if outcome.trouble else why}"
    return Answer(429 if outcome.throttled else 503, 0, rejected, outcome.warnings, error)


def _said(error: TesseractError) -> str:
    """What went wrong, without the key: that is made of a record's values."""
    parts: Iterable[str] = (error.operation, error.message)
    return ": ".join(part for part in parts if part)
