"""What a Kinesis record holds: an envelope, or records that name their dataset, or lines, gzip or KPL aggregates of those. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError, InputError, UnknownDataset
from tesseract.ingestion import kpl
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.bodies import MAX_BODY, MAX_RECORDS, Line, check_count, inflate, split
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.records_path import reads
from tesseract.storage.quarantine import UNKNOWN

NO_DATASET = "the record names no dataset"
NO_DATASET_HINT = 'send {"dataset": NAME, "records": [{…}, …]}, or give each record a member "dataset"'

KinesisRecord = dict[str, Any]  # of a Lambda event


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """An object of exactly these members is an envelope; any other object is a record."""

    dataset: str
    records: list[msgspec.Raw]


class Part(NamedTuple):
    """One line for a dataset that there is."""

    dataset: str
    line: Line


class Unread(NamedTuple):
    """What belongs to no dataset that there is, or cannot be read, as it came, and why."""

    data: bytes
    reason: str
    field: str = ""
    hint: str = ""
    dataset: str = UNKNOWN


class Reader:
    """Reads the Kinesis records of one batch. `lookup` gives a dataset or raises UnknownDataset; `default` may be empty."""

    def __init__(self, lookup: Callable[[str], Dataset], default: str) -> None:
        self._lookup, self._default = lookup, default
        self._names: dict[str, bool | Unread] = {}  # looked up once a batch: an unknown name is never cached elsewhere

    def read(self, data: bytes) -> list[Part | Unread]:
        """The parts of a record's data, in their order; at most as many and as large as one HTTP body may be."""
        try:
            pieces = [record.data for record in kpl.user_records(data)] if kpl.is_aggregate(data) else [data]
            parts: list[Part | Unread] = []
            room = MAX_BODY
            for piece in pieces:
                plain = self._inflated(piece)
                if isinstance(plain, Unread):
                    parts.append(plain)
                    continue
                room -= len(plain)
                if room < 0:
                    raise TooLarge(f"the Kinesis record holds more than {MAX_BODY} bytes")
                parts += self._parts(plain)
                check_count(len(parts))
        except (DamagedError, TooLarge) as error:
            return [Unread(data, str(error))]
        return parts

    def _inflated(self, piece: bytes) -> bytes | Unread:
        try:
            return inflate(piece)
        except InputError as error:
            return Unread(piece, error.message, hint=error.hint)

    def _parts(self, plain: bytes) -> Iterator[Part | Unread]:
        try:
            lines = split(plain, envelope=False)
        except InputError as error:
            yield Unread(plain, error.message, hint=error.hint)
            return
        for line in lines:
            yield from self._line(line)

    def _line(self, line: Line) -> Iterator[Part | Unread]:
        try:
            envelope = msgspec.json.decode(line, type=Envelope)
        except BAD_JSON:
            yield self._record(line)
            return
        known = self._known(envelope.dataset)
        if isinstance(known, Unread):
            yield known._replace(data=bytes(line))
        else:
            yield from (Part(envelope.dataset, record) for record in envelope.records)

    def _record(self, line: Line) -> Part | Unread:
        """A record that names its dataset, without the name, unless that is a value of the dataset's own."""
        try:
            members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            name = msgspec.json.decode(members.pop("dataset"), type=str)
        except (*BAD_JSON, KeyError):
            return self._unnamed(line)
        known = self._known(name)
        if isinstance(known, Unread):
            return known._replace(data=bytes(line))
        return Part(name, line if known else msgspec.json.encode(members))

    def _unnamed(self, line: Line) -> Part | Unread:
        if not self._default:
            return Unread(bytes(line), NO_DATASET, "dataset", NO_DATASET_HINT)
        known = self._known(self._default)
        if isinstance(known, Unread):
            return known._replace(data=bytes(line), reason=f"{NO_DATASET}, and of the stage's kinesisDataset {known.reason}")
        return Part(self._default, line)

    def _known(self, name: str) -> bool | Unread:
        """Whether the dataset has a value of its own at `dataset`; what is wrong where it cannot be used, which stops no other."""
        if name not in self._names:
            try:
                self._names[name] = reads(self._lookup(name), "dataset")
            except UnknownDataset as error:
                self._names[name] = Unread(b"", error.message, "dataset", error.hint)
            except DamagedError as error:
                self._names[name] = Unread(b"", str(error), "dataset", dataset=name)
        return self._names[name]


def chunks(reader: Reader, records: Iterable[KinesisRecord]) -> Iterator[list[tuple[KinesisRecord, Part | Unread]]]:
    """The parts of a batch, each with its Kinesis record, in portions that fit the memory. A Kinesis record is never cut."""
    chunk: list[tuple[KinesisRecord, Part | Unread]] = []
    size = 0
    for record in records:
        parts = reader.read(base64.b64decode(record["kinesis"]["data"]))
        chunk += [(record, part) for part in parts]
        size += sum(len(part[1] if isinstance(part, Part) else part.data) for part in parts)
        if size >= MAX_BODY or len(chunk) >= MAX_RECORDS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
