"""What a client asks of a stage's functions: export now, compact now, and wait until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tesseract.errors import BackendError, InputError
from tesseract.model import Window
from tesseract.storage.catalog import Catalog
from tesseract.storage.services import invoke
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds, utc_now

Say = Callable[[str], None]
Call = Callable[[str, str, dict[str, Any]], dict[str, Any]]
PATIENCE = timedelta(minutes=1)  # how long we wait for a window to become possible; beyond, we say when
POLL = 0.5
AGAIN = timedelta(seconds=10)  # until a window that holds more than the last one is worth its export
NUDGE = timedelta(seconds=20)  # how often `collect` is asked to look, should the S3 event have been lost


def export_now(
    stage: str,
    catalog: Catalog,
    say: Say = lambda _: None,
    *,
    covering: datetime | None = None,
    timeout: timedelta = timedelta(hours=1),
    patience: timedelta = PATIENCE,
    call: Call = invoke,
    clock: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> Window:
    """Open an export window, wait until it and all before it are committed, then let snapshots and metadata follow.

    The window covers every write before `covering`; without one, every write before the call where that takes less than `patience`
    (AWS exports nothing of the last minutes). Returns the window, whose `end` is the write time reached. Raises InputError where a
    window is possible only after `patience`, BackendError where a function fails or `timeout` passes.
    """
    deadline = clock() + timeout
    window_id = _open(stage, say, covering, deadline, patience, call, clock, sleep)
    say(f"window {window_id}: exporting")
    window = _wait(stage, catalog, window_id, say, deadline, call, clock, sleep)
    say("snapshots of aggregate levels")
    call(stage, "snapshot", {})
    say("metadata")
    call(stage, "metadata", {})
    return window


def repair_now(
    stage: str,
    catalog: Catalog,
    waiting: Callable[[], int],
    say: Say = lambda _: None,
    *,
    covering: datetime,
    timeout: timedelta = timedelta(hours=1),
    call: Call = invoke,
    clock: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Export until `waiting`, the number of marks whose repair is on the worklist, is 0 or `timeout` passes; returns it.

    A repair needs a window that ends after the mark, made before `covering`, and after the last change of the item; a function that
    ends before its work does is called again.
    """

    def patient(stage: str, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            return call(stage, function, payload)
        except BackendError as error:
            if function != "snapshot" or "timed out" not in str(error):
                raise
            return {}  # its time was up: what it has repaired is, and the next call goes on from there

    deadline = clock() + timeout
    while left := waiting():
        say(f"periods to be computed: {left:,}")
        rest = deadline - clock()
        if rest <= timedelta(0):
            break
        export_now(stage, catalog, say, covering=covering, timeout=rest, patience=rest, call=patient, clock=clock, sleep=sleep)
        while 0 < (after := waiting()) < left:
            left = after
            say(f"periods to be computed: {left:,}")
            patient(stage, "snapshot", {})
        covering = clock() + AGAIN  # what is left has changed meanwhile
    return left


def compact_now(stage: str, dataset: str | None = None, call: Call = invoke) -> list[dict[str, Any]]:
    """Merge what is due, of all datasets or one, to one segment a period; the merges added up by dataset, level and step."""
    payload = {"whole": True, **({"dataset": dataset} if dataset else {})}
    merges: list[dict[str, Any]] = call(stage, "compact", payload)["merges"]
    call(stage, "metadata", {})
    return merges


def _open(
    stage: str,
    say: Say,
    covering: datetime | None,
    deadline: datetime,
    patience: timedelta,
    call: Call,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> str:
    wanted: datetime | None = covering or clock()
    while clock() <= deadline:
        payload: dict[str, Any] = {"force": True}
        answer = call(stage, "export", payload if wanted is None else {**payload, "covering": wanted.isoformat()})
        if answer["opened"]:
            return str(answer["opened"][-1]["id"])
        if answer["next_possible"] is None:
            sleep(POLL)  # another timer was first, or as many windows as are allowed are under way
            continue
        possible = from_iso(answer["next_possible"])
        wait = possible - clock()
        if wait > patience and covering is None and wanted is not None:
            wanted = None  # take what AWS can export already
            continue
        if wait > patience:
            raise InputError(f"an export window is possible from {iso_seconds(possible)} on", hint="try again then")
        say(f"the next window is possible in {max(wait.total_seconds(), 0):.0f} s")
        sleep(max(wait.total_seconds(), POLL))
    raise BackendError("no export window could be opened", hint="`tesseract archive status` shows how many are under way")


def _wait(
    stage: str,
    catalog: Catalog,
    window_id: str,
    say: Say,
    deadline: datetime,
    call: Call,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Window:
    looked = clock()
    while True:
        window = catalog.window(window_id)
        if window is not None and window.state == "closed" and catalog.progress().archived_through >= window.end:
            return window
        now = clock()
        if now > deadline:
            state = "gone" if window is None else window.state
            raise BackendError(f"window {window_id} is still {state}", hint="`tesseract archive status` shows how it goes on")
        if window is not None and window.state in ("exported", "collecting"):
            say(f"window {window_id}: archiving {window.files} files, {window.items} items")
        if now - looked >= NUDGE:
            looked = now
            call(stage, "collect", {})
        sleep(POLL)


def reached(window: Window) -> str:
    """The write time that a window's archive reaches, as text."""
    return iso_seconds(from_micros(window.end))
