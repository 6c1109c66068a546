"""Races that were found on paper, played on the real code, call by call."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from tesseract.config.dataset import STATS, Level
from tesseract.config.manager import apply
from tesseract.config.tiers import UNITS
from tesseract.model import Record
from tesseract.processing.marking import mark
from tesseract.storage.keys import live_key, worklist_key
from tests.simulation import patches
from tests.simulation.scheduler import Actor
from tests.simulation.stage import NAME, START, dataset
from tests.simulation.world import World

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIVE = START + 5 * HOUR + 10 * MINUTE  # the reading that most of it is about
OLD = FIVE - 4 * DAY


@pytest.fixture(autouse=True)
def simulated() -> Iterator[None]:
    with patches.simulated():
        yield


class Script(World):
    """A stage of one group where nothing happens but what a test says; whatever is written is checked."""

    def __init__(self, *levels: str) -> None:
        config = dataset(levels or ("hourly", "daily"), ("d",), (), buffer_ttl_hours=72)
        super().__init__(0, tracing=True, theme_name="mixed", config=config)
        self.stage.poison = self.crashes = self.throttles = 0
        patches.attach(self.sim)

    def at(self, since: timedelta) -> None:
        self.sim.now = START + since

    def put(self, at: object, value: int | None) -> None:
        """A record is written, or deleted with None."""
        record = Record("A", at, None, {} if value is None else {"d": value}, value is None)  # type: ignore[arg-type]
        writer, configs = self.writers[0]
        assert writer.write(configs.use(NAME), [(0, record)], self.sim.now + MINUTE) == []

    def begin(self, name: str) -> Actor:
        """An invocation on the shard that has something; not one call of it has happened yet."""
        for shard in range(len(self.stage.raw.shards)):
            actor = self._take(name, shard)
            if actor is not None:
                return actor
        raise AssertionError("there is nothing to take")

    def drained(self) -> None:
        for name in self.stage.mappings:
            self.drain(name)

    def window(self) -> None:
        """A window over all that was written, closed."""
        self.sim.now += 30 * MINUTE
        self.archive()

    def rows(self, level: str, at: object) -> int | None:
        """What a dashboard reads of the item that covers a time; None where it shows nothing."""
        item = self.stage.live.get(live_key(NAME, "A", UNITS[level], at))  # type: ignore[arg-type]
        return None if item is None or "rows" not in item else int(item["rows"])


def test_a_record_sent_again_after_its_copy_expired_is_not_counted_twice() -> None:
    s = Script()
    s.put(FIVE, 3)
    s.drained()
    s.stage.newest = apply(s.stage.catalog, replace(s.stage.newest, buffer_ttl_hours=24), s.sim.now).dataset
    s.at(2 * MINUTE)
    s.put(FIVE, 3)  # the same, but for its expiry, which is earlier
    s.drained()
    s.window()
    s.at(3 * DAY + HOUR)
    s.stage.raw.expire(s.sim.now)
    assert not list(s.stage.raw.items())
    s.put(FIVE, 3)
    s.drained()
    assert s.rows("hourly", FIVE) is None
    s.settle()
    assert s.rows("hourly", FIVE) == s.rows("daily", FIVE) == 1


def test_a_crash_between_the_hour_and_the_day() -> None:
    s = Script()
    s.put(FIVE, 3)
    function = s.begin("aggregates")
    function.until("put weather#A#")
    function.crash("crash after")
    assert {s.rows("hourly", FIVE), s.rows("daily", FIVE)} == {None, 1}
    s.drained()
    assert s.rows("hourly", FIVE) == s.rows("daily", FIVE) == 1


def test_the_last_write_of_an_invocation_that_was_given_up_is_refused() -> None:
    s = Script("hourly")
    s.put(FIVE, 3)
    slow = s.begin("aggregates")
    slow.until("put weather#A#hourly")
    name, invocation = slow.task  # type: ignore[attr-defined]
    s.stage.mappings[name].time_out(invocation)
    s.put(FIVE + MINUTE, 4)
    s.begin("aggregates").finish()
    s.begin("aggregates").finish()
    assert s.rows("hourly", FIVE) == 2
    slow.finish()
    assert s.rows("hourly", FIVE) == 2


def test_a_latest_value_that_is_deleted_while_it_is_looked_up() -> None:
    s = Script()
    s.put(FIVE - DAY, 1)
    s.put(FIVE, 2)
    s.drained()
    s.put(FIVE, None)
    function = s.begin("latest")
    function.until("put weather#latest")  # it has found yesterday's
    s.put(FIVE - DAY, None)
    s.drain("latest", 1)
    s.drain("latest", 0)
    s.settle()


def test_a_late_invocation_does_not_bring_back_a_deleted_latest_value() -> None:
    s = Script()
    s.put(OLD - MINUTE, 1)
    s.drained()
    s.put(OLD, 3)
    slow = s.begin("latest")
    slow.until("get")
    name, invocation = slow.task  # type: ignore[attr-defined]
    s.stage.mappings[name].time_out(invocation)
    s.put(OLD, None)
    for _ in range(2):
        s.begin("latest").finish()
    slow.finish()
    s.settle()


def test_a_live_item_of_a_day_to_come_outlives_its_raw_items() -> None:
    s = Script()
    s.put(FIVE + 2 * DAY, 3)
    s.drained()
    s.at(4 * DAY)
    for item in list(s.stage.live.items()):
        if item.get("expires_at", s.sim.now.timestamp()) < s.sim.now.timestamp():
            s.stage.live.delete((item["pk"], item["sk"]))
    s.put(FIVE + 2 * DAY - MINUTE, 2)
    s.drained()
    assert s.rows("hourly", FIVE + 2 * DAY) == 2


def test_two_processes_with_two_configurations_while_a_level_is_added() -> None:
    s = Script("daily")
    s.at(HOUR)
    s.put(OLD, 1)
    s.drained()  # both processes know the configuration without the level
    levels = (Level("hourly", dict.fromkeys(STATS, ())), *s.stage.newest.levels)
    s.stage.newest = apply(s.stage.catalog, replace(s.stage.newest, levels=levels), s.sim.now).dataset
    s.sim.now += timedelta(seconds=1)
    s.stage.processes["aggregates"][0] = s.stage.stream_process("aggregates")  # one that knows it
    s.put(OLD + MINUTE, 2)
    for n in range(2, 6):
        s.sim.r.seed(n)  # which process is invoked
        s.drained()
        s.put(OLD + n * MINUTE, 2)
    s.settle()
    assert s.rows("hourly", OLD) == s.rows("daily", OLD) == 6


def test_an_hour_that_was_touched_only_while_it_was_open_is_snapshot_when_it_ends() -> None:
    s = Script()
    s.at(5 * HOUR + 20 * MINUTE)
    s.put(FIVE, 1)
    s.drained()
    s.window()
    s.stage.close()
    s.at(8 * HOUR)
    s.window()
    s.stage.close()
    s.stage.checks.snapshots()
    s.settle()


def test_an_entry_put_again_while_its_item_is_repaired_stays() -> None:
    s = Script("daily")
    s.put(OLD, 1)
    s.drained()
    (level,) = s.stage.newest.levels
    key = live_key(NAME, "A", UNITS["daily"], OLD)
    mark(s.stage.live, key, level, s.sim.now)
    s.at(HOUR)
    s.window()
    repair = s.sim.spawn("close", s.stage.close, HOUR, s._ended)
    repair.until("delete worklist")  # the item is repaired
    again = s.sim.spawn("rebuild", lambda: mark(s.stage.tapped.live, key, level, s.sim.now), HOUR, s._ended)
    again.until("get weather#A#daily")  # the new entry is there
    repair.finish()
    again.finish()
    assert s.stage.live.get(worklist_key(*key)) is not None
    s.settle()
    assert s.rows("daily", OLD) == 1


def test_a_repair_does_not_overwrite_what_came_meanwhile() -> None:
    s = Script("daily")
    s.put(OLD, 1)
    s.drained()
    (level,) = s.stage.newest.levels
    mark(s.stage.live, live_key(NAME, "A", UNITS["daily"], OLD), level, s.sim.now)
    s.at(HOUR)
    s.window()
    repair = s.sim.spawn("close", s.stage.close, HOUR, s._ended)
    repair.until("put weather#A#daily")
    s.put(OLD + MINUTE, 2)
    s.drained()
    repair.finish()
    s.drained()
    s.settle()
    assert s.rows("daily", OLD) == 2


def test_the_last_change_of_a_shard_is_lost() -> None:
    s = Script()
    s.put(FIVE, 1)
    s.drained()
    s.put(FIVE, 4)
    s.at(30 * HOUR)  # nobody has read the stream, and no batch will ever tell of it
    s.settle()
    assert s.rows("hourly", FIVE) == 1


def test_a_query_sees_a_correction_of_any_age_at_once() -> None:
    s = Script()
    at = FIVE - 400 * DAY
    s.put(at, 1)
    s.drained()
    for _ in range(2):
        s.window()
        s.stage.close()
    s.put(at, 5)
    s.drained()
    table = s.stage.reader.query(NAME, "A", level="daily").to_pylist()
    assert [row["d_sum"] for row in table] == [5]


def test_a_function_that_was_not_called_from_the_beginning_tells_when_it_is() -> None:
    s = Script("daily")
    s.put(FIVE, 1)
    s.at(HOUR)
    s.window()
    s.at(30 * HOUR)
    s.put(FIVE + MINUTE, 2)
    s.drained()  # nobody will ever deliver the first
    assert s.rows("daily", FIVE) is None
    s.settle()
    assert s.rows("daily", FIVE) == 2


def test_the_delete_of_a_days_only_record_is_lost() -> None:
    s = Script()
    s.put(FIVE - DAY, 1)
    s.put(FIVE, 2)
    s.drained()
    s.put(FIVE, None)
    s.down = {(name, s.stage.raw.shard_of(f"{NAME}#A#{FIVE:%Y-%m-%d}")) for name in s.stage.mappings}
    s.at(30 * HOUR)
    s.put(FIVE - DAY + MINUTE, 3)
    s.drained()  # the other shard
    s.settle()
