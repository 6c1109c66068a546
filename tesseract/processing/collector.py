"""Turns a completed export into tasks, one per data file, and closes windows whose files are all committed.

AWS writes `AWSDynamoDB/<export>/manifest-summary.json` and beside it `manifest-files.json`, one JSON line per data file.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec.structs import replace

from tesseract.errors import DamagedError, NotFoundError
from tesseract.model import Window
from tesseract.processing.windows import settled
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.exports import Exports
from tesseract.storage.keys import exports_prefix
from tesseract.storage.services import Queue
from tesseract.utils.time_utils import from_iso, from_micros, to_micros

RESEND = timedelta(hours=12)  # longer than the five tries of a task can last: before that, none is lost
SUMMARY = "manifest-summary.json"
Progress = Literal["waiting", "collecting", "closed"]


class Task(msgspec.Struct, frozen=True, tag_field="kind", tag="file"):
    """One data file to commit. `md5` is the base64 of the object's MD5; `write_time` (µs) is set for a full export only."""

    window: str
    export: str
    key: str
    md5: str
    items: int
    write_time: int = 0

    @property
    def file(self) -> str:
        """The name of the file within its export."""
        return self.key.rpartition("/")[2]


class _Summary(msgspec.Struct, rename="camel"):
    export_arn: str
    manifest_files_key: str = msgspec.field(name="manifestFilesS3Key")
    item_count: int
    export_type: str = "FULL_EXPORT"  # AWS names it for incremental exports only
    export_time: str = ""


class _File(msgspec.Struct, rename="camel"):
    item_count: int
    md5_checksum: str
    data_key: str = msgspec.field(name="dataFileS3Key")


def collect_all(catalog: Catalog, objects: Objects, exports: Exports, queue: Queue, now: datetime) -> dict[str, Progress]:
    """`collect` for every window that is not closed: the fallback for a lost event."""
    windows = catalog.windows(catalog.progress().archived_through)
    done = {w.id: collect(catalog, objects, exports, queue, w, now) for w in windows if w.state != "closed"}
    settle(catalog)
    return done


def window_of(catalog: Catalog, key: str) -> Window | None:
    """The window whose export an object under `exports/` belongs to."""
    parts = key.split("/")
    return catalog.window(parts[1]) if len(parts) > 2 and parts[0] == "exports" else None


def collect(catalog: Catalog, objects: Objects, exports: Exports, queue: Queue, window: Window, now: datetime) -> Progress:
    """Make the files of a window's export into tasks, once it is complete. Doing it again sends only what was lost.

    Raises DamagedError where the manifests contradict each other.
    """
    if window.state == "closed" or window.unasked:
        return "closed" if window.state == "closed" else "waiting"
    tasks: list[Task] | None = None
    if window.state == "exporting":
        if exports.describe(window.export_arn).status != "COMPLETED":
            return "waiting"
        tasks = tasks_of(objects, window)
        known = replace(window, state="exported", files=len(tasks), items=sum(task.items for task in tasks))
        arn = window.export_arn
        window = catalog.change_window(window.id, lambda stored: known if _counts(stored, arn, "exporting") else None)
        if window.export_arn != arn:
            return "waiting"  # begun anew meanwhile
    if window.state == "exported" or now - from_micros(window.collected_at) >= RESEND:
        _send(catalog, queue, window, tasks_of(objects, window) if tasks is None else tasks, now)
    return "closed" if close_if_done(catalog, window.id, now) else "collecting"


def _send(catalog: Catalog, queue: Queue, window: Window, tasks: Sequence[Task], now: datetime) -> None:
    """Put the tasks that are not finished on the queue; only then does the window say so."""
    finished = catalog.finished_files(window.id, window.export)
    unfinished = [task for task in tasks if task.file not in finished]
    if unfinished:
        queue.send([msgspec.json.encode(task).decode() for task in unfinished])

    def sent(stored: Window) -> Window | None:
        if not _counts(stored, window.export_arn, "exported", "collecting"):
            return None
        return replace(stored, state="collecting", collected_at=to_micros(now))

    catalog.change_window(window.id, sent)


def _counts(window: Window, arn: str, *states: str) -> bool:
    return window.export_arn == arn and window.state in states


def tasks_of(objects: Objects, window: Window) -> list[Task]:
    """The tasks of a completed export: its data files that hold anything. Raises DamagedError."""
    export, prefix = window.export, exports_prefix(window.id)
    place = f"{prefix}/AWSDynamoDB/{export}/{SUMMARY}"
    head = objects.get(place)
    _verify(objects, place, head)
    try:
        summary = msgspec.json.decode(head, type=_Summary)
        listing = _below(prefix, summary.manifest_files_key)
        body = objects.get(listing)
        _verify(objects, listing, body)
        files = [msgspec.json.decode(line, type=_File) for line in body.splitlines() if line.strip()]
    except msgspec.DecodeError as error:
        raise DamagedError(f"a manifest of the export does not decode: {error}", key=place) from error
    _check(summary, window, sum(file.item_count for file in files), place)
    moment = window.end if window.kind == "full" else 0
    return [
        Task(window.id, export, _below(prefix, file.data_key), file.md5_checksum, file.item_count, moment)
        for file in files
        if file.item_count
    ]


def _below(prefix: str, key: str) -> str:
    """AWS's guide shows keys without the prefix that was asked for, its service writes them with it."""
    return key if key.startswith(f"{prefix}/") else f"{prefix}/{key}"


def _verify(objects: Objects, key: str, body: bytes) -> None:
    """Compare a manifest with the checksum beside it: `.md5` or `.checksum`, as base64 or hexadecimal."""
    for ending in ("checksum", "md5"):
        try:
            expected = objects.get(key.removesuffix("json") + ending).strip().decode()
        except NotFoundError:
            continue
        digest = hashlib.md5(body, usedforsecurity=False)
        if expected not in (b64encode(digest.digest()).decode(), digest.hexdigest()):
            raise DamagedError(f"{key.rpartition('/')[2]} does not match its checksum", key=key)
        return


def _check(summary: _Summary, window: Window, items: int, place: str) -> None:
    """Whether a summary is of the export that was asked for, and agrees with the `items` of its files."""
    if summary.export_arn != window.export_arn:
        raise DamagedError(f"the summary is of {summary.export_arn}, the window's export is {window.export_arn}", key=place)
    if items != summary.item_count:
        raise DamagedError(f"the files hold {items} items, the summary says {summary.item_count}", key=place)
    full = summary.export_type != "INCREMENTAL_EXPORT"
    if full != (window.kind == "full"):
        raise DamagedError(f"the export is a {summary.export_type}, the window is {window.kind}", key=place)
    if full and to_micros(from_iso(summary.export_time)) != window.end:
        raise DamagedError(f"the export is of {summary.export_time}, the window ends at another time", key=place)


def close_if_done(catalog: Catalog, window_id: str, now: datetime) -> bool:
    """Close a window all of whose files are committed, and move the archive's progress. Safe at any time, by anyone."""
    window = catalog.window(window_id)
    if window is None:
        return False
    if window.state in ("exported", "collecting"):  # a worker may be faster than the note that its tasks were sent
        arn = window.export_arn
        if len(catalog.finished_files(window.id, window.export)) >= window.files:

            def closed(stored: Window) -> Window | None:
                if not _counts(stored, arn, "exported", "collecting"):
                    return None
                return replace(stored, state="closed", closed_at=to_micros(now))

            window = catalog.change_window(window.id, closed)
    if window.state == "closed":
        settle(catalog)
    return window.state == "closed"


def settle(catalog: Catalog) -> int:
    """Move `archived_through` to the end of the longest unbroken run of closed windows, and return it (0: there is none)."""
    through = catalog.progress().archived_through
    reached = settled(through, catalog.windows(through))
    if reached > through:
        catalog.advance("archived", reached)
    return reached
