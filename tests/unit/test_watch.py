"""The terminal view: what it shows of facts, what it hides, and how it ends."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from tesseract import cli
from tesseract.cli import watch
from tesseract.cli.watch import Facts, Subject, facts, follow, line, screen
from tesseract.errors import Throttled
from tesseract.processing.marking import mark, mark_latest
from tesseract.storage.catalog import Outage
from tesseract.storage.keys import latest_key, live_key
from tests.support.level_world import HOUR, World, plant

NOW = datetime(2024, 3, 10, 10, 30, tzinfo=UTC)
NUMBERS = ("5.5", "4.25", "3", "11")  # none of them may be seen where an item is hidden


@pytest.fixture
def world(monkeypatch):
    made = World(plant("hourly", "daily", "weekly"), NOW)
    made.put("KJFK", NOW - timedelta(minutes=20), {"f": Decimal("3"), "i": 11})
    made.put("KJFK", NOW - timedelta(minutes=10), {"f": Decimal("5.5")})
    made.drain()
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    monkeypatch.setattr("tesseract.cli.watch.utc_now", lambda: made.now)
    return made


def subject(world: World, **changes) -> Subject:
    return Subject(world.dataset, world.dataset.levels[0])._replace(**changes)


def text(renderable) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def shown(world: World, now: datetime | None = None, **changes) -> tuple[str, str]:
    """The screen and the line of the one group."""
    watched = subject(world, **changes)
    (found,) = facts(world.backend.live, watched, ["KJFK"], now or world.now)
    return text(screen(watched, [found], now or world.now)), line(watched, found)


def hour(world: World) -> tuple[str, str]:
    from tesseract.config.tiers import HOURLY

    return live_key("weather", "KJFK", HOURLY, world.now)


# what is shown ------------------------------------------------------------------------------------------------------------


def test_latest_and_the_current_hour_are_shown_with_their_age(world):
    screen_text, line_text = shown(world, NOW + timedelta(minutes=1), fields=("f", "i"))
    rows = {tuple(row.split()) for row in screen_text.splitlines()}
    assert ("KJFK", "2024-03-10T10:20:00Z", "11m", "0s", "2024-03-10T10:30:00Z", "10m", "0s") in rows
    assert ("KJFK", "f", "5.5", "2", "4.25", "3", "5.5", "5.5") in rows
    assert ("KJFK", "i", "1", "11", "11", "11", "11") in rows
    assert "weather, hourly from 2024-03-10T10:00:00Z" in screen_text
    assert line_text == (
        "latest 2024-03-10T10:20:00Z f=5.5 i= | hourly 2024-03-10T10:00:00Z f.count=2 f.avg=4.25 f.min=3 f.max=5.5 f.last=5.5 "
        "i.count=1 i.avg=11 i.min=11 i.max=11 i.last=11"
    )


def test_a_stale_item_says_so_and_shows_no_number(world):
    mark(world.backend.live, hour(world), world.dataset.levels[0], world.now)
    mark_latest(world.backend.live, latest_key("weather", "KJFK"), world.now)
    for found in shown(world):
        assert "stale: to be computed anew" in found
        assert "not known" in found
        assert "2024-03-10T10:20:00Z" not in found
        assert not any(f" {number} " in found or f"={number}" in found for number in NUMBERS)


def test_a_pending_item_says_so_and_shows_no_number(world):
    item = world.backend.live.get(hour(world))
    world.backend.live.put({name: value for name, value in item.items() if name not in ("rows", "fields")} | {"pending": True})
    for found in shown(world):
        assert "pending: an extreme is looked up" in found
        assert "4.25" not in found


def test_an_item_of_another_life_of_its_level_is_not_shown(world):
    world.backend.live.put(world.backend.live.get(hour(world)) | {"live_from": 5})
    assert all("stale" in found and "4.25" not in found for found in shown(world))


def test_nothing_is_shown_while_an_outage_is_healed(world):
    for found in shown(world, outage=True):
        assert "outage: not to be trusted" in found
        assert "4.25" not in found
        assert "5.5" not in found


def test_groups_without_items_and_hours_without_records(world):
    assert "hourly no records yet" in shown(world, NOW + HOUR)[0]
    assert shown(world, NOW + HOUR, fields=("f",))[1] == "latest 2024-03-10T10:20:00Z f=5.5 | hourly no records yet"
    empty = Facts("B", None, None)
    assert line(subject(world), empty) == "| hourly no records yet"
    assert "none" in text(screen(subject(world), [empty], NOW))
    none = {"pk": "x", "sk": "B", "version": 2, "valid_time": "", "none": True, "updated_at": "2024-03-10T10:00:00.000000Z"}
    assert line(subject(world, fields=("f",)), Facts("B", none, None)).startswith("latest none f=")
    assert "none" in text(screen(subject(world), [Facts("B", none, None)], NOW))


def test_trouble_is_shown_beside_what_is_known(world):
    assert "no news: throttled" in text(screen(subject(world, trouble="throttled"), [], NOW))


def test_a_reading_ahead_of_the_clock_says_when_it_will_be(world):
    assert "in 5m" in " ".join(shown(world, NOW - timedelta(minutes=15))[0].split())


def test_undeclared_fields_are_shown_where_they_are_kept(world):
    from msgspec.structs import replace

    watched = subject(world)._replace(dataset=replace(world.dataset, fields={}, unknown_fields="keep"))
    (found,) = facts(world.backend.live, watched, ["KJFK"], world.now)
    assert " i.count=1 " in line(watched, found)


# the loop -----------------------------------------------------------------------------------------------------------------


def steps(*actions):
    """A sleep that carries out one action each time, then Ctrl-C."""
    left = iter(actions)

    def sleep(_seconds: float) -> None:
        action = next(left, None)
        if action is None:
            raise KeyboardInterrupt
        action()

    return sleep


def test_in_a_pipe_each_change_is_one_line(world, capsys, monkeypatch):
    def later(at: timedelta, fields: dict):
        def act() -> None:
            world.put("KJFK", NOW + at, fields)
            world.drain()

        return act

    pauses = steps(lambda: None, later(timedelta(minutes=5), {"i": 4}), lambda: None, later(timedelta(minutes=1), {"i": 9}))
    monkeypatch.setattr(watch.time, "sleep", pauses)
    assert cli.run(["watch", "weather", "KJFK", "--fields", "i"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (len(lines), err) == (3, "")
    assert lines[0].endswith(
        "KJFK latest 2024-03-10T10:20:00Z i= | hourly 2024-03-10T10:00:00Z i.count=1 i.avg=11 i.min=11 i.max=11 i.last=11"
    )
    assert "latest 2024-03-10T10:35:00Z i=4" in lines[1]
    assert "latest 2024-03-10T10:35:00Z i=4 | hourly" in lines[2]
    assert "i.count=3 i.avg=8 i.min=4 i.max=11 i.last=4" in lines[2]


def test_trouble_passes_and_is_said_once(world, capsys):
    answers = iter([Throttled("slow down"), Throttled("slow down"), None, Throttled("slow down")])

    def look(now: datetime):
        error = next(answers)
        if error is not None:
            raise error
        return subject(world, fields=("f",)), facts(world.backend.live, subject(world), ["KJFK"], now)

    with pytest.raises(KeyboardInterrupt):
        follow(look, subject(world), 1, lambda: NOW, steps(*[lambda: None] * 3))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["no", "KJFK"]


def test_on_a_terminal_the_screen_is_drawn_anew_and_ctrl_c_is_no_error(world, monkeypatch):
    from rich import live

    drawn = []

    class Screen:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            drawn.append("closed")

        def update(self, renderable, refresh):
            drawn.append(text(renderable))

    def outage() -> None:
        world.catalog.extend_outage(Outage(1, 2))

    monkeypatch.setattr(live, "Live", Screen)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(watch.time, "sleep", steps(outage))
    assert cli.run(["watch", "weather", "KJFK", "--level", "daily"]) == 0
    assert [len(drawn), drawn[-1]] == [3, "closed"]
    assert "weather, daily from 2024-03-10T00:00:00Z" in drawn[0]
    assert "outage" not in drawn[0]
    assert "outage: not to be trusted" in drawn[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["weater", "KJFK"], 1, "there is no dataset 'weater' (did you mean 'weather'? known datasets: weather)"),
        (["weather", "KJFC"], 1, "dataset weather has no group 'KJFC' (did you mean 'KJFK'?)"),
        (["weather", "KJFK", "--level", "weekly"], 1, "level weekly of dataset weather is merged from finer ones"),
        (["weather", "KJFK", "--fields", "f,ii"], 1, "dataset weather has no field 'ii' (did you mean 'i'?)"),
        (["weather", "KJFK", "--interval", "0"], 2, "Invalid value for '--interval'"),
        (["weather"], 2, "Missing argument 'GROUP'"),
    ],
)
def test_bad_input_is_one_line(world, capsys, arguments, code, says):
    got = cli.run(["watch", *arguments])
    out, err = capsys.readouterr()
    assert (got, out) == (code, "")
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1
