"""`tesseract ingest`: files to a stage, with progress, a rate, and what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Stage, note, open_store, say, thousands

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.client import Report, Transport

SHOWN = 10  # rejected records that are printed; the rest is counted


def ingest(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="ndjson, json, csv or parquet, .gz too; - is stdin (ndjson).")],
    via: Annotated[str, typer.Option(help="http, kinesis, or direct (invoke of the function).")] = "http",
    stage: Stage = None,
) -> None:
    """Send the records of files. A later line is the later put, however parallel the sending is."""
    from tesseract.ingestion.client import transport_of

    store = open_store(stage)
    configuration = store.dataset(dataset)
    transport = transport_of(via, store.stage)
    rejected = 0
    for name in files:
        report = send_file(configuration, name, transport)
        rejected += len(report.rejected)
        show_rejected(name, report)
    if rejected:
        raise typer.Exit(1)


def send_file(dataset: Dataset, name: str, transport: Transport) -> Report:
    """Send one file, under a progress bar where a person is looking."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tesseract.ingestion.client import send
    from tesseract.ingestion.files import count_lines, read_lines

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    started = time.monotonic()
    sent = 0
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=count_lines(name), rate="")

        def progress(count: int) -> None:
            nonlocal sent
            sent += count
            bar.update(task, completed=sent, rate=f"{thousands(round(sent / (time.monotonic() - started)))} records/s")

        report = send(dataset, read_lines(name, dataset), transport, progress)
    seconds = time.monotonic() - started
    rate = thousands(round(sent / seconds)) if seconds else "0"
    say(f"{name}: {thousands(report.accepted)} of {thousands(sent)} records accepted in {seconds:.1f} s, {rate} records/s")
    return report


def show_rejected(name: str, report: Report) -> None:
    """The first rejected records and why, on stderr."""
    for entry in report.rejected[:SHOWN]:
        place = f"{entry.field}={entry.value!r}: " if entry.field else ""
        note(f"{name}, record {entry.index + 1}: {place}{entry.reason}")
    if len(report.rejected) > SHOWN:
        note(f"{name}: … {thousands(len(report.rejected) - SHOWN)} more rejected")
