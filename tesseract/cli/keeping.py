"""The commands that look after the archive: verify, repair, gc, rebuild-catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Format, Stage, note, open_store, spinner, thousands
from tesseract.utils.time_utils import from_micros, iso_seconds, utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.processing.rebuild_catalog import Report
    from tesseract.store import Store

Name = Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; else all.", show_default=False)]


def register(archive: typer.Typer) -> None:
    """Add the commands of this module to `tesseract archive`."""
    archive.command()(verify)
    archive.command()(gc)
    archive.command()(repair)
    archive.command("rebuild-catalog")(rebuild_catalog)


def verify(dataset: Name = None, stage: Stage = None, form: Format = None) -> None:
    """Read every segment that the newest manifests name, and compare it with what they say. Changes nothing.

    Exits with 1 where something is damaged. Segments that wait for a compaction (unmerged) and objects that no manifest names
    (orphan) are listed as well; they are no damage.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing.verify import Finding
    from tesseract.processing.verify import verify as run

    form = choose(form, None)
    store = open_store(stage)
    with spinner() as progress:
        report = run(store.catalog, store.backend.objects, _datasets(store, dataset), utc_now(), progress)
    rows = [{name: getattr(finding, name) for name in finding.__struct_fields__} for finding in report.findings]
    if rows or form != "table":
        write_rows(rows, form, None, Finding.__struct_fields__)
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
    """Take segments past their `retention` off the manifests; remove old versions of these, and segments that no kept one names.

    What was retired stays readable as a former state for `history`. A timer does it once a day. An object that nobody names goes a
    day after it was written at the earliest.
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


def repair(
    dataset: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Replace what cannot be made again by what is left of it: queries then miss rows.")
    ] = False,
    stage: Stage = None,
    form: Format = None,
) -> None:
    """Make damaged segments again: from older segments, export files or the buffer; those of aggregate levels from raw rows.

    Looks for them as `verify` does. Exits with 1 where rows are lost; such a segment is left as it is, unless the loss is accepted.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing.archive_repair_run import Done, run

    form = choose(form, None)
    store = open_store(stage)
    with spinner() as progress:
        done = run(store.backend, store.catalog, _datasets(store, dataset), utc_now(), dry_run, accept_loss, progress)
    rows = [{name: getattr(one, name) for name in Done.__struct_fields__} for one in done]
    if rows or form != "table":
        write_rows(rows, form, None, Done.__struct_fields__)
    lost = [one for one in done if one.lost]
    repaired = sum(one.outcome == "repaired" for one in done)
    note(f"{thousands(len(done))} damaged segments, {thousands(repaired)} repaired, {thousands(len(lost))} with rows that are lost")
    if lost and not accept_loss:
        note("these are left as they are, and reads of them fail: keep the bucket; --accept-loss goes on without the lost rows")
    if lost:
        raise typer.Exit(1)


def rebuild_catalog(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    stage: Stage = None,
    form: Format = None,
) -> None:
    """Bring back a catalog table that was lost, from the bucket alone; what is there already stays as it is.

    It may be repeated, and run while the stage works. Exits with 3 where something cannot be brought back.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing.rebuild_catalog import run

    form = choose(form, None)
    store = open_store(stage)
    with spinner() as progress:
        progress("reading the copies of the bucket")
        report = run(store.catalog, store.backend.objects, utc_now(), dry_run, progress)
    counted = {"manifests": report.partitions, "versions": report.versions, "groups": report.groups}
    rows = [
        {"dataset": dataset, "level": level} | {name: counts[dataset, level] for name, counts in counted.items()}
        for dataset, level in sorted(report.versions)
    ]
    if rows or form != "table":
        write_rows(rows, form, None, ("dataset", "level", *counted))
    _say_rebuilt(report, dry_run)
    if report.faults:
        raise typer.Exit(3)


def _say_rebuilt(report: Report, dry_run: bool) -> None:
    for name, count in sorted(report.configurations.items()):
        note(f"dataset {name}: {thousands(count)} {'version' if count == 1 else 'versions'} of its configuration")
    for fault in report.faults:
        note(f"warning: {fault}")
    if report.nothing:
        note("the catalog has everything that the bucket has")
        return
    if report.through and not dry_run:
        note(f"export windows begin again at {iso_seconds(from_micros(report.through))}: until they are closed, queries read more")
    if report.no_levels:
        note("nothing proves how complete the aggregate levels are: run `tesseract rebuild --all`")
    if dry_run:
        note("nothing was written")


def _datasets(store: Store, name: str | None) -> list[Dataset]:
    return [store.dataset(one) for one in (store.datasets() if name is None else [name])]
