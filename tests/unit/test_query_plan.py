"""The routing of queries: every row that the protocol can put anywhere lies in the slices of its source, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.tiers import DAILY, HOURLY
from tesseract.model import Manifest, Segment
from tesseract.query.plan import (
    DAY,
    LATE,
    SKEW,
    TIME_MAX,
    TIME_MIN,
    Facts,
    Range,
    ceiling,
    coalesce,
    day_number,
    day_text,
    gaps,
    is_hot,
    level_plan,
    raw_plan,
    starting_in,
)

BASE = 20_000  # a day
HOUR = DAY // 24
moments = st.integers(BASE * DAY, (BASE + 20) * DAY) | st.builds(lambda d: (BASE + d) * DAY, st.integers(0, 20))
ranges = st.lists(moments, min_size=2, max_size=6, unique=True).map(
    lambda ends: [Range(a, b) for a, b in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)
marks = st.dictionaries(st.integers(BASE, BASE + 20), moments, max_size=5)


def segment(first: int, last: int, window_end: int = 0) -> Segment:
    return Segment(f"s{first}-{last}", "daily", first, last, 1, 1, first, last, window_end, 0, 0, "")


segments = st.lists(st.tuples(moments, moments).map(lambda p: segment(min(p), max(p))), max_size=6)


@given(ranges, moments, marks, segments, moments)
def test_every_moment_of_the_ranges_is_read_once_from_each_source_that_may_hold_it(wanted, through, marked, parts, moment):
    plan = raw_plan("G", wanted, Manifest("d", "raw", "G", 1, tuple(parts)), Facts(through, marked))
    inside = any(r.start <= moment < r.end for r in wanted)
    slices = [part for part in plan.buffer if part.start <= moment < part.end]
    assert len(slices) == (inside and is_hot(moment // DAY, through, marked))
    assert all(part.day == moment // DAY for part in slices)
    for part in parts:
        holds = inside and part.first <= moment <= part.last
        taken = [one for one in plan.archive if one.segment is part]
        assert len(taken) <= 1
        assert not holds or (taken and taken[0].start <= moment < taken[0].end)
    assert "raw G" in str(plan)


@given(ranges, moments, marks, moments)
def test_stretches_of_a_level_cover_the_range_exactly(wanted, through, marked, moment):
    plan = level_plan("G", wanted[:1], Manifest("d", "hourly", "G"), Facts(through, marked))
    ends = [wanted[0].start, *(part.end for part in plan.stretches)]
    assert [part.start for part in plan.stretches] == ends[:-1]
    assert ends[-1] == wanted[0].end
    for part in plan.stretches:
        if part.start <= moment < part.end:
            assert (part.source == "live") == is_hot(moment // DAY, through, marked)
    assert "hourly G" in str(plan)


@given(moments, marks)
def test_an_open_range_is_finite_and_keeps_every_marked_day(through, marked):
    facts = Facts(through, marked, horizon=through + 3 * DAY)
    plan = raw_plan("G", [Range(TIME_MIN, TIME_MAX)], Manifest("d", "raw", "G"), facts)
    days = [part.day for part in plan.buffer]
    assert len(days) == len(set(days)) <= 6 + len(marked)
    assert {day for day in marked if is_hot(day, through, marked)} <= set(days)
    assert set(range((through - LATE) // DAY, through // DAY + 3)) <= set(days)


def test_without_a_watermark_no_day_is_skipped_but_those_before_the_dataset_began():
    facts = Facts(0, {BASE - 900: 5}, floor=BASE * DAY, horizon=(BASE + 2) * DAY)
    plan = raw_plan("G", [Range(TIME_MIN, TIME_MAX)], Manifest("d", "raw", "G"), facts)
    assert [part.day for part in plan.buffer] == [BASE - 900, BASE, BASE + 1]


def test_a_day_leaves_the_buffer_exactly_a_day_and_a_quarter_after_its_end():
    end = (BASE + 1) * DAY
    assert is_hot(BASE, end + LATE - 1, {})
    assert not is_hot(BASE, end + LATE, {})
    late = end + 10 * DAY
    assert is_hot(BASE, late, {BASE: late - SKEW})
    assert not is_hot(BASE, late, {BASE: late - SKEW - 1})


@given(st.sampled_from([HOURLY, DAILY]), ranges, st.sets(st.integers(0, 20 * 24)))
def test_gaps_and_what_was_found_are_all_periods(unit, wanted, hours):
    step = HOUR if unit is HOURLY else DAY
    every = [start for start in range(BASE * DAY, (BASE + 21) * DAY, step) if wanted[0].start <= start < wanted[0].end]
    found = [start for start in every if (start - BASE * DAY) // step in hours]
    missing = gaps(wanted[:1], unit, found)
    assert sorted(found + [start for gap in missing for start in range(gap.start, gap.end, step)]) == every


@given(st.sampled_from([HOURLY, DAILY]), ranges, ranges)
def test_periods_of_ranges_that_start_in_a_span(unit, whole, spans):
    step = HOUR if unit is HOURLY else DAY
    every = range(BASE * DAY, (BASE + 22) * DAY, step)
    whole = coalesce(Range(part.start // step * step, -(-part.end // step) * step) for part in whole)
    found = starting_in(unit, whole, spans)
    assert found == coalesce(found)
    assert all(part.start % step == part.end % step == 0 for part in found)
    expected = [s for s in every if any(a <= s < b for a, b in whole) and any(a <= s < b for a, b in spans)]
    assert [start for part in found for start in range(part.start, part.end, step)] == expected


def test_ceiling_days_and_coalescing():
    assert ceiling(HOURLY, BASE * DAY + 1) == BASE * DAY + HOUR
    assert ceiling(DAILY, BASE * DAY) == BASE * DAY
    assert day_number(day_text(BASE)) == BASE
    assert coalesce([Range(5, 6), Range(0, 2), Range(2, 3)]) == [Range(0, 3), Range(5, 6)]
    assert coalesce([Range(0, 2), Range(4, 6)], 2) == [Range(0, 6)]
