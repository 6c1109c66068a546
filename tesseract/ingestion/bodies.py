"""Bytes to records, not yet decoded: gzip undone within bounds, then JSON or NDJSON cut into one piece per record. Pure."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib

import msgspec

from tesseract.errors import InputError
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.fastpath import BAD_JSON

Line = bytes | msgspec.Raw  # the JSON of one record

MAX_BODY = 4_500_000  # bytes, inflated: Lambda takes 6 MB of event, and base64 adds a third
MAX_RECORDS = 40_000  # so that an answer that lists them all fits the 6 MB that Lambda returns
GZIP = b"\x1f\x8b"  # JSON cannot begin so: these two bytes decide, whatever a header says
FORMS = "send a JSON object, an array of objects, or NDJSON"

_LOOSE = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = b"\xef\xbb\xbf"
_ENVELOPE = re.compile(rb'\{\s*"records"\s*:\s*(?=\[)')


def inflate(body: bytes) -> bytes:
    """Undo gzip, of one member or several; a body that is not gzip comes back as it is. Raises InputError and TooLarge.

    It stops at what a body may hold: a small one must not fill the memory.
    """
    if not body.startswith(GZIP):
        return body
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_BODY + 1)
    except EOFError as error:
        raise InputError("the gzip body ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"the body begins as gzip, but is not gzip: {error}") from error
    if len(plain) > MAX_BODY:
        raise TooLarge(f"the body has more than {MAX_BODY} bytes when it is inflated")
    return plain


def check_size(body: bytes) -> bytes:
    """The body, unless it has more bytes than one request may hold: then TooLarge."""
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body has {len(body)} bytes, at most {MAX_BODY} go into one request")
    return body


def check_count(count: int) -> None:
    """Raises TooLarge for more records than one request may hold."""
    if count > MAX_RECORDS:
        raise TooLarge(f"the body has {count} records, at most {MAX_RECORDS} go into one request")


def split(body: bytes, *, envelope: bool) -> list[Line]:
    """The records of a body: a JSON object, an array of them, or NDJSON. Raises InputError where it is none of these, TooLarge.

    With `envelope`, one object with the only member `records`, a list, is those records.
    """
    text = body.removeprefix(_BOM).strip()
    if not text:
        raise InputError("the body is empty", hint=FORMS)
    if text[:1] == b"[":
        return _array(text)
    if envelope and (match := _ENVELOPE.match(text)) and text[-1:] == b"}":
        try:  # a list to the very end: no other member, and not the same one twice
            return _array(text[match.end() : -1].rstrip())
        except InputError:
            pass
    if text[:1] != b"{" and b"\n{" not in text:  # a bad first line does not take the good ones with it
        raise InputError("the body is not JSON", hint=FORMS)
    if b"\n" not in text:
        return [text]
    try:  # one object, printed over several lines
        return [msgspec.json.decode(text, type=msgspec.Raw)]
    except BAD_JSON:
        return _lines(text)


def _array(text: bytes) -> list[Line]:
    try:
        records: list[Line] = msgspec.json.decode(text, type=list[msgspec.Raw])
    except BAD_JSON as error:
        records = _elements(text)  # half a surrogate pair in one record does not take the others with it
        if not records:
            raise InputError(f"the body is not JSON: {error}", hint="an array of objects ends with ]") from error
    check_count(len(records))
    return list(records)


def _elements(text: bytes) -> list[Line]:
    """The records of an array by the looser reading of the standard library, for the validator to judge; none where that fails."""
    try:
        whole = text.decode()
        found, at = [], _SPACE.match(whole, 1).end()  # type: ignore[union-attr]
        while True:
            end = _LOOSE.raw_decode(whole, at)[1]
            found.append(whole[at:end].encode())
            at = _SPACE.match(whole, end).end()  # type: ignore[union-attr]
            if whole[at : at + 1] != ",":
                return found if whole[at:] == "]" else []
            at = _SPACE.match(whole, at + 1).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return []


def _lines(text: bytes) -> list[Line]:
    """The lines that are not blank; no more of them are kept than may be: a body of millions must not fill the memory."""
    lines: list[Line] = []
    count = 0
    for line in io.BytesIO(text):
        if line := line.strip():
            count += 1
            if count <= MAX_RECORDS:
                lines.append(line)
    check_count(count)
    return lines
