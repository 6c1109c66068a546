"""Opens export windows and asks DynamoDB for their exports: facts from the catalog, then the plan of `windows`, step by step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from tesseract.errors import BackendError, ConditionFailed
from tesseract.model import Window
from tesseract.processing import windows
from tesseract.processing.windows import Ask, Facts, Open, Retry, Settings, Step
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
    """Where the archive begins: the table's earliest restorable time, recorded once. Doing it twice changes nothing.

    Raises BackendError where point-in-time recovery is off.
    """
    through = catalog.progress().archived_through
    if not through:
        earliest = exports.earliest()
        if earliest is None:
            raise BackendError("point-in-time recovery of the raw table is off, so nothing can be exported", hint="switch it on")
        catalog.advance("archived", to_micros(windows.ceil_second(earliest)))
        through = catalog.progress().archived_through
    return from_micros(through)


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
    facts = dataclasses.replace(gather(catalog, exports, settings, started), force=force, covering=covering)
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


def gather(catalog: Catalog, exports: Exports, settings: Settings, started: datetime) -> Facts:
    """The facts of a plan: what the catalog knows, and which exports failed."""
    known = tuple(catalog.windows())
    asked = [window for window in known if window.state == "exporting" and window.export_arn]
    failed = frozenset(window.id for window in asked if exports.describe(window.export_arn).status == "FAILED")
    return Facts(known, started, settings, failed)


def execute(step: Step, catalog: Catalog, exports: Exports, now: datetime) -> Window:
    """Do one step. Raises ConditionFailed where somebody else has opened the window."""
    match step:
        case Open(window):
            catalog.open_window(window)
            return _ask(window, catalog, exports, now)
        case Retry(failed):

            def again(window: Window) -> Window | None:
                if window.export_arn != failed.export_arn or window.state != "exporting":
                    return None
                return replace(window, attempt=failed.attempt + 1, export_arn="")

            return _ask(catalog.change_window(failed.id, again), catalog, exports, now)
        case Ask(window):
            return _ask(window, catalog, exports, now)


def _ask(window: Window, catalog: Catalog, exports: Exports, now: datetime) -> Window:
    if window.export_arn:
        return window
    start, end = from_micros(window.start), from_micros(window.end)
    # a crash before the ARN is recorded asks again with the same token, and DynamoDB answers with the same export
    arn = exports.request(exports_prefix(window.id), start, end, f"{window.id}-{window.attempt}")

    def named(stored: Window) -> Window | None:
        if stored.attempt != window.attempt or stored.export_arn:
            return None
        return replace(stored, export_arn=arn, requested_at=to_micros(now))

    return catalog.change_window(window.id, named)
