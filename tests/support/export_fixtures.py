"""Writes tests/fixtures/exports: `python -m tests.support.export_fixtures`. The files are kept, so that the layout is on record.

One folder per case; in it, the objects below the export's prefix. All are of the window 2024-03-01T00:00:00Z, one hour.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tesseract.config.dataset import Dataset
from tesseract.model import FieldValue, Item, Record
from tesseract.storage.items import raw_item
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import START, weather
from tests.support.export_files import change_line, export_files, item_line, remove_line

FOLDER = Path(__file__).parent.parent / "fixtures" / "exports"
PREFIX = "exports/20240301T000000Z"
EXPORT = "01709254800000-1a2b3c4d"
END = START + timedelta(hours=1)
WRITTEN = to_micros(START) + 1_234_567


def item(group: str, day: int, hour: int, fields: dict[str, FieldValue], deleted: bool = False) -> Item:
    """A raw item of the example dataset."""
    dataset: Dataset = weather()
    return raw_item(dataset, Record(group, datetime(2024, 2, day, hour, tzinfo=UTC), None, fields, deleted), START)


def cases() -> dict[str, tuple[list[list[bytes]], bool]]:
    """Case → the lines of its data files, and whether it is a full export."""
    one = item("KJFK", 27, 6, {"temp": Decimal("-3.25"), "wind": 12})
    two = item("KJFK", 28, 7, {"temp": Decimal("0.1")})
    other = item("ST%2F1%23x", 28, 8, {"wind": 0})
    gone = item("KJFK", 28, 9, {}, deleted=True)
    expired = item("KJFK", 20, 0, {"wind": 1})
    removed = remove_line(str(expired["pk"]), str(expired["sk"]), WRITTEN)
    changes = [change_line(one, WRITTEN), change_line(two, WRITTEN + 1), change_line(gone, WRITTEN + 2)]
    return {
        "incremental": ([changes], False),
        "several": ([changes[:1], [], [*changes[1:], removed]], False),
        "ttl": ([[removed, removed]], False),
        "empty": ([[], []], False),
        "full": ([[item_line(one), item_line(gone)], [item_line(two)], []], True),
        "many": ([[line] for line in changes] + [[] for _ in range(20)] + [[removed] for _ in range(20)], False),
        "unknown": ([[change_line({**one, "later_version": {"a": [1, None]}}, WRITTEN), *changes[1:]]], False),
        "groups": ([[*changes, change_line(other, WRITTEN + 3)]], False),
    }


def main() -> None:
    """Write all cases anew."""
    for case, (files, full) in cases().items():
        shutil.rmtree(FOLDER / case, ignore_errors=True)
        for key, body in export_files(PREFIX, EXPORT, files, START, END, full).items():
            path = FOLDER / case / key.removeprefix(f"{PREFIX}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)


if __name__ == "__main__":
    main()
