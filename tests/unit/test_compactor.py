"""Compaction: the plan of merges is sound for any manifest, and carrying it out loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.tiers import UNITS, tier_period
from tesseract.model import Manifest, Segment
from tesseract.processing import compactor
from tesseract.processing.compactor import summary
from tesseract.processing.merge_plan import plan
from tesseract.processing.segments import RAW, Partition, swapped
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support.archive_world import World, temp, weather

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LADDERS = [
    ("daily", "monthly", "yearly"),
    ("daily", "weekly", "yearly"),
    ("weekly", "monthly"),
    ("monthly", "quarterly", "yearly"),
    ("daily",),
]
moments = st.datetimes(datetime(2019, 12, 1), datetime(2021, 3, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def segment(key: str, ladder: tuple[str, ...], tier: str, moment: datetime, window_end: int = 1) -> Segment:
    period = tier_period(ladder, tier, moment)
    start, end = to_micros(period.start), to_micros(period.end)
    return Segment(key, tier, start, end, 1, 1, to_micros(moment), to_micros(moment), window_end, 0, 0, "")


@st.composite
def manifests(draw: st.DrawFn) -> tuple[Manifest, tuple[str, ...]]:
    ladder = draw(st.sampled_from(LADDERS))
    made = draw(st.lists(st.tuples(st.sampled_from(ladder), moments, st.integers(1, 5)), max_size=25))
    segments = tuple(segment(f"s{n}", ladder, tier, moment, end) for n, (tier, moment, end) in enumerate(made))
    return Manifest("weather", RAW, "A", segments=segments), ladder


@given(manifests(), moments, st.integers(0, 6), st.booleans())
def test_a_plan_is_sound(made: tuple[Manifest, tuple[str, ...]], now: datetime, through: int, whole: bool) -> None:
    manifest, ladder = made
    merges = plan(manifest, ladder, now, through, whole)
    inputs = [found.key for merge in merges for found in merge.inputs]
    assert len(inputs) == len(set(inputs))
    for merge in merges:
        start, end = map(to_micros, merge.period)
        assert all(start <= found.start and found.end <= end for found in merge.inputs)
        assert all(found.window_end <= through for found in merge.inputs)
        assert all(UNITS[found.tier].rank <= UNITS[merge.tier].rank for found in merge.inputs)
        assert len(merge.inputs) > 1 or merge.inputs[0].tier != merge.tier
        assert merge.period.end <= now or all(found.tier == merge.tier for found in merge.inputs)
        assert [found.window_end for found in merge.inputs] == sorted(found.window_end for found in merge.inputs)


@given(manifests(), moments, st.integers(0, 6))
def test_plans_of_the_whole_come_to_an_end_with_one_segment_per_period(
    made: tuple[Manifest, tuple[str, ...]], now: datetime, through: int
) -> None:
    manifest, ladder = made
    firsts = sorted(found.first for found in manifest.segments)
    for _ in range(10):
        merges = plan(manifest, ladder, now, through, whole=True)
        if not merges:
            break
        for number, merge in enumerate(merges):
            end = max(found.window_end for found in merge.inputs)
            output = replace(segment(f"m{manifest.version}.{number}", ladder, merge.tier, merge.period.start, end), first=0)
            changed = swapped(manifest, [found.key for found in merge.inputs], output, 0, "")
            assert changed is not None
            manifest = replace(changed, version=manifest.version + 1)
    else:
        pytest.fail("the plan never comes to an end")
    settled = [found for found in manifest.segments if found.window_end <= through]
    assert len({(found.tier, found.start) for found in settled}) == len(settled)
    for found in settled:
        for tier in ladder[ladder.index(found.tier) + 1 :]:
            assert tier_period(ladder, tier, from_micros(found.start)).end > now
    assert len(manifest.segments) <= len(firsts)


def test_steps_go_up_one_tier_at_a_time() -> None:
    world = World(parts=1, start=datetime(2024, 3, 1, tzinfo=UTC))
    for day in range(35):
        world.put("A", datetime(2023, 11, 1, tzinfo=UTC) + day * DAY, temp("1", day))
    world.archive()
    assert {found.tier for found in world.catalog.manifest("weather", RAW, "A").segments} == {"daily"}
    before = world.archived("A")
    done = world.compact()
    assert [merged.merge.label for merged in done] == [
        "daily→monthly 2023-11",
        "daily→monthly 2023-12",
        "monthly→yearly 2023",
    ]
    assert [(row["step"], row["merges"], row["inputs"]) for row in summary(done)] == [
        ("daily→monthly", 2, 35),
        ("monthly→yearly", 1, 2),
    ]
    manifest = world.catalog.manifest("weather", RAW, "A")
    assert [(found.tier, found.rows) for found in manifest.segments] == [("yearly", 35)]
    assert manifest.operation == "compact monthly→yearly 2023"
    assert world.archived("A") == before
    assert world.compact() == []


def test_late_rows_are_merged_into_what_is_there_and_the_newest_wins() -> None:
    world = World(parts=1)
    at = datetime(2023, 5, 5, tzinfo=UTC)
    world.put("A", at, temp("1", 1))
    world.archive()
    world.compact()
    world.put("A", at, temp("2"))
    world.put("A", at + DAY, temp("3"))
    world.archive()
    assert [merged.merge.step for merged in world.compact()] == ["daily→yearly"]
    assert world.archived("A") == {to_micros(at): {"temp": 2.0}, to_micros(at + DAY): {"temp": 3.0}}
    assert len(world.catalog.manifest("weather", RAW, "A").segments) == 1


def test_segments_of_a_window_that_may_still_grow_older_rows_are_left_alone() -> None:
    world = World(parts=1)
    world.put("A", datetime(2023, 5, 5, tzinfo=UTC), temp("1"))
    world.open()
    world.collect()  # the first window's task is lost for now
    world.put("A", datetime(2023, 5, 5, tzinfo=UTC), deleted=True)
    world.open()
    for task in world.collect():
        world.work(task)
    assert world.compact() == []
    world.now += timedelta(hours=12)  # a window that is not committed by then sends its tasks again
    for task in world.collect():
        world.work(task)
    assert sum(merged.purged for merged in world.compact()) == 1
    assert world.archived("A") == {}


def test_a_tombstone_stays_while_another_segment_may_hold_its_key() -> None:
    world = World(parts=1)
    first, at = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 10, tzinfo=UTC)
    for day in range(50):  # too many days for daily files: months
        world.put("A", first + day * DAY, temp("1"))
    world.archive()
    for _ in range(2):
        world.put("A", at, deleted=True)
        world.archive()
    february = compactor.compact(
        world.catalog, world.backend.objects, [world.dataset], datetime(2024, 2, 15, tzinfo=UTC), whole=True
    )
    assert [(merged.merge.label, merged.rows, merged.purged) for merged in february] == [("daily 2024-02-10", 1, 0)]
    assert world.archived("A")[to_micros(at)] is None
    assert [(merged.merge.label, merged.purged) for merged in world.compact()] == [("daily→monthly 2024-02", 1)]
    assert to_micros(at) not in world.archived("A")
    assert len(world.archived("A")) == 49


def test_a_purge_is_given_up_when_a_segment_comes_that_may_hold_the_key() -> None:
    world = World(parts=1)
    at = datetime(2023, 5, 5, 12, tzinfo=UTC)
    for deleted in (False, True):
        world.put("A", at, temp("1"), deleted)
        world.archive()
    manifest = world.catalog.manifest("weather", RAW, "A")
    through = world.catalog.progress().archived_through
    (merge,) = plan(manifest, ("daily",), world.now, through, whole=True)
    world.put("A", at - HOUR, temp("5"))
    world.put("A", at + HOUR, temp("5"))
    world.archive()
    partition = Partition(world.dataset, RAW, "A")
    before = world.archived("A")
    assert compactor.execute(world.catalog, world.backend.objects, partition, merge, manifest, world.now, through) is None
    assert world.archived("A") == before


def test_a_merge_whose_input_has_gone_is_given_up() -> None:
    world = World(parts=1)
    for wind in (1, 2):
        world.put("A", datetime(2023, 5, 5, tzinfo=UTC), temp("1", wind))
        world.archive()
    manifest = world.catalog.manifest("weather", RAW, "A")
    through = world.catalog.progress().archived_through
    merge = plan(manifest, ("daily",), world.now, through, whole=True)[0]
    world.compact()
    before = world.state()
    partition = Partition(world.dataset, RAW, "A")
    assert compactor.execute(world.catalog, world.backend.objects, partition, merge, manifest, world.now, through) is None
    assert world.state() == before


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([("daily", "monthly", "yearly"), ("daily", "weekly", "monthly"), ("weekly", "yearly")]),
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 9)), max_size=6), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_archiving_and_compacting_in_any_rhythm_equals_the_last_writes(
    ladder: tuple[str, ...], windows: list[list[tuple[int, bool, int]]], merges: list[bool]
) -> None:
    world = World(weather(ladder=ladder), parts=2)
    oracle: dict[int, dict[str, object] | None] = {}
    for writes, merge in zip(windows, merges, strict=False):
        for slot, deleted, wind in writes:
            at = datetime(2023, 12, 20, tzinfo=UTC) + slot * timedelta(hours=17)
            world.put("A", at, {} if deleted else {"wind": wind}, deleted)
            oracle[to_micros(at)] = None if deleted else {"wind": wind}
        world.archive()
        if merge:
            world.compact()
    wanted = {at: fields for at, fields in oracle.items() if fields is not None}
    assert {at: fields for at, fields in world.archived("A").items() if fields is not None} == wanted
    world.compact()
    assert {at: fields for at, fields in world.archived("A").items() if fields is not None} == wanted


def test_a_week_is_cut_where_the_next_tier_is_cut() -> None:
    world = World(weather(ladder=("weekly", "monthly", "yearly")), parts=1)
    for day in range(28, 33):
        world.put("A", datetime(2023, 12, 1, tzinfo=UTC) + (day - 1) * DAY, temp("1", day))
    world.archive()
    found = world.catalog.manifest("weather", RAW, "A").segments
    assert sorted((from_micros(s.start).date().isoformat(), s.rows) for s in found) == [("2023-12-25", 4), ("2024-01-01", 1)]
    assert [merged.merge.label for merged in world.compact()] == [
        "weekly→monthly 2023-12",
        "weekly→monthly 2024-01",
        "monthly→yearly 2023",
    ]


@pytest.mark.parametrize(("segments", "rows"), [(1, 864), (12, 72), (40, 20), (4, 20_000)])
def test_a_month_of_late_rows_is_written_less_than_four_times_and_the_year_not_again(segments: int, rows: int) -> None:
    ladder, year, now = ("daily", "monthly", "yearly"), datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    base = replace(segment("base", ladder, "yearly", year), rows=31_536_000)
    manifest = Manifest("weather", RAW, "A", segments=(base,))
    came = written = 0
    for day in range(30):
        now += DAY
        days = ((day * 7 + number * 9) % 365 for number in range(segments))
        late = [segment(f"{day}.{number}", ladder, "daily", year + at * DAY, to_micros(now)) for number, at in enumerate(days)]
        manifest = replace(manifest, segments=(*manifest.segments, *(replace(one, rows=rows) for one in late)))
        came += segments * rows
        while merges := plan(manifest, ladder, now, to_micros(now)):
            for merge in merges:
                written += merge.rows
                key = f"m{written}.{len(manifest.segments)}"
                output = replace(segment(key, ladder, merge.tier, merge.period.start, to_micros(now)), rows=merge.rows)
                changed = swapped(manifest, [found.key for found in merge.inputs], output, 0, "")
                assert changed is not None
                manifest = changed
        assert len(manifest.segments) <= 24
    assert base in manifest.segments
    assert written <= 4 * came
    quiet = plan(manifest, ladder, now + 8 * DAY, to_micros(now + 8 * DAY))
    assert [len(merge.inputs) for merge in quiet] == [len(manifest.segments)]


def test_what_readers_feel_most_is_merged_first() -> None:
    ladder, now = ("daily", "monthly"), datetime(2024, 3, 20, tzinfo=UTC)
    days = (
        [datetime(2024, 3, 19, tzinfo=UTC)] * 4 + [datetime(2020, 3, 19, tzinfo=UTC)] * 4 + [datetime(2024, 3, 18, tzinfo=UTC)] * 6
    )
    manifest = Manifest("weather", RAW, "A", segments=tuple(segment(f"s{n}", ladder, "daily", day) for n, day in enumerate(days)))
    assert [merge.label for merge in plan(manifest, ladder, now, 1)][:2] == ["daily 2024-03-18", "daily 2024-03-19"]


def test_a_run_begins_no_merge_that_its_time_does_not_allow() -> None:
    world = World(parts=1)
    for wind in (1, 2):
        world.put("A", datetime(2023, 5, 5, tzinfo=UTC), temp("1", wind))
        world.archive()
    before, objects = world.state(), world.backend.objects
    none = compactor.compact(world.catalog, objects, [world.dataset], world.now, seconds_left=lambda: 5, whole=True)
    assert none == []
    assert world.state() == before
    assert world.compact()
