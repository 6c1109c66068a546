"""Records that were not accepted, in a file that can be mended and sent again as it is, and their reasons in one beside it."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from tesseract.ingestion.validators import Rejection

SUFFIX = ".rejects.ndjson"
COLUMNS = ("line", "file", "record", "field", "value", "reason", "hint")


class Rejects:
    """`x.rejects.ndjson`: one record a line, as it was read. `x.rejects.csv`: for each line the record's place and the reason.

    The files are made with the first record. What an earlier run has left there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons = path.with_suffix(".csv")
        self.count = 0
        self._files = ExitStack()
        self._records: BinaryIO | None = None
        self._rows: Any = None

    def add(self, file: str, body: bytes, rejection: Rejection) -> None:
        """Write down one record. Raises OSError."""
        if self._records is None:
            self.open()
        assert self._records is not None
        self.count += 1
        self._records.write(body + b"\n")
        hint = getattr(rejection, "hint", "")
        self._rows.writerow((self.count, file, rejection.index + 1, rejection.field, rejection.value, rejection.reason, hint))

    def open(self) -> None:
        """Make the files now, so that a place that cannot be written is known before anything is sent. Raises OSError."""
        self._records = self._files.enter_context(self.path.open("wb"))
        self._rows = csv.writer(self._files.enter_context(self.reasons.open("w", encoding="utf-8", newline="")))
        self._rows.writerow(COLUMNS)

    def close(self) -> None:
        """Close the files. Those without a record are removed."""
        self._files.close()
        if self._records is not None and not self.count:
            self.path.unlink(missing_ok=True)
            self.reasons.unlink(missing_ok=True)
