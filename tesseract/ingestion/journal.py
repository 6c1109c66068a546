"""What was acknowledged of a file that is being sent, so that a run that was cut short can go on where it ended.

One file of lines in the user's state folder: what is sent and to where, then one line for each chunk that was acknowledged, on disk
before the next one is sent. A chunk is known by its content and its place, so nothing depends on how the next run cuts the file. A
chunk that arrived but is missing here is sent again, which changes nothing: chunks behind it in its lane had not been sent yet.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec

from tesseract.errors import InputError
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Report
from tesseract.ingestion.validators import Rejection
from tesseract.utils.time_utils import from_micros, iso_seconds


class Identity(msgspec.Struct, frozen=True):
    """What is sent to where. `made` is when the dataset was first configured (µs): a stage made anew holds nothing yet."""

    stage: str
    dataset: str
    via: str
    file: str  # its absolute path
    size: int
    modified: int  # ns since 1970
    made: int

    def changes(self, now: Identity) -> str:
        """What differs now, as the end of a sentence; empty where nothing does."""
        if (self.size, self.modified) != (now.size, now.modified):
            at = iso_seconds(from_micros(now.modified // 1000 // 10**6 * 10**6))
            return f"the file has changed since (modified {at}, {self.size} → {now.size} bytes)"
        return f"the dataset {now.dataset!r} was made anew since" if self.made != now.made else ""

    def path(self) -> Path:
        """Where the journal of this file, stage, dataset and road is kept."""
        name = blake2b("\n".join((self.stage, self.dataset, self.via, self.file)).encode(), digest_size=12).hexdigest()
        return state_folder() / "ingest" / f"{name}.journal"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk that was acknowledged, and the answer."""

    chunk: str
    accepted: int
    rejected: list[Rejection] = []


class Journal:
    """The journal of one file. `known` is what it held when it was opened."""

    def __init__(self, stream: BinaryIO, path: Path, known: dict[str, Entry]) -> None:
        self._stream, self.path, self.known = stream, path, known

    def acknowledge(self, lines: Sequence[Line], report: Report) -> None:
        """Remember a chunk, durably."""
        _append(self._stream, Entry(fingerprint(lines), report.accepted, report.rejected))

    def answer(self, lines: Sequence[Line]) -> Report | None:
        """The answer to a chunk that an earlier run has sent; None for one to be sent."""
        entry = self.known.get(fingerprint(lines))
        return None if entry is None else Report(entry.accepted, entry.rejected)

    def close(self, remove: bool) -> None:
        """Close it; remove it once all is sent."""
        self._stream.close()
        if remove:
            self.path.unlink(missing_ok=True)


def begin(identity: Identity) -> Journal:
    """A new journal, in place of what an earlier run has left. Raises OSError."""
    path = identity.path()
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("wb")
    _append(stream, identity)
    return Journal(stream, path, {})


def resume(identity: Identity) -> Journal:
    """The journal of the run that was cut short, or a new one where there is none.

    Raises InputError where the file is not the one that was being sent, OSError where it cannot be read or written.
    """
    path = identity.path()
    before, known, good = _read(path)
    if before is None:
        return begin(identity)
    changes = before.changes(identity)
    if changes:
        raise InputError(
            f"{identity.file} cannot be resumed: {changes}", hint="send it whole, without --resume: nothing is doubled"
        )
    stream = path.open("r+b")
    stream.truncate(good)  # a line that a crash has cut
    stream.seek(good)
    return Journal(stream, path, known)


def fingerprint(lines: Sequence[Line]) -> str:
    """A chunk's name: made of its place and its content."""
    content = blake2b(str(lines[0].index).encode(), digest_size=12)
    for line in lines:
        content.update(b"\n")
        content.update(line.body)
    return content.hexdigest()


def state_folder() -> Path:
    """Where a user's programs keep what they must remember: XDG_STATE_HOME, else ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tesseract"


def _append(stream: BinaryIO, line: Identity | Entry) -> None:
    stream.write(msgspec.json.encode(line) + b"\n")
    stream.flush()
    os.fsync(stream.fileno())


def _read(path: Path) -> tuple[Identity | None, dict[str, Entry], int]:
    """The head, the entries by chunk, and how many bytes of the file are whole lines."""
    try:
        first, *rest = path.read_bytes().splitlines(keepends=True)
        head = msgspec.json.decode(first, type=Identity)
    except (FileNotFoundError, ValueError):  # none, an empty one, or one whose first line was cut
        return None, {}, 0
    known: dict[str, Entry] = {}
    good = len(first)
    for line in rest:
        if not line.endswith(b"\n"):
            break
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            break
        known[entry.chunk] = entry
        good += len(line)
    return head, known, good
