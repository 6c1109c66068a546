"""Files of records as JSON lines ready to send: ndjson, json, csv and parquet; `-` is standard input.

A csv cell is text. Cells of declared numbers are sent as the number that they spell, digit for digit; a cell that spells none is
sent as text, so that the dataset's rule for it decides: a sentinel is null, anything else is rejected with its place.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.ingestion.chunks import Refused
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.frames import batch_lines, check_columns, put_at

STDIN = "-"
FORMATS = ("ndjson", "jsonl", "json", "csv", "parquet")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_BOM = b"\xef\xbb\xbf"


class Source:
    """A file as records, one JSON object each, in order, and how far it has been read.

    `total` and `done` count the file's bytes, or its records where it is read whole; `total` is 0 where nobody knows.
    Iterating raises InputError where the file is not what its name or `kind` says.
    """

    def __init__(self, name: str, dataset: Dataset, kind: str | None = None) -> None:
        self.name, self._dataset = name, dataset
        if kind is not None and kind not in FORMATS:
            raise InputError(f"{kind!r} is not a format", hint=f"one of {', '.join(FORMATS)}")
        self._kind = kind or format_of(name)
        self.total = self.done = 0

    def __iter__(self) -> Iterator[bytes | Refused]:
        with _opened(self.name) as (raw, stream):
            if self._kind == "parquet":
                yield from self._parquet(stream)
            elif self._kind == "json":
                yield from self._counted(_json(self.name, stream.read()))
            else:
                path = Path(self.name)
                self.total = path.stat().st_size if self.name != STDIN and path.is_file() else 0
                for record in self._csv(stream) if self._kind == "csv" else _lines(stream):
                    if self.total:
                        self.done = raw.tell()
                    yield record

    def _csv(self, stream: BinaryIO) -> Iterator[bytes | Refused]:
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            yield from _csv(self.name, text, self._dataset)

    def _counted(self, records: Sequence[bytes]) -> Iterator[bytes]:
        self.total = len(records)
        for record in records:
            self.done += 1
            yield record

    def _parquet(self, stream: BinaryIO) -> Iterator[bytes | Refused]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(stream if stream.seekable() and not self.name.endswith(".gz") else io.BytesIO(stream.read()))
            self.total = file.metadata.num_rows
            check_columns(self.name, file.schema_arrow.names)
            for batch in file.iter_batches():
                for record in batch_lines(batch):
                    self.done += 1
                    yield record
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"{self.name} is not a Parquet file of scalars: {error}") from error


def read_lines(name: str, dataset: Dataset) -> Iterator[bytes | Refused]:
    """The records of a file, one JSON object each, in order. Raises InputError where the file is not what its name says."""
    return iter(Source(name, dataset))


def format_of(name: str) -> str:
    """The format by the file's name, `.gz` set aside. Raises InputError for an unknown one."""
    if name == STDIN:
        return "ndjson"
    suffix = Path(name.removesuffix(".gz")).suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise InputError(f"{name}: the format {suffix or 'without a suffix'!r} is not known", hint=f"one of {', '.join(FORMATS)}")
    return suffix


def expand(names: Sequence[str]) -> list[str]:
    """File names with their patterns resolved, for shells that do not. Raises InputError where there is no such file."""
    found: list[str] = []
    for name in names:
        if name == STDIN or Path(name).exists():
            found.append(name)
            continue
        if not glob.has_magic(name):
            raise InputError(f"the file {name} cannot be read: No such file or directory")
        matches = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())
        if not matches:
            raise InputError(f"no file matches {name}")
        found += matches
    return found


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file as it lies there, and its content."""
    if name == STDIN:
        yield sys.stdin.buffer, sys.stdin.buffer
        return
    try:
        with open(name, "rb") as raw:
            if name.endswith(".gz"):
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield raw, stream  # type: ignore[misc]
            else:
                yield raw, raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the file {name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    for place, line in enumerate(stream):
        body = line if place else line.removeprefix(_BOM)
        if body.strip():
            yield body


def _csv(name: str, text: TextIO, dataset: Dataset) -> Iterator[bytes | Refused]:
    kinds = _kinds(dataset)
    reader = csv.reader(text)
    try:
        header = next(reader, None)
        if header is None:
            raise InputError(f"{name} is empty", hint="a csv begins with the names of its columns")
        check_columns(name, header)
        for row in reader:
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                reason = f"line {reader.line_num} has {len(row)} cells, the header has {len(header)}"
                yield Refused(msgspec.json.encode(row), "", "", reason)
                continue
            record: dict[str, Any] = {}
            for column, cell in zip(header, row, strict=True):
                put_at(record, column, _cell(cell, kinds.get(column, "")))
            yield msgspec.json.encode(record)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}, line {reader.line_num + 1}: not a UTF-8 csv: {error}") from error


def _kinds(dataset: Dataset) -> dict[str, str]:
    """What a cell of a declared column is: `number`, `bool` or `text`."""
    kinds = {"int": "number", "float": "number", "decimal": "number", "bool": "bool"}
    found = {path: kinds.get(field.type, "text") for path, field in dataset.places()}
    found |= {path: "number" for path, f in dataset.places() if f.type == "timestamp" and f.format != "iso8601"}
    time = "text" if dataset.time_format == "iso8601" else "number"
    return {**found, dataset.time_field: time, dataset.ref_time_field: time, **dict.fromkeys(dataset.group_by, "text")}


def _cell(cell: str, kind: str) -> Any:
    """What a cell is as JSON. An undeclared column's cell is what it looks like."""
    if cell == "":
        return None
    if kind in ("number", "") and _NUMBER.fullmatch(cell):
        return msgspec.Raw(cell.encode())
    if kind in ("bool", "") and cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    return cell


def _json(name: str, body: bytes) -> list[bytes]:
    try:
        document = msgspec.json.decode(body, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except BAD_JSON as error:
        raise InputError(f"{name} is not a JSON array of objects: {error}") from error
    return [body] if isinstance(document, dict) else [bytes(record) for record in document]
