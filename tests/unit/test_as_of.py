"""Time travel: states recorded at many moments of a life are read again later, equal; before that, one clear sentence."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract import cli
from tesseract.config.dataset import Level
from tesseract.errors import InputError
from tesseract.model import Manifest, Window
from tesseract.processing import gc
from tesseract.query.past import Past, complete_through, state_at
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros
from tests.support.archive_world import STATS, temp, weather
from tests.support.keeping_world import DAY, HOUR, KeepingWorld

LEVELS = ("hourly", "daily", "monthly")


def store_of(world: KeepingWorld) -> Store:
    return Store(world.backend, clock=lambda: world.now)


def raw(table: pa.Table) -> dict[str, dict[datetime, dict[str, object]]]:
    found: dict[str, dict[datetime, dict[str, object]]] = {}
    for row in table.to_pylist():
        values = {name: row[name] for name in ("temp", "wind") if row[name] is not None}
        found.setdefault(row["station"], {})[row["valid_time"]] = values
    return found


def archived(world: KeepingWorld) -> dict[str, dict[datetime, dict[str, object]]]:
    """The visible rows of the archive alone, by an oracle of its own."""
    groups = {group: world.archived(group) for group in world.catalog.groups("weather", "raw")}
    rows = {group: {from_micros(at): row for at, row in found.items() if row is not None} for group, found in groups.items()}
    return {group: found for group, found in rows.items() if found}


@pytest.mark.parametrize("seed", range(2))
def test_former_states_are_read_again_equal(seed: int) -> None:
    levels = tuple(Level(name, dict(STATS)) for name in LEVELS)
    world, chance = KeepingWorld(weather(history="P30D", levels=levels)), random.Random(seed)
    store = store_of(world)
    seen: list[tuple[datetime, Any, dict[str, pa.Table]]] = []
    for _ in range(9):
        world.day(chance)
        world.put("A", world.now - HOUR, temp("-99"))  # in the buffer alone
        tables = {level: store.query("weather", level=level, as_of=world.now) for level in LEVELS}
        seen.append((world.now, archived(world), tables))
        world.now += timedelta(seconds=1)
        gc.collect(world.catalog, world.backend.objects, [world.dataset], world.now)
    for moment, rows, tables in seen:
        assert raw(store.query("weather", as_of=moment)) == rows
        for level, table in tables.items():
            assert store.query("weather", level=level, as_of=moment).equals(table)
    assert len({str(rows) for _, rows, _ in seen}) == len(seen)


def test_a_level_has_the_rows_of_then_snapshot_or_not() -> None:
    world, chance = KeepingWorld(), random.Random(11)
    store = store_of(world)
    for _ in range(5):
        world.day(chance)
        world.snapshot()
        table = store.query("weather", level="hourly", as_of=world.now)
        assert pc.sum(table["rows"]).as_py() == sum(map(len, archived(world).values()))
    world.put("A", world.now - 2 * DAY + timedelta(minutes=7), temp("1"))
    world.archive()  # no snapshot of it yet; its hour had no row before
    whole = store.query("weather", "A", level="daily", as_of=world.now)
    assert whole.num_rows == len({at.date() for at in archived(world)["A"]})


def test_a_shared_partition_is_read_as_of_a_moment_too() -> None:
    world, chance = KeepingWorld(weather(partitions=2)), random.Random(12)
    store = store_of(world)
    seen = []
    for _ in range(6):
        world.day(chance, ("A", "B", "C"))
        seen.append((world.now, store.query("weather", as_of=world.now)))
        world.now += timedelta(seconds=1)
    for moment, table in seen:
        assert store.query("weather", as_of=moment).equals(table)
        one = store.query("weather", "B", as_of=moment)
        assert one.equals(table.filter(pc.equal(table["station"], "B")))


def test_before_the_first_commit_there_is_nothing_and_before_the_history_there_is_a_sentence() -> None:
    world, chance = KeepingWorld(weather(history="P2D")), random.Random(13)
    store, begun = store_of(world), world.now
    for _ in range(8):
        world.day(chance)
    assert len(store.query("weather", as_of=begun)) == 0
    gc.collect(world.catalog, world.backend.objects, [world.dataset], world.now)
    versions = [list(world.catalog.manifests("weather", "raw", group))[-1] for group in ("A", "B")]
    earliest = from_micros(max(manifest.committed_at for manifest in versions))
    with pytest.raises(InputError, match="no longer has its state of 2024-03-01T00:00:00") as caught:
        store.query("weather", as_of=begun)
    assert iso_micros(earliest) in caught.value.hint
    assert len(store.query("weather", as_of=earliest)) > 0
    with pytest.raises(InputError, match="no longer has"):
        store.query("weather", as_of=earliest - timedelta(microseconds=1))
    store.query("weather", as_of=world.now - 2 * DAY)  # the history is kept whole
    with pytest.raises(InputError, match="lies ahead"):
        store.query("weather", as_of=world.now + DAY)


def test_the_command_takes_a_moment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = KeepingWorld()
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: store_of(world))
    ask = ["query", "weather", "A", "--all", "--fields", "temp", "--format", "csv"]
    for value in ("1", "2"):
        world.put("A", world.now.replace(microsecond=0) - HOUR, temp(value))
        world.now += timedelta(minutes=1)
        world.archive()
        world.now += HOUR
    assert cli.run([*ask, "--as-of", "-90m"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["A,2024-02-29T23:00:00Z,,1.0"]
    assert cli.run(ask) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_state_at_a_moment() -> None:
    versions = [replace(Manifest("d", "raw", "A"), version=n, committed_at=10 * n) for n in (4, 3, 2)]
    for moment, version in ((20, 2), (29, 2), (30, 3), (39, 3), (99, 4)):
        found, earliest = state_at(versions, moment)
        assert (found.version if found else 0, earliest) == (version, 0)
    assert state_at(versions, 19) == (None, 20)
    assert state_at([replace(versions[0], version=1)], 19) == (None, 0)
    assert state_at([], 19) == (None, 0)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_before_complete_through_is_there(seed: int) -> None:
    world, chance = KeepingWorld(weather(history="P30D")), random.Random(seed)
    store, waiting = store_of(world), []
    written: dict[float, tuple[datetime, datetime]] = {}  # the value → when it was written, and its valid time
    moments = []
    for _ in range(14):
        world.now += timedelta(minutes=chance.randrange(1, 120))
        for _ in range(chance.randrange(4)):
            at = world.now.replace(minute=0, second=0, microsecond=0) - chance.randrange(1, 40) * HOUR
            world.put("A", at, temp(str(len(written))))
            written[float(len(written))] = (world.now, at)
        if chance.random() < 0.7:
            world.open()
            waiting += world.collect()
        chance.shuffle(waiting)
        for _ in range(chance.randrange(len(waiting) + 1)):
            world.work(waiting.pop())
        if chance.random() < 0.5:
            world.snapshot()
        moments.append(world.now)
    for task in waiting:
        world.work(task)
    world.snapshot()
    reached = []
    for moment in [*moments, world.now]:
        for level, column in ((None, "temp"), ("hourly", "temp_last")):
            through = Past(world.catalog, world.dataset, ["raw", *([level] if level else [])], ["A"], moment).complete_through()
            table = store.query("weather", as_of=moment, level=level or "raw")
            seen = dict(zip(table[1].to_pylist(), table[column].to_pylist(), strict=True))
            for value, (when, at) in written.items():
                if to_micros(when) < through:
                    assert seen[at] >= value
            reached.append(through)
    assert all(raw >= level for raw, level in zip(reached[::2], reached[1::2], strict=True))
    assert reached[::2] == sorted(reached[::2])
    assert reached[-2] == reached[-1] == world.catalog.windows()[-1].end


@given(
    st.lists(st.tuples(st.sampled_from(["closed", "collecting"]), st.integers(0, 9), st.integers(0, 9)), max_size=6),
    st.integers(0, 9),
)
def test_windows_count_as_they_were_then(states: list[tuple[str, int, int]], moment: int) -> None:
    windows = [
        Window(10 * n, 10 * n + 10, state, closed_at=closed, snapshot_at=closed and closed + more)
        for n, (state, closed, more) in enumerate(states, 1)
    ]
    for of_level in (False, True):
        run = 0
        for window in windows:
            done = window.snapshot_at if of_level else window.closed_at
            if window.state != "closed" or not 0 < done <= moment:
                break
            run = window.end
        assert complete_through(windows, moment, of_level) == run
