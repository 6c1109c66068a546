"""One file to a stage: sent in lanes, with a journal of what was acknowledged and a file of what was rejected."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.ingestion.chunks import LANES, Line
from tesseract.ingestion.client import Report, Transport, deliver
from tesseract.ingestion.files import Source
from tesseract.ingestion.journal import Identity, Journal
from tesseract.ingestion.rejects import Rejects
from tesseract.ingestion.validators import Rejection

SHOWN = 10  # rejections that are kept to be shown


class Tally(msgspec.Struct):
    """What became of the records so far. `before` of them were acknowledged by an earlier run, and are not sent again."""

    settled: int = 0
    accepted: int = 0
    rejected: int = 0
    before: int = 0
    shown: list[Rejection] = []
    seconds: float = 0.0

    def count(self, lines: Sequence[Line], report: Report, before: bool = False) -> None:
        """Count the answer to a chunk."""
        self.settled += len(lines)
        self.accepted += report.accepted
        self.before += len(lines) if before else 0
        for rejection in report.rejected:
            self.refuse(rejection)

    def refuse(self, rejection: Rejection) -> None:
        """Count a record that was not accepted."""
        self.rejected += 1
        if len(self.shown) < SHOWN:
            self.shown.append(rejection)

    @property
    def rate(self) -> int:
        """Records sent in a second."""
        return round((self.settled - self.before) / self.seconds) if self.seconds else 0


def upload(
    dataset: Dataset,
    source: Source,
    transport: Transport,
    *,
    tally: Tally,
    rejects: Rejects,
    journal: Journal | None = None,
    lanes: int = LANES,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Send a file. `tally` is kept up to date whatever ends it, and `told` is called after every chunk."""
    started = time.monotonic()

    def count(lines: Sequence[Line], report: Report, before: bool = False) -> None:
        bodies = {line.index: line.body for line in lines} if report.rejected else {}
        for rejection in report.rejected:
            rejects.add(source.name, bodies[rejection.index], rejection)
        tally.count(lines, report, before)
        tally.seconds = time.monotonic() - started
        told()

    def arrived(lines: Sequence[Line], report: Report) -> None:
        if journal:
            journal.acknowledge(lines, report)
        count(lines, report)

    def known(lines: Sequence[Line]) -> bool:
        report = journal.answer(lines) if journal else None
        if report is not None:
            count(lines, report, before=True)
        return report is not None

    def reject(body: bytes, rejection: Rejection) -> None:
        rejects.add(source.name, body, rejection)
        tally.settled += 1
        tally.refuse(rejection)

    try:
        deliver(dataset, source, transport, arrived, reject, lanes=lanes, known=known)
    finally:
        tally.seconds = time.monotonic() - started


def identity_of(stage: str, dataset: Dataset, via: str, name: str, made: int) -> Identity | None:
    """What a journal is about; None for what cannot be read twice: standard input, a pipe."""
    path = Path(name)
    if not path.is_file():
        return None
    status = path.stat()
    return Identity(stage, dataset.name, via, str(path.resolve()), status.st_size, status.st_mtime_ns, made)
