"""Calendar arithmetic of tiers and levels."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.tiers import LENGTHS, LEVELS, LIVE_LEVELS, MERGED_LEVELS, TIERS, UNITS, first_tier, ladder_faults

MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9998, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(MOMENTS, st.sampled_from(list(UNITS.values())))
def test_a_period_contains_its_moment_and_abuts_the_next(moment, unit):
    start, end = unit.period(moment)
    assert start <= moment < end
    assert unit.floor(start) == start
    assert unit.floor(end) == end
    assert unit.floor(end - timedelta(microseconds=1)) == start


@given(MOMENTS, st.sampled_from(list(UNITS.values())), st.integers(0, 40))
def test_periods_are_those_that_start_in_the_range(moment, unit, days):
    end = moment + days * (timedelta(days=1) if unit.name in TIERS else LENGTHS[unit.name])
    found = list(unit.periods(moment, end))
    assert all(moment <= period.start < end for period in found)
    assert all(left.end == right.start for left, right in pairwise(found))
    assert unit.floor(end - timedelta(microseconds=1)) < moment or found or not days


@given(MOMENTS, st.sampled_from(LIVE_LEVELS))
def test_a_live_level_has_periods_of_one_length_within_one_day(moment, name):
    start, end = UNITS[name].period(moment)
    assert end - start == LENGTHS[name]
    assert start.date() == (end - timedelta(microseconds=1)).date() == moment.date()


@given(MOMENTS, st.sampled_from(list(UNITS.values())), st.sampled_from(list(UNITS.values())))
def test_a_coarser_period_begins_and_ends_with_a_finer_one_unless_that_is_a_week(moment, one, other):
    fine, coarse = sorted((one, other), key=lambda unit: unit.rank)
    period = coarse.period(moment)
    if fine.name != "weekly" or coarse.name == "weekly":
        assert fine.floor(period.start) == period.start
        assert fine.floor(period.end) == period.end


@given(MOMENTS, st.sampled_from(list(UNITS.values())))
def test_labels_name_one_period(moment, unit):
    period = unit.period(moment)
    label = unit.label(period.start)
    assert label != unit.label(period.end)
    assert label == unit.label(unit.floor(moment))


def test_levels_and_tiers_are_units_from_fine_to_coarse():
    assert (*LIVE_LEVELS, *MERGED_LEVELS) == LEVELS == ("1min", "15min", "hourly", "daily", "weekly", "monthly")
    assert TIERS == ("daily", "weekly", "monthly", "quarterly", "yearly")
    for names in (LEVELS, TIERS, tuple(UNITS)):
        assert [UNITS[name].rank for name in names] == sorted({UNITS[name].rank for name in names})
    assert [UNITS[name].duration for name in LEVELS] == ["PT1M", "PT15M", "PT1H", "P1D", "P1W", "P1M"]


def test_minutes_are_cut_on_the_clock():
    moment = datetime(2013, 1, 1, 6, 59, 59, 999999, tzinfo=UTC)
    assert UNITS["1min"].period(moment) == (moment.replace(second=0, microsecond=0), datetime(2013, 1, 1, 7, tzinfo=UTC))
    assert UNITS["15min"].floor(moment) == datetime(2013, 1, 1, 6, 45, tzinfo=UTC)
    assert UNITS["15min"].label(UNITS["15min"].floor(moment)) == "2013-01-01T06:45"


def test_a_week_is_an_iso_week_and_a_year_may_end_within_it():
    start, end = UNITS["weekly"].period(datetime(2013, 1, 1, tzinfo=UTC))
    assert (start, end) == (datetime(2012, 12, 31, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC))
    assert UNITS["weekly"].label(start) == "2013-W01"


def test_the_calendar_ends():
    assert UNITS["yearly"].period(datetime(9999, 6, 1, tzinfo=UTC)).end == datetime.max.replace(tzinfo=UTC)


@given(st.lists(st.sampled_from(TIERS), max_size=5))
def test_a_ladder_climbs(names):
    ranks = [UNITS[name].rank for name in names]
    assert (not ladder_faults(tuple(names))) == (bool(names) and all(a < b for a, b in pairwise(ranks)))


@pytest.mark.parametrize(("days", "tier"), [(1, "daily"), (40, "daily"), (41, "monthly"), (330, "monthly"), (20000, "yearly")])
def test_many_days_go_to_a_coarser_tier(days, tier):
    starts = {datetime(1950, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(days)}
    assert first_tier(("daily", "monthly", "yearly"), starts).name == tier
