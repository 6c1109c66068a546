"""Progress of a long command: a bar where a person is looking, else a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tesseract.cli.common import EVERY, note


class State(NamedTuple):
    """Where a command stands."""

    what: str  # left of the bar
    counts: str  # right of it
    done: int
    total: int  # 0: not known


@contextmanager
def progress(state: Callable[[], State]) -> Iterator[Callable[[], None]]:
    """Shows `state()` on stderr while the block runs. Yields what is to be called on change."""
    if not (sys.stderr.isatty() or os.environ.get("FORCE_COLOR")):  # as rich decides, without loading it
        last = time.monotonic()

        def line() -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                now = state()
                share = f" ({100 * now.done // now.total} %)" if now.total else ""
                note(f"{now.what}: {now.counts}{share}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[counts]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(state().what, total=None, counts="")

        def moved() -> None:
            now = state()
            bar.update(task, description=now.what, total=now.total or None, completed=now.done, counts=now.counts)

        yield moved
