"""A day of the buffer is read in parts at once: no item is lost at a seam, none comes twice, and few requests are made."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.model import Record
from tesseract.query import density
from tesseract.query.catalog import Lookup
from tesseract.query.days import Day
from tesseract.query.density import Densities, Density, split
from tesseract.query.plan import DAY, DaySlice, Range
from tesseract.query.source import Source, counting
from tesseract.storage import memory
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import unify
from tesseract.storage.items import history_item, raw_item
from tesseract.storage.keys import HISTORY
from tesseract.storage.memory import memory_backend
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import START, weather

SECOND = 1_000_000
DATASET = weather()
TODAY = to_micros(START) // DAY
EMPTY = memory_backend()
POOL = Source(EMPTY, (CATALOG := Catalog(EMPTY.catalog, EMPTY.objects)), Lookup(EMPTY, CATALOG))
spans = st.tuples(st.integers(-(10**16), 10**16), st.integers(1, 10**12)).map(lambda span: Range(span[0], span[0] + span[1]))


@given(spans, st.integers(-5, 10**12))
def test_a_slice_is_cut_into_ranges_that_cover_it(span, page):
    parts = split(span, page)
    assert 1 <= len(parts) <= density.PARTS
    assert parts[0].start == span.start
    assert parts[-1].end == span.end
    assert all(part.start < part.end for part in parts)
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert len(parts) == 1 or (len(parts) - 1) * max(page, 1) < span.end - span.start
    sizes = [part.end - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_what_is_remembered_is_bounded():
    known = Densities(3)
    for place in range(5):
        known.learn(("w", str(place), ""), Density(place, 1))
    assert [known.get(("w", str(place), "")) for place in range(5)] == [None, None, *(Density(place, 1) for place in (2, 3, 4))]
    known.learn(("w", "3", ""), None)
    assert known.get(("w", "3", "")) is None


def source_of(backend: Backend) -> Source:
    counted = counting(backend)
    catalog = Catalog(counted.catalog, counted.objects)
    source = Source(counted, catalog, Lookup(counted, catalog), POOL)
    source.densities = Densities()
    return source


def whole(tables: list[pa.Table]) -> list[dict[str, object]]:
    return pa.concat_tables(unify(tables)).to_pylist()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3600), st.integers(0, 2)), unique=True, max_size=60),
    st.integers(1, 3000),
    st.lists(st.tuples(st.integers(0, 86_399), st.integers(1, 86_400)), min_size=1, max_size=3),
    st.sampled_from(["", HISTORY]),
    st.booleans(),
)
def test_no_item_is_lost_at_a_seam(rows, page, slices, prefix, spread):
    backend = memory_backend()
    every = 23 if spread else 1
    for second, ref in rows if prefix else {second: 0 for second, _ in rows}.items():
        at = START + timedelta(seconds=second * every)
        record = Record("A", at, START + timedelta(seconds=ref), {"temp": second}, second % 5 == 0)
        backend.raw.put((history_item if prefix else raw_item)(DATASET, record, START))
    with pytest.MonkeyPatch.context() as patch:
        source = source_of(backend)
        everything = whole(Day(source, DATASET, "A", DaySlice(TODAY, TODAY * DAY, (TODAY + 1) * DAY), prefix).tables())
        assert len(everything) == len(rows if prefix else {second for second, _ in rows})
        patch.setattr(memory, "PAGE_BYTES", page)
        for first, length in slices:
            start = TODAY * DAY + first * SECOND
            part = DaySlice(TODAY, start, min(start + length * SECOND, (TODAY + 1) * DAY))
            for _ in range(2):  # the second time its density is known
                found = whole(Day(source, DATASET, "A", part, prefix).tables())
                assert found == [row for row in everything if part.start <= to_micros(row["valid_time"]) < part.end]


def test_requests_are_made_at_once_and_few(monkeypatch):
    backend = memory_backend()
    for second in range(4000):
        record = Record("A", START + timedelta(seconds=second), None, {"temp": second}, False)
        backend.raw.put(raw_item(DATASET, record, START))
    monkeypatch.setattr(memory, "PAGE_BYTES", 100_000)
    part = DaySlice(TODAY, TODAY * DAY, TODAY * DAY + 4000 * SECOND)
    source = source_of(backend)

    def requests() -> tuple[int, int]:
        asked = source.within(None)
        rows = sum(map(len, Day(asked, DATASET, "A", part).tables()))
        return rows, asked.reads.dynamodb_requests

    rows, first = requests()
    held = source.densities.get((DATASET.name, "A", ""))
    pages = -(-4000 // held.rows)
    assert rows == 4000
    assert first <= pages + 1
    assert requests() == (4000, pytest.approx(min(pages, density.PARTS), abs=1))
    # the group sends less from now on: one page would do, and is what the read after the next one asks for
    for item in list(backend.raw.query(f"weather#A#{START:%Y-%m-%d}"))[::2]:
        backend.raw.delete((item["pk"], item["sk"]))
    assert requests()[0] == 2000
    for item in list(backend.raw.query(f"weather#A#{START:%Y-%m-%d}"))[40:]:
        backend.raw.delete((item["pk"], item["sk"]))
    assert requests()[0] == 40
    assert requests() == (40, 1)
