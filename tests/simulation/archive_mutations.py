"""The deliberate faults of the archive: export windows, commits, compaction, removals, and reads beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tesseract.model import Applied
from tesseract.processing import archiver, collector, compactor, exporter, gc, segments, snapshots
from tesseract.processing.backfill_units import Units
from tesseract.query import raw
from tesseract.query.catalog import Lookup
from tesseract.query.plan import Range, raw_plan
from tesseract.query.source import Source
from tesseract.storage.columns import WRITE_TIME
from tesseract.storage.exports import Exports
from tesseract.storage.newest import Order
from tesseract.utils.time_utils import MICROSECOND
from tests.simulation.faults import fault

# export windows -----------------------------------------------------------------------------------------------------------


def _asking(change: Any) -> list[Any]:
    """Exports are asked for with another start or end than their window has."""
    ask = exporter._ask

    class Other:
        def __init__(self, exports: Exports, window: Any) -> None:
            self._exports, self._window = exports, window

        def request(self, prefix: str, start: Any, end: Any, token: str) -> str:
            return self._exports.request(prefix, *change(self._window, start, end), token)

    return [patch.object(exporter, "_ask", lambda w, catalog, exports, now: ask(w, catalog, Other(exports, w), now))]  # type: ignore[arg-type]


@fault("boundaries", 10)
def a_gap_between_windows() -> list[Any]:
    """A window's export begins a microsecond after the end of the one before."""
    return _asking(lambda window, start, end: (start and start + MICROSECOND, end))


@fault("windows")
def retried_with_another_end() -> list[Any]:
    """The second attempt at a window asks for less of it."""
    short = lambda window, start, end: min(end, start + timedelta(minutes=15)) if start and window.attempt > 1 else end
    return _asking(lambda window, start, end: (start, short(window, start, end)))


@fault("windows")
def closed_before_the_last_file() -> list[Any]:
    """A window is closed when one of its files is still to be committed."""

    class Eager:
        def __init__(self, catalog: Any) -> None:
            self._catalog = catalog

        def finished_files(self, *window: str) -> Any:
            return {**self._catalog.finished_files(*window), "another": 0}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._catalog, name)

    close = collector.close_if_done
    early = lambda catalog, window, now: close(Eager(catalog), window, now)
    return [patch.object(collector, "close_if_done", early), patch.object(archiver, "close_if_done", early)]


@fault("windows")
def open_windows_are_passed() -> list[Any]:
    """`archived_through` is the end of the last window that is closed, whatever is before it."""

    def reached(through: int, windows: Any) -> int:
        return max([through, *(window.end for window in windows if window.state == "closed")])

    return [patch.object(collector, "settled", reached)]


# commits ------------------------------------------------------------------------------------------------------------------


def _adding(known: bool, closed: bool) -> list[Any]:
    """Commits look at the ids that a manifest knows, or at the windows that it has closed, or at neither."""

    def added(manifest: Any, own: Any, commit: str, window_end: int, through: int, operation: str) -> Any:
        if closed and window_end <= manifest.closed_through:
            return None
        if known and any(applied.id == commit for applied in manifest.applied):
            return None
        applied = (*manifest.applied, Applied(commit, window_end))
        new = replace(manifest, segments=(*manifest.segments, *own), applied=applied, operation=operation)
        return segments.closed(new, through)

    return [patch.object(module, "added", added) for module in (archiver, segments)]


@fault("windows")
def a_commit_made_twice() -> list[Any]:
    """A commit does not look whether the manifest has it."""
    return _adding(known=False, closed=True)


@fault("merges")
def late_tasks_welcome() -> list[Any]:
    """A task of a window that is closed is committed: neither the worker nor the manifest asks for that."""

    class Unaware:
        def __init__(self, catalog: Any) -> None:
            self._catalog = catalog

        def window(self, name: str) -> Any:
            window = self._catalog.window(name)
            return replace(window, state="collecting") if window.state == "closed" else window

        def __getattr__(self, name: str) -> Any:
            return getattr(self._catalog, name)

    run = archiver.run
    unaware = patch.object(archiver, "run", lambda catalog, *rest: run(Unaware(catalog), *rest))  # type: ignore[arg-type]
    return [unaware, *_adding(known=True, closed=False)]


# compaction ---------------------------------------------------------------------------------------------------------------


@fault("merges", 50)
def purged_without_a_look_outside() -> list[Any]:
    """A tombstone goes though another segment has an older row of its key."""
    return [patch.object(compactor, "_outside", lambda *_: [])]


@fault("merges")
def inputs_that_have_gone() -> list[Any]:
    """A merge is committed though somebody has taken its inputs."""

    def swapped(manifest: Any, inputs: Any, output: Any, through: int, operation: str) -> Any:
        gone = set(inputs)
        kept = tuple(segment for segment in manifest.segments if segment.key not in gone)
        new = kept if output is None else (*kept, output)
        return segments.closed(replace(manifest, segments=new, operation=operation), through)

    return [patch.object(compactor, "swapped", swapped)]


@fault("merges")
def inputs_of_open_windows() -> list[Any]:
    """Segments of windows that are not closed are merged."""
    plan = compactor.plan
    return [
        patch.object(compactor, "plan", lambda manifest, ladder, now, through, whole: plan(manifest, ladder, now, 2**62, whole))
    ]


@fault("revisions", 5)
def merged_by_write_time() -> list[Any]:
    """Compaction keeps the row that was written last, whatever the order of the dataset's revisions."""
    return [patch.object(segments, "current", lambda _: Order(("valid_time",), (WRITE_TIME,)))]


# garbage ------------------------------------------------------------------------------------------------------------------


@fault("garbage", 30)
def no_grace() -> list[Any]:
    """An object that nobody names is removed however young it is."""
    return [patch.object(gc, "GRACE", timedelta(0))]


@fault("garbage")
def history_ignored() -> list[Any]:
    """Only the newest version of a manifest is kept."""
    return [patch.object(gc, "needed", lambda versions, since: (versions[:1], versions[1:]))]


@fault("garbage")
def named_by_the_newest_only() -> list[Any]:
    """An object goes though an older version that is kept names it."""
    unnamed = gc._unnamed
    newest = lambda facts: facts._replace(manifests=tuple(versions[:1] for versions in facts.manifests))
    return [patch.object(gc, "_unnamed", lambda facts, before: unnamed(newest(facts), before))]


# what is derived, and reads -----------------------------------------------------------------------------------------------


@fault("merges")
def snapshot_once() -> list[Any]:
    """Late data does not open a period again."""

    def due(level: Any, hours: Any, fresh: Any, window: Any) -> set[int]:
        length = snapshots.LENGTHS[level.name]
        return {start for start in snapshots._starts(hours, length) if window.start < start + length <= window.end}

    return [patch.object(snapshots, "due_periods", due)]


@fault("readers")
def progress_after_the_manifest() -> list[Any]:
    """A reader asks how far the archive has come when it has its manifest already."""
    last: list[Source] = []
    manifests = Source.manifests

    def remembered(self: Source, *which: Any) -> Any:
        last[:] = [self]
        return manifests(self, *which)

    def plan(group: str, ranges: Any, manifest: Any, facts: Any) -> Any:
        if not last[0].is_past:
            facts = facts._replace(through=last[0].catalog.progress().archived_through)  # type: ignore[union-attr]
        return raw_plan(group, ranges, manifest, facts)

    return [patch.object(Source, "manifests", remembered), patch.object(raw, "raw_plan", plan)]


@fault("readers")
def a_manifest_of_before() -> list[Any]:
    """A reader goes by the manifest that it saw last, and by a new watermark."""
    manifests, seen = Source.manifests, {}

    def once(self: Source, dataset: Any, level: str, groups: Any) -> Any:
        found = {group: ask() for group, ask in manifests(self, dataset, level, groups).items()}
        if self.is_past:
            return {group: lambda manifest=manifest: manifest for group, manifest in found.items()}
        names = {group: (id(self.backend), level, group) for group in found}
        return {group: lambda group=group: seen.setdefault(names[group], found[group]) for group in found}

    return [patch.object(Source, "manifests", once)]


@fault("readers")
def marks_are_remembered() -> list[Any]:
    """A reader keeps the day marks of a group that it has seen."""
    marks, seen = Lookup.marks, {}

    def once(self: Lookup, dataset: Any, group: str, wanted: Range) -> Any:
        return seen.setdefault((id(self), group, wanted), marks(self, dataset, group, wanted))

    return [patch.object(Lookup, "marks", once)]


@fault("backfills")
def backfilled_beside_the_buffer() -> list[Any]:
    """A backfill does not look whether the buffer has an item of its days."""
    return [patch.object(Units, "_held", lambda *_: set())]
