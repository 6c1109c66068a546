"""How far an archive whose catalog was lost had come, by what the bucket proves, and where its export windows begin again.

They begin where the snapshots are known to be complete. The last window before that is brought back, since its snapshots have noted
the touched periods that had not ended by its end: the next window's snapshots go on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from tesseract.config.tiers import LIVE_LEVELS
from tesseract.errors import ConditionFailed, NotFoundError
from tesseract.model import Manifest, Window, WindowKind
from tesseract.processing.publisher import catalog_object
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog, Progress
from tesseract.storage.keys import PENDING
from tesseract.utils.time_utils import from_iso, to_micros

SECOND = 1_000_000  # µs
DAY = 86_400 * SECOND


def wider(proven: Progress, newest: Manifest) -> Progress:
    """What is proven, with what a manifest proves: its `closed_through` was the stage's progress when it was committed."""
    archived, snapshot = proven.archived_through, proven.snapshot_through
    if newest.level in (RAW, REVISIONS):
        archived = max(archived, newest.closed_through)
    elif newest.level.partition("@")[0] in LIVE_LEVELS:
        snapshot = max(snapshot, newest.closed_through)
    return Progress(max(archived, snapshot), snapshot)


class _Document(msgspec.Struct):
    archived_through: str | None = None
    snapshot_through: str | None = None


def published(objects: Objects, names: Iterable[str]) -> Progress:
    """The progress that the metadata of the datasets in the bucket tell of."""
    progress = Progress()
    for name in names:
        with suppress(NotFoundError, msgspec.DecodeError):  # never published, or by a program that is not ours: it proves nothing
            found = msgspec.json.decode(objects.get(catalog_object(name)), type=_Document)
            archived, snapshot = (_micros(text) for text in (found.archived_through, found.snapshot_through))
            progress = Progress(max(progress.archived_through, archived), max(progress.snapshot_through, snapshot))
    return progress


def _micros(text: str | None) -> int:
    return to_micros(from_iso(text)) if text else 0


def begin_again(catalog: Catalog, objects: Objects, through: int, now: datetime) -> None:
    """Let export windows begin at `through` (µs), after the last one whose snapshots are proven. Doing it again changes nothing."""
    windows = catalog.windows()
    first = windows[0] if windows else last_window([info.key for info in objects.list(PENDING)], through, now)
    if windows and windows[0].start > through and not any(window.kind == "full" for window in windows):
        # the timer found no window, and began where point-in-time recovery does: what lies before comes with a full export
        end = max(window.end for window in windows)
        _open(catalog, Window(end, end + SECOND, "open", kind="full"))
    if first is not None:
        _open(catalog, first)
        through = min(through, first.end if first.snapshot_at else first.start)
    catalog.advance("archived", through)
    catalog.advance("snapshot", through)


def _open(catalog: Catalog, window: Window) -> None:
    with suppress(ConditionFailed):  # it is there: of a former run, or of the timer
        catalog.open_window(window)


def last_window(notes: Sequence[str], through: int, now: datetime) -> Window | None:
    """The window that ended at `through` (µs), by the notes that snapshots leave; None where there is no note of one. Pure.

    It ends a second earlier, if it was that long: what begins there then has a name that no window had, so that DynamoDB does not
    take its export for one asked for before.
    """
    starts = [start for key in notes if (start := _start(key)) is not None and start < through]
    if not starts:
        return None
    start = max(starts)
    end = through - SECOND if through - start > SECOND else through
    moment = to_micros(now)
    kind: WindowKind = "incremental" if end - start <= DAY else "full"
    return Window(start, end, "closed", closed_at=moment, snapshot_at=moment, kind=kind)


def _start(key: str) -> int | None:
    """The start (µs since 1970) of the window that left a note; None where the object is none."""
    try:
        moment = datetime.fromisoformat(key.removeprefix(PENDING).removesuffix(".json"))  # as model.window_id writes it
    except ValueError:
        return None
    return to_micros(moment)
