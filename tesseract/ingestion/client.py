"""The producer's side: chunks of records to a stage by HTTP, by Kinesis, or by direct invoke of the function.

Records with one key keep their order: those of one group and day travel in one lane, one chunk after the other. A chunk that
arrives twice changes nothing, so whatever is in doubt is sent again.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple, Protocol

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import BackendError, InputError, NotFoundError, RetryError, Throttled
from tesseract.ingestion.answers import NOT_WRITTEN
from tesseract.ingestion.chunks import LANES, Line, Refused, chunks
from tesseract.ingestion.validators import Rejection
from tesseract.storage.codec import Wire

ATTEMPTS = 8
LONGEST_PAUSE = 20.0  # seconds, unless the server asks for more
NAP = 0.5  # seconds between two looks at whether to give up
log = logging.getLogger(__name__)


class Report(msgspec.Struct):
    """What became of the records sent. By Kinesis nobody answers: accepted means that the stream has them.

    `retry_after`: the seconds that the server asked for before records that were not written are sent again.
    """

    accepted: int = 0
    rejected: list[Rejection] = []
    warnings: list[Rejection] = []
    retry_after: float = 0

    def add(self, other: Report) -> None:
        """Count another report into this one."""
        self.accepted += other.accepted
        self.rejected.extend(other.rejected)
        self.warnings.extend(other.warnings)

    def answer(self) -> dict[str, Any]:
        """As `store.put` gives it; the rejected records in the order of the input."""
        plain = {"accepted": self.accepted, "rejected": _listed(self.rejected)}
        return {**plain, "warnings": _listed(self.warnings)} if self.warnings else plain


def _listed(entries: list[Rejection]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(entry) for entry in sorted(entries, key=lambda entry: entry.index)]


class Busy(Throttled):
    """The server asked to slow down, and perhaps for how many seconds."""

    def __init__(self, message: str, retry_after: float = 0, *, operation: str = "", key: str = "") -> None:
        super().__init__(message, operation=operation, key=key)
        self.retry_after = retry_after


class Transport(Protocol):
    """Sends one chunk of lines, in order. Raises RetryError where it should be sent again."""

    by_group: bool  # whether a chunk holds one group only

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        """What became of the chunk; indices are those of the input."""


class Try(NamedTuple):
    """One attempt at a chunk: what is settled, what must be sent again, why, and after how many seconds at least."""

    settled: Report
    left: Sequence[Line]
    trouble: RetryError | None
    pause: float


def attempt(transport: Transport, dataset: str, lines: Sequence[Line], group: str) -> Try:
    """Send a chunk once. Raises what sending again would not mend."""
    try:
        report = transport(dataset, lines, group)
    except RetryError as error:
        return Try(Report(), lines, error, getattr(error, "retry_after", 0))
    again = {entry.index for entry in report.rejected if entry.reason == NOT_WRITTEN}
    settled = Report(report.accepted, [entry for entry in report.rejected if entry.index not in again], report.warnings)
    trouble = Throttled(f"{len(again)} of {len(lines)} records are not written", operation="ingest", key=dataset) if again else None
    return Try(settled, [line for line in lines if line.index in again], trouble, report.retry_after)


def backoff(attempts: int, at_least: float = 0) -> float:
    """Seconds to wait after so many attempts: full jitter under a ceiling that doubles, on top of what the server asked for."""
    return at_least + random.uniform(0, min(LONGEST_PAUSE, 0.1 * 2 ** min(attempts, 20)))  # noqa: S311


def settle(
    transport: Transport, dataset: str, lines: Sequence[Line], group: str = "", stop: threading.Event | None = None
) -> Report:
    """Send a chunk, and again what was not written, until patience ends or `stop` is set. Raises RetryError then."""
    total = Report()
    for attempts in count(1):
        tried = attempt(transport, dataset, lines, group)
        total.add(tried.settled)
        if tried.trouble is None:
            return total
        if attempts == ATTEMPTS or (stop and stop.is_set()):
            raise tried.trouble
        lines = tried.left
        pause = backoff(attempts, tried.pause)
        log.info("sent again", extra={"records": len(lines), "attempt": attempts, "pause": pause, "why": str(tried.trouble)})
        _rest(pause, stop)
    raise AssertionError("unreachable")


def _rest(seconds: float, stop: threading.Event | None) -> None:
    while seconds > 0 and not (stop and stop.is_set()):
        time.sleep(min(seconds, NAP))
        seconds -= NAP


def deliver(
    dataset: Dataset,
    records: Iterable[bytes | Refused],
    transport: Transport,
    arrived: Callable[[Sequence[Line], Report], None],
    reject: Callable[[bytes, Rejection], None],
    *,
    lanes: int = LANES,
    known: Callable[[Sequence[Line]], bool] = lambda lines: False,
) -> None:
    """Send records, one JSON object each, in `lanes` at once.

    `arrived` is told of every chunk that was acknowledged, `reject` of every record that cannot be sent; a chunk that is `known` is
    left out. They are called one at a time. The first chunk that fails ends it all, since what follows it in its lane must not
    overtake it: its error is raised once the chunks under way are settled.
    """
    stop, turn = threading.Event(), threading.Lock()

    def run(lines: Sequence[Line], group: str) -> None:
        report = settle(transport, dataset.name, lines, group, stop)
        with turn:
            arrived(lines, report)

    def refuse(body: bytes, rejection: Rejection) -> None:
        with turn:
            reject(body, rejection)

    running: dict[int, Future[None]] = {}
    begun: set[int] = set()
    with ThreadPoolExecutor(lanes) as pool:
        try:
            for lane, group, lines in chunks(dataset, records, transport.by_group, refuse, lanes):
                with turn:  # once a chunk of a lane is sent, those behind it are, too: a later put must stay the later one
                    if lane not in begun and known(lines):
                        continue
                begun.add(lane)
                _clear(running, lane)
                running[lane] = pool.submit(run, lines, group)
            for future in running.values():
                future.result()
        except BaseException:
            stop.set()  # what waits to be sent again gives up; requests under way are answered first
            raise


def _clear(running: dict[int, Future[None]], lane: int) -> None:
    """Wait for the chunk before in this lane, and take away those of others that have arrived. Raises what any of them met."""
    for other in [other for other, future in running.items() if other == lane or future.done()]:
        running.pop(other).result()


def send(
    dataset: Dataset,
    records: Iterable[bytes | Refused],
    transport: Transport,
    progress: Callable[[int], None] = lambda count: None,
) -> Report:
    """Send records, one JSON object each. `progress` is told the size of every chunk that has arrived.

    Raises RetryError where a part of them could not be delivered for long.
    """
    total = Report()

    def arrived(lines: Sequence[Line], report: Report) -> None:
        total.add(report)
        progress(len(lines))

    deliver(dataset, records, transport, arrived, lambda body, rejection: total.rejected.append(rejection))
    total.rejected.sort(key=lambda rejection: rejection.index)
    return total


def transport_of(road: str, stage: str) -> Transport:
    """The road to a stage. Raises InputError for an unknown one."""
    from tesseract.ingestion import transports

    roads: dict[str, Callable[[str], Transport]] = {
        "http": transports.Http,
        "kinesis": transports.Kinesis,
        "direct": transports.Direct,
    }
    if road not in roads:
        raise InputError(f"--via {road!r} is not a road", hint="one of http, kinesis, direct")
    return roads[road](stage)


def report_of(answer: Wire, lines: Sequence[Line], retry_after: float = 0) -> Report:
    """The function's answer about a chunk, its indices turned into those of the input. Raises by what it says."""
    if "accepted" not in answer:
        raise BackendError(f"the ingestion function failed: {answer.get('errorMessage') or answer}", operation="ingest")
    if answer.get("error"):
        status, message = int(answer.get("status", 400)), str(answer["error"])
        if status in (429, 503):
            raise Busy(message, retry_after)
        raise (NotFoundError if status == 404 else InputError)(message)
    rejected = [_entry(entry, lines) for entry in answer["rejected"]]
    warnings = [_entry(entry, lines) for entry in answer.get("warnings") or ()]
    return Report(int(answer["accepted"]), rejected, warnings, retry_after)


def _entry(entry: Wire, lines: Sequence[Line]) -> Rejection:
    kept = {name: entry[name] for name in Rejection.__struct_fields__ if name in entry}
    place = min(entry["index"], len(lines) - 1)  # a lone line may be an envelope of several records
    return Rejection(**{**kept, "index": lines[place].index})


def api_url(stage: str) -> str:
    """The base of the stage's HTTP API: TESSERACT_API_URL, else asked of AWS by the API's name."""
    url = os.environ.get("TESSERACT_API_URL")
    if url:
        return url.rstrip("/")
    from tesseract.storage.services import http_api_url

    return http_api_url(stage)
