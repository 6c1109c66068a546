"""What the commands share: options, the store, and where output goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tesseract.store import Store

Stage = Annotated[str | None, typer.Option("--stage", envvar="TESSERACT_STAGE", help="The stage to work on.", show_default="local")]
Format = Annotated[
    str | None, typer.Option("--format", "-f", help="table, csv, json, ndjson or parquet; else by the suffix of -o, else table.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")]


def open_store(stage: str | None) -> Store:
    """The store of the stage that the command line names; finds the laptop cloud by itself."""
    from tesseract import store

    return store.connect(stage)


def say(text: str) -> None:
    """A line for the person, on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """A line beside the result, on stderr, so that a pipe carries the result alone."""
    typer.echo(text, err=True)


def thousands(number: int) -> str:
    """`26,115`."""
    return f"{number:,}"
