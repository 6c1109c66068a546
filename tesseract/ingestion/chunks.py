"""Records into chunks and lanes. Records with one key share a lane, and come in its chunks in their order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.records_path import alone, expand
from tesseract.ingestion.validators import Rejection, parse_moment, show

CHUNK_RECORDS = 500
CHUNK_BYTES = 500_000  # a Kinesis record holds 1 MiB, an HTTP body 4.5 MB
RECORD_BYTES = 450_000  # what a chunk may grow by; an item holds 400 kB
GATHERED_BYTES = 32_000_000  # of all chunks that are not full yet: with many groups they are many
LANES = 4
_LENIENT = msgspec.json.Decoder(float_hook=str)  # a number that no double holds is for the server to judge


class Line(msgspec.Struct, frozen=True):
    """One record on its way: its place in the input, counted from 0, and its JSON."""

    index: int
    body: bytes


class Refused(msgspec.Struct, frozen=True):
    """A record of the input that cannot be sent at all, and why. `body` is what a file of rejects shows of it, on one line."""

    body: bytes
    field: str
    value: str
    reason: str
    hint: str = ""

    def rejection(self, index: int) -> Rejection:
        """The same as an answer says it."""
        return Rejection(index, self.field, self.value, self.reason, self.hint)


class Single(NamedTuple):
    """One record: its JSON as it is sent, and what it says."""

    body: bytes
    value: dict[str, Any]


class Chunk(NamedTuple):
    """Lines that travel together. Those of one lane must arrive one after the other."""

    lane: int
    group: str
    lines: list[Line]


def chunks(
    dataset: Dataset,
    records: Iterable[bytes | Refused],
    by_group: bool,
    reject: Callable[[bytes, Rejection], None],
    lanes: int = LANES,
) -> Iterator[Chunk]:
    """Records as chunks; with `by_group` each holds one group only.

    A record that would spoil its chunk for the others, because it is no JSON object or too large, is rejected here.
    """
    filling: dict[tuple[int, str], list[Line]] = {}
    sizes: dict[tuple[int, str], int] = {}
    gathered = 0
    for index, record in enumerate(singles(dataset, records)):
        if isinstance(record, Refused):
            reject(record.body, record.rejection(index))
            continue
        lane, group = place(dataset, record.value, lanes)
        key = (lane, group if by_group else "")
        filling.setdefault(key, []).append(Line(index, record.body))
        sizes[key] = sizes.get(key, 0) + len(record.body) + 1
        gathered += len(record.body) + 1
        if len(filling[key]) >= CHUNK_RECORDS or sizes[key] >= CHUNK_BYTES:
            gathered -= sizes.pop(key)
            yield Chunk(*key, filling.pop(key))
        elif gathered >= GATHERED_BYTES:
            yield from (Chunk(*key, lines) for key, lines in filling.items())
            filling, sizes, gathered = {}, {}, 0
    yield from (Chunk(*key, lines) for key, lines in filling.items())


def singles(dataset: Dataset, records: Iterable[bytes | Refused], ours: bool = False) -> Iterator[Single | Refused]:
    """Records, each alone and on one line: of an envelope every record in an envelope of its own, as answers count them.

    `ours` are known to be JSON objects, each on one line; unless they are envelopes they are not decoded, and their value is empty.
    """
    for record in records:
        if isinstance(record, Refused):
            yield record
            continue
        if not dataset.records_path:
            yield Single(record, {}) if ours and len(record) <= RECORD_BYTES else _checked(record)
            continue
        try:
            found = expand(dataset, [record])
        except TooLarge as error:
            yield _refused(_one_line(record), str(error))
            continue
        for line in found.lines:
            checked = _checked(bytes(line))
            if found.faults:
                yield checked
            elif isinstance(checked, Refused):
                yield msgspec.structs.replace(checked, body=alone(dataset, checked.body))
            else:
                yield Single(alone(dataset, checked.body), checked.value)


def _one_line(body: bytes) -> bytes:
    return body.strip().replace(b"\n", b" ").replace(b"\r", b" ")  # in JSON they stand between values only


def _checked(body: bytes) -> Single | Refused:
    line = _one_line(body)
    if len(line) > RECORD_BYTES:
        return _refused(line, f"the record has {len(line)} bytes, at most {RECORD_BYTES} can be sent")
    try:
        try:
            value = msgspec.json.decode(line)
        except msgspec.ValidationError:
            value = _LENIENT.decode(line)
    except BAD_JSON as error:
        return _refused(line, f"not JSON: {error}")
    return Single(line, value) if isinstance(value, dict) else _refused(line, "a record is a JSON object")


def _refused(line: bytes, reason: str) -> Refused:
    return Refused(line, "", show(line[:1000].decode("utf-8", "replace")), reason)


def place(dataset: Dataset, value: dict[str, Any], lanes: int) -> tuple[int, str]:
    """The lane and the group of a record, as far as they can be told; whether it is valid the server says."""
    parts = [find(value, path) for path in dataset.group_by]
    if None in parts:
        return 0, ""
    group = "/".join(str(int(part)) if isinstance(part, float) and part.is_integer() else str(part) for part in parts)
    return crc32(f"{group} {_day(dataset, value)}".encode("utf-8", "surrogatepass")) % lanes, group


def _day(dataset: Dataset, value: dict[str, Any]) -> str:
    """The UTC day of a record, where every spelling of a moment gives the same one; else nothing, and a group is one lane."""
    if dataset.time_format != "iso8601" or dataset.time_zone:
        return ""
    try:
        moment: datetime = parse_moment(find(value, dataset.time_field))
        return moment.astimezone(UTC).date().isoformat()
    except (TypeError, ValueError, OverflowError):
        return ""


def find(value: Any, name: str) -> Any:
    """The value at a dotted name, in whichever way its parts are nested; None where there is none."""
    if isinstance(value, list):
        head, _, rest = name.partition(".")
        inside = value[int(head)] if head.isdecimal() and int(head) < len(value) else None
        return find(inside, rest) if rest else inside
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    for at, char in enumerate(name):
        if char == "." and name[:at] in value:
            found = find(value[name[:at]], name[at + 1 :])
            if found is not None:
                return found
    return None
