"""`tesseract backfill`: years of files straight into the archive, with progress, what was rejected, and a way to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Stage, note, open_store, say, thousands
from tesseract.cli.ingest import Form
from tesseract.cli.progress import State, progress

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.backfill import Backfill, Tally
    from tesseract.ingestion.files import Source
    from tesseract.ingestion.journal import Identity, Journal
    from tesseract.ingestion.rejects import Rejects
    from tesseract.store import Store

Files = Annotated[list[str], typer.Argument(metavar="FILE", help="ndjson, json, csv or parquet, .gz too; a directory; a pattern.")]
REASONS = 10  # that are listed


def backfill(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    files: Files,
    form: Form = None,
    timestream: Annotated[
        bool, typer.Option("--timestream", help="The files are Parquet that Amazon Timestream's UNLOAD wrote.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was cut short.")] = False,
    rejects: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where rejected records go; else DATASET.backfill.rejects.ndjson.", show_default=False),
    ] = None,
    parallel: Annotated[int, typer.Option(help="How many processes read.", min=1, max=32)] = 2,
    stage: Stage = None,
) -> None:
    """Write the records of files straight into the archive, without the buffer: for years of them.

    What is recent, or on a day that the buffer holds records of, goes through the buffer. It ends like sending all of them, in
    their order, with `ingest`. Exits with 1 where any record is rejected.
    """
    from tesseract.ingestion.backfill import files_of
    from tesseract.ingestion.files import Source
    from tesseract.ingestion.rejects import SUFFIX, Rejects
    from tesseract.processing.backfill_timestream import is_unload

    store = open_store(stage)
    store.dataset(dataset)
    unload = timestream or any(is_unload(Path(name)) for name in files)
    names = list(files) if unload else files_of(files)
    refused = Rejects(Path(rejects or f"{dataset}.backfill{SUFFIX}"))
    with (
        TemporaryDirectory(prefix="tesseract-backfill-") as folder,
        closing(refused),
        _journal(store, dataset, names, resume) as kept,
    ):
        run = _run(store, dataset, Path(folder), refused, kept, parallel)
        sources = [Source(_joined(names, run.dataset, Path(folder)), run.dataset)] if unload else []
        sources = sources or [Source(name, run.dataset, form) for name in names]
        _carry_out(run, sources, refused)
    if run.tally.rejected:
        raise typer.Exit(1)


def _carry_out(run: Backfill, sources: Sequence[Source], rejects: Rejects) -> None:
    """Read and write, and say what became of it, whatever ended it."""
    from tesseract.errors import InputError

    done = False
    try:
        with progress(lambda: _state(run.tally, sources)) as told:
            run.told = told
            run.run(sources)
        done = True
    except OSError as error:
        raise InputError(f"a local file cannot be written: {error.strerror or error}", hint="TMPDIR names another place") from error
    finally:
        _report(run.tally, rejects, done)


def _run(store: Store, name: str, folder: Path, rejects: Rejects, journal: Journal | None, workers: int) -> Backfill:
    from tesseract.config.cache import Configs
    from tesseract.ingestion.backfill import Backfill
    from tesseract.ingestion.client import transport_of
    from tesseract.storage.services import clock_lag
    from tesseract.utils.time_utils import utc_now

    lag = clock_lag() if store.stage != "local" else timedelta(0)

    def clock() -> datetime:
        return utc_now() + lag

    dataset = Configs(store.catalog, clock).use(name)  # what is written from here on is of this version
    road = transport_of("direct", store.stage)
    return Backfill(store.backend, store.catalog, dataset, road, clock(), clock, folder, rejects, journal=journal, workers=workers)


def _joined(names: Sequence[str], dataset: Dataset, folder: Path) -> str:
    """The rows of Timestream as one file of records."""
    from tesseract.processing.backfill_timestream import convert

    note("joining the rows of Timestream by group and time")
    found = convert(names, dataset, folder)
    for line in found.notes:
        note(line)
    say(f"{thousands(found.rows)} records of Timestream")
    return found.path


@contextmanager
def _journal(store: Store, name: str, files: Sequence[str], resume: bool) -> Iterator[Journal | None]:
    """What is committed, remembered until all is; None where it cannot be written."""
    from tesseract.ingestion import journal

    identity = _identity(store, name, files)
    try:
        kept = journal.resume(identity) if resume else journal.begin(identity)
    except OSError as error:
        note(f"{identity.path()} cannot be written: {error.strerror}; an interruption could not be resumed")
        yield None
        return
    if resume and not kept.known:
        note("nothing was committed before")
    done = False
    try:
        yield kept
        done = True
    except typer.Exit:
        done = True
        raise
    finally:
        kept.close(remove=done)
        if not done:
            note("what was committed is remembered: the same command with --resume does the rest")


def _identity(store: Store, name: str, files: Sequence[str]) -> Identity:
    """All files of the command together."""
    from tesseract.ingestion.journal import Identity

    paths = sorted(inside for file in files for inside in ([Path(file)] if not Path(file).is_dir() else Path(file).rglob("*")))
    found = [path.stat() for path in paths if path.is_file()]
    made = store.dataset(name, 1).applied_at
    listed = "\n".join(str(Path(file).resolve()) for file in files)
    size, modified = sum(status.st_size for status in found), max((status.st_mtime_ns for status in found), default=0)
    return Identity(store.stage, name, "backfill", listed, size, modified, made)


def _report(tally: Tally, rejects: Rejects, done: bool) -> None:
    """What became of the records, on stdout; the first rejected ones and where the others are, on stderr."""
    for file, entry in tally.shown:
        place = f"{entry.field}={entry.value!r}: " if entry.field else ""
        hint = f" ({entry.hint})" if entry.hint else ""
        note(f"{file}, record {entry.index + 1}: {place}{entry.reason}{hint}")
    for reason, count in tally.reasons.most_common(REASONS) if tally.rejected > len(tally.shown) else ():
        note(f"{thousands(count)} rejected: {reason}")
    if rejects.count:
        note(f"{thousands(rejects.count)} rejected records are in {rejects.path}, the reasons in {rejects.reasons}")
    say(f"read       {thousands(tally.read)} records in {tally.seconds:.1f} s")
    say(f"accepted   {thousands(tally.accepted)}, {thousands(tally.superseded)} of them superseded by later ones of the same key")
    say(f"rejected   {thousands(tally.rejected)}")
    if tally.before:
        say(f"before     {thousands(tally.before)} rows were committed by the run before")
    for tier, rows in tally.tiers.most_common():
        say(f"committed  {thousands(rows)} rows, {tier}")
    if tally.levels:
        say(f"levels     {thousands(tally.levels.total())} rows of aggregate levels")
    if tally.buffered:
        say(f"buffer     {thousands(tally.buffered)} rows went through it: they are recent, or it holds records of their day")
    if not done:
        say("not done   the rest is not written")


def _state(tally: Tally, sources: Sequence[Source]) -> State:
    """First reading, then writing."""
    if tally.settled:
        return State("writing", f"{thousands(tally.settled)} rows", tally.settled, tally.accepted - tally.superseded)
    return State("reading", f"{thousands(tally.read)} records", sum(s.done for s in sources), sum(s.total or 0 for s in sources))
