"""A chunk of an export file's lines as rows, read by pyarrow's JSON reader, or refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.processing.export_lines import Chunk
from tesseract.storage import wire_json
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_json import KINDS, THERE, check_marks, item_type, members, valid, whole
from tesseract.storage.wire_rows import WireRows

_METADATA = pa.struct([("WriteTimestampMicros", pa.struct([("N", KINDS["N"])]))])


def read(chunk: Chunk, kinds: Mapping[str, str], write_time: datetime | None) -> WireRows:
    """The rows of a chunk with the fields of `kinds`: each of one kind, or of any where it says "". One that TTL removed is no row.

    `write_time` is that of a full export.

    Raises OtherLines, ArrowInvalid or UnicodeDecodeError where the plain road must be taken.
    """
    item = item_type(kinds)
    parts = [("Item", item)] if write_time else [("Metadata", _METADATA), ("Keys", THERE), ("NewImage", item)]
    lines = members(wire_json.read(chunk.body, chunk.lines, pa.schema(parts)))
    image = lines["Item" if write_time else "NewImage"]
    there = image.filter(image.is_valid()) if image.null_count else image
    if write_time:
        written = pa.repeat(pa.scalar(write_time, TIMESTAMP), len(there))
        marks = len(there)
    else:
        metadata = members(lines["Metadata"])["WriteTimestampMicros"]
        written = pc.cast(pc.cast(whole(metadata, "N"), pa.int64()), TIMESTAMP).filter(image.is_valid())
        marks = len(there) + 2 * len(image) + 3 * valid(lines["Keys"])  # of Keys: pk and sk as well
    found, own = wire_json.rows(there, written)
    check_marks(chunk.body, marks + own)
    return found
