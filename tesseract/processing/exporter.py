"""Opens export windows and asks DynamoDB for their exports: facts from the catalog, then the plan of `windows`, step by step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from tesseract.errors import BackendError, ConditionFailed, DamagedError
from tesseract.model import Window
from tesseract.processing import windows
from tesseract.processing.windows import Ask, Cover, Facts, Open, Retry, Settings, Step, Widen
from tesseract.storage.base import Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.exports import Exports
from tesseract.storage.keys import exports_prefix, worklist_pks
from tesseract.utils.time_utils import from_micros, to_micros


@dataclass(frozen=True)
class Outcome:
    """What one run did. `next_possible` is when a forced window could be opened, None where one was or could be now."""

    opened: tuple[Window, ...]
    next_possible: datetime | None


def ensure_started(catalog: Catalog, exports: Exports) -> datetime:
    """Where the archive begins: the table's earliest restorable time, or the first dataset's if that is earlier, recorded once.

    Doing it twice changes nothing. Raises BackendError where point-in-time recovery is off.
    """
    through = catalog.progress().archived_through
    if not through:
        start = windows.ceil_second(earliest_of(exports))
        # records that came while recovery was off: the gap before `earliest` becomes a full export
        applied = (_applied_at(catalog, name) for name in catalog.dataset_names())
        first = min((moment for moment in applied if moment), default=to_micros(start))
        catalog.advance("archived", min(to_micros(start), to_micros(windows.floor_second(from_micros(first)))))
        through = catalog.progress().archived_through
    return from_micros(through)


def _applied_at(catalog: Catalog, name: str) -> int:
    """When (µs) a dataset was made; 0 where that is not known: a damaged version must not hold up the others."""
    try:
        first = catalog.dataset(name, 1)
    except DamagedError:
        return 0
    return first.applied_at if first else 0


def earliest_of(exports: Exports) -> datetime:
    """Since when changes of the raw table can be had. Raises BackendError where point-in-time recovery is off."""
    earliest = exports.earliest()
    if earliest is None:
        hint = "switch it on: what was written meanwhile comes with a full export"
        raise BackendError("point-in-time recovery of the raw table is off, so nothing can be exported", hint=hint)
    return earliest


def run(
    catalog: Catalog,
    exports: Exports,
    live: Table,
    settings: Settings,
    now: datetime,
    force: bool = False,
    covering: datetime | None = None,
) -> Outcome:
    """Mend and open windows as the plan says; see windows.Facts for `force` and `covering`."""
    started = ensure_started(catalog, exports)
    facts = dataclasses.replace(gather(catalog, exports, settings, started, now), force=force, covering=covering)
    if windows.may_be_sooner(facts, now):
        facts = dataclasses.replace(facts, waiting=waiting(live))
    opened = []
    for step in windows.plan(facts, now):
        try:
            window = execute(step, catalog, exports, now)
        except ConditionFailed:
            break  # two timers at once: the other's windows begin where ours would, so ours must not follow them
        if isinstance(step, Open):
            opened.append(window)
    return Outcome(tuple(opened), None if opened or not force else windows.next_possible(facts, now))


def waiting(live: Table) -> bool:
    """Whether an item waits for a repair: a Query of one item for each partition of the worklist."""
    return any(True for pk in worklist_pks() for _ in live.query(pk, limit=1))


def gather(catalog: Catalog, exports: Exports, settings: Settings, started: datetime, now: datetime) -> Facts:
    """The facts of a plan: what the catalog knows of windows that are not settled, and which exports failed.

    Raises BackendError where point-in-time recovery is off.
    """
    facts = Facts(tuple(catalog.windows(to_micros(started))), started, settings, earliest=earliest_of(exports))
    asked = [w for w in facts.windows if w.state == "exporting" and not w.unasked and not windows.broken(w, facts, now)]
    failed = frozenset(window.id for window in asked if exports.describe(window.export_arn).status in ("FAILED", "GONE"))
    return dataclasses.replace(facts, failed=failed)


def execute(step: Step, catalog: Catalog, exports: Exports, now: datetime) -> Window:
    """Do one step. Raises ConditionFailed where somebody else has opened the window, or changed one that is lost."""
    match step:
        case Open(window):
            catalog.open_window(window)
            return _ask(window, catalog, exports, now)
        case Ask(window):
            return _ask(window, catalog, exports, now)
        case Retry(window):
            return _ask(_exchange(catalog, window, begun_anew(window)), catalog, exports, now)
        case Widen(window, end):
            wide = replace(begun_anew(window), end=end, kind="full")
            if _exchange(catalog, window, wide) != wide:
                # another timer has mended it meanwhile: what it would have covered must wait for the next plan
                raise ConditionFailed("the window has changed", operation="widen", key=window.id)
            return _ask(wide, catalog, exports, now)
        case Cover(window):
            return _exchange(catalog, window, replace(window, state="closed", kind="covered", closed_at=to_micros(now)))


def begun_anew(window: Window) -> Window:
    """A window as it is before its export is asked for, under the next attempt: what was exported so far counts for nothing."""
    return Window(window.start, window.end, "open", window.attempt + 1, kind=window.kind)


def _exchange(catalog: Catalog, old: Window, new: Window) -> Window:
    """Replace a window if it is still what the plan saw; returns what is stored then."""
    return catalog.change_window(old.id, lambda stored: new if stored == old else None)


def _ask(window: Window, catalog: Catalog, exports: Exports, now: datetime) -> Window:
    if not window.unasked:
        return window
    start, end = None if window.kind == "full" else from_micros(window.start), from_micros(window.end)
    # a crash before the ARN is recorded asks again with the same token, and DynamoDB answers with the same export
    arn = exports.request(exports_prefix(window.id), start, end, f"{window.id}-{window.attempt}")

    def named(stored: Window) -> Window | None:
        if stored.attempt != window.attempt or not stored.unasked:
            return None
        return replace(stored, state="exporting", export_arn=arn, requested_at=to_micros(now))

    return catalog.change_window(window.id, named)
