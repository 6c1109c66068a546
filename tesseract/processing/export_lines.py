"""Data files of DynamoDB's exports as raw rows: gunzipped and decoded as a stream, checked against the manifest at its end.

A line of an incremental export holds the item's last state in the window; for one that expired it holds no new image, and is
skipped: what TTL removes stays in the archive, and a user's delete is a tombstone. A line of a full export is the item alone.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

import msgspec

from tesseract.errors import DamagedError
from tesseract.storage.codec import number_value
from tesseract.storage.columns import RawRow
from tesseract.storage.keys import history_valid_time, is_history
from tesseract.utils.time_utils import from_iso, from_micros

CHUNK = 1 << 20
GZIP = 31  # zlib's name for "with gzip's header and checksum"


class Line(NamedTuple):
    """A row and the partition that it belongs to. `history`: it is a revision kept, not the current row of its key."""

    dataset: str
    group: str
    row: RawRow
    history: bool


class _Text(msgspec.Struct):
    S: str


class _Number(msgspec.Struct):
    N: str


class _Truth(msgspec.Struct):
    BOOL: bool


class _Value(msgspec.Struct):
    S: str | None = None
    N: str | None = None
    BOOL: bool | None = None


class _Map(msgspec.Struct):
    M: dict[str, _Value]


class _Image(msgspec.Struct):
    pk: _Text
    sk: _Text
    fields: _Map
    config_version: _Number
    ref_time: _Text | None = None
    deleted: _Truth | None = None


class _Metadata(msgspec.Struct):
    WriteTimestampMicros: _Number


class _Line(msgspec.Struct):
    Metadata: _Metadata | None = None
    NewImage: _Image | None = None
    Item: _Image | None = None


_DECODER = msgspec.json.Decoder(_Line)


def decode(stream: BinaryIO, key: str, md5: str, items: int, write_time: datetime | None = None) -> Iterator[Line]:
    """The rows of a data file. `write_time` is that of a full export, whose lines carry none.

    Raises DamagedError where a line does not decode, and at the end where the object's MD5 (base64) or the number of its lines
    is not what the manifest says: commit nothing before the iterator is exhausted.
    """
    digest, count = hashlib.md5(usedforsecurity=False), 0
    for line in _lines(stream, digest, key):
        count += 1
        try:
            decoded = _DECODER.decode(line)
            found = _row(decoded, write_time)
        except (msgspec.DecodeError, ValueError) as error:
            raise DamagedError(f"line {count} of the export does not decode: {error}", key=key) from error
        if found is not None:
            yield found
    seen = b64encode(digest.digest()).decode()
    if seen != md5:
        raise DamagedError(f"the file's MD5 is {seen}, its manifest says {md5}", key=key)
    if count != items:
        raise DamagedError(f"the file has {count} lines, its manifest says {items}", key=key)


def _row(line: _Line, write_time: datetime | None) -> Line | None:
    if line.Metadata is not None:
        image, written = line.NewImage, from_micros(int(line.Metadata.WriteTimestampMicros.N))
    elif line.Item is not None and write_time is not None:
        image, written = line.Item, write_time
    else:
        raise ValueError("neither a change nor an item of a full export")
    if image is None:
        return None
    dataset, group = _partition(image.pk.S)
    history = is_history(image.sk.S)
    row = RawRow(
        valid_time=history_valid_time(image.sk.S) if history else from_iso(image.sk.S),
        ref_time=None if image.ref_time is None else from_iso(image.ref_time.S),
        fields={name: _value(value) for name, value in image.fields.M.items()},
        deleted=image.deleted is not None and image.deleted.BOOL,
        write_time=written,
        config_version=int(image.config_version.N),
    )
    return Line(dataset, group, row, history)


@lru_cache(maxsize=4096)
def _partition(pk: str) -> tuple[str, str]:
    dataset, group, _ = pk.split("#")
    return unquote(dataset), group


def _value(value: _Value) -> int | Decimal | str | bool:
    if value.N is not None:
        return number_value(value.N)
    if value.S is not None:
        return value.S
    if value.BOOL is not None:
        return value.BOOL
    raise ValueError("a value is neither a number nor text nor a truth value")


def _lines(stream: BinaryIO, digest: hashlib._Hash, key: str) -> Iterator[bytes]:
    rest = b""
    for text in _gunzip(stream, digest, key):
        *lines, rest = (rest + text).split(b"\n")
        yield from (line for line in lines if line.strip())
    if rest.strip():
        yield rest


def _gunzip(stream: BinaryIO, digest: hashlib._Hash, key: str) -> Iterator[bytes]:
    """The text of a gzip file in pieces of bounded size; `digest` sees the bytes as they are stored."""
    inflate, begun = zlib.decompressobj(GZIP), False
    try:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            while chunk:
                begun = True
                yield inflate.decompress(chunk, CHUNK)
                chunk = inflate.unconsumed_tail
                if inflate.eof:  # a gzip file may be several, one after the other
                    chunk, inflate, begun = inflate.unused_data, zlib.decompressobj(GZIP), False
    except zlib.error as error:
        raise DamagedError(f"the file is not gzip: {error}", key=key) from error
    if begun:
        raise DamagedError("the file ends early", key=key)
