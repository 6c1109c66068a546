"""Time travel: the archive as it was at a moment, by the versions of manifests that were the newest ones then.

The archive alone: DynamoDB keeps no past of the buffer and of live items. Rows, corrections and deletes that had not reached the
archive by then are not seen: of what was written before `complete_through` all is there, of what was written later some may be.
Columns are those of the present configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Manifest, Window, of_group
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.processing.windows import settled
from tesseract.query.plan import Range
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import partition_name
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros

AFTER_ALL = 2**62  # as a watermark: everything lies in the archive, no day is read from the buffer


class Past:
    """What queries ask of catalog and marks, as it was at a moment, for some groups of some levels of a dataset."""

    def __init__(
        self,
        catalog: Catalog,
        dataset: Dataset,
        levels: Sequence[str],
        groups: Iterable[str],
        moment: datetime,
        each: Callable[..., Iterable[tuple[Manifest | None, int]]] = map,
    ) -> None:
        """Reads all manifests; `each` is a `map`. Raises InputError where one of them is no longer kept as it was then."""
        self._catalog, self._moment = catalog, to_micros(moment)
        self._of_level = not {RAW, REVISIONS}.issuperset(levels)
        self._manifests: dict[tuple[str, str], Manifest] = {}
        names = sorted({partition_name(dataset, group) for group in groups})
        partitions = [(level, name) for level in levels for name in names]
        states = each(lambda partition: state_at(catalog.manifests(dataset.name, *partition), self._moment), partitions)
        earliest = 0
        for partition, (found, since) in zip(partitions, states, strict=True):
            self._manifests[partition] = found or Manifest(dataset.name, *partition)
            earliest = max(earliest, since)
        if earliest:
            raise InputError(
                f"the archive of dataset {dataset.name} no longer has its state of {iso_micros(moment)}",
                hint=f"the earliest moment is {iso_micros(from_micros(earliest))}; `history` says how long states are kept",
            )

    def manifest_of(self, dataset: Dataset, level: str, group: str) -> Manifest:
        """What a reader would have seen of a group."""
        return of_group(self._manifests[level, partition_name(dataset, group)], group)

    def complete_through(self) -> int:
        """Every write before this (µs) is in the state for sure; 0: nothing is known. Of a level, its rows have it, too."""
        return complete_through(self._catalog.windows(), self._moment, self._of_level)

    def marks(self, dataset: Dataset, group: str, wanted: Range) -> dict[int, int]:
        """None: marks lead to the buffer."""
        return {}


def state_at(versions: Iterable[Manifest], moment: int) -> tuple[Manifest | None, int]:
    """(the newest of `versions`, newest first, that was committed by `moment` (µs), 0); (None, 0) where the first came later.

    (None, the earliest moment that is still known) where those before have gone.
    """
    oldest: Manifest | None = None
    for manifest in versions:
        if manifest.committed_at <= moment:
            return manifest, 0
        oldest = manifest
    return None, 0 if oldest is None or oldest.version == 1 else oldest.committed_at


def complete_through(windows: Iterable[Window], moment: int, of_level: bool = False) -> int:
    """The end of the longest unbroken run of windows (all of a stage, oldest first) that had closed by `moment`; µs, 0 for none.

    A window is closed once all its rows are committed, so any state of a later moment has them. With `of_level` they had to be
    snapshot as well. Pure.
    """

    def then(window: Window) -> Window:
        done = (window.snapshot_at if of_level else window.closed_at) if window.state == "closed" else 0
        return window if 0 < done <= moment else msgspec.structs.replace(window, state="collecting")

    return settled(0, map(then, windows))
