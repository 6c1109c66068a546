"""How far the archive has come, as queries go by it: a watermark that was read before is as good as a new one.

A plan needs a watermark that is older than the manifest it looks at. An older one than necessary only makes more days hot: they are
read from the buffer, too, and their rows are met twice. So who has asked lately need not wait for the answer: it goes by what it
knows, asks again meanwhile, and only checks that day marks were not lost since.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tesseract.storage.catalog import Catalog, Progress

FRESH = timedelta(minutes=10)  # a day more of the buffer is hot for each day that a watermark is older


class Watermark:
    """The newest progress of a stage that this process has seen. Safe to share between threads: the last to ask is remembered."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: tuple[datetime, Progress] | None = None

    def ask(self, now: datetime) -> Progress:
        """The progress as it is; `now` is before it is asked."""
        found = self._catalog.progress()
        self._seen = now, found
        return found

    def known(self, now: datetime) -> Progress | None:
        """What was read lately; None where nothing was. It counts if `ask`, called after this, confirms it (`confirms`)."""
        seen = self._seen
        return None if seen is None or not now - FRESH <= seen[0] <= now else seen[1]


def confirms(new: Progress, old: Progress) -> bool:
    """Whether a plan by `old` is a plan still: no mark that it goes by may have been lost since. Pure."""
    return new.marks_since == old.marks_since
