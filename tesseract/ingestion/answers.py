"""What a producer is told: how many records were accepted, and what was wrong with the others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tesseract.ingestion.rejections import Rejection

NOT_WRITTEN = "not written: send this record again"
NOT_VALID = "not valid; see the first ones"
IN_FULL = 500  # rejections that an answer explains; the others only say that they are
IN_FULL_BYTES = 300_000  # of their JSON; with as many of warnings and 40,000 others an answer fits the 6 MB that Lambda returns
RETRY_AFTER = "2"  # seconds


class Answer(msgspec.Struct, frozen=True):
    """What happened to a request. `error` is there where it is about the request as a whole."""

    status: int
    accepted: int = 0
    rejected: list[Rejection] = []
    warnings: list[Rejection] = []
    error: str = ""

    def body(self) -> dict[str, Any]:
        """The answer's JSON: `error` and `warnings` only where there are any."""
        plain: dict[str, Any] = {"error": self.error} if self.error else {}
        plain |= {"accepted": self.accepted, "rejected": list(_listed(self.rejected))}
        if self.warnings:
            plain["warnings"] = list(_in_full(self.warnings))
        return plain

    def direct(self) -> dict[str, Any]:
        """The answer to a direct invoke."""
        return {"status": self.status, **self.body()}

    def http(self) -> dict[str, Any]:
        """The answer to an HTTP event, of any form."""
        headers = {"content-type": "application/json"}
        if self.status in (429, 503):
            headers["retry-after"] = RETRY_AFTER
        if self.status == 405:
            headers["allow"] = "POST"
        return {"statusCode": self.status, "headers": headers, "body": msgspec.json.encode(self.body()).decode()}


class Refused(Exception):
    """The request as a whole is refused, by what it is and not by its records. `str()` is a sentence for a person."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status

    def answer(self) -> Answer:
        """The answer that says so."""
        return Answer(self.status, error=str(self))


class TooLarge(Refused):
    """More than one request may hold."""

    def __init__(self, error: str) -> None:
        super().__init__(413, f"{error}; send it in parts")


def unwritten(indices: Sequence[int]) -> list[Rejection]:
    """The entries of valid records that are not in the table."""
    return [Rejection(index, "", "", NOT_WRITTEN) for index in indices]


def _listed(entries: Sequence[Rejection]) -> Iterator[dict[str, Any]]:
    """All entries by index: the first ones in full, those that were not written always named as such."""
    full, room = IN_FULL, IN_FULL_BYTES
    for entry in entries:
        if entry.reason == NOT_WRITTEN:
            yield _plain(entry)
            continue
        if full and room > 0:
            full, room = full - 1, room - len(msgspec.json.encode(entry))
            yield _plain(entry)
        else:
            yield _plain(Rejection(entry.index, "", "", NOT_VALID))


def _in_full(entries: Sequence[Rejection]) -> Iterator[dict[str, Any]]:
    """The first entries, no more: a warning asks for nothing to be sent again."""
    room = IN_FULL_BYTES
    for entry in entries[:IN_FULL]:
        room -= len(msgspec.json.encode(entry))
        if room > 0:
            yield _plain(entry)


def _plain(entry: Rejection) -> dict[str, Any]:
    """An entry as JSON has it; `hint` only where there is one."""
    return {name: value for name, value in msgspec.structs.asdict(entry).items() if value or name != "hint"}
