"""`store.put`: what a program holds, whole, to a stage: dicts or a table, chunk after chunk, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError, TesseractError, Undelivered
from tesseract.ingestion.chunks import CHUNK_BYTES, CHUNK_RECORDS, Line, Refused, singles
from tesseract.ingestion.client import Report, Transport, settle
from tesseract.ingestion.encode import encode_record
from tesseract.ingestion.frames import is_table, table_lines


def put(transport: Transport, dataset: Dataset, data: Any) -> dict[str, Any]:
    """Send data in order. Returns `{"accepted": n, "rejected": [{index, field, value, reason, hint}, …]}`.

    Raises Undelivered where it ends in between: its `answer` is about the records before `first`; send again from there on.
    """
    total = Report()
    for chunk in _cut(dataset, records_of(data), total):
        try:
            total.add(settle(transport, dataset.name, chunk))
        except TesseractError as error:
            first = chunk[0].index
            if not first:
                raise
            message = f"the records from index {first} on are not delivered: {error}"
            raise Undelivered(message, answer=total.answer(), first=first) from error
    return total.answer()


def records_of(data: Any) -> Iterator[bytes | Refused]:
    """The records of what a caller hands over, as JSON. Raises InputError for what holds none."""
    if is_table(data):
        return table_lines(data)
    if isinstance(data, Mapping):
        data = (data,)
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        hint = "a dict, an iterable of dicts, or a table of pyarrow, pandas or Polars"
        raise InputError(f"{type(data).__name__} holds no records", hint=hint)
    return map(encode_record, data)


def _cut(dataset: Dataset, records: Iterable[bytes | Refused], total: Report) -> Iterator[list[Line]]:
    """Records as chunks of lines, in order. What cannot be sent is rejected here."""
    chunk: list[Line] = []
    size = 0
    for index, record in enumerate(singles(dataset, records, ours=True)):
        if isinstance(record, Refused):
            total.rejected.append(record.rejection(index))
            continue
        chunk.append(Line(index, record.body))
        size += len(record.body)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
