"""Data files of DynamoDB's exports: gunzipped as a stream, cut into chunks of lines, and lines as raw rows.

A line of an incremental export holds the item's last state in the window; for one that expired it holds no new image, and is
skipped: what TTL removes stays in the archive, and a user's delete is a tombstone. A line of a full export is the item alone.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

import msgspec
from isal.igzip_lib import IsalError
from isal.isal_zlib import decompressobj

from tesseract.errors import DamagedError
from tesseract.storage.codec import number_value
from tesseract.storage.columns import RawRow
from tesseract.storage.keys import history_valid_time, is_history
from tesseract.utils.time_utils import from_iso, from_micros

PIECE = 1 << 20
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


class Chunk(NamedTuple):
    """Some lines of a file, each with its line break. `first` is the number of the first one, `lines` how many there are."""

    key: str
    first: int
    lines: int
    body: bytes


def chunks(stream: BinaryIO, key: str, md5: str, size: int) -> Iterator[Chunk]:
    """A data file in chunks of about `size` bytes, or of one line where it is longer.

    Raises DamagedError where the file is not gzip or is cut short, and at the end where the object's MD5 (base64) is not what the
    manifest says: commit nothing before the iterator is exhausted.
    """
    digest, first = hashlib.md5(usedforsecurity=False), 1
    for body in _whole_lines(_gunzip(stream, digest, key), size):
        count = body.count(b"\n")
        yield Chunk(key, first, count, body)
        first += count
    seen = b64encode(digest.digest()).decode()
    if seen != md5:
        raise DamagedError(f"the file's MD5 is {seen}, its manifest says {md5}", key=key)


def rows_of(chunk: Chunk, write_time: datetime | None) -> Iterator[Line | None]:
    """The row of each line, None where it has none. `write_time` is that of a full export, whose lines carry none.

    Raises DamagedError where a line does not decode.
    """
    for place, line in enumerate(chunk.body.split(b"\n")):
        if line.strip():
            try:
                yield line_of(line, write_time)
            except ValueError as error:
                raise DamagedError(f"line {chunk.first + place} of the export does not decode: {error}", key=chunk.key) from error


def line_of(line: bytes, write_time: datetime | None) -> Line | None:
    """The row of one line. Raises ValueError where it does not decode."""
    return _row(_DECODER.decode(line), write_time)


def fields_of(chunk: Chunk) -> set[str]:
    """The names of all fields in the chunk. Raises ValueError where a line does not decode."""
    lines = (_DECODER.decode(line) for line in chunk.body.split(b"\n") if line.strip())
    images = (line.NewImage or line.Item for line in lines)
    return {name for image in images if image is not None for name in image.fields.M}


def _row(line: _Line, write_time: datetime | None) -> Line | None:
    if line.Metadata is not None:
        image, written = line.NewImage, from_micros(int(line.Metadata.WriteTimestampMicros.N))
    elif line.Item is not None and write_time is not None:
        image, written = line.Item, write_time
    else:
        raise ValueError("neither a change nor an item of a full export")
    if image is None:
        return None
    dataset, group = partition_of(image.pk.S)
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
def partition_of(pk: str) -> tuple[str, str]:
    """(dataset, group) of an item's partition key. Raises ValueError."""
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


def _whole_lines(texts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Texts put together to about `size` bytes, cut behind a line break; the last line gets one where it has none."""
    parts: list[bytes] = []
    held = 0
    for text in texts:
        end = text.rfind(b"\n") + 1 if held + len(text) >= size else 0
        if end:
            yield b"".join((*parts, text[:end]))
            parts, held, text = [], 0, text[end:]
        parts.append(text)
        held += len(text)
    rest = b"".join(parts)
    if rest.strip():
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _gunzip(stream: BinaryIO, digest: hashlib._Hash, key: str) -> Iterator[bytes]:
    """The text of a gzip file in pieces of bounded size; `digest` sees the bytes as they are stored."""
    inflate, begun = decompressobj(GZIP), False
    try:
        while piece := stream.read(PIECE):
            digest.update(piece)
            while piece:
                begun = True
                yield inflate.decompress(piece, PIECE)
                piece = inflate.unconsumed_tail
                if inflate.eof:  # a gzip file may be several, one after the other
                    piece, inflate, begun = inflate.unused_data, decompressobj(GZIP), False
    except IsalError as error:  # type: ignore[misc]  # its stub declares an instance
        raise DamagedError(f"the file is not gzip: {error}", key=key) from error
    if begun:
        raise DamagedError("the file ends early", key=key)
