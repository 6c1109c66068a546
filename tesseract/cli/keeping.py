"""The commands that look after the archive: verify, gc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Format, Stage, note, open_store, spinner, thousands
from tesseract.utils.time_utils import utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.store import Store

Name = Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; else all.", show_default=False)]


def register(archive: typer.Typer) -> None:
    """Add the commands of this module to `tesseract archive`."""
    archive.command()(verify)
    archive.command()(gc)


def verify(dataset: Name = None, stage: Stage = None, form: Format = None) -> None:
    """Read every segment that the newest manifests name, and compare it with what they say. Changes nothing.

    Exits with 1 where something is damaged. Segments that wait for a compaction (unmerged) and objects that no manifest names
    (orphan) are listed as well; they are no damage.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing.verify import verify as run

    form = choose(form, None)
    store = open_store(stage)
    with spinner() as progress:
        report = run(store.catalog, store.backend.objects, _datasets(store, dataset), utc_now(), progress)
    rows = [{name: getattr(finding, name) for name in finding.__struct_fields__} for finding in report.findings]
    if rows or form != "table":
        write_rows(rows, form, None)
    damaged = len({finding.key for finding in report.findings if finding.kind == "damaged"})
    note(
        f"{thousands(report.segments)} segments, {thousands(report.rows)} rows, {thousands(report.bytes)} bytes: "
        + (f"{thousands(damaged)} damaged" if damaged else "none is damaged")
    )
    if report.damaged:
        raise typer.Exit(1)


def gc(
    dataset: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    stage: Stage = None,
    form: Format = None,
) -> None:
    """Remove what `history` no longer asks for: old versions of manifests, and the segments that none of those kept names.

    A timer does it once a day. An object that nobody names goes one day after it was written at the earliest.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.storage.services import invoke

    form = choose(form, None)
    store = open_store(stage)
    _datasets(store, dataset)
    with spinner() as progress:
        progress("looking" if dry_run else "removing")
        removed = invoke(store.stage, "gc", {"dry_run": dry_run, **({"dataset": dataset} if dataset else {})})["removed"]
    write_rows(removed, form, None)


def _datasets(store: Store, name: str | None) -> list[Dataset]:
    return [store.dataset(one) for one in (store.datasets() if name is None else [name])]
