"""What goes wrong with exports, and that no row is lost by it: failed, vanished, endless, recovery off, long outages."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.errors import BackendError, RetryError
from tesseract.model import Window
from tesseract.processing import collector, exporter, windows
from tesseract.processing.windows import Ask, Cover, Facts, Open, Retry, Settings, Widen, plan
from tesseract.storage.exports import Export
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support.archive_world import START, World, temp, weather

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
AWS = Settings()  # five minutes' lag, a day's cadence


def timers(world: World, now: datetime) -> None:
    """The timers at a moment: export, collect, and the workers."""
    world.now = max(world.now, now)
    exporter.run(world.catalog, world.exports, world.backend.live, AWS, world.now)
    for task in world.collect():
        world.work(task)


def through(world: World) -> datetime:
    return from_micros(world.catalog.progress().archived_through)


def write(world: World, number: int, at: datetime) -> None:
    world.now = max(world.now, at)
    world.put("A", START + number * HOUR, temp("1", number))


def numbers(world: World) -> list[object]:
    return sorted(row["wind"] for row in world.archived("A").values() if row is not None)  # type: ignore[type-var]


@pytest.mark.parametrize("status", ["FAILED", "GONE"])
def test_an_export_that_failed_or_vanished_is_asked_for_under_a_new_token(status: str) -> None:
    world = World()
    write(world, 1, START)
    world.now = START + 25 * HOUR
    exporter.run(world.catalog, world.exports, world.backend.live, AWS, world.now)
    (window,) = world.catalog.windows()
    world.exports.status[window.export_arn] = Export(status)  # type: ignore[arg-type]
    timers(world, world.now)
    (again,) = world.catalog.windows()
    assert (again.state, again.attempt) == ("closed", 2)
    assert again.export_arn != window.export_arn
    assert numbers(world) == [1]


def test_an_export_that_runs_for_a_day_is_given_up_and_its_late_files_count_for_nothing() -> None:
    world = World()
    write(world, 1, START)
    world.now = START + 25 * HOUR
    exporter.run(world.catalog, world.exports, world.backend.live, AWS, world.now)
    (window,) = world.catalog.windows()
    world.exports.status[window.export_arn] = Export("IN_PROGRESS")
    timers(world, START + 25 * HOUR + windows.SLOWEST_EXPORT - timedelta(seconds=1))
    assert world.catalog.windows()[0] == window
    timers(world, START + 25 * HOUR + windows.SLOWEST_EXPORT)
    first = world.catalog.windows()[0]
    assert (first.state, first.attempt) == ("closed", 2)
    before = world.state()
    late = collector.Task(window.id, window.export, "exports/x", "", 1)
    world.exports.status[window.export_arn] = Export("COMPLETED")
    assert world.collect() == []
    assert world.work(late).outcome == "superseded"
    assert world.state() == before
    assert numbers(world) == [1]


def test_files_that_the_bucket_has_removed_before_they_were_archived_are_exported_anew() -> None:
    world = World()
    write(world, 1, START)
    world.now = START + 25 * HOUR
    exporter.run(world.catalog, world.exports, world.backend.live, AWS, world.now)
    lost = world.collect()
    assert lost
    for info in list(world.backend.objects.list("exports/")):
        world.backend.objects.delete(info.key)
    timers(world, world.now + windows.SLOWEST_ARCHIVING)
    assert world.catalog.windows()[0].attempt == 2
    assert numbers(world) == [1]


def test_a_lost_answer_is_asked_for_again_under_the_same_token() -> None:
    world = World()
    write(world, 1, START)
    real = world.exports.request

    def lost(*arguments: object) -> str:
        real(*arguments)  # type: ignore[arg-type]
        raise RetryError("the answer was lost")

    world.exports.request = lost  # type: ignore[method-assign, assignment]
    with pytest.raises(RetryError):
        timers(world, START + 25 * HOUR)
    (window,) = world.catalog.windows()
    assert (window.state, window.export_arn) == ("open", "")
    world.exports.request = real  # type: ignore[method-assign]
    timers(world, world.now)
    assert len(world.exports.tokens) == 1
    assert numbers(world) == [1]


def test_a_window_as_an_earlier_version_stored_it_goes_on() -> None:
    world = World()
    write(world, 1, START)
    body = b'{"start":%d,"end":%d,"state":"exporting","attempt":1,"export_arn":""}' % (to_micros(START), to_micros(START + DAY))
    old = msgspec.json.decode(body, type=Window)
    world.catalog.advance("archived", to_micros(START))
    world.catalog.open_window(old)
    timers(world, START + 25 * HOUR)
    (window,) = world.catalog.windows()
    assert (window.state, window.attempt) == ("closed", 1)
    assert numbers(world) == [1]


def test_reads_and_writes_go_on_through_three_days_without_exports_and_nothing_is_lost() -> None:
    world = World()
    store = Store(world.backend, "test", lambda: world.now)
    for hour in range(30):
        write(world, hour, START + hour * HOUR)
    timers(world, world.now)
    assert through(world) == START + DAY
    world.exports.down = True
    for hour in range(30, 30 + 72):
        write(world, hour, START + hour * HOUR)
        if hour % 6 == 0:
            with pytest.raises(RetryError):
                timers(world, world.now)
            world.put("A", START + 10 * HOUR, temp("1", 1000 + hour))  # a correction of what the archive has
            world.put("A", START + 11 * HOUR, {}, deleted=True)
            right = [1000 + hour if at == 10 else at for at in range(hour + 1) if at != 11]
            assert store.query("weather", "A", START, START + 200 * HOUR)["wind"].to_pylist() == right
            hours = store.query("weather", "A", START, START + 200 * HOUR, level="hourly")
            assert hours["wind_sum"].to_pylist() == right
    world.exports.down = False
    timers(world, START + timedelta(days=4, hours=8))
    assert through(world) == START + timedelta(days=4)
    lengths = [from_micros(window.end) - from_micros(window.start) for window in world.catalog.windows()]
    assert lengths == [DAY] * 4
    timers(world, START + timedelta(days=5, hours=1))
    right = [1096 if at == 10 else at for at in range(102) if at != 11]
    assert numbers(world) == sorted(right)
    assert store.query("weather", "A", START, START + 200 * HOUR)["wind"].to_pylist() == right
    world.snapshot()
    assert store.query("weather", "A", START, START + 200 * HOUR, level="hourly", as_of=world.now)["wind_sum"].to_pylist() == right


def test_recovery_that_was_off_for_a_while_is_closed_by_a_full_export() -> None:
    world = World()
    write(world, 1, START)
    timers(world, START + 25 * HOUR)
    world.exports.begun = None
    write(world, 2, START + 30 * HOUR)
    with pytest.raises(BackendError, match="point-in-time recovery of the raw table is off"):
        timers(world, START + 31 * HOUR)
    world.exports.begun = START + 40 * HOUR + timedelta(milliseconds=400)
    timers(world, START + 40 * HOUR + timedelta(minutes=5))  # AWS exports nothing of the last minutes
    assert len(world.catalog.windows()) == 1
    write(world, 3, START + 41 * HOUR)
    now = START + 50 * HOUR
    timers(world, now)
    first, full = world.catalog.windows()
    assert (full.kind, full.state) == ("full", "closed")
    assert (full.start, from_micros(full.end)) == (first.end, now - AWS.export_lag)
    assert through(world) == now - AWS.export_lag
    assert numbers(world) == [1, 2, 3]
    write(world, 4, now)
    world.put("A", START + 3 * HOUR, temp("1", 33))
    timers(world, now + 25 * HOUR)
    assert [window.kind for window in world.catalog.windows()] == ["incremental", "full", "incremental"]
    assert world.catalog.windows()[2].start == full.end
    assert numbers(world) == [1, 2, 4, 33]


def test_what_came_before_recovery_was_first_switched_on_is_archived_too() -> None:
    world = World(weather(applied_at=to_micros(START)), parts=1)
    world.put("A", START, temp("1"))
    world.now = world.exports.begun = START + DAY
    world.put("A", START + HOUR, temp("2"))
    (window,) = world.open(60)
    assert (window.kind, from_micros(window.start)) == ("full", START)
    for task in world.collect():
        world.work(task)
    assert set(world.archived("A")) == {to_micros(START), to_micros(START + HOUR)}


def test_a_pause_longer_than_aws_remembers_is_closed_by_a_full_export() -> None:
    world = World()
    write(world, 1, START)
    timers(world, START + 25 * HOUR)
    write(world, 2, START + 30 * HOUR)
    world.exports.begun = START + 10 * DAY  # 35 days before now
    timers(world, START + 45 * DAY)
    assert [window.kind for window in world.catalog.windows()] == ["incremental", "full"]
    assert through(world) == START + 45 * DAY - AWS.export_lag
    assert numbers(world) == [1, 2]


def test_windows_that_wait_when_recovery_is_lost_become_one_full_window() -> None:
    world = World()
    for day in range(4):
        write(world, day, START + day * DAY)
    world.exports.break_next = 4
    world.now = START + 4 * DAY + HOUR
    exporter.run(world.catalog, world.exports, world.backend.live, AWS, world.now)
    assert [window.state for window in world.catalog.windows()] == ["exporting"] * 4
    world.exports.begun = START + 2 * DAY + HOUR  # in the third window
    timers(world, world.now)
    assert [(window.kind, window.state) for window in world.catalog.windows()] == [
        ("full", "closed"),
        ("covered", "closed"),
        ("covered", "closed"),
        ("incremental", "closed"),
    ]
    full, *_, last = world.catalog.windows()
    assert full.end == last.start
    assert through(world) == START + 4 * DAY
    assert numbers(world) == [0, 1, 2, 3]
    timers(world, START + 5 * DAY + HOUR)
    assert world.catalog.windows()[-1].start == last.end
    world.snapshot()
    assert world.catalog.progress().snapshot_through == world.catalog.progress().archived_through


def test_a_full_export_that_fails_is_asked_for_again_as_of_the_same_time() -> None:
    world = World()
    write(world, 1, START)
    timers(world, START + 25 * HOUR)
    world.exports.begun = START + 40 * HOUR
    world.exports.break_next = 1
    timers(world, START + 41 * HOUR)
    timers(world, START + 42 * HOUR)
    full = world.catalog.windows()[1]
    assert (full.kind, full.attempt, full.state) == ("full", 2, "closed")
    assert from_micros(full.end) == START + 41 * HOUR - AWS.export_lag


def test_a_window_on_its_way_within_the_gap_is_waited_for() -> None:
    day = to_micros(START + DAY) - to_micros(START)
    starts = [to_micros(START) + number * day for number in range(3)]
    lost, busy, last = (Window(start, start + day, "open") for start in starts)
    busy = replace(busy, state="collecting", export_arn="x")
    facts = Facts((lost, busy, last), START, AWS, earliest=START + 2 * DAY + HOUR)
    now = START + 4 * DAY
    assert plan(facts, now) == []
    done = replace(facts.windows[1], state="closed")
    facts = Facts((lost, done, last), START, AWS, earliest=START + 2 * DAY + HOUR)
    assert plan(facts, now)[:2] == [Widen(lost, last.end), Cover(last)]


def test_what_another_timer_has_mended_is_neither_widened_nor_covered() -> None:
    world = World()
    (window,) = world.open()
    stale = replace(window, state="open", export_arn="")
    with pytest.raises(exporter.ConditionFailed):
        exporter.execute(Widen(stale, window.end), world.catalog, world.exports, world.now)
    exporter.execute(Cover(stale), world.catalog, world.exports, world.now)
    exporter.execute(Retry(stale), world.catalog, world.exports, world.now)
    exporter.execute(Ask(stale), world.catalog, world.exports, world.now)
    assert world.catalog.windows() == [window]


def test_the_run_of_closed_windows_ends_at_the_first_that_is_not() -> None:
    closed, other = Window(10, 20, "closed"), Window(20, 30, "closed")
    assert windows.settled(0, []) == 0
    assert windows.settled(7, []) == 7
    assert windows.settled(10, [closed, other]) == 30
    assert windows.settled(10, [replace(closed, state="collecting"), other]) == 10
    assert windows.settled(10, [closed, Window(21, 30, "closed")]) == 20  # nothing is taken for what it may not be
    # a window within a full one that is not closed holds its start back
    assert windows.settled(10, [replace(closed, end=90, kind="full"), replace(other, state="collecting")]) == 20


def test_a_bounded_read_has_what_is_not_settled_and_the_window_before() -> None:
    world = World()
    for number in range(4):
        write(world, number, START)
        world.archive()
    every = world.catalog.windows()
    assert world.catalog.windows(every[2].start) == every[1:]
    assert world.catalog.windows(every[3].end) == every[3:]
    assert world.catalog.windows(0) == every
    assert world.catalog.newest_windows(2) == every[2:]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[timedelta, str]]:
    """Pauses, and what happens after each: a timer, recovery off and on again, exports that fail, that end, that are collected."""
    events = st.sampled_from(["timer", "timer", "timer", "off", "on", "forget", "fail", "end", "end"])
    return draw(st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(days=3)), events), min_size=3, max_size=25))


@settings(max_examples=150, deadline=None)
@given(histories(), st.booleans())
def test_whatever_happens_windows_abut_gaps_are_closed_and_only_full_ones_are_long(
    history: list[tuple[timedelta, str]], force: bool
) -> None:
    known: dict[int, Window] = {}
    failed: set[str] = set()
    earliest: datetime | None = START
    now = reached = START

    def tick() -> None:
        nonlocal reached
        assert earliest is not None
        since = max(earliest, now - timedelta(days=35))
        facts = Facts(tuple(known[start] for start in sorted(known)), START, AWS, frozenset(failed), since, force=force)
        for step in plan(facts, now):
            window = step.window
            if isinstance(step, Open):
                assert window.start == max((w.end for w in known.values()), default=to_micros(START))
                assert window.kind == "full" or from_micros(window.end) - from_micros(window.start) <= DAY
                assert from_micros(window.end) <= now - AWS.export_lag
                known[window.start] = replace(window, state="exporting", export_arn="x", requested_at=to_micros(now))
            elif isinstance(step, Widen):
                window = replace(window, end=step.end, kind="full", state="open", export_arn="", attempt=window.attempt + 1)
            if isinstance(step, Cover):
                assert any(w.kind == "full" and w.start < window.start and window.end <= w.end for w in known.values())
                known[window.start] = replace(window, state="closed", kind="covered")
            else:  # every export that is asked for can be had
                assert from_micros(window.end if window.kind == "full" else window.start) >= since
                known[window.start] = replace(window, state="exporting", export_arn="x", requested_at=to_micros(now))
                failed.discard(window.id)
        settled = windows.settled(
            to_micros(reached), [known[start] for start in sorted(known) if known[start].end > to_micros(reached)]
        )
        assert from_micros(settled) >= reached
        reached = from_micros(settled)

    for pause, event in history:
        now += pause
        exporting = [window for window in known.values() if window.state == "exporting"]
        if event == "off":
            earliest = None
        elif event == "on":
            earliest = earliest or now
        elif event == "forget" and earliest is not None:
            earliest = now
        elif event == "fail" and exporting:
            failed.add(exporting[0].id)
        elif event == "end":
            for window in exporting[-2:]:
                if window.id not in failed:
                    known[window.start] = replace(window, state="closed")
        elif event == "timer" and earliest is not None:
            tick()
    earliest = earliest or now
    for _ in range(4):  # all is well again
        now += timedelta(hours=26)
        tick()
        known = {start: replace(window, state="closed") for start, window in known.items() if window.id not in failed} | {
            start: window for start, window in known.items() if window.id in failed
        }
        tick()
    assert now - reached < timedelta(hours=27)
    # every moment lies in a window that brought what was written then, or in one that a full window spans
    end = to_micros(START)
    for window in sorted(known.values(), key=lambda w: w.start):
        assert window.start <= end
        assert window.state == "closed" or window.end > to_micros(reached)
        end = max(end, window.end) if window.kind != "covered" else end
