"""`tesseract archive`: how far the archive has come, and what makes it go on now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesseract.cli.common import Format, Stage, age, open_store, say, spinner, thousands
from tesseract.utils.time_utils import from_micros, iso_seconds, utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.storage.catalog import Catalog

archive_app = typer.Typer(name="archive", help="The archive: status, export, compact.", no_args_is_help=True)
Name = Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; else all.", show_default=False)]
SHOWN = 20  # newest windows


@archive_app.command()
def status(dataset: Name = None, stage: Stage = None, form: Format = None) -> None:
    """Export windows, how far the archive is behind, and what each tier holds. With --format, the tiers alone."""
    from tesseract.cli.output import choose, write_rows

    catalog, now = open_store(stage).catalog, utc_now()
    tiers = [row for found in _datasets(catalog, dataset) for row in _tiers(catalog, found)]
    if form is not None:
        write_rows(tiers, choose(form, None), None)
        return
    windows = catalog.windows()
    rows = [
        {
            "window": window.id,
            "state": "snapshot" if window.snapshot_at else window.state,
            "from": iso_seconds(from_micros(window.start)),
            "to": iso_seconds(from_micros(window.end)),
            "files": window.files,
            "rows": window.items,
            "age": age(now - from_micros(window.end)),
        }
        for window in windows[-SHOWN:]
    ]
    say(f"export windows{f' (the newest {SHOWN} of {len(windows)})' if len(windows) > SHOWN else ''}")
    write_rows(rows, "table", None)
    progress = catalog.progress()
    say(f"\narchived through  {_lag(progress.archived_through, now)}")
    say(f"snapshot through  {_lag(progress.snapshot_through, now)}\n")
    write_rows(tiers, "table", None)


@archive_app.command()
def export(
    dataset: Name = None,
    stage: Stage = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait until the export is archived.", min=1)] = 3600,
) -> None:
    """Export and archive what is in the buffer now, and wait for it. A window holds the writes of all datasets."""
    from tesseract.remote import export_now, reached

    store = open_store(stage)
    _datasets(store.catalog, dataset)
    with spinner() as progress:
        window = export_now(store.stage, store.catalog, progress, timeout=timedelta(seconds=timeout))
    say(f"archived {thousands(window.items)} items in {thousands(window.files)} files; every write before {reached(window)} is in")


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


def _tiers(catalog: Catalog, dataset: Dataset) -> list[dict[str, Any]]:
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


def _lag(through: int, now: datetime) -> str:
    if not through:
        return "nothing yet"
    moment = from_micros(through)
    return f"{iso_seconds(moment)}, {age(now - moment)} behind"
