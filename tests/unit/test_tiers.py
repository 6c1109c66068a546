"""Calendar arithmetic of tiers and levels."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.tiers import TIERS, UNITS, first_tier, ladder_faults

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
    end = moment + timedelta(days=days)
    found = list(unit.periods(moment, end))
    assert all(moment <= period.start < end for period in found)
    assert all(left.end == right.start for left, right in pairwise(found))
    assert unit.floor(end - timedelta(microseconds=1)) < moment or found or not days


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
