"""Files straight into the archive: read, validated as `ingest` does, sorted in local files, and handed on unit by unit.

Reading and validating runs in several processes, block by block. A block is one sorted run, and runs are merged in the order of the
input, so that of two records with one key the later one is kept, however parallel the reading is. Memory is bounded whatever the
size of the input; the local files need about as much room as the input does when it is compressed.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.ingestion.chunks import Line, Refused, Single, singles
from tesseract.ingestion.client import Report, Transport, settle
from tesseract.ingestion.files import FORMATS, STDIN, Source, expand
from tesseract.ingestion.journal import Journal
from tesseract.ingestion.records_path import expand as expanded
from tesseract.ingestion.rejects import Rejects
from tesseract.ingestion.validators import Rejection, Validator
from tesseract.model import Record
from tesseract.processing.backfill_runs import Homes, Run, Unit, order_of, sorted_rows, spill, table_of, units
from tesseract.processing.backfill_units import Units
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog

BLOCK_BYTES = 12_000_000  # of records that become one run
STEP = 8_192  # records that are Python objects at once
WORKERS = 2
SHOWN = 10  # rejections that are kept to be shown


@dataclass
class Tally:
    """What became of the records so far. `tiers` and `levels` count rows that were committed, by tier."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    superseded: int = 0  # a later record of the same input, or one with a greater ref time, has the same key
    buffered: int = 0
    before: int = 0  # rows of units that an earlier run had finished
    units: int = 0
    settled: int = 0  # rows of units that are done
    reasons: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    shown: list[tuple[str, Rejection]] = field(default_factory=list)
    seconds: float = 0.0

    def refuse(self, file: str, rejection: Rejection) -> None:
        """Count a record that was not accepted."""
        self.rejected += 1
        self.reasons[rejection.reason] += 1
        if len(self.shown) < SHOWN:
            self.shown.append((file, rejection))


class Block(NamedTuple):
    """Records of one file, in their order; `first` is the place of the first one in it."""

    dataset: Dataset
    now: datetime
    path: Path
    file: str
    first: int
    lines: list[bytes | Refused]


class Sorted(NamedTuple):
    """What became of a block: a run, unless no record was accepted."""

    file: str
    read: int
    accepted: int
    run: Run | None
    rejected: list[tuple[bytes, Rejection]]


@dataclass
class Backfill:
    """One command. `now` decides what lies in the future, and the tiers; `clock` must be near the stage's."""

    backend: Backend
    catalog: Catalog
    dataset: Dataset
    road: Transport
    now: datetime
    clock: Callable[[], datetime]
    folder: Path  # for local files, empty
    rejects: Rejects
    tally: Tally = field(default_factory=Tally)
    journal: Journal | None = None
    workers: int = WORKERS
    told: Callable[[], None] = lambda: None

    def run(self, sources: Sequence[Source]) -> Tally:
        """Backfill files, in their order; a later one holds the later puts. `tally` is kept up to date whatever ends it.

        Raises InputError where a file is not what its name says, and what storage raises. Nothing is committed before all
        files have been read.
        """
        started = time.monotonic()
        try:
            runs = list(self._read(sources))
            rows = sum(run.rows for run in runs)
            self.tally.superseded = self.tally.accepted - rows
            if runs:
                self._carry_out(units(self.dataset, sorted_rows(self.dataset, runs, self.folder), self.folder))
                self.tally.superseded = self.tally.accepted - self.tally.settled
        finally:
            self.tally.seconds = time.monotonic() - started
        return self.tally

    # reading --------------------------------------------------------------------------------------------------------------

    def _read(self, sources: Sequence[Source]) -> Iterator[Run]:
        with _executor(self.workers) as pool:
            waiting: deque[Future[Sorted]] = deque()
            for block in self._blocks(sources):
                waiting.append(pool.submit(sort_block, block))
                if len(waiting) > self.workers:
                    yield from self._arrived(waiting.popleft().result())
            while waiting:
                yield from self._arrived(waiting.popleft().result())

    def _blocks(self, sources: Sequence[Source]) -> Iterator[Block]:
        number = 0
        for source in sources:
            first = 0
            for lines in _cut(_records(self.dataset, source)):
                yield Block(self.dataset, self.now, self.folder / f"run-{number}", source.name, first, lines)
                number, first = number + 1, first + len(lines)

    def _arrived(self, found: Sorted) -> Iterable[Run]:
        self.tally.read += found.read
        self.tally.accepted += found.accepted
        for body, rejection in found.rejected:
            self.rejects.add(found.file, body, rejection)
            self.tally.refuse(found.file, rejection)
        self.told()
        return () if found.run is None else (found.run,)

    # writing --------------------------------------------------------------------------------------------------------------

    def _carry_out(self, found: Iterable[Unit]) -> None:
        writer = Units(self.backend, self.catalog, self.dataset, self.now, self.clock, self._send, self.folder)
        try:
            for unit in found:
                self._take(writer, unit)
                unit.path.unlink()
        finally:
            writer.close()

    def _take(self, writer: Units, unit: Unit) -> None:
        name = [Line(0, f"{unit.partition} {unit.year} {unit.digest}".encode())]
        if self.journal is not None and self.journal.answer(name) is not None:
            self.tally.before += unit.rows
        else:
            done = writer.take(unit)
            self.tally.tiers += done.tiers
            self.tally.levels += done.levels
            self.tally.buffered += done.buffered
            if self.journal is not None:
                self.journal.acknowledge(name, Report(unit.rows))
        self.tally.units += 1
        self.tally.settled += unit.rows
        self.told()

    def _send(self, lines: list[bytes]) -> None:
        """Records through the buffer. What is refused there was accepted here a moment before: a newer configuration says no."""
        numbered = [Line(place, line) for place, line in enumerate(lines)]
        for rejection in settle(self.road, self.dataset.name, numbered).rejected:
            self.rejects.add("buffer", lines[rejection.index], rejection)
            self.tally.refuse("buffer", rejection)


def sort_block(block: Block) -> Sorted:
    """Validate a block and sort what is accepted into a local file. Runs in a process of its own."""
    import pyarrow as pa

    homes, tables, accepted = Homes(block.dataset, block.now), list[pa.Table](), 0
    rejected: list[tuple[bytes, Rejection]] = []
    for start in range(0, len(block.lines), STEP):
        records, refused = _judge(block, start)
        rejected += refused
        accepted += len(records)
        if records:
            tables.append(table_of(block.dataset, records, homes))
    run = spill(tables, order_of(block.dataset), block.path) if tables else None
    return Sorted(block.file, len(block.lines), accepted, run, rejected)


def _judge(block: Block, start: int) -> tuple[list[tuple[Record, bytes]], list[tuple[bytes, Rejection]]]:
    """The records of a step with the JSON that they came as, and what is wrong with the others."""
    from msgspec.structs import replace

    part = block.lines[start : start + STEP]
    places = [place for place, line in enumerate(part) if not isinstance(line, Refused)]
    lines = [_one_line(line) for line in part if not isinstance(line, Refused)]
    first = block.first + start
    refused = [(line.body, line.rejection(first + place)) for place, line in enumerate(part) if isinstance(line, Refused)]
    bodies = expanded(block.dataset, lines).lines if block.dataset.records_path else lines
    decoded = _validator(block.dataset).decode(bodies, block.now)
    for rejection in decoded.rejected:
        refused.append((lines[rejection.index], replace(rejection, index=first + places[rejection.index])))
    return [(record, lines[index]) for index, record in decoded.records], sorted(refused, key=lambda one: one[1].index)


@lru_cache(maxsize=4)
def _of_key(key: bytes) -> Validator:
    from tesseract.config.dataset import decode_dataset

    return Validator(decode_dataset(key))


def _validator(dataset: Dataset) -> Validator:
    from tesseract.config.dataset import encode_dataset

    return _of_key(encode_dataset(dataset))


def _one_line(body: bytes) -> bytes:
    return body.strip().replace(b"\n", b" ").replace(b"\r", b" ")  # in JSON they stand between values only


def _records(dataset: Dataset, source: Source) -> Iterator[bytes | Refused]:
    """The records of a file, each alone: of an envelope every record in an envelope of its own."""
    if not dataset.records_path:
        return iter(source)
    return (found.body if isinstance(found, Single) else found for found in singles(dataset, source))


def _cut(records: Iterable[bytes | Refused]) -> Iterator[list[bytes | Refused]]:
    lines: list[bytes | Refused] = []
    size = 0
    for record in records:
        lines.append(record)
        size += len(record.body if isinstance(record, Refused) else record) + 50  # what a bytes object costs besides
        if size >= BLOCK_BYTES:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _executor(workers: int) -> Executor:
    """Processes, since validating is Python; one worker is a thread of this process."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    # spawned, not forked: a fork copies threads' locks as they happen to be. Ctrl-C is for the command alone, which ends them
    return ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def files_of(names: Sequence[str]) -> list[str]:
    """Files, patterns and directories as files; of a directory those of a known format, at any depth, in the order of their names.

    Raises InputError for what is not there, and for standard input: a backfill must be able to read it again.
    """
    if STDIN in names:
        raise InputError("standard input cannot be backfilled: it cannot be read again", hint="write it to a file first")
    found: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            found += expand([name])
            continue
        inside = sorted(path for path in Path(name).rglob("*") if path.is_file() and _is_data(path))
        if not inside:
            raise InputError(f"the directory {name} holds no file of records", hint=f"suffixes: {', '.join(FORMATS)}, and .gz")
        found += map(str, inside)
    return found


def _is_data(path: Path) -> bool:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lstrip(".").lower()
    return (
        suffix in FORMATS and not path.name.startswith((".", "_")) and not path.name.endswith((".rejects.ndjson", ".rejects.csv"))
    )
