"""Tasks that failed five times lie in the dead-letter queue; from there they go back to the workers once the cause is mended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from tesseract.processing.collector import Task
from tesseract.storage.services import Queue, Received


@dataclass
class Retried:
    """What went back: tasks by window. `strange` messages are no tasks, and stay where they are."""

    windows: Counter[str] = field(default_factory=Counter)
    strange: int = 0


def retry(dead: Received, work: Queue) -> Retried:
    """Send every dead letter back to the work queue, one of each: a task that died several times is one task."""
    done = Retried()
    sent: set[str] = set()
    while messages := dead.receive():
        tasks = []
        for message in messages:
            try:
                tasks.append((message, msgspec.json.decode(message.body, type=Task)))
            except msgspec.DecodeError:
                done.strange += 1
        new = {message.body: task.window for message, task in tasks if message.body not in sent}
        # first there, then gone here: a crash in between only sends them twice, and a task may run any number of times
        work.send(list(new))
        dead.remove([message for message, _ in tasks])
        sent.update(new)
        done.windows.update(new.values())
    return done
