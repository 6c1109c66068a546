"""What the commands share: options, the store, and where output goes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tesseract.store import Store

EVERY = 30.0  # seconds between two lines that differ in numbers, where no terminal is
NUMBER = re.compile(r"[0-9,.]+")

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


def counted(number: int, what: str) -> str:
    """`1 row`, `26,115 rows`."""
    return f"{thousands(number)} {what}{'' if number == 1 else 's'}"


def age(length: timedelta) -> str:
    """`2d 3h`, `4m 5s`: the two largest units."""
    left = max(int(length.total_seconds()), 0)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Says what is going on: a spinner on a terminal; elsewhere a line on stderr for each new thing, where only numbers change now
    and then."""
    if not sys.stderr.isatty():
        yield _once(note)
        return
    from rich.console import Console

    with Console(stderr=True).status("asking the stage") as shown:
        yield shown.update


def _once(write: Callable[[str], None]) -> Callable[[str], None]:
    last, at = "", 0.0

    def tell(text: str) -> None:
        nonlocal last, at
        kind, now = NUMBER.sub("", text), time.monotonic()
        if kind != last or now - at >= EVERY:
            last, at = kind, now
            write(text)

    return tell
