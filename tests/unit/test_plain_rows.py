"""Rows that one segment after the other has are folded without a merge: the same numbers, and only where they are plain."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import STATS, Level
from tesseract.query import fold_columns, plain_rows, raw_folds
from tesseract.query.fold_columns import folded, merged
from tesseract.query.fold_results import level_columns
from tesseract.storage.arrow_types import TIMESTAMP
from tests.support.level_world import DAY, World, plant
from tests.unit.test_fold_columns import DATASET, RECORDS, starts, table_of

WINDOW = datetime(2024, 1, 1, tzinfo=UTC)


@settings(deadline=None)
@given(RECORDS, st.sets(st.sampled_from(STATS), min_size=1), st.integers(0, 12))
def test_some_statistics_are_the_same_without_the_others(records, stats, cut):
    level = Level("hourly", dict.fromkeys(stats, ()))
    table = table_of(records)
    parts = [folded(DATASET, part, starts, shown=lambda _: stats) for part in (table.slice(0, cut), table.slice(cut))]
    found = level_columns(DATASET, level, "A", merged(parts))
    assert found.equals(level_columns(DATASET, level, "A", folded(DATASET, table, starts)))


@settings(deadline=None)
@given(st.sets(st.integers(-(10**4), 10**4), min_size=1), st.integers(1, 9), st.integers(1, 9000))
def test_periods_begin_where_looking_at_every_row_says(times, block, length):
    at = np.array(sorted(times))
    owners = at // length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_columns, "_BLOCK", block)
        bounds = fold_columns._runs(at, lambda some: some // length)
    assert bounds.tolist() == [place for place in range(len(at)) if not place or owners[place] != owners[place - 1]]


def _settled() -> World:
    world = World(plant("daily"), datetime(2024, 3, 1, tzinfo=UTC))
    for hour in range(0, 240, 5):
        world.put("A", WINDOW + hour * DAY / 24, {"f": Decimal(hour) / 4, "i": hour, "d": Decimal(hour)})
    world.drain()
    world.settle()
    world.compact()
    return world


def _answers(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bool], list[dict], list[dict]]:
    """Which waves were plain; the rows of an interval, and the same without that road."""
    monkeypatch.setattr(raw_folds, "FEW", 0)
    taken: list[bool] = []
    plain = raw_folds.read_plain

    def watched(*args):
        found = plain(*args)
        taken.append(found is not None)
        return found

    ask = lambda: world.store.read("weather", "A", WINDOW, WINDOW + 12 * DAY, level="hourly", fields=["f", "i", "d", "w"])
    monkeypatch.setattr(raw_folds, "read_plain", watched)
    found = ask()
    monkeypatch.setattr(raw_folds, "read_plain", lambda *_: None)
    other = ask()
    monkeypatch.undo()
    assert found.stats.rows == other.stats.rows
    assert (found.stats.only_archive, found.stats.segments) == (other.stats.only_archive, other.stats.segments)
    return taken, found.table.to_pylist(), other.table.to_pylist()


def test_settled_rows_are_plain(monkeypatch):
    taken, found, other = _answers(_settled(), monkeypatch)
    assert any(taken)
    assert found == other
    assert len(found) == 48


def test_rows_that_were_written_again_are_not_whether_hot_or_in_another_segment(monkeypatch):
    world = _settled()
    world.put("A", WINDOW, {"f": Decimal(1000)})
    world.put("A", WINDOW + 3 * DAY, {"f": Decimal(7)})
    world.drain()
    for _ in range(2):
        taken, found, other = _answers(world, monkeypatch)
        assert taken == [False]
        assert found == other
        assert found[0]["f_avg"] == 1000
        world.settle()


@pytest.mark.parametrize(
    ("at", "deleted", "is_plain"),
    [
        ([1, 2, 3], [False] * 3, True),
        ([1, 1, 3], [False] * 3, False),
        ([1, 3, 2], [False] * 3, False),
        ([1, 2, 3], [False, True, False], False),
    ],
)
def test_times_that_come_twice_and_tombstones_are_not_plain(at, deleted, is_plain):
    parts = [pa.table({"valid_time": pa.array(at, TIMESTAMP), "__deleted": deleted, "f": [1.0, 2.0, 3.0]})]
    parts += [pa.table({"valid_time": pa.array([9], TIMESTAMP), "__deleted": [False], "f": [4.0]})]
    assert (plain_rows._plain(parts) is not None) == is_plain
    assert plain_rows._plain(parts[::-1]) is None
    assert plain_rows._plain([part.drop_columns("__deleted") for part in parts]) is None
