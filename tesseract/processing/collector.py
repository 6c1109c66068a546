"""Turns a completed export into tasks, one per data file, and closes windows whose files are all committed.

AWS writes `AWSDynamoDB/<export>/manifest-summary.json` and beside it `manifest-files.json`, one JSON line per data file.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec.structs import replace

from tesseract.errors import DamagedError, NotFoundError
from tesseract.model import Window
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.exports import Exports, export_id
from tesseract.storage.keys import exports_prefix
from tesseract.storage.services import Queue
from tesseract.utils.time_utils import from_iso, from_micros, to_micros

RESEND = timedelta(minutes=20)  # longer than a worker may run: its task is not lost before
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
    done = {w.id: collect(catalog, objects, exports, queue, w, now) for w in catalog.windows() if w.state != "closed"}
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
    if window.state == "closed" or not window.export_arn:
        return "closed" if window.state == "closed" else "waiting"
    if window.state == "exporting":
        if exports.describe(window.export_arn).status != "COMPLETED":
            return "waiting"
        tasks = tasks_of(objects, window)
        items = sum(task.items for task in tasks)

        def found(stored: Window) -> Window | None:
            if stored.export_arn != window.export_arn or stored.state != "exporting":
                return None
            return replace(stored, state="collecting", files=len(tasks), items=items)

        window = catalog.change_window(window.id, found)
    elif now - from_micros(window.collected_at) >= RESEND:
        tasks = tasks_of(objects, window)
    else:
        tasks = []
    finished = catalog.finished_files(window.id, export_id(window.export_arn))
    unfinished = [task for task in tasks if task.file not in finished]
    if unfinished:
        queue.send([msgspec.json.encode(task).decode() for task in unfinished])
        catalog.change_window(window.id, lambda stored: replace(stored, collected_at=to_micros(now)))
    return "closed" if close_if_done(catalog, window.id, now) else "collecting"


def tasks_of(objects: Objects, window: Window) -> list[Task]:
    """The tasks of a completed export: its data files that hold anything. Raises DamagedError."""
    export, prefix = export_id(window.export_arn), exports_prefix(window.id)
    place = f"{prefix}/AWSDynamoDB/{export}/{SUMMARY}"
    try:
        summary = msgspec.json.decode(objects.get(place), type=_Summary)
        body = objects.get(_below(prefix, summary.manifest_files_key))
        files = [msgspec.json.decode(line, type=_File) for line in body.splitlines() if line.strip()]
    except msgspec.DecodeError as error:
        raise DamagedError(f"a manifest of the export does not decode: {error}", key=place) from error
    if summary.export_arn != window.export_arn:
        raise DamagedError(f"the summary is of {summary.export_arn}, the window's export is {window.export_arn}", key=place)
    _verify(objects, place.removesuffix(SUMMARY), body)
    total = sum(file.item_count for file in files)
    if total != summary.item_count:
        raise DamagedError(f"the files hold {total} items, the summary says {summary.item_count}", key=place)
    full = summary.export_type != "INCREMENTAL_EXPORT"
    moment = to_micros(from_iso(summary.export_time)) if full else 0
    return [
        Task(window.id, export, _below(prefix, file.data_key), file.md5_checksum, file.item_count, moment)
        for file in files
        if file.item_count
    ]


def _below(prefix: str, key: str) -> str:
    """AWS's guide shows keys without the prefix that was asked for, its service writes them with it."""
    return key if key.startswith(f"{prefix}/") else f"{prefix}/{key}"


def _verify(objects: Objects, folder: str, body: bytes) -> None:
    for ending in ("checksum", "md5"):
        try:
            expected = objects.get(f"{folder}manifest-files.{ending}").strip().decode()
        except NotFoundError:
            continue
        digest = hashlib.md5(body, usedforsecurity=False)
        if expected not in (b64encode(digest.digest()).decode(), digest.hexdigest()):
            raise DamagedError("manifest-files.json does not match its checksum", key=folder)
        return


def close_if_done(catalog: Catalog, window_id: str, now: datetime) -> bool:
    """Close a window all of whose files are committed, and move the archive's progress. Safe at any time, by anyone."""
    window = catalog.window(window_id)
    if window is None:
        return False
    if window.state == "collecting":
        arn = window.export_arn
        if len(catalog.finished_files(window.id, export_id(arn))) >= window.files:

            def closed(stored: Window) -> Window | None:
                if stored.state != "collecting" or stored.export_arn != arn:
                    return None
                return replace(stored, state="closed", closed_at=to_micros(now))

            window = catalog.change_window(window.id, closed)
    if window.state == "closed":
        settle(catalog)
    return window.state == "closed"


def settle(catalog: Catalog) -> int:
    """Move `archived_through` to the end of the longest unbroken run of closed windows, and return it (0: there is none).

    Windows may close in any order; only what nothing earlier can still be added to counts.
    """
    through = 0
    for window in catalog.windows():
        if window.state != "closed":
            break
        through = max(through, window.end)
    if through:
        catalog.advance("archived", through)
    return through
