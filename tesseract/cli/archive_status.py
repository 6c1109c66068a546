"""What `tesseract archive status` shows: the facts as one object, and as tables. A bar while files are being archived."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from tesseract.cli.common import age, say
from tesseract.cli.output import write_rows
from tesseract.config.dataset import Dataset
from tesseract.model import Window
from tesseract.storage.catalog import Catalog
from tesseract.storage.items import HOLD
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds

SHOWN = 20  # newest windows
POLL = 0.5  # seconds
STALLED = timedelta(seconds=30)  # without a file more, what is there is shown
ARCHIVING = ("exported", "collecting")
Facts = dict[str, Any]


def gather(catalog: Catalog, datasets: Sequence[Dataset], dead_letters: int | None, now: datetime) -> Facts:
    """How a stage's archive stands, as JSON has it: times ISO 8601, lengths in seconds; null where nothing is known yet."""
    progress = catalog.progress()
    archived, snapshot = progress.archived_through, progress.snapshot_through
    return {
        "now": iso_seconds(now),
        "windows": [_window(catalog, window, now) for window in _shown(catalog, archived)],
        "archived_through": iso_seconds(from_micros(archived)) if archived else None,
        "archived_lag": _lag(archived, now),
        "snapshot_through": iso_seconds(from_micros(snapshot)) if snapshot else None,
        "snapshot_lag": _lag(snapshot, now),
        "headroom": [_headroom(dataset, archived, now) for dataset in datasets] if archived else [],
        "dead_letters": dead_letters,
        "tiers": [row for dataset in datasets for row in tiers(catalog, dataset)],
    }


def tiers(catalog: Catalog, dataset: Dataset) -> list[dict[str, Any]]:
    """What each tier of a dataset holds."""
    from tesseract.processing.publisher import sizes

    return [
        {
            "dataset": dataset.name,
            "level": size.level,
            "tier": size.tier,
            "segments": size.segments,
            "rows": size.rows,
            "bytes": size.bytes,
        }
        for size in sizes(catalog, dataset)
    ]


def show(facts: Facts) -> None:
    """The facts as tables."""
    now = from_iso(facts["now"])
    say(f"export windows, the newest {SHOWN}")
    write_rows([{**window, "age": age(now - from_iso(window["to"]))} for window in facts["windows"]], "table", None)
    say("")
    for what in ("archived", "snapshot"):
        through = facts[f"{what}_through"]
        say(f"{what} through  " + (f"{through}, {age(now - from_iso(through))} behind" if through else "nothing yet"))
    dead = facts["dead_letters"]
    hint = "; `tesseract archive retry` sends them back once the cause is mended" if dead else ""
    say(f"dead letters      {'unknown' if dead is None else f'{dead:,}'}{hint}\n")
    if facts["headroom"]:
        names = {"on_time": "left", "late": "left for late records"}
        rows = [{**row, **{name: _left(row[name]) for name in names}} for row in facts["headroom"]]
        write_rows([{names.get(name, name): value for name, value in row.items()} for row in rows], "table", None)
        say("")
    write_rows(facts["tiers"], "table", None)


def follow(catalog: Catalog, clock: Callable[[], datetime], sleep: Callable[[float], None] = time.sleep) -> None:
    """A bar for each window whose files are being archived, until none is, or none gets on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), transient=True) as bars:
        known: dict[str, Any] = {}
        seen: dict[str, int] = {}
        moved = clock()
        while (busy := _archiving(catalog)) and clock() - moved < STALLED:
            for window in busy:
                done = len(catalog.finished_files(window.id, window.export))
                if window.id not in known:
                    known[window.id] = bars.add_task(f"archiving window {window.id}", total=window.files)
                if seen.get(window.id) != done:
                    seen[window.id], moved = done, clock()
                bars.update(known[window.id], completed=done)
            sleep(POLL)


def _archiving(catalog: Catalog) -> list[Window]:
    return [window for window in catalog.windows(catalog.progress().archived_through) if window.state in ARCHIVING]


def _shown(catalog: Catalog, through: int) -> list[Window]:
    """The newest windows, and all that are not settled."""
    known = {window.id: window for window in (*catalog.windows(through), *catalog.newest_windows(SHOWN))}
    return [known[name] for name in sorted(known)]


def _window(catalog: Catalog, window: Window, now: datetime) -> dict[str, Any]:
    finished = len(catalog.finished_files(window.id, window.export)) if window.state in ARCHIVING else window.files
    return {
        "window": window.id,
        "kind": window.kind,
        "state": "snapshot" if window.snapshot_at else window.state,
        "attempt": window.attempt,
        "from": iso_seconds(from_micros(window.start)),
        "to": iso_seconds(from_micros(window.end)),
        "files": window.files,
        "archived": finished,
        "items": window.items,
    }


def _headroom(dataset: Dataset, archived: int, now: datetime) -> dict[str, Any]:
    """How long from now until records leave the buffer that are not in the archive, in seconds.

    A record stays for the buffer's TTL from its valid time, and for the hold from its arrival, whichever is later: one that comes
    late may have no more than the hold.
    """
    lag = now - from_micros(archived)
    return {
        "dataset": dataset.name,
        "buffer": f"{dataset.shortest_ttl // timedelta(hours=1)} h",
        "on_time": int((max(dataset.shortest_ttl, HOLD) - lag).total_seconds()),
        "late": int((HOLD - lag).total_seconds()),
    }


def _lag(through: int, now: datetime) -> int | None:
    return int((now - from_micros(through)).total_seconds()) if through else None


def _left(seconds: int) -> str:
    return age(timedelta(seconds=seconds)) if seconds > 0 else f"none for {age(timedelta(seconds=-seconds))}"
