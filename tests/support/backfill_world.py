"""A stage in memory that is backfilled: its records as files, and the road through its buffer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tesseract.config.dataset import Dataset
from tesseract.ingestion.backfill import Backfill, Tally
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Report
from tesseract.ingestion.files import Source
from tesseract.ingestion.journal import Journal
from tesseract.ingestion.rejects import Rejects
from tesseract.ingestion.validators import Validator
from tesseract.model import FieldValue
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import iso_micros
from tests.support.level_world import World

MILLISECOND = timedelta(milliseconds=1)
Reading = tuple[str, datetime, dict[str, FieldValue]]  # group, valid time, values as an item holds them


class BackfillWorld(World):
    """A world with a road through its buffer, and a command."""

    by_group = False  # of the transport that this is

    def __init__(self, dataset: Dataset, folder: Path, start: datetime) -> None:
        super().__init__(dataset, start)
        self.folder, self.sent, self.runs = folder, 0, 0
        self.validator = Validator(self.dataset)
        self.around: Around | None = None  # what happens at a write of the next backfill

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        decoded = self.validator.decode([line.body for line in lines], self.now)
        for _, record in decoded.records:
            self.put(record.group, record.valid_time, record.fields)
        self.sent += len(decoded.records)
        return Report(len(decoded.records), decoded.rejected)

    def backfill(self, *readings: Sequence[Reading], workers: int = 1, journal: Journal | None = None) -> Tally:
        """Backfill each list of readings as one file, in order, and remember what is visible."""
        files = [self.file(own) for own in readings]
        for group, at, values in [reading for own in readings for reading in own]:
            self.written[group, at] = values
        return self.backfill_files(files, workers=workers, journal=journal)

    def file(self, readings: Sequence[Reading]) -> Path:
        self.runs += 1
        path = self.folder / f"readings-{self.runs}.ndjson"
        path.write_text("".join(line(*reading) for reading in readings))
        return path

    def backfill_files(
        self, files: Sequence[Path], *, workers: int = 1, journal: Journal | None = None, kind: str | None = None
    ) -> Tally:
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir()
        sources = [Source(str(file), self.dataset, kind) for file in files]
        with closing(Rejects(self.folder / f"{self.runs}.rejects.ndjson")) as rejects:
            backend = self.around.backend(self.backend) if self.around else self.backend
            catalog = Catalog(backend.catalog, backend.objects)
            run = Backfill(
                backend, catalog, self.dataset, self, self.now, self.tick, folder, rejects,
                journal=journal, workers=workers,
            )  # fmt: skip
            tally = run.run(sources)
        assert not list(folder.glob("unit-*"))
        assert not list(folder.glob("segment-*"))
        return tally

    def tick(self) -> datetime:
        """The clock of the command: no two commits are made at the same moment."""
        self.now += MILLISECOND
        return self.now


def line(group: str, at: datetime, values: dict[str, FieldValue]) -> str:
    plain = {name: json_value(value) for name, value in values.items()}
    body = json.dumps({"station": group, "time": iso_micros(at), **plain})
    for name, value in values.items():
        if isinstance(value, Decimal):
            body = body.replace(f'"{name}": "{value}"', f'"{name}": {value}')
    return body + "\n"


def json_value(value: FieldValue) -> object:
    return str(value) if isinstance(value, Decimal) else value


class Interrupted(Exception):
    """The process ends here."""


class Watched:
    """A table or a bucket whose writes are counted."""

    WRITES = ("put", "put_many", "put_checked", "delete", "upload")

    def __init__(self, inner: object, around: Around) -> None:
        self._inner, self._around = inner, around

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        return self._around.wrap(found) if name in self.WRITES else found


class Around:
    """Counts the writes of a backend, and does something right before the one that is named."""

    def __init__(self, at: int, do: Callable[[], None]) -> None:
        self.at, self.do, self.count = at, do, 0
        self._lock = threading.Lock()

    def wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **named: object) -> object:
            with self._lock:
                self.count += 1
                mine = self.count == self.at
            if mine:
                self.do()
            return call(*arguments, **named)

        return wrapped

    def backend(self, inner: Backend) -> Backend:
        return Backend(*(Watched(part, self) for part in (inner.raw, inner.live, inner.catalog, inner.objects)))


def interrupt() -> None:
    raise Interrupted
