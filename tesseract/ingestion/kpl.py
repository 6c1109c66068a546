"""Aggregated records of the Kinesis Producer Library: many producers' records in one Kinesis record. Pure.

    magic number (4 bytes) | protobuf message AggregatedRecord | MD5 of the message (16 bytes)

    message AggregatedRecord {                            message Record {
      repeated string partition_key_table = 1;              required uint64 partition_key_index = 1;
      repeated string explicit_hash_key_table = 2;          optional uint64 explicit_hash_key_index = 2;
      repeated Record records = 3;                          required bytes data = 3;
    }                                                       repeated Tag tags = 4;
                                                          }

Every record is taken, also one whose key belongs to another shard since a split: the library sends such a one again, and a record
that comes twice is stored once.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import NamedTuple

from tesseract.errors import DamagedError

MAGIC = b"\xf3\x89\x9a\xc2"  # no UTF-8, so no JSON begins so
DIGEST = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class UserRecord(NamedTuple):
    """One producer's record."""

    partition_key: str
    data: bytes


def is_aggregate(data: bytes) -> bool:
    """Whether a Kinesis record's data claims to be an aggregate."""
    return data.startswith(MAGIC)


def user_records(data: bytes) -> list[UserRecord]:
    """The records of an aggregate, in order. Raises DamagedError where it is not what its checksum or its format says."""
    message, digest = data[len(MAGIC) : -DIGEST], data[-DIGEST:]
    if len(data) < len(MAGIC) + DIGEST or md5(message, usedforsecurity=False).digest() != digest:
        raise DamagedError("the checksum of the KPL aggregate does not hold")
    keys: list[str] = []
    hash_keys = 0
    records: list[bytes] = []
    for number, value in _members(message):
        if number == 1:
            keys.append(_bytes(value).decode("utf-8", "replace"))
        elif number == 2:
            hash_keys += 1
        elif number == 3:
            records.append(_bytes(value))
    return [_user_record(record, keys, hash_keys) for record in records]


def _user_record(message: bytes, keys: list[str], hash_keys: int) -> UserRecord:
    members = dict(_members(message))  # of a member that is there twice the last counts, as in every protobuf decoder
    key, hash_key = members.get(1), members.get(2, 0)
    if not isinstance(key, int) or key >= len(keys) or not isinstance(hash_key, int) or (2 in members and hash_key >= hash_keys):
        raise DamagedError("a record of the KPL aggregate names a key that is not in its tables")
    if 3 not in members:
        raise DamagedError("a record of the KPL aggregate has no data")
    return UserRecord(keys[key], _bytes(members[3]))


def _members(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf message's members, in their order."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32):
            raise DamagedError(f"the KPL aggregate has a member of wire type {kind}")
        size, at = _varint(message, at) if kind == _BYTES else (8 if kind == _FIXED64 else 4, at)
        if at + size > len(message):
            raise DamagedError("the KPL aggregate ends within a member")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise DamagedError("the KPL aggregate ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DamagedError("the KPL aggregate has a number of more than 64 bits")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise DamagedError("the KPL aggregate has a number where bytes belong")
    return value
