"""An encoder of the KPL's format, written from its description, with nothing of ours."""

from __future__ import annotations

from hashlib import md5


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def member(number, value):
    return varint(number * 8 + 2) + varint(len(value)) + value if isinstance(value, bytes) else varint(number * 8) + varint(value)


def aggregate(*records, hash_keys=(), tagged=False, seal=None):
    """Bytes of an aggregate; a record is (partition key, data)."""
    keys = list(dict.fromkeys(key for key, _ in records))
    message = b"".join(member(1, key.encode()) for key in keys) + b"".join(member(2, key.encode()) for key in hash_keys)
    for key, data in records:
        record = member(1, keys.index(key)) + (member(2, 0) if hash_keys else b"") + member(3, data)
        message += member(3, record + (member(4, member(1, b"tag") + member(2, b"value")) if tagged else b""))
    return sealed(message) if seal is None else b"\xf3\x89\x9a\xc2" + message + seal


def sealed(message):
    return b"\xf3\x89\x9a\xc2" + message + md5(message).digest()
