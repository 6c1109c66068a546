"""One object, many records: where `records_path` names a list, each object in it is a record. Pure.

The other members of the envelope are defaults of every record; a member of the record's own wins, as a whole. On the way to the
list objects keep their other members, too; a list on the way is left out, since a list is no value. Nothing is decoded deeper than
the path goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.paths import Steps, parse_path
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.bodies import MAX_BODY, Line, check_count
from tesseract.ingestion.fastpath import BAD_JSON

MAX_EXPANDED = 4 * MAX_BODY  # bytes of all records together, once the members that they share are copied into each

Members = dict[str, msgspec.Raw]


class Expanded(NamedTuple):
    """The records of some lines: `sources` has the place of each one's line, `faults` what is wrong with lines that hold none."""

    lines: Sequence[Line]
    sources: Sequence[int]
    faults: dict[int, str]  # by place in `lines`, where such a line stands as it came


def expand(dataset: Dataset, lines: Sequence[Line]) -> Expanded:
    """Lines to records. Raises TooLarge for more records, or more bytes of them, than one request may hold."""
    if not dataset.records_path:
        return Expanded(lines, range(len(lines)), {})
    steps = _steps(dataset.records_path)
    records: list[Line] = []
    sources: list[int] = []
    faults: dict[int, str] = {}
    room = MAX_EXPANDED
    for place, line in enumerate(lines):
        try:
            found, room = _records(line, steps, room)
        except _NoList as error:
            faults[len(records)] = f"{error} at records_path {dataset.records_path!r}"
            found = [line]
        records += found
        sources += [place] * len(found)
        check_count(len(records))
    return Expanded(records, sources, faults)


def alone(dataset: Dataset, record: Line) -> bytes:
    """A record of an envelope as an envelope of its own, which expands to the same record again."""
    if not dataset.records_path:
        return bytes(record)
    before, after = b"[", b"]"
    for step in reversed(_steps(dataset.records_path)):
        if isinstance(step, int):
            before, after = b"[" + b"null," * step + before, after + b"]"
        else:
            before, after = b"{" + msgspec.json.encode(step) + b":" + before, after + b"}"
    return before + bytes(record) + after


def reads(dataset: Dataset, name: str) -> bool:
    """Whether a declared path of the dataset begins with the member `name`."""
    fields = (path for path, _ in dataset.places())
    paths = (*dataset.group_by, dataset.time_field, dataset.ref_time_field, *fields, dataset.records_path)
    return any(path and _steps(path)[0] == name for path in paths)


class _NoList(Exception):
    """The object has no list of records."""


def _steps(path: str) -> Steps:
    return parse_path(path.removesuffix("[*]"))


def _records(line: Line, steps: Steps, room: int) -> tuple[list[Line], int]:
    """The records of one line, and the room that is left. A line that is no JSON object is for the validator to refuse."""
    try:
        members = msgspec.json.decode(line, type=Members)
    except BAD_JSON:
        return [line], room - len(line)
    found = _take(members, steps)
    check_count(len(found))
    records: list[Line] = []
    for element in found:
        record = _merged(members, element) if members else element
        room -= len(record)
        if room < 0:
            raise TooLarge(f"with the members of their envelopes the records have more than {MAX_EXPANDED} bytes")
        records.append(record)
    return records, room


def _take(members: Members, steps: Steps) -> list[msgspec.Raw]:
    """Take the list out of the members, and with it what is empty then."""
    name, rest = str(steps[0]), steps[1:]
    if name not in members:
        raise _NoList("there is nothing")
    value = members.pop(name)
    try:
        if not rest or isinstance(rest[0], int):
            return msgspec.json.decode(_down(value, rest), type=list[msgspec.Raw])
        inner = msgspec.json.decode(value, type=Members)
    except BAD_JSON as error:
        raise _NoList("there is no list") from error
    found = _take(inner, rest)
    if inner:
        members[name] = msgspec.Raw(msgspec.json.encode(inner))
    return found


def _down(value: msgspec.Raw, steps: Steps) -> msgspec.Raw:
    """What lies further down. Raises what decoding raises, and _NoList."""
    for step in steps:
        try:
            if isinstance(step, int):
                value = msgspec.json.decode(value, type=list[msgspec.Raw])[step]
            else:
                value = msgspec.json.decode(value, type=Members)[step]
        except LookupError:
            raise _NoList("there is nothing") from None
    return value


def _merged(shared: Members, element: msgspec.Raw) -> Line:
    try:
        return msgspec.json.encode({**shared, **msgspec.json.decode(element, type=Members)})
    except BAD_JSON:
        return element
