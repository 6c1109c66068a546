"""`tesseract archive`: how far the archive has come, and what makes it go on now."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli import delete, keeping
from tesseract.cli.common import Format, Stage, counted, note, open_store, say, spinner, thousands
from tesseract.utils.time_utils import utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.storage.catalog import Catalog

archive_app = typer.Typer(name="archive", help="The archive: status, export, retry, compact, verify.", no_args_is_help=True)
keeping.register(archive_app)
delete.register_archive(archive_app)
Name = Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; else all.", show_default=False)]


@archive_app.command()
def status(dataset: Name = None, stage: Stage = None, form: Format = None) -> None:
    """Export windows, lag, what is left until the buffer forgets, dead letters, and what each tier holds.

    While files are being archived a terminal gets a bar first. With --format json all of it is one object; csv, ndjson and parquet
    have the tiers alone.
    """
    from tesseract.cli import archive_status
    from tesseract.cli.output import choose, write_rows

    store = open_store(stage)
    datasets = _datasets(store.catalog, dataset)
    form = choose(form, None)
    if form not in ("table", "json"):
        write_rows([row for found in datasets for row in archive_status.tiers(store.catalog, found)], form, None)
        return
    if form == "table" and sys.stdout.isatty():
        archive_status.follow(store.catalog, utc_now)
    facts = archive_status.gather(store.catalog, datasets, _dead_letters(store.stage), utc_now())
    if form == "json":
        say(json.dumps(facts, indent=2))
    else:
        archive_status.show(facts)


@archive_app.command()
def export(
    dataset: Name = None,
    stage: Stage = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait until the export is archived.", min=1)] = 3600,
) -> None:
    """Export and archive what is in the buffer now, and wait for it. A window holds the writes of all datasets.

    With DATASET it says how many rows of it have been archived. Where no window is possible yet, it says when one is.
    """
    from tesseract.remote import export_now, reached

    store = open_store(stage)
    _datasets(store.catalog, dataset)
    before = store.catalog.progress().archived_through
    with spinner() as progress:
        window = export_now(store.stage, store.catalog, progress, timeout=timedelta(seconds=timeout))
    if dataset is None:
        done = f"{counted(window.items, 'item')} in {counted(window.files, 'file')}"
    else:
        windows = [found for found in store.catalog.windows(before) if before < found.end <= window.end]
        done = f"{counted(sum(store.catalog.rows_of(found, dataset) for found in windows), 'row')} of {dataset}"
    say(f"archived {done}; every write before {reached(window)} is in")


@archive_app.command()
def retry(
    stage: Stage = None,
    anew: Annotated[bool, typer.Option("--anew", help="Export their windows anew: for files that are damaged.")] = False,
) -> None:
    """Send the tasks that have failed five times back to the workers. Do so once what made them fail is mended."""
    from tesseract.processing import dead_letters
    from tesseract.storage.services import queue

    store = open_store(stage)
    dead = queue(store.stage, "work-dead")
    done = dead_letters.export_anew(dead, store.catalog) if anew else dead_letters.retry(dead, queue(store.stage, "work"))
    for window, tasks in sorted(done.windows.items()):
        say(f"window {window}: {'exported anew' if anew else counted(tasks, 'task')}")
    if done.strange:
        note(f"messages that are no tasks, left in the queue: {thousands(done.strange)}")
    if not done.windows:
        nothing = "there is no task among the dead letters" if done.strange else "there are no dead letters"
        say("no window waits for a dead letter" if anew else nothing)
    elif anew:
        say("the export timer asks for their exports; `tesseract archive status` shows them")
    else:
        say(f"sent {counted(done.windows.total(), 'dead letter')} back to the work queue")


@archive_app.command()
def compact(dataset: Name = None, stage: Stage = None, form: Format = None) -> None:
    """Merge segments into coarser tiers where a period is complete, and late ones into what is there."""
    from tesseract.cli.output import choose, write_rows
    from tesseract.remote import compact_now

    store = open_store(stage)
    _datasets(store.catalog, dataset)
    with spinner() as progress:
        progress("merging")
        merges = compact_now(store.stage, dataset)
    if form is None and not merges:
        say("nothing to merge")
        return
    write_rows(merges, choose(form, None), None)


def _datasets(catalog: Catalog, name: str | None) -> list[Dataset]:
    from tesseract.config.cache import Configs
    from tesseract.processing.publisher import datasets_of

    return datasets_of(catalog) if name is None else [Configs(catalog, utc_now).get(name)]


def _dead_letters(stage: str) -> int | None:
    """How many tasks have failed for good; None where AWS does not say."""
    from tesseract.errors import TesseractError
    from tesseract.storage.services import queue

    try:
        return queue(stage, "work-dead").depth()
    except TesseractError as error:
        note(f"the dead letters cannot be counted: {error}")
        return None
