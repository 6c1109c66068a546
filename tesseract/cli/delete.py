"""`tesseract delete`, and `archive erased`: rows out of every query, and with --erase out of everything that is kept."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Format, Stage, counted, note, open_store, say, spinner, thousands
from tesseract.utils.time_utils import iso_day, utc_now

if TYPE_CHECKING:
    from tesseract.store import Store

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="Its group, NETWORK/STATION for a compound one.")]
KEPT_ELSEWHERE = (  # what holds rows of the past, for how many days
    ("point-in-time recovery of the tables", 35),
    ("exports that others made, and the keys of removed items in ours", 14),
    ("messages to dead-letter queues", 14),
    ("the streams of the tables and Kinesis, at its usual retention", 1),
)


def register_archive(archive: typer.Typer) -> None:
    """Add the proof to `tesseract archive`."""
    archive.command()(erased)


def delete(
    dataset: Dataset,
    group: Group,
    start: Annotated[str | None, typer.Option(help="From here on.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, exclusive.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything on the side of a bound that is not given.")] = False,
    erase: Annotated[
        bool, typer.Option("--erase", help="Also from older states of the archive, exports, quarantine and the tables, for good.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --erase: say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    stage: Stage = None,
) -> int:
    """Delete the rows of a group in [start, end). Queries miss them at once; aggregates follow within seconds.

    Running it again does no harm: what was cut off goes on, what is deleted stays so. A record written again later is visible.
    With --erase nothing of the rows is left: it waits for an export, and needs the rights to remove objects and items.
    """
    if not everything and (start is None or end is None):
        bound = "--start" if start is None else "--end"
        raise typer.BadParameter(f"without {bound} everything on that side would go: give both bounds, or say --all")
    if dry_run and not erase:
        raise typer.BadParameter("--dry-run shows the stages of --erase")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise typer.BadParameter("the input is no terminal where one could ask whether you are sure: say --yes")
    store = open_store(stage)
    if dry_run:
        return _preview(store, dataset, group, start, end)
    if not yes and not _sure(store, dataset, group, start, end, erase):
        note("nothing is deleted")
        return 1
    if erase:
        return _erase(store, dataset, group, start, end)
    with spinner() as progress:
        result = store.delete(dataset, group, start, end, progress)
    say(f"deleted {counted(result['deleted'], 'row')}")
    if result["arrived"]:
        note(f"written meanwhile, as fast as they were deleted, and still there: {counted(result['arrived'], 'row')}")
    return 0


def erased(
    dataset: Dataset,
    group: Group,
    start: Annotated[str | None, typer.Option(help="From here on.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, exclusive.", show_default=False)] = None,
    stage: Stage = None,
    form: Format = None,
) -> int:
    """Look at every object and item where rows of a group can be, and tell what is there. Exits with 1 where anything is.

    Without bounds also what merely names the group. Reads every segment and export file that can hold rows of it. Changes nothing.
    """
    from tesseract import erasing
    from tesseract.cli.output import choose, write_rows
    from tesseract.ingestion.erase_quarantine import Match, found
    from tesseract.processing import erased as proof

    form, store, now = choose(form, None), open_store(stage), utc_now()
    subject = erasing.subject_of(store, dataset, group, start, end, now)
    with spinner() as progress:
        left = list(proof.scan(store.backend, store.catalog, subject, now, progress))
        match = Match(subject.dataset, subject.group, (subject.start, subject.end))
        for place, own, _ in found(store.backend.objects, match, dataset):
            left.append(proof.Left("records in quarantine", len(own), place.key))
    if left or form != "table":
        write_rows([one._asdict() for one in left], form, None, proof.Left._fields)
    if left:
        note("what is still there is listed; `tesseract delete … --erase` removes it, or says what it waits for")
        return 1
    note("nothing is there")
    for what, days in KEPT_ELSEWHERE:
        note(f"not looked at: {what}, empty of what was erased until now by {iso_day(now + timedelta(days=days + 1))}")
    note("not looked at: the logs of the functions. They hold no values, but may name keys, for as long as the stage keeps logs")
    return 0


def _sure(store: Store, dataset: str, group: str, start: str | None, end: str | None, erase: bool) -> bool:
    rows = sum(map(len, store.keys(dataset, group, start, end)()))
    span = f"from {start or 'the beginning'} to {end or 'the end'}"
    verb = "Erase, for good," if erase else "Delete"
    if not rows and not erase:
        return True
    return typer.confirm(f"{verb} {counted(rows, 'row')} of dataset {dataset}, group {group}, {span}?", err=True)


def _preview(store: Store, dataset: str, group: str, start: str | None, end: str | None) -> int:
    from tesseract import erasing
    from tesseract.cli.output import write_rows

    now = utc_now()
    rows = sum(map(len, store.keys(dataset, group, start, end)()))
    stages = erasing.preview(store, erasing.subject_of(store, dataset, group, start, end, now), now)
    write_rows([{"stage": "delete", "what": "visible rows", "number": rows}, *stages], "table", None)
    return 0


def _erase(store: Store, dataset: str, group: str, start: str | None, end: str | None) -> int:
    from tesseract import erasing
    from tesseract.remote import export_now
    from tesseract.storage.services import clock_lag, invoke

    lag = clock_lag() if store.stage != "local" else timedelta(0)

    def clock() -> datetime:
        return utc_now() + lag

    with spinner() as progress:

        def archive(moment: datetime) -> None:
            patience = timedelta(hours=1)
            export_now(store.stage, store.catalog, progress, covering=moment, patience=patience, clock=clock)

        done = erasing.run(store, dataset, group, start, end, archive, clock, time.sleep, progress)
        progress("metadata")
        invoke(store.stage, "metadata", {})
    say(", ".join(f"{name} {thousands(number)}" for name, number in done.items()))
    note("`tesseract archive erased` looks whether anything is left")
    return 0
