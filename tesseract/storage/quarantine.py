"""Quarantine: records that could be neither accepted nor answered, kept in the bucket until somebody replays them. No AWS in here.

An object is named by what it holds: origin, lowest sequence number, and a hash of its records. A batch that comes again writes the
same object again, a batch that was cut otherwise writes another one, and no object can be replaced by one that lacks a record of
it. So neither writing nor removing one needs a condition (docs/decisions/0017).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from tesseract.errors import DamagedError
from tesseract.storage.base import Objects
from tesseract.storage.keys import encode, quarantine_object, split_quarantine_object
from tesseract.utils.time_utils import EPOCH, from_iso, iso_day, iso_micros

UNKNOWN = "_unknown"  # stands for the dataset where a record names none that there is
STREAM = "_stream"  # changes of the raw table that the stream functions could not read
PART = 5_000  # entries of one object: a reader holds one object in memory
SEQUENCE_DIGITS = 56  # of Kinesis, at most; padded, so that the order of names is the order of arrival


class Entry(msgspec.Struct, frozen=True):
    """One record, byte for byte, and why it was not accepted.

    `origin` is `kinesis/STREAM/SHARD` or `stream/TABLE/LABEL`, `received` when it arrived there, `config_version` the version that
    refused it (0: none did). What a record is, is told by origin, sequence number and bytes; the rest is about it.
    """

    record: bytes
    reason: str
    received: datetime
    origin: str
    sequence: str
    field: str = ""
    hint: str = ""
    config_version: int = 0


class Place(NamedTuple):
    """Where an object lies: its dataset, the UTC day on which its first record was received, and its name."""

    key: str
    dataset: str
    day: str
    name: str

    @property
    def id(self) -> str:
        """The hash at the end of the name: short, and of this object alone."""
        return self.name.rpartition("-")[2]


class _Line(msgspec.Struct, omit_defaults=True):
    """An entry as it is stored. The record is text where it is UTF-8, else base64."""

    received: str
    origin: str
    sequence: str
    reason: str
    field: str = ""
    hint: str = ""
    config_version: int = 0
    record: str | None = None
    record_base64: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def from_kinesis(
    event: dict[str, Any], record: bytes, now: datetime, *, reason: str, field: str = "", hint: str = "", config_version: int = 0
) -> Entry:
    """The entry of `record`, which is all or a part of what one Kinesis record of a Lambda event carries."""
    stream = str(event.get("eventSourceARN", "")).rpartition("/")[2]
    shard = str(event.get("eventID", "")).partition(":")[0]
    arrival = event["kinesis"].get("approximateArrivalTimestamp")
    return Entry(
        record=record,
        reason=reason,
        received=now if arrival is None else EPOCH + timedelta(seconds=arrival),
        origin=f"kinesis/{stream}/{shard}",
        sequence=event["kinesis"]["sequenceNumber"],
        field=field,
        hint=hint,
        config_version=config_version,
    )


def from_stream(event: dict[str, Any], reason: str) -> Entry:
    """The entry of one change of the raw table's stream, kept as Lambda gave it."""
    table, _, label = str(event["eventSourceARN"]).partition("table/")[2].partition("/stream/")
    return Entry(
        record=msgspec.json.encode(event),
        reason=reason,
        received=EPOCH + timedelta(seconds=event["dynamodb"]["ApproximateCreationDateTime"]),
        origin=f"stream/{table}/{label}",
        sequence=event["dynamodb"]["SequenceNumber"],
    )


def write(objects: Objects, dataset: str, entries: Iterable[Entry]) -> list[str]:
    """Keep entries of one origin, in the order of their arrival, and return the objects' keys. Doing so again changes nothing.

    A record that is there twice is kept once, with its first reason.
    """
    distinct: dict[tuple[str, bytes], Entry] = {}
    for entry in entries:
        distinct.setdefault((entry.sequence, entry.record), entry)
    kept = list(distinct.values())
    keys = []
    for start in range(0, len(kept), PART):
        part = kept[start : start + PART]
        keys.append(object_key(dataset, part))
        objects.put(keys[-1], b"".join(encode_entry(entry) + b"\n" for entry in part))
    return keys


def object_key(dataset: str, entries: list[Entry]) -> str:
    """The key of the object that holds these entries, and no others."""
    first = min(entries, key=order)
    kind, _, source = first.origin.partition("/")
    digest = blake2b(digest_size=8)
    for one in sorted(map(_identity, entries)):
        digest.update(one)
    name = f"{kind}-{encode(source.rpartition('/')[2])}-{first.sequence:0>{SEQUENCE_DIGITS}}-{digest.hexdigest()}"
    return quarantine_object(dataset, iso_day(first.received), name)


def order(entry: Entry) -> int:
    """Where an entry stands in its origin."""
    return int(entry.sequence)


def _identity(entry: Entry) -> bytes:
    digest = blake2b(digest_size=16)
    for part in (entry.origin.encode(), entry.sequence.encode(), entry.record):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def places(objects: Objects, dataset: str | None = None) -> Iterator[Place]:
    """The objects of a dataset, or of all, in key order: of one origin in the order of arrival."""
    prefix = "quarantine/" if dataset is None else f"quarantine/dataset={encode(dataset)}/"
    for info in objects.list(prefix):
        parts = split_quarantine_object(info.key)
        if parts is not None:
            yield Place(info.key, *parts)


def read(objects: Objects, key: str) -> list[Entry]:
    """The entries of an object. Raises NotFoundError where it is gone, DamagedError where a line is no entry."""
    entries = []
    for number, line in enumerate(objects.get(key).splitlines(), 1):
        try:
            entries.append(decode_entry(line))
        except (msgspec.DecodeError, ValueError) as error:
            raise DamagedError(f"line {number} is no entry: {error}", operation="read", key=key) from error
    return entries


def encode_entry(entry: Entry) -> bytes:
    """An entry as a line of JSON."""
    line = _Line(
        received=iso_micros(entry.received),
        origin=entry.origin,
        sequence=entry.sequence,
        reason=_text(entry.reason),
        field=_text(entry.field),
        hint=_text(entry.hint),
        config_version=entry.config_version,
    )
    try:
        line.record = entry.record.decode()
    except UnicodeDecodeError:
        line.record_base64 = base64.b64encode(entry.record).decode()
    return msgspec.json.encode(line)


def decode_entry(line: bytes) -> Entry:
    """The inverse of `encode_entry`. Raises ValueError or msgspec.DecodeError where the line is none."""
    found = _DECODER.decode(line)
    if found.record is not None:
        record = found.record.encode()
    elif found.record_base64 is not None:
        record = base64.b64decode(found.record_base64, validate=True)
    else:
        raise ValueError("it has no record")
    return Entry(
        record=record,
        reason=found.reason,
        received=from_iso(found.received),
        origin=found.origin,
        sequence=found.sequence,
        field=found.field,
        hint=found.hint,
        config_version=found.config_version,
    )


def _text(text: str) -> str:
    """Half a surrogate pair, which a producer may have sent and a message may quote, cannot be written as UTF-8."""
    return text.encode(errors="replace").decode()
