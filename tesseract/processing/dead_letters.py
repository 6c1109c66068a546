"""Tasks that failed five times lie in the dead-letter queue; from there they go back to the workers once the cause is mended.

Where the cause is the file itself, its window is exported anew instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from tesseract.model import Window
from tesseract.processing.collector import Task
from tesseract.processing.exporter import begun_anew
from tesseract.storage.catalog import Catalog
from tesseract.storage.services import Message, Queue, Received


@dataclass
class Retried:
    """What went back: tasks by window. `strange` messages are no tasks, and stay where they are."""

    windows: Counter[str] = field(default_factory=Counter)
    strange: int = 0


def retry(dead: Received, work: Queue) -> Retried:
    """Send every dead letter back to the work queue, one of each: a task that died several times is one task."""
    done = Retried()
    sent: set[str] = set()
    for tasks in _tasks(dead, done):
        new = {message.body: task.window for message, task in tasks if message.body not in sent}
        # first there, then gone here: a crash in between only sends them twice, and a task may run any number of times
        work.send(list(new))
        dead.remove([message for message, _ in tasks])
        sent.update(new)
        done.windows.update(new.values())
    return done


def export_anew(dead: Received, catalog: Catalog) -> Retried:
    """Begin the windows of all dead letters anew; the export timer asks for their exports. One that is closed needs nothing."""
    done = Retried()
    for tasks in _tasks(dead, done):
        exports = {(task.window, task.export) for _, task in tasks}
        for window, export in sorted(exports):

            def anew(stored: Window, export: str = export) -> Window | None:
                return begun_anew(stored) if stored.export == export and stored.state != "closed" else None

            if catalog.window(window) is not None and catalog.change_window(window, anew).unasked:
                done.windows[window] += 1
        dead.remove([message for message, _ in tasks])
    return done


def _tasks(dead: Received, done: Retried) -> Iterator[list[tuple[Message, Task]]]:
    """The dead letters, some at a time, with the tasks that they are."""
    while messages := dead.receive():
        tasks = []
        for message in messages:
            try:
                tasks.append((message, msgspec.json.decode(message.body, type=Task)))
            except msgspec.DecodeError:
                done.strange += 1
        yield tasks
