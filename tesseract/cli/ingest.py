"""`tesseract ingest`: files to a stage, with progress, a rate, what was rejected, and a way to go on after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Stage, note, open_store, say, thousands
from tesseract.cli.progress import State, progress

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.client import Transport
    from tesseract.ingestion.files import Source
    from tesseract.ingestion.journal import Journal
    from tesseract.ingestion.rejects import Rejects
    from tesseract.ingestion.upload import Tally
    from tesseract.store import Store

Files = Annotated[
    list[str], typer.Argument(metavar="FILE", help="ndjson, json, csv or parquet, .gz too; - is stdin; a pattern too.")
]
Form = Annotated[
    str | None, typer.Option("--format", help="ndjson, json, csv or parquet, whatever the names say.", show_default=False)
]
RejectsFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Where rejected records go; else FILE.rejects.ndjson beside each file.", show_default=False),
]


def ingest(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    files: Files,
    via: Annotated[str, typer.Option(help="http, kinesis, or direct (invoke of the function).")] = "http",
    form: Form = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was cut short.")] = False,
    rejects: RejectsFile = None,
    parallel: Annotated[int, typer.Option(help="How many chunks are on their way at once.", min=1, max=64)] = 4,
    stage: Stage = None,
) -> None:
    """Send the records of files. A later line is the later put, however parallel the sending is.

    Exits with 1 where any record is rejected. Rejected records are written to a file that can be mended and sent again.
    """
    from tesseract.errors import InputError
    from tesseract.ingestion.client import transport_of
    from tesseract.ingestion.files import STDIN, Source, expand

    names = expand(files)
    if resume and STDIN in names:
        raise InputError("standard input cannot be resumed: it cannot be read again", hint="write it to a file and send that")
    store = open_store(stage)
    configuration = store.dataset(dataset)
    sources = [Source(name, configuration, form) for name in names]
    run = Run(store, configuration, transport_of(via, store.stage), via, resume, parallel)
    done = False
    try:
        with run.rejects_at(rejects, names):
            for source in sources:
                run.send(source)
        done = True
    finally:
        run.close(done)
    if run.rejected:
        raise typer.Exit(1)


class Run:
    """One command: the files that it sends, and what became of them."""

    def __init__(self, store: Store, dataset: Dataset, road: Transport, via: str, resume: bool, parallel: int) -> None:
        self._store, self._dataset, self._road, self._via = store, dataset, road, via
        self._resume, self._parallel = resume, parallel
        self._journals: list[Journal] = []
        self._rejects: Rejects | None = None
        self.rejected = 0
        first = store.dataset(dataset.name, 1) if dataset.version > 1 else dataset
        self._made = first.applied_at

    @contextmanager
    def rejects_at(self, path: str | None, names: list[str]) -> Iterator[None]:
        """Put all rejected records into one file; with None those of each file into one beside it. Raises InputError."""
        from tesseract.errors import InputError
        from tesseract.ingestion.rejects import Rejects

        if path is None:
            yield
            return
        if Path(path).resolve() in {Path(name).resolve() for name in names}:
            raise InputError(f"--rejects {path} is a file that is to be sent", hint="name another one")
        self._rejects = Rejects(Path(path))
        try:
            self._rejects.open()
        except OSError as error:
            raise InputError(f"--rejects {path} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            _close(self._rejects)

    def send(self, source: Source) -> None:
        """Send one file, under a progress bar where a person is looking, and say what became of it, whatever ended it."""
        from tesseract.ingestion.files import STDIN
        from tesseract.ingestion.rejects import SUFFIX, Rejects
        from tesseract.ingestion.upload import Tally, upload

        name, tally = source.name, Tally()
        rejects = self._rejects or Rejects(Path(("stdin" if name == STDIN else name) + SUFFIX))
        journal = self._journal(name)
        done = False
        try:
            with progress(lambda: _state(source, tally)) as told:
                upload(
                    self._dataset,
                    source,
                    self._road,
                    tally=tally,
                    rejects=rejects,
                    journal=journal,
                    lanes=self._parallel,
                    told=told,
                )
            done = True
        finally:
            summarize(name, tally, done)
            self.rejected += tally.rejected
            if rejects is not self._rejects:
                _close(rejects)
            if not done and journal:
                note("what was acknowledged is remembered: the same command with --resume sends the rest")

    def _journal(self, name: str) -> Journal | None:
        from tesseract.ingestion.journal import begin, resume
        from tesseract.ingestion.upload import identity_of

        identity = identity_of(self._store.stage, self._dataset, self._via, name, self._made)
        if identity is None:
            return None
        try:
            journal = resume(identity) if self._resume else begin(identity)
        except OSError as error:
            note(f"{identity.path()} cannot be written: {error.strerror}; an interruption could not be resumed")
            return None
        if self._resume and not journal.known:
            note(f"{name}: nothing of it was acknowledged before")
        self._journals.append(journal)
        return journal

    def close(self, done: bool) -> None:
        """Close the journals, and forget them once everything is sent."""
        for journal in self._journals:
            journal.close(remove=done)


def _close(rejects: Rejects) -> None:
    rejects.close()
    if rejects.count:
        note(f"{thousands(rejects.count)} rejected records are in {rejects.path}, the reasons in {rejects.reasons}")


def summarize(name: str, tally: Tally, done: bool) -> None:
    """One line of numbers on stdout, and the first rejected records with their reasons on stderr."""
    for entry in tally.shown:
        place = f"{entry.field}={entry.value!r}: " if entry.field else ""
        hint = f" ({entry.hint})" if entry.hint else ""
        note(f"{name}, record {entry.index + 1}: {place}{entry.reason}{hint}")
    if tally.rejected > len(tally.shown):
        note(f"{name}: … {thousands(tally.rejected - len(tally.shown))} more rejected")
    parts = [f"{thousands(tally.accepted)} of {thousands(tally.settled)} records accepted"]
    if tally.rejected:
        parts.append(f"{thousands(tally.rejected)} rejected")
    if tally.before:
        parts.append(f"{thousands(tally.before)} of them sent before")
    ending = "" if done else "; the rest is not sent"
    say(f"{name}: {', '.join(parts)} in {tally.seconds:.1f} s, {thousands(tally.rate)} records/s{ending}")


def _state(source: Source, tally: Tally) -> State:
    counts = f"{thousands(tally.settled)} records, {thousands(tally.rate)} records/s"
    return State(source.name, counts, source.done, source.total or 0)
