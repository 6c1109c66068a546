"""Time travel: the archive as it was at a moment, by the versions of manifests that were the newest ones then.

The archive alone: DynamoDB keeps no past of the buffer and of live items. Rows, corrections and deletes that had not reached the
archive by then are not seen. Columns are those of the present configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Manifest, of_group
from tesseract.query.plan import Range
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import partition_name
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros

AFTER_ALL = 2**62  # as a watermark: everything lies in the archive, no day is read from the buffer


class Past:
    """What queries ask of catalog and marks, as it was at a moment, for some groups of some levels of a dataset."""

    def __init__(self, catalog: Catalog, dataset: Dataset, levels: Sequence[str], groups: Iterable[str], moment: datetime) -> None:
        """Reads all manifests. Raises InputError where one of them is no longer kept as it was then."""
        self._manifests: dict[tuple[str, str], Manifest] = {}
        names = sorted({partition_name(dataset, group) for group in groups})
        earliest = 0
        for level in levels:
            for name in names:
                found, since = state_at(catalog.manifests(dataset.name, level, name), to_micros(moment))
                self._manifests[level, name] = found or Manifest(dataset.name, level, name)
                earliest = max(earliest, since)
        if earliest:
            raise InputError(
                f"the archive of dataset {dataset.name} no longer has its state of {iso_micros(moment)}",
                hint=f"the earliest moment is {iso_micros(from_micros(earliest))}; `history` says how long states are kept",
            )

    def manifest_of(self, dataset: Dataset, level: str, group: str) -> Manifest:
        """What a reader would have seen of a group."""
        return of_group(self._manifests[level, partition_name(dataset, group)], group)

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
