"""A producer: records that a program emits one by one, sent in batches in the background.

One thread sends, one batch after the other, so records arrive in the order of `send`. Whatever was taken is in exactly one place:
accepted, rejected, or pending; what is pending when it ends comes back in the error. A record that is in doubt is sent again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from threading import Condition, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError, TesseractError, Throttled, Undelivered
from tesseract.ingestion.chunks import CHUNK_BYTES, CHUNK_RECORDS, Line, Refused, Single, place, singles
from tesseract.ingestion.client import Report, Transport, attempt, backoff
from tesseract.ingestion.encode import encode_record
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.validators import Rejection

QUEUE_BYTES = 64_000_000
KEPT = 1000  # rejections in `rejected`
log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Records: taken by `send`, accepted, rejected, sent again, and not settled yet. sent = accepted + rejected + pending."""

    sent: int
    accepted: int
    rejected: int
    retried: int
    pending: int


class Producer:
    """Made by `store.producer`. Use it in a `with` block; safe to share between threads.

    `rejected` holds the last 1,000 rejections, their `index` counting the records from 0 in the order of `send`.
    """

    def __init__(
        self,
        dataset: Dataset,
        transport: Transport,
        *,
        flush_seconds: float = 1.0,
        queue: int = 10_000,
        close_seconds: float = 60.0,
        on_reject: Callable[[dict[str, Any], Rejection], None] | None = None,
        pause: Callable[[int, float], float] = backoff,
    ) -> None:
        """`pause(attempts, at_least)` says how many seconds to wait before a batch is sent again."""
        self._dataset, self._transport, self._on_reject = dataset, transport, on_reject
        self._flush_seconds, self._close_seconds, self._limit = flush_seconds, close_seconds, queue
        self._pause = pause
        self.rejected: deque[Rejection] = deque(maxlen=KEPT)
        self._turn = Condition()  # guards what follows
        self._waiting: deque[tuple[Line, float]] = deque()  # with the time when it came
        self._flying: dict[int, Line] = {}  # the batch that is being sent, by index; what is settled leaves it
        self._bytes = self._sent = self._accepted = self._refused = self._retried = 0
        self._flush_to = 0  # every record before this index is to be sent now
        self._trouble: TesseractError | None = None  # what ended the sending for good
        self._thread: Thread | None = None
        self._closing = False

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise InputError("a producer is used once", hint="ask the store for another one")
        self._thread = Thread(target=self._run, name=f"tesseract-producer-{self._dataset.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._turn:
            self._closing, self._flush_to = True, self._sent
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._trouble or not self._pending(), self._close_seconds)
            left = [*self._flying.values(), *(line for line, _ in self._waiting)]
            why = self._trouble
            if left and why is None:
                why = self._trouble = Throttled(f"they were not accepted within {self._close_seconds:g} s")
            self._turn.notify_all()
        if left:
            message = f"{len(left)} records of {self._dataset.name!r} are not delivered: {why}"
            records = tuple(_record(line.body) for line in left)
            raise Undelivered(message, records=records, hint="send the error's .records again") from why
        assert self._thread is not None
        self._thread.join(self._close_seconds)

    def send(self, record: dict[str, Any], timeout: float | None = None) -> None:
        """Take a record, to be sent soon. Blocks while the queue is full, for at most `timeout` seconds.

        The record may be changed afterwards. One that cannot be written as JSON is counted as rejected. Raises Throttled where the
        queue stays full (the record is not taken), and what ended the sending where that is past mending.
        """
        if self._thread is None or self._closing:
            raise InputError("the producer is not open", hint="use it in a with block: with store.producer(…) as p:")
        for single in singles(self._dataset, [encode_record(record)], ours=True):
            self._take_in(single, timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Send what was taken so far, and wait until it is settled.

        Raises Throttled after `timeout` seconds, and what ended the sending where that is past mending.
        """
        with self._turn:
            until = self._flush_to = self._sent
            self._turn.notify_all()
            done = self._turn.wait_for(lambda: self._trouble or self._oldest() >= until, timeout)
            if self._trouble:
                raise self._trouble
            if not done:
                raise Throttled(f"{self._pending()} records are not sent after {timeout:g} s", key=self._dataset.name)

    @property
    def counts(self) -> Counts:
        """How many records are where, at one moment."""
        with self._turn:
            return Counts(self._sent, self._accepted, self._refused, self._retried, self._pending())

    def _take_in(self, record: Single | Refused, timeout: float | None) -> None:
        with self._turn:
            if not self._turn.wait_for(lambda: self._trouble or self._has_room(), timeout):
                key, waited = self._dataset.name, f"none left within {timeout:g} s"
                raise Throttled(f"{self._pending()} records wait to be sent, and {waited}", key=key)
            if self._trouble:
                raise self._trouble
            index = self._sent
            self._sent += 1
            if isinstance(record, Single):
                self._waiting.append((Line(index, record.body), time.monotonic()))
                self._bytes += len(record.body)
                if len(self._waiting) == 1 or self._full():
                    self._turn.notify_all()
                return
            rejection = record.rejection(index)
            self._refused += 1
            self.rejected.append(rejection)
        self._tell(record.body, rejection)

    # under the lock -------------------------------------------------------------------------------------------------

    def _pending(self) -> int:
        return len(self._waiting) + len(self._flying)

    def _has_room(self) -> bool:
        return self._pending() < self._limit and self._bytes < QUEUE_BYTES

    def _oldest(self) -> int:
        first = [self._waiting[0][0].index] if self._waiting else []
        return min([*self._flying, *first], default=self._sent)

    def _due(self) -> float:
        """Seconds until the next batch is to be sent; 0 for now. Only while records wait."""
        line, came = self._waiting[0]
        now = self._full() or line.index < self._flush_to
        return 0 if now else max(0, came + self._flush_seconds - time.monotonic())

    def _full(self) -> bool:
        """Whether there is enough for a batch, or no room for more."""
        return len(self._waiting) >= CHUNK_RECORDS or self._bytes >= CHUNK_BYTES or not self._has_room()

    def _take(self) -> list[Line]:
        size = 0
        while self._waiting and len(self._flying) < CHUNK_RECORDS and size < CHUNK_BYTES:
            line, _ = self._waiting.popleft()
            self._flying[line.index] = line
            size += len(line.body)
        return list(self._flying.values())

    # the sender's thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while batch := self._next():
                for group, lines in self._grouped(batch):
                    self._deliver(lines, group)
        except TesseractError as error:
            self._end(error)
        except Exception as error:  # nothing may leave records waiting for a thread that is gone
            log.exception("the sender failed")
            self._end(TesseractError(f"the sender failed: {error!r}"))

    def _end(self, error: TesseractError) -> None:
        with self._turn:
            self._trouble = self._trouble or error
            self._turn.notify_all()

    def _next(self) -> list[Line]:
        """The next batch, when it is due. None is left and none will come where it is empty."""
        with self._turn:
            while not self._trouble:
                if self._waiting:
                    due = self._due()
                    if due <= 0:
                        return self._take()
                    self._turn.wait(due)
                elif self._closing:
                    break
                else:
                    self._turn.wait()
        return []

    def _grouped(self, batch: list[Line]) -> Iterator[tuple[str, list[Line]]]:
        if not self._transport.by_group:
            yield "", batch
            return
        groups: dict[str, list[Line]] = {}
        for line in batch:
            single = next(singles(self._dataset, [line.body]))
            _, group = place(self._dataset, single.value, 1) if isinstance(single, Single) else (0, "")
            groups.setdefault(group, []).append(line)
        yield from groups.items()

    def _deliver(self, lines: Sequence[Line], group: str) -> None:
        """Send until it is settled: a batch waits for as long as it takes, and `send` blocks behind it."""
        attempts = 0
        while True:
            attempts += 1
            tried = attempt(self._transport, self._dataset.name, lines, group)
            if not self._settled(lines, tried.settled, tried.left):
                return
            lines = tried.left
            if not lines:
                return
            seconds = self._pause(attempts, tried.pause)
            log.info("sent again", extra={"records": len(lines), "attempt": attempts, "pause": seconds, "why": str(tried.trouble)})
            with self._turn:
                self._turn.wait_for(lambda: self._trouble, seconds)
                if self._trouble:
                    return
                self._retried += len(lines)

    def _settled(self, lines: Sequence[Line], report: Report, left: Sequence[Line]) -> bool:
        """Count an answer; whether it still matters: after the end, what was given back stays given back."""
        again = {line.index for line in left}
        done = [line for line in lines if line.index not in again]
        by_index = {line.index: line for line in done}
        with self._turn:
            if self._trouble:
                return False
            for line in done:
                del self._flying[line.index]
                self._bytes -= len(line.body)
            refused = {entry.index: entry for entry in report.rejected}
            self._accepted += len(done) - len(refused)
            self._refused += len(refused)
            self.rejected.extend(refused.values())
            self._turn.notify_all()
        for index, rejection in refused.items():
            self._tell(by_index[index].body, rejection)
        return True

    def _tell(self, body: bytes, rejection: Rejection) -> None:
        log.info("rejected", extra={"index": rejection.index, "field": rejection.field, "reason": rejection.reason})
        if self._on_reject is None:
            return
        try:
            self._on_reject(_record(body), rejection)
        except Exception:  # a mistake in it must not cost the records behind this one
            log.exception("on_reject failed")


def _record(body: bytes) -> Any:
    """A record as it would be sent: a number is the float that spells it, where there is one. What is no JSON is its text."""
    try:
        return _EXACT.decode(body)
    except BAD_JSON:
        return body.decode("utf-8", "replace")


def _number(text: str) -> float | Decimal:
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else Decimal(text)


_EXACT = msgspec.json.Decoder(float_hook=_number)
