"""Numbers of undeclared fields whose column is text, since text came in the field too: which text was a number.

A text column holds a number as its one canonical text, `2.5`. A value "2.5" that came as text looks the same. So text counts as a
number only in fields that are known to have had numbers: by a column of numbers in another file, or by aggregates that were
computed when the values were still in the buffer as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.processing.aggregator import decode_state
from tesseract.processing.live_item import live_levels
from tesseract.processing.segments import DAY, PERIOD_START
from tesseract.storage import segment_reader
from tesseract.storage.arrow_types import is_number
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.codec import number_text, number_value
from tesseract.storage.columns import STATE
from tesseract.storage.keys import group_values, level_partition
from tesseract.utils.time_utils import from_micros

Known = Callable[[], frozenset[str]]


def number_of(text: str | None) -> int | Decimal | None:
    """The number whose canonical text this is; None where it is none."""
    if not text or text[0] not in "-0123456789":
        return None
    try:
        number = number_value(text)
        return number if number_text(number) == text else None
    except (InvalidOperation, InputError):
        return None


def nothing() -> frozenset[str]:
    """For who knows of no field."""
    return frozenset()


def text_with_numbers(dataset: Dataset, table: pa.Table, parts: Iterable[pa.Table], known: Known) -> list[str]:
    """The undeclared text columns of `table`, made of `parts`, that hold numbers. `known` is asked only where it is in doubt."""
    fixed = {*dataset.group_columns, *dataset.fields}
    names = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name not in fixed]
    names = [name for name in names if any(number_of(text) is not None for text in table[name].to_pylist())]
    if not names:
        return []
    typed = {field.name for part in parts for field in part.schema if is_number(field.type)}
    found = typed if typed.issuperset(names) else typed | known()
    return [name for name in names if name in found]


def known_numbers(backend: Backend, catalog: Catalog, dataset: Dataset, group: str, days: Sequence[int]) -> frozenset[str]:
    """The fields that had a number on `days` (since 1970, in order), by the rows of levels that the archive has."""
    start, end = days[0] * DAY, (days[-1] + 1) * DAY
    found: set[str] = set()
    for level in live_levels(dataset):
        for segment in catalog.manifest_of(dataset, level_partition(level), group).segments:
            if segment.first < end and segment.last >= start:
                span, own = (from_micros(start), from_micros(end)), group_values(dataset, group)
                columns = [*dataset.group_columns, PERIOD_START, STATE]
                table = segment_reader.read(backend.objects, segment, PERIOD_START, *span, columns, own)
                found.update(name for body in table[STATE].to_pylist() for name in decode_state(body).fields)
    return frozenset(found)
