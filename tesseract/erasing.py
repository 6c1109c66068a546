"""Erasure of a range, or of a whole group, in stages: each may be cut short and is continued by running all of it again.

    1  delete      tombstones for what is visible, until a look finds nothing; the moment before that look is the cut
    2  archive     every write before the cut, the tombstones among them: nothing older can come to the archive any more
    3  rewrite     every segment, of every tier and level, without what was written before the cut
    4  forget      the states of the archive that name the old segments, and these
    5  beside it   files of exports, records in quarantine, notes
    6  items       tombstones and kept revisions, by DeleteItem; of a whole group live items, day marks, and its names
    7  again       every write up to now is archived; a row that comes back with it is deleted once more

The rows are out of every query after the first stage, whatever follows. What others write after the cut is visible and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tesseract.errors import RetryError
from tesseract.processing import erase, erase_items, erase_objects
from tesseract.processing.erase import Subject
from tesseract.processing.rebuild import FIRST, LAST
from tesseract.utils.time_utils import to_micros

if TYPE_CHECKING:
    from tesseract.store import Store

SKEW = timedelta(seconds=5)  # by how much the clocks of client and stage may differ
Say = Callable[[str], None]
Look = Callable[[], Iterator[list[erase_items.Row]]]


def subject_of(store: Store, dataset: str, group: str, start: str | None, end: str | None, cut: datetime) -> Subject:
    """What is erased, of what was written before `cut`."""
    from tesseract.query.catalog import group_key

    config = store.dataset(dataset)
    first, last = store.span(start, end)
    span = FIRST if first is None else to_micros(first), LAST if last is None else to_micros(last)
    return Subject(config, group_key(config, group), to_micros(cut), *span)


def preview(store: Store, subject: Subject, now: datetime) -> list[dict[str, object]]:
    """What the stages would do as things are now: stage, what, how many. Changes nothing; tombstones to come are not counted."""
    from tesseract.ingestion.erase_quarantine import Match, found

    backend, catalog, objects = store.backend, store.catalog, store.backend.objects
    counts: Counter[tuple[str, str]] = Counter()
    for partition in erase.partitions(catalog, subject):
        versions = list(catalog.manifests(partition.dataset.name, partition.level, partition.name))
        held = [erase.plan(version, subject) for version in versions]
        for segment in held[0] if held else ():
            counts["rewrite", f"{partition.level} segments, {segment.tier}"] += 1
        counts["forget", "states of the archive"] += max(len(versions) - 1, 0)
        named = {segment.key for segments in held for segment in segments}
        counts["forget", "objects"] += len(named)
    counts["beside it", "export files"] += len(list(erase_objects.export_files(catalog, objects)))
    match = Match(subject.dataset, subject.group, (subject.start, subject.end))
    counts["beside it", "records in quarantine"] += sum(len(own) for _, own, _ in found(objects, match, subject.dataset.name))
    for day in erase_items.days(catalog, backend.live, subject, now):
        counts["items", "raw items"] += len(erase_items.raw_items(backend, subject, day))
    if subject.whole:
        counts["items", "live items"] += len(list(erase_items.live_items(backend, catalog, subject)))
    return [{"stage": stage, "what": what, "number": number} for (stage, what), number in counts.items()]


def run(
    store: Store,
    dataset: str,
    group: str,
    start: str | None,
    end: str | None,
    archive: Callable[[datetime], object],
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    say: Say = lambda _: None,
) -> dict[str, int]:
    """Carry out all stages; what was done, by name. `archive(moment)` makes sure that all writes before it are in the archive.

    Raises RetryError where rows are written as fast as they are deleted, NotFoundError for a group or dataset that does not exist.
    """
    deleted = 0
    look = store.keys(dataset, group, start, end)
    while True:
        result = store.delete(dataset, group, start, end, say, erase=True)
        deleted += result["deleted"]
        if result["arrived"]:
            raise RetryError("rows are written as fast as they are deleted", hint="stop who writes them, then run it again")
        sleep(2 * SKEW.total_seconds())  # the tombstones are then older than the cut by any clock
        cut = clock() - SKEW
        if not any(look()):
            break
    subject = subject_of(store, dataset, group, start, end, cut)
    say("archiving the tombstones")
    archive(cut)
    if store.catalog.progress().archived_through < subject.cut:
        raise RetryError("the tombstones are not archived yet", hint="`tesseract archive status` shows why; run it again then")
    done, times = _erase(store, subject, clock(), say)
    if times:
        say("archiving what was written meanwhile")
        archive(clock())
        done["deleted again"] = _again(store, subject, lambda: erase_items.returned(store.backend, subject, times, look()), say)
    return {"deleted": deleted, **done}


def _again(store: Store, subject: Subject, back: Look, say: Say) -> int:
    """Hide the rows that have come back, and remove what the last window names; how many rows."""
    from tesseract.ingestion import deletes

    dataset, objects = subject.dataset, store.backend.objects
    result = deletes.run(deletes.Invoke(store.stage, True), dataset.name, subject.group, back, say)
    erase_objects.remove_exports(store.catalog, objects)
    if subject.whole:
        erase_objects.remove_notes(objects, subject)
    return result["deleted"]


def _erase(store: Store, subject: Subject, now: datetime, say: Say) -> tuple[dict[str, int], set[int]]:
    """Stages 3 to 6: what was done, and the valid times (µs) of tombstones that were removed."""
    from tesseract.ingestion.erase_quarantine import Match
    from tesseract.ingestion.erase_quarantine import erase as erase_quarantine

    backend, catalog, objects = store.backend, store.catalog, store.backend.objects
    rewritten = erase.rewrite(catalog, objects, subject, now, say)
    forgotten = erase.forget(catalog, objects, subject, now, say)
    say("exports and quarantine")
    done = {
        "rows": rewritten.rows,
        "segments": rewritten.segments,
        "states": forgotten.versions,
        "objects": forgotten.objects,
        "export files": erase_objects.remove_exports(catalog, objects),
        "records in quarantine": erase_quarantine(
            objects, Match(subject.dataset, subject.group, (subject.start, subject.end)), subject.dataset.name
        ),
    }
    if subject.whole:
        erase_objects.remove_notes(objects, subject)
    say("items")
    done["raw items"], times = erase_items.remove_raw(backend, catalog, subject, now)
    done["live items"] = erase_items.remove_live(backend, catalog, subject)
    if subject.whole:
        done["day marks"] = erase_items.remove_marks(backend, catalog, subject)
        erase.vanish(catalog, objects, subject)
    return done, times
