"""States by columns are those of the pure algebra, and what is shown of them is what it shows, to the last bit."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Field, Level
from tesseract.processing.aggregator import Fields, encode_state, fold, fold_all, identity, merge, same, shift, shown
from tesseract.query.fold_columns import folded, merged
from tesseract.query.fold_results import level_columns
from tesseract.query.fold_states import nothing, of_states
from tesseract.storage.arrow_types import exact, is_number
from tesseract.storage.codec import shortest, storable
from tesseract.storage.columns import LevelRow, RawRow, level_table, raw_table
from tesseract.utils.time_utils import from_micros
from tests.support.level_world import plant
from tests.unit.test_aggregator import plain

STEP = 1000  # µs of a period
DATASET = plant("hourly")
KEPT = replace(DATASET, unknown_fields="keep")
LEVEL = DATASET.levels[0]
FLOAT = st.one_of(
    st.floats(-100, 100).map(lambda x: round(x, 2)),
    st.floats(-1e6, 1e6),
    st.floats(-1e125, 1e125),
    st.floats(1e-130, 1e-100),
    st.integers(-(10**6), 10**6).map(float),
    st.sampled_from([0.1, 1 / 3, 2**53 + 2.0, 1e15, 123456789012345.6, 999999999999999.9, 5e-324, 1e22, 1e23, -0.0]),
).filter(lambda x: storable(shortest(x)))
VALUES = {
    "f": FLOAT.map(shortest),
    "i": st.one_of(st.integers(-100, 100), st.integers(-(2**63), 2**63 - 1)),
    "d": st.one_of(st.integers(-(10**4), 10**4), st.integers(-(10**30), 10**30), st.integers(1 - 10**38, 10**38 - 1)).map(
        lambda x: Decimal(f"{x}E-2")
    ),
    "w": st.one_of(st.integers(-100, 100), st.integers(-(10**37), 10**37)),
    "undeclared": FLOAT.map(shortest).map(lambda x: int(x) if x == x.to_integral_value() else x),
}
RECORD = st.fixed_dictionaries({}, optional=VALUES)
TIMES = st.one_of(st.integers(0, 5 * STEP), st.integers(-(10**13), 10**13))
RECORDS = st.dictionaries(TIMES, RECORD, min_size=1, max_size=12).map(lambda found: sorted(found.items()))
COVERED = st.sampled_from([Fields(), Fields(frozenset({"f", "d"})), Fields(frozenset())])


def starts(times):
    return times // STEP * STEP


def table_of(records) -> pa.Table:
    return raw_table(DATASET, "A", [RawRow(from_micros(at), None, dict(values), False, None, 1) for at, values in records])


def pure(table: pa.Table, covered: Fields = Fields()) -> dict:
    """The fold of the rows as a reader sees them."""
    names = [f.name for f in table.schema if is_number(f.type) and not f.name.startswith("__")]
    found: dict = {}
    for at, row in zip(table["valid_time"].cast(pa.int64()).to_pylist(), table.select(names).to_pylist(), strict=True):
        start = at // STEP * STEP
        values = {name: exact(value) for name, value in row.items() if value is not None}
        found[start] = fold(found.get(start) or identity(), values, at - start, covered)
    return found


def check(states: dict, wanted: dict) -> None:
    assert list(states) == sorted(wanted)
    for start, state in wanted.items():
        assert same(states[start], state)
        assert plain(states[start]) == plain(state)


@settings(deadline=None)
@given(RECORDS, COVERED)
@example([(0, {"f": Decimal("0.1")}), (1, {"f": Decimal("123456789012345.6")})], Fields())
@example([(place, {"i": (-1) ** place * 2**62}) for place in range(20)], Fields())
@example([(place, {"w": 10**37, "d": Decimal(-(10**35))}) for place in range(20)], Fields())
def test_a_fold_by_columns_is_the_pure_fold(records, covered):
    table = table_of(records)
    check(folded(DATASET, table, starts, covered).states(), pure(table, covered))


@settings(deadline=None)
@given(RECORDS, st.lists(st.integers(0, 25), max_size=3), st.integers(1, 7))
def test_parts_merge_to_the_whole_wherever_they_are_cut_and_whatever_they_come_from(records, cuts, coarser):
    table = table_of(records)
    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    parts = [folded(DATASET, table.slice(low, high - low), starts) for low, high in pairwise(edges)]
    check(merged(parts).states(), pure(table))
    whole = folded(DATASET, table, starts)
    states = whole.states()
    stored = of_states(list(states), [encode_state(state) for state in states.values()])
    check(stored.states(), pure(table))
    wide = STEP * coarser
    wanted: dict = {}
    for start, state in pure(table).items():
        outer = start // wide * wide
        wanted[outer] = merge(wanted.get(outer) or identity(), shift(state, start - outer))
    half = len(states) // 2
    before = len([at for at, _ in records if starts(at) < list(states)[half]])
    first = folded(DATASET, table.slice(0, before), starts)
    other = of_states(list(states)[half:], [encode_state(state) for state in list(states.values())[half:]])
    outer = lambda at: at // wide * wide
    for found in (merged([stored], outer), merged([other, first], outer)):
        check(found.states(), wanted)


@settings(deadline=None)
@given(RECORDS)
@example([(0, {"f": Decimal("1e-120")}), (1, {"f": Decimal("3e-120")})])
@example([(0, {"i": 2**63 - 1}), (1, {"i": 2**63 - 1, "w": 10**37, "d": Decimal(10**35)}), (2, {"w": 9 * 10**37})])
def test_the_columns_are_those_of_the_states(records):
    table = table_of(records)
    for dataset in (DATASET, KEPT):
        states = pure(table)
        rows = [LevelRow(from_micros(start), state.rows, shown(state, LEVEL), b"", 0, None) for start, state in states.items()]
        wanted = level_table(dataset, LEVEL, "A", rows)
        wanted = wanted.select([name for name in wanted.column_names if name[:2] != "__"])
        found = level_columns(dataset, LEVEL, "A", folded(DATASET, table, starts))
        assert found.schema == wanted.schema
        found.validate(full=True)
        for name in wanted.column_names:
            assert found[name].to_pylist() == wanted[name].to_pylist(), name


@settings(deadline=None)
@given(st.lists(FLOAT, min_size=2, max_size=60), st.integers(0, 10**9))
def test_averages_and_deviations_are_the_nearest_doubles(values, offset):
    records = [(place, {"f": shortest(float(value + offset))}) for place, value in enumerate(values)]
    records = [(at, own) for at, own in records if storable(own["f"])]
    if not records:
        return
    state = fold_all(records)
    table = level_columns(DATASET, LEVEL, "A", folded(DATASET, table_of(records), lambda times: times * 0))
    for stat, value in shown(state, LEVEL)["f"].items():
        assert table[f"f_{stat}"].to_pylist() == [value if value is None or stat == "count" else float(value)]


def test_many_rows_of_every_kind():
    """Long runs, nulls among them: sums that need Python's integers, and those that do not."""
    chance = np.random.default_rng(7)
    count = 20_000
    data = {
        "f": np.round(chance.uniform(-50, 50, count), 2),
        "i": chance.integers(-(2**62), 2**62, count),
        "s": chance.uniform(90_000, 110_000, count),
    }
    columns = {"valid_time": pa.array(np.arange(count) * 7).cast(pa.timestamp("us", "UTC"))}
    columns |= {name: pa.array(values, mask=chance.random(count) < 0.1) for name, values in data.items()}
    columns["d"] = pa.array(chance.integers(-(10**6), 10**6, count)).cast(pa.decimal128(38, 0)).cast(pa.decimal128(38, 2))
    dataset = replace(DATASET, fields={**DATASET.fields, "s": Field("float", "s")})
    table = pa.table(columns)
    found = folded(dataset, table, lambda times: times // 33_000 * 33_000).states()
    names = ["f", "i", "s", "d"]
    records: dict = {}
    for at, row in zip(table["valid_time"].cast(pa.int64()).to_pylist(), table.select(names).to_pylist(), strict=True):
        own = records.setdefault(at // 33_000 * 33_000, [])
        own.append((at - at // 33_000 * 33_000, {name: exact(value) for name, value in row.items() if value is not None}))
    assert found.keys() == records.keys()
    assert all(same(found[start], fold_all(own)) for start, own in records.items())


def test_nothing_gives_nothing():
    empty = folded(DATASET, table_of([]), starts)
    assert len(empty) == len(merged([empty, nothing()])) == len(of_states([], [])) == 0
    assert level_columns(DATASET, LEVEL, "A", empty).column_names[:3] == ["station", "period_start", "rows"]
    assert level_columns(DATASET, Level("x", {"avg": ("f",)}), "A", empty).num_columns == 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value):
    table = pa.table({"valid_time": pa.array([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(0)]), "f": [value]})
    with pytest.raises(ValueError):
        folded(DATASET, table, starts)
