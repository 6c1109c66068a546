"""Files of records as JSON lines ready to send: ndjson, json, csv and parquet; `-` is standard input (ndjson or json).

A csv cell is text. Cells of declared numbers are sent as the number that they spell, digit for digit; a cell that spells none is
sent as text, so that the dataset's rule for it decides: a sentinel is null, anything else is rejected with its place.
"""

from __future__ import annotations

import csv
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
from tesseract.ingestion.fastpath import BAD_JSON

FORMATS = ("ndjson", "jsonl", "json", "csv", "parquet")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def read_lines(name: str, dataset: Dataset) -> Iterator[bytes]:
    """The records of a file, one JSON object each, in order. Raises InputError where the file is not what its name says."""
    kind = format_of(name)
    with _opened(name) as stream:
        if kind == "csv":
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                yield from _csv(name, text, dataset)
        elif kind == "parquet":
            yield from _parquet(name, stream)
        elif kind == "json":
            yield from _json(name, stream.read())
        else:
            yield from (line for line in stream if line.strip())


def count_lines(name: str) -> int | None:
    """How many records a file of lines holds, for a progress bar; None where that takes reading it twice to tell."""
    kind = format_of(name)
    if name == "-" or kind not in ("ndjson", "jsonl", "csv"):
        return None
    with _opened(name) as stream:
        return max(0, sum(1 for line in stream if line.strip()) - (kind == "csv"))


def format_of(name: str) -> str:
    """The format by the file's name, `.gz` set aside. Raises InputError for an unknown one."""
    if name == "-":
        return "ndjson"
    suffix = Path(name.removesuffix(".gz")).suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise InputError(f"{name}: the format {suffix or 'without a suffix'!r} is not known", hint=f"one of {', '.join(FORMATS)}")
    return suffix


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with gzip.open(name, "rb") if name.endswith(".gz") else open(name, "rb") as stream:
            yield stream  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the file {name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _csv(name: str, text: TextIO, dataset: Dataset) -> Iterator[bytes]:
    kinds = {field.path: field.type for field in dataset.fields.values()}
    identity = {*dataset.group_by, dataset.time_field, dataset.ref_time_field}
    reader = csv.reader(text)
    try:
        header = next(reader, None)
        if header is None:
            raise InputError(f"{name} is empty", hint="a csv begins with the names of its columns")
        _check_columns(name, header)
        for row in reader:
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                raise InputError(f"{name}, line {reader.line_num}: {len(row)} cells, the header has {len(header)}")
            record: dict[str, Any] = {}
            for column, cell in zip(header, row, strict=True):
                _place(record, column, cell if column in identity and cell else _cell(cell, kinds.get(column, "")))
            yield msgspec.json.encode(record)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}, line {reader.line_num + 1}: not a UTF-8 csv: {error}") from error


def _check_columns(name: str, columns: Sequence[str]) -> None:
    """Every column is one place in a record. Raises InputError where one has no name, comes twice, or lies in another."""
    for place, column in enumerate(columns):
        if not column:
            raise InputError(f"{name}: column {place + 1} has no name")
        if column in columns[:place]:
            raise InputError(f"{name}: the column {column!r} comes twice")
        inside = next((other for other in columns if column.startswith(f"{other}.")), None)
        if inside is not None:
            raise InputError(f"{name}: the column {column!r} lies inside the column {inside!r}, which holds a value itself")


def _place(record: dict[str, Any], column: str, value: Any) -> None:
    """A dotted column is a value inside nested objects, as in every result."""
    *parents, leaf = column.split(".")
    for parent in parents:
        record = record.setdefault(parent, {})
    record[leaf] = value


def _cell(cell: str, kind: str) -> Any:
    """What a cell is as JSON. An undeclared column's cell is what it looks like."""
    if cell == "":
        return None
    if kind in ("int", "float", "") and _NUMBER.fullmatch(cell):
        return msgspec.Raw(cell.encode())
    if kind in ("bool", "") and cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    return cell


def _json(name: str, body: bytes) -> Iterator[bytes]:
    try:
        document = msgspec.json.decode(body, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except BAD_JSON as error:
        raise InputError(f"{name} is not a JSON array of objects: {error}") from error
    if isinstance(document, dict):
        yield body.replace(b"\n", b" ")
    else:
        yield from (bytes(record).replace(b"\n", b" ") for record in document)


def _parquet(name: str, stream: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(stream.read()))
        _check_columns(name, file.schema_arrow.names)
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                record: dict[str, Any] = {}
                for column, value in row.items():
                    _place(record, column, value)
                yield msgspec.json.encode(record)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"{name} is not a Parquet file of scalars: {error}") from error
