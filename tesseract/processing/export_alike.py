"""A chunk of an export file whose lines are all alike: equal but for the texts of their values. Pure.

Lines of what TTL removed are alike among themselves.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.processing.export_lines import Chunk
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_alike import Path, check_printable, rows, texts
from tesseract.storage.wire_rows import OtherLines, WireRows

IMAGE = b'"NewImage"'


def read_alike(chunk: Chunk, write_time: datetime | None) -> WireRows:
    """The rows of a chunk with all its fields. `write_time` is that of a full export.

    Raises OtherLines, ArrowInvalid or ValueError where the lines are not alike, or hold what this does not take.
    """
    body = chunk.body
    if not write_time and body.count(IMAGE) != chunk.lines:
        lines = body.split(b"\n")[:-1]
        gone = [line for line in lines if IMAGE not in line]
        _removed(b"\n".join([*gone, b""]))
        body = b"\n".join([*(line for line in lines if IMAGE in line), b""])
    found = texts(body)
    image = "Item" if write_time else "NewImage"
    if {path[0] for path in found} - {"Keys"} != ({image} if write_time else {"Metadata", image}):
        raise OtherLines("other parts than those of a change or an item")
    item = {path[1:]: values for path, values in found.items() if path[0] == image}
    count = len(next(iter(item.values())))
    return rows(item, pa.repeat(pa.scalar(write_time, TIMESTAMP), count) if write_time else _written(found))


def _written(found: dict[Path, pa.Array]) -> pa.Array:
    micros = found.get(("Metadata", "WriteTimestampMicros", "N"))
    if micros is None:
        raise OtherLines("no write time")
    return pc.cast(pc.cast(micros, pa.int64()), TIMESTAMP)


def _removed(body: bytes) -> None:
    """Lines of what TTL removed: they give no rows, but they must be such lines."""
    found = texts(body)
    if {path[0] for path in found} - {"Keys"} != {"Metadata"}:
        raise OtherLines("neither a change nor a removal")
    _written(found)
    check_printable(found.values())
