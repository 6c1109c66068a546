"""The plan of export windows: they abut, are a day long at most, and never reach into what AWS cannot export yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.errors import BackendError, InputError
from tesseract.processing import exporter, windows
from tesseract.processing.windows import (
    LONGEST,
    SECOND,
    SOONER,
    Ask,
    Facts,
    Open,
    Retry,
    Settings,
    may_be_sooner,
    next_possible,
    plan,
    settings_from,
)
from tesseract.storage.keys import worklist_key
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support.archive_world import LAPTOP, START, World, weather

DAY = timedelta(days=1)
settings = st.builds(
    Settings,
    st.timedeltas(timedelta(0), timedelta(minutes=10)),
    st.timedeltas(SECOND, timedelta(minutes=30)),
    st.timedeltas(timedelta(minutes=1), timedelta(days=40)),
)


@given(settings, st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(days=5)), st.booleans()), max_size=12))
def test_windows_abut_last_a_day_at_most_and_never_reach_the_future(rules: Settings, ticks: list[tuple[timedelta, bool]]) -> None:
    known: tuple[windows.Window, ...] = ()
    now = START
    for pause, force in ticks:
        now += pause
        before = windows.previous_end(Facts(known, START, rules))
        for step in plan(Facts(known, START, rules, force=force), now):
            assert isinstance(step, Open)
            assert step.window.start == (known[-1].end if known else to_micros(START))
            length = timedelta(microseconds=step.window.end - step.window.start)
            assert max(rules.min_window, SECOND) <= length + SECOND  # ends are floored to the second
            assert length <= LONGEST
            assert from_micros(step.window.end) <= now - rules.export_lag
            assert step.window.end % 1_000_000 == 0
            known += (replace(step.window, state="closed"),)
        if not force and now - rules.export_lag - before < rules.cadence:
            assert windows.previous_end(Facts(known, START, rules)) == before
    assert len({window.id for window in known}) == len(known)


@given(settings, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_forced_window_opens_exactly_from_when_it_is_said_to_be_possible(rules: Settings, pause: timedelta) -> None:
    facts = Facts((), START, rules, force=True)
    possible = next_possible(facts, START + pause)
    if possible is None:
        assert plan(facts, START + pause)
    else:
        assert plan(facts, possible)
        assert not plan(facts, possible - timedelta(microseconds=1))


@given(settings, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_what_waits_for_a_repair_brings_the_next_window_forward_to_an_hour_and_never_puts_it_off(
    rules: Settings, pause: timedelta
) -> None:
    now = START + pause
    calm, waiting = (plan(Facts((), START, rules, waiting=waits), now) for waits in (False, True))
    open_for = windows.floor_second(now - rules.export_lag) - START
    assert bool(waiting) == (open_for >= max(min(SOONER, rules.cadence), rules.min_window))
    assert [step.window.start for step in calm] == [step.window.start for step in waiting][: len(calm)]
    assert may_be_sooner(Facts((), START, rules), now) == (bool(waiting) and not calm)
    assert not may_be_sooner(Facts((), START, rules, force=True), now)
    if calm:
        assert waiting[-1].window.end >= calm[-1].window.end


def test_a_worklist_entry_opens_a_window_of_an_hour_and_is_looked_for_only_then() -> None:
    world, slow = World(), Settings(timedelta(minutes=5), timedelta(minutes=15), timedelta(days=1))
    asked: list[str] = []

    class Live:
        def query(self, pk: str, *, limit: int) -> object:
            asked.append(pk)
            return world.backend.live.query(pk, limit=limit)

    def opened(after: timedelta) -> list[timedelta]:
        done = exporter.run(world.catalog, world.exports, Live(), slow, START + after)  # type: ignore[arg-type]
        return [timedelta(microseconds=window.end - window.start) for window in done.opened]

    pk, sk = worklist_key("weather#A#hourly", "2024-02-01T00:00:00Z")
    world.backend.live.put({"pk": pk, "sk": sk, "token": "t", "put_at": "2024-03-01T00:00:00.000000Z"})
    assert opened(timedelta(hours=1, minutes=4)) == []
    assert asked == []
    assert opened(timedelta(hours=1, minutes=5)) == [timedelta(hours=1)]
    assert pk in asked
    assert len(asked) <= 16
    world.backend.live.delete((pk, sk))
    asked.clear()
    assert opened(timedelta(hours=9)) == []
    assert len(set(asked)) == 16
    asked.clear()
    assert opened(timedelta(hours=26)) == [timedelta(hours=24)]
    assert asked == []


def test_a_week_without_a_timer_is_caught_up_in_days() -> None:
    steps = plan(Facts((), START, Settings()), START + timedelta(days=7, hours=1))
    lengths = [timedelta(microseconds=step.window.end - step.window.start) for step in steps if isinstance(step, Open)]
    assert lengths == [DAY] * 7


def test_a_forced_window_covers_what_it_is_asked_to() -> None:
    wanted = START + timedelta(minutes=30, microseconds=1)
    facts = Facts((), START, Settings(), force=True, covering=wanted)
    assert plan(facts, START + timedelta(minutes=35)) == []
    assert next_possible(facts, START + timedelta(minutes=35)) == START + timedelta(minutes=35, seconds=1)
    (step,) = plan(facts, START + timedelta(minutes=35, seconds=1))
    assert isinstance(step, Open)
    assert from_micros(step.window.end) >= wanted


def test_what_is_under_way_is_mended_first() -> None:
    lost = windows.Window(to_micros(START), to_micros(START + DAY), "exporting")
    broken = windows.Window(lost.end, lost.end + 86_400_000_000, "exporting", export_arn="x")
    facts = Facts((lost, broken), START, Settings(), failed=frozenset({broken.id}))
    assert plan(facts, START + DAY * 2) == [Ask(lost), Retry(broken)]


def test_settings_come_from_the_environment_and_the_ladders() -> None:
    assert settings_from({}, []) == Settings()
    assert settings_from({}, [weather(ladder=("yearly",)), weather(ladder=("weekly",))]).cadence == timedelta(days=1)
    found = settings_from({"TESSERACT_EXPORT_LAG": "0", "TESSERACT_MIN_WINDOW": "1", "TESSERACT_CADENCE": "PT1H"}, [])
    assert found == Settings(timedelta(0), timedelta(seconds=1), timedelta(hours=1))
    with pytest.raises(InputError, match="TESSERACT_CADENCE"):
        settings_from({"TESSERACT_CADENCE": "hourly"}, [])


def test_the_archive_begins_at_the_first_whole_second_that_can_be_restored() -> None:
    world = World(start=START + timedelta(milliseconds=300))
    assert exporter.ensure_started(world.catalog, world.exports) == START + SECOND
    world.exports.begun = START + DAY
    assert exporter.ensure_started(world.catalog, world.exports) == START + SECOND
    world.exports.begun = START
    (window,) = world.open(10)
    assert from_micros(window.start) == START + SECOND


def test_without_point_in_time_recovery_nothing_starts() -> None:
    world = World()
    world.exports.begun = None
    with pytest.raises(BackendError, match="point-in-time"):
        world.open()


def test_a_failed_export_is_asked_for_again_under_another_token() -> None:
    world = World()
    world.exports.break_next = 1
    world.put("A", START, {"wind": 1})
    (window,) = world.open()
    assert world.collect() == []
    exporter.run(world.catalog, world.exports, world.backend.live, LAPTOP, world.now)
    again = world.catalog.window(window.id)
    assert again is not None
    assert again.attempt == 2
    assert again.export_arn != window.export_arn
    assert len(world.collect()) == 1


def test_a_crash_before_the_arn_is_recorded_asks_for_the_same_export() -> None:
    world = World()
    (window,) = world.open()
    world.catalog.change_window(window.id, lambda stored: replace(stored, export_arn=""))
    exporter.run(world.catalog, world.exports, world.backend.live, LAPTOP, world.now)
    assert world.catalog.window(window.id) == window
    assert len(world.exports.tokens) == 1


def test_two_timers_at_once_open_one_window() -> None:
    world = World()
    (window,) = world.open()
    late = replace(window, end=window.end + 1_000_000, export_arn="")
    with pytest.raises(exporter.ConditionFailed):
        exporter.execute(Open(late), world.catalog, world.exports, datetime(2024, 3, 2, tzinfo=UTC))
    assert world.catalog.windows() == [window]
