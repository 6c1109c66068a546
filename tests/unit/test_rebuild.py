"""Aggregates computed anew: what is marked, what comes of it while the stream runs, and what the command says."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract import cli
from tesseract.config.manager import apply
from tesseract.config.tiers import HOURLY, LENGTHS, LIVE_LEVELS
from tesseract.model import Manifest, Segment, Window
from tesseract.processing import closing, worklist
from tesseract.processing.aggregator import fold_all, same
from tesseract.processing.live_item import decode_item, live_levels
from tesseract.processing.rebuild import FIRST, LAST, Span, pieces, plan, whole_days
from tesseract.remote import repair_now
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import latest_key, live_key, live_pk
from tesseract.storage.memory import memory_backend
from tesseract.utils.time_utils import MICROSECOND, from_micros, to_micros
from tests.support.level_world import DAY, HOUR, World, plant

TIME = st.integers(0, 4 * 86_400_000_000)
MICROS = {level: LENGTHS[level] // MICROSECOND for level in LIVE_LEVELS}


def values(chance: random.Random) -> dict:
    return {"f": Decimal(chance.randrange(-500, 500)) / 10, "i": chance.randrange(9), "d": Decimal(chance.randrange(99)) / 100}


def close(world: World) -> closing.Outcome:
    """A window over everything written, and what follows it."""
    world.archive()
    return closing.run(world.backend, world.catalog, world.now)


def check_items(world: World, group: str = "A") -> int:
    """Every live item says exactly what its period's records give; how many there are."""
    count = 0
    for level in live_levels(world.dataset):
        for item in world.backend.live.query(live_pk(world.dataset.name, group, level.name)):
            live = decode_item(item)
            assert live.stale_at is None, live
            end = live.start + MICROS[level.name]
            own = [(to_micros(at), found) for (name, at), found in sorted(world.written.items()) if name == group]
            records = [(at - live.start, found) for at, found in own if live.start <= at < end]
            assert same(live.state, fold_all(records)), (live, records)
            count += 1
    return count


@pytest.fixture
def world(monkeypatch):
    made = World(plant("hourly", "daily", "weekly"), datetime(2024, 3, 1, 10, 30, tzinfo=UTC))
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    monkeypatch.setattr("tesseract.cli.live.utc_now", lambda: made.now)
    monkeypatch.setattr("tesseract.storage.services.clock_lag", timedelta)
    return made


def ask(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# the plan -----------------------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from(LIVE_LEVELS), st.sets(TIME, max_size=6)),
    st.lists(TIME, max_size=8),
    TIME,
    st.integers(1, 10**11),
)
def test_what_overlaps_the_range_and_is_stored_or_has_a_record_is_marked_whole(stored, times, start, length):
    kept = {level: {time // MICROS[level] * MICROS[level] for time in found} for level, found in stored.items()}
    span = Span(start, start + length)
    found = plan(kept, times, span)
    assert found.keys() == kept.keys()
    for level, starts in found.items():
        size = MICROS[level]
        known = kept[level] | {time // size * size for time in times}
        assert starts == sorted(begin for begin in known if begin < span.end and begin + size > span.start)


@given(st.lists(st.tuples(TIME, st.integers(0, 200 * 86_400_000_000)), max_size=3), TIME, st.integers(1, 10**13))
def test_pieces_cover_the_span_and_are_cut_between_days(segments, start, length):
    made = [Segment("k", "yearly", 0, 0, 1, 1, first, first + more, 0, 0, 0, "") for first, more in segments]
    for span in (Span(), Span(start, start + length)):
        found = pieces(span, Manifest("w", "raw", "A", segments=tuple(made)))
        assert (found[0].start, found[-1].end) == span
        for left, right in pairwise(found):
            assert left.end == right.start
            assert from_micros(left.end).day == 1
            assert left.end % MICROS["daily"] == 0
        inside = [piece for piece in found if piece.start != span.start and piece.end != span.end]
        assert all(piece.end - piece.start <= 31 * MICROS["daily"] for piece in inside)


def test_days_are_whole_up_to_the_ends_of_time():
    assert whole_days(Span(MICROS["hourly"], MICROS["daily"] + 1)) == Span(0, 2 * MICROS["daily"])
    assert whole_days(Span()) == Span(FIRST, LAST)


# beside the stream --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_rebuild_beside_a_busy_stream_neither_loses_nor_doubles(world, capsys, seed):
    chance = random.Random(seed)
    for step in range(6):
        for _ in range(chance.randrange(6)):
            at = world.now - chance.choice([HOUR, DAY, 40 * DAY]) * chance.random()
            known = [at for name, at in world.written if name == "A"]
            at = chance.choice(known) if known and chance.random() < 0.3 else at
            world.put("A", at, values(chance), deleted=chance.random() < 0.2)
            if chance.random() < 0.4:
                world.drain()
        if seed % 2:
            world.drain()
        if step in (2, 4) and world.backend.live.get(latest_key("weather", "A")) is not None:
            assert ask(capsys, "rebuild", "weather", "A")[0] == 0
        if chance.random() < 0.5:
            close(world)
        world.pass_time(chance.choice([HOUR, DAY]))
    world.drain()
    for _ in range(3):  # the stream lagged by days at times: what an outage marks takes a window more
        world.pass_time(DAY)
        close(world)
    assert list(worklist.entries(world.backend.live)) == []
    check_items(world)
    for level in ("hourly", "daily"):
        world.check_level(level, "A", world.now - 99 * DAY, world.now)


def test_marks_are_counted_and_the_next_window_computes_them(world, capsys):
    for hour in range(30):
        world.put("A", world.now - hour * HOUR, {"i": hour})
    world.drain()
    code, out, _ = ask(capsys, "rebuild", "weather", "A", "--start", "2024-02-29T09:40:00Z", "--end", "2024-03-01T08:10:00Z")
    assert code == 0
    assert out.splitlines() == [
        "marked to be computed anew of group A: 24 hourly, 2 daily",
        "one of them is not over yet: the first window in which it does not change computes it",
        "the next export window computes them; `tesseract archive export` makes one now",
    ]
    hidden = world.backend.live.get(live_key("weather", "A", HOURLY, world.now - 3 * HOUR))
    assert not {"rows", "fields", "state"} & hidden.keys()
    world.check_level("hourly", "A", world.now - 9 * DAY, world.now)  # queries compute them meanwhile
    world.pass_time(timedelta(minutes=1))
    assert close(world).repairs.repaired == 26
    check_items(world)


def test_a_level_that_was_added_later_appears_for_older_periods(world, capsys):
    for day in range(40):
        world.put("A", world.now - day * DAY, {"i": day})
    world.drain()
    world.settle()
    wanted = replace(world.dataset, levels=plant("15min", "hourly", "daily", "weekly").levels)
    world.dataset = apply(world.catalog, wanted, world.now).dataset
    world.pass_time(2 * HOUR)
    start, end = world.now - 99 * DAY, world.now
    assert world.store.read("weather", "A", start, end, level="15min").stats.recomputed == 40
    assert ask(capsys, "rebuild", "weather", "A", "--level", "15min")[1].startswith("marked to be computed anew of group A: 40")
    world.pass_time(timedelta(minutes=1))
    assert close(world).repairs.repaired == 40
    world.pass_time(timedelta(minutes=1))
    stats = world.store.read("weather", "A", start, end, level="15min").stats
    assert (stats.recomputed, stats.live_items + stats.snapshot_rows) == (0, 40)
    world.check_level("15min", "A", start, end)


def test_a_level_of_data_that_lies_far_ahead_is_rebuilt_minutes_after_it_was_added(world, capsys):
    world.dataset = apply(world.catalog, replace(world.dataset, max_future_seconds=30 * 86_400), world.now).dataset
    for day in range(10):
        world.put("A", world.now - day * DAY, {"i": day})
    world.drain()
    world.settle()
    wanted = replace(world.dataset, levels=plant("15min", "hourly", "daily").levels)
    world.dataset = apply(world.catalog, wanted, world.now).dataset
    world.pass_time(timedelta(minutes=3))
    start, end = world.now - 99 * DAY, world.now
    assert ask(capsys, "rebuild", "weather", "A", "--level", "15min")[1].startswith("marked to be computed anew of group A: 10")
    world.pass_time(timedelta(minutes=1))
    assert close(world).repairs.repaired == 10
    world.put("A", world.now - 3 * DAY, {"i": 100})  # what comes after the repair is in it again
    world.drain()
    world.check_level("15min", "A", start, end)
    world.settle()
    world.check_level("15min", "A", start, end)


def test_a_field_that_was_added_later_appears_for_older_periods(capsys, world):
    some = {"avg": ("i",), "max": ("i",)}
    levels = (replace(plant("daily").levels[0], stats=some),)
    world.dataset = apply(world.catalog, replace(world.dataset, levels=levels), world.now).dataset
    for day in range(9):
        world.put("B", world.now - day * DAY, {"i": day, "f": Decimal(day) / 2})
    world.drain()
    world.settle()
    more = (replace(world.dataset.levels[0], stats={"avg": ("i", "f"), "max": ("i", "f")}),)
    world.dataset = apply(world.catalog, replace(world.dataset, levels=more), world.now).dataset
    world.pass_time(2 * HOUR)
    start, end = world.now - 99 * DAY, world.now
    before = world.store.read("weather", "B", start, end, level="daily")
    assert before.stats.recomputed == 9
    assert ask(capsys, "rebuild", "weather", "B")[0] == 0
    world.pass_time(timedelta(minutes=1))
    close(world)
    world.pass_time(timedelta(minutes=1))
    after = world.store.read("weather", "B", start, end, level="daily")
    assert after.stats.recomputed == 0
    assert after.table.equals(before.table)
    assert after.table["f_max"].to_pylist() == [day / 2 for day in reversed(range(9))]


def test_a_latest_value_that_is_stale_or_wrong_is_computed_too(world, capsys):
    world.put("A", world.now, {"i": 1})
    world.drain()
    key = latest_key("weather", "A")
    right = world.backend.live.get(key)
    assert "latest" not in ask(capsys, "rebuild", "weather", "A")[1]
    for wrong in (
        {**right, "fields": {"i": 2}},
        {k: v for k, v in right.items() if k != "fields"} | {"stale": True, "stale_at": 1},
        None,
    ):
        world.backend.live.delete(key)
        if wrong is not None:
            world.backend.live.put(wrong)
        out = ask(capsys, "rebuild", "weather", "A")[1]
        assert out.splitlines()[0] == "marked to be computed anew of group A: 1 hourly, 1 daily, the latest value"
        world.pass_time(timedelta(minutes=1))
        close(world)
        assert world.backend.live.get(key)["fields"] == {"i": 1}


# the wait -----------------------------------------------------------------------------------------------------------------


def test_wait_exports_until_everything_is_computed(world, capsys, monkeypatch):
    for hour in range(48):
        world.put("A", world.now - (24 + hour) * HOUR, {"i": hour})
    world.drain()
    asked = []

    def export_now(stage, catalog, say, *, covering, **_):
        asked.append(covering)
        world.now = max(world.now, covering)
        close(world)

    monkeypatch.setattr("tesseract.remote.export_now", export_now)
    began = world.now
    code, out, err = ask(capsys, "rebuild", "weather", "A", "--wait")
    assert (code, out.splitlines()[-1]) == (0, "computed 51 of 51")
    assert "periods to be computed: 51" in err
    assert len(asked) == 1
    assert asked[0] >= began + timedelta(seconds=5)
    check_items(world)


def test_a_repair_that_is_cut_short_is_called_again_and_one_that_cannot_end_is_given_up():
    now = [datetime(2024, 3, 1, tzinfo=UTC)]
    calls, counts = [], iter([5, 3, 2, 2, 2, 2, 2, 2])

    def call(stage, function, payload):
        calls.append(function)
        now[0] += timedelta(minutes=1)
        return {"opened": [{"id": "19700101T000000Z"}]}

    backend = memory_backend()
    catalog = Catalog(backend.catalog, backend.objects)
    catalog.open_window(Window(0, 1, "closed"))
    catalog.advance("archived", 1)
    clock = lambda: now[0]
    left = repair_now(
        "dev",
        catalog,
        lambda: next(counts),
        covering=now[0],
        timeout=timedelta(minutes=6),
        call=call,
        clock=clock,
        sleep=calls.append,
    )
    assert left == 2
    assert calls == ["export", "snapshot", "metadata", "snapshot", "snapshot", "export", "snapshot", "metadata"]


# the command --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["weater", "A"], 1, "there is no dataset 'weater' (did you mean 'weather'? known datasets: weather)"),
        (["weather", "KJFC"], 1, "dataset weather has no group 'KJFC' (did you mean 'KJFK'?)"),
        (
            ["weather", "KJFK", "--level", "weekly"],
            1,
            "level weekly of dataset weather is merged from finer ones",
        ),
        (["weather", "KJFK", "--level", "minutely"], 1, "dataset weather has no level 'minutely' (levels: hourly, daily)"),
        (["weather", "KJFK", "--start", "2024-03-01", "--end", "2024-03-01"], 1, "end 2024-03-01 is not after start 2024-03-01"),
        (["weather", "KJFK", "--start", "yesterday"], 1, "start 'yesterday' is not a time"),
        ([], 1, "name a dataset, or give --all for all of them"),
    ],
)
def test_bad_input_is_one_line(world, capsys, arguments, code, says):
    world.put("KJFK", world.now, {"i": 1})
    world.drain()
    got, out, err = ask(capsys, "rebuild", *arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1


def test_a_range_without_periods_is_said_to_be_empty(world, capsys):
    world.put("A", world.now, {"i": 1})
    world.drain()
    code, out, _ = ask(capsys, "rebuild", "weather", "A", "--start", "2020-01-01", "--end", "2020-02-01")
    assert (code, out) == (0, "group A has nothing to compute in that range\n")
