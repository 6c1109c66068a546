"""The client's side of deletes: what a look finds is sent to the ingestion function, until a look finds nothing.

Deleting what is deleted changes nothing, so whatever is in doubt is sent again, and a delete that ended half-way is run again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from tesseract.errors import RetryError
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Report, Transport, report_of, settle
from tesseract.ingestion.tombstones import Row
from tesseract.storage.keys import split_group
from tesseract.storage.services import invoke

Say = Callable[[str], None]
PARALLEL = 4  # requests
LOOKS = 5  # after so many that found rows, what comes is taken for what it is: rows written as fast as they are deleted


class Invoke:
    """Rows to the ingestion function, by direct invoke. A line is one row as JSON; `group` is a key."""

    by_group = True

    def __init__(self, stage: str, erase: bool = False) -> None:
        self._stage, self._erase = stage, erase

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        rows = [msgspec.Raw(line.body) for line in lines]
        payload = {"dataset": dataset, "delete": {"group": split_group(group), "rows": rows, "erase": self._erase}}
        return report_of(invoke(self._stage, "ingestHttp", payload), lines)


def run(
    transport: Transport,
    dataset: str,
    group: str,
    look: Callable[[], Iterable[Sequence[Row]]],
    say: Say = lambda _: None,
) -> dict[str, int]:
    """Delete what `look` finds, until it finds nothing: `{"deleted": n, "arrived": m}`.

    `look` gives the visible rows in batches; the first one sees every row that was acknowledged before it. What later looks find
    was written meanwhile. `arrived` is what the last of them found and left: rows that come as fast as they are deleted. Raises
    RetryError where it ends in between: running it again goes on from there.
    """
    deleted = 0
    stop = threading.Event()

    def send(batch: Sequence[Row]) -> int:
        lines = [Line(index, msgspec.json.encode(row)) for index, row in enumerate(batch)]
        return settle(transport, dataset, lines, group, stop).accepted

    for _ in range(LOOKS):
        before = deleted
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                for batches in _grouped(look()):
                    for count in pool.map(send, batches):
                        deleted += count
                        say(f"deleted: {deleted:,}")
            except BaseException as error:
                stop.set()
                pool.shutdown(cancel_futures=True)
                if deleted and isinstance(error, RetryError):
                    message = f"{deleted:,} rows are deleted, the others are not: {error}"
                    raise RetryError(message, hint="run it again: what is deleted stays deleted") from error
                raise
        if deleted == before:
            return {"deleted": deleted, "arrived": 0}
    return {"deleted": deleted, "arrived": sum(map(len, look()))}


def _grouped(batches: Iterable[Sequence[Row]]) -> Iterator[list[Sequence[Row]]]:
    """As many batches at a time as are sent at once: a look may find more rows than the memory holds."""
    lot: list[Sequence[Row]] = []
    for batch in batches:
        lot.append(batch)
        if len(lot) == PARALLEL:
            yield lot
            lot = []
    if lot:
        yield lot
