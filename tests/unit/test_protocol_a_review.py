"""Live items under rare conditions: what expires early, is too large, is held back, or is looked at at the wrong moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tesseract.config.dataset import Dataset, encode_dataset
from tesseract.config.manager import apply
from tesseract.errors import DamagedError, InputError
from tesseract.ingestion.validators import item_bytes
from tesseract.model import Item, Record
from tesseract.processing import closing, healing, raw_rows, repair, snapshots
from tesseract.processing.marking import mark, mark_latest
from tesseract.processing.worklist import entries
from tesseract.storage.base import Condition
from tesseract.storage.catalog import Outage
from tesseract.storage.items import raw_item
from tesseract.storage.keys import config_pk, latest_key, live_pk
from tesseract.storage.memory import MemoryTable
from tesseract.utils.time_utils import to_micros
from tests.support.archive_world import START
from tests.support.level_world import DAY, HOUR, World, plant

AT = START + 12 * HOUR
PAST = AT - DAY
MINUTE = timedelta(minutes=1)


def close(world: World) -> closing.Outcome:
    """A window over all that was written, and what follows its close."""
    world.now += timedelta(seconds=20)
    world.archive()
    return closing.run(world.backend, world.catalog, world.now)


def items(world: World, group: str = "A") -> list[Item]:
    """The aggregate items of a group, hours first."""
    return [item for level in world.dataset.levels for item in world.backend.live.query(live_pk("weather", group, level.name))]


def write(world: World, dataset: Dataset, group: str, at: datetime, fields: dict[str, Any], lost: bool = False) -> None:
    """A write of any dataset; one that is `lost` never comes with a stream."""
    world.now += timedelta(milliseconds=1)
    item = raw_item(dataset, Record(group, at, None, fields), world.now)
    MemoryTable.put(world.raw, item) if lost else world.raw.put(item)
    world.exports.log.append((to_micros(world.now), item["pk"], item["sk"], item))


def damage(world: World, dataset: str) -> None:
    """A version of a configuration that does not decode."""
    world.backend.catalog.put({"pk": config_pk(dataset), "sk": "v000000000002", "body": "{"})


# the stream functions ---------------------------------------------------------------------------------------------------


def test_an_item_that_has_expired_before_its_raw_records_is_not_begun_anew() -> None:
    world = World(replace(plant("hourly", "daily"), buffer_ttl_hours=3 * 365 * 24))
    world.put("A", AT, {"i": 1})
    world.drain()
    close(world)
    for _ in range(410):  # the stage lives on
        world.pass_time(DAY - HOUR / 4)
        world.put("Z", world.now, {"i": 1})
        world.drain()
    close(world)
    for item in items(world):
        assert item["expires_at"] <= world.now.timestamp()
        world.backend.live.delete((item["pk"], item["sk"]))
    world.put("A", AT + MINUTE, {"i": 5})
    world.drain()
    assert world.catalog.outage() is None
    assert all("stale_at" in item for item in items(world))  # one row of two would be wrong


def test_items_of_a_version_that_the_catalog_has_lost_fail_the_batch_at_once() -> None:
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    for item in items(world):
        world.backend.live.put(item | {"config_version": 5})
    world.put("A", AT + MINUTE, {"i": 1})
    reads, read = 0, world.backend.live.get_many

    def counted(keys: Any) -> Any:
        nonlocal reads
        reads += 1
        assert reads < 10, "it reads for ever"
        return read(keys)

    world.backend.live.get_many = counted  # type: ignore[method-assign]
    for shard in range(len(world.raw.shards)):
        world.mappings[0].poll(shard)
    assert 1 < reads < 10
    world.backend.catalog.put(
        {"pk": config_pk("weather"), "sk": "v000000000005", "body": encode_dataset(replace(world.dataset, version=5)).decode()}
    )
    world.drain()
    assert [item["rows"] for item in items(world)] == [2, 2]


def test_an_item_of_too_many_fields_is_stale_and_stops_neither_the_shard_nor_the_archiver() -> None:
    world = World(replace(plant("hourly", "daily"), unknown_fields="keep"))
    put = world.backend.live.put

    def limited(item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        if item_bytes(item) > 20_000:  # of DynamoDB it is 400 kB, and a record of 64 kB with 4,000 numbers comes to more
            raise InputError("Item size has exceeded the maximum allowed size")
        put(item, condition, until)

    world.backend.live.put = limited  # type: ignore[method-assign]
    many = {f"sensor_{number:05d}": number for number in range(250)}
    world.put("A", AT, many)
    world.put("B", AT, {"i": 1})
    world.drain()
    assert all("stale_at" in item for item in items(world))
    assert [item["rows"] for item in items(world, "B")] == [1, 1]
    close(world)
    outcome = close(world)
    assert (outcome.repairs.repaired, outcome.repairs.waiting) == (0, 0)
    assert not list(entries(world.backend.live))


def test_changes_that_are_held_back_until_they_are_lost_are_an_outage() -> None:
    world = World(plant("hourly", "daily"))
    world.raw.retention = DAY
    world.put("A", AT, {"i": 1})
    world.drain()
    close(world)
    damage(world, "weather")
    world.now += 2 * MINUTE
    world.put("A", AT + MINUTE, {"i": 5})
    for _ in range(26):
        world.pass_time(HOUR)
        for mapping in world.mappings:
            mapping.poll(0)
            mapping.poll(1)
    mended = encode_dataset(replace(world.dataset, version=2)).decode()
    world.backend.catalog.put({"pk": config_pk("weather"), "sk": "v000000000002", "body": mended})
    world.put("A", AT + 2 * MINUTE, {"i": 7})
    world.drain()
    assert world.catalog.outage()
    assert all("stale_at" in item for item in items(world))
    world.pass_time(2 * MINUTE)
    close(world)
    close(world)
    assert [item["fields"]["i"]["sum"] for item in items(world)] == [13, 13]


def test_a_process_that_was_given_up_does_not_bring_back_a_latest_value_that_was_deleted_meanwhile() -> None:
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    world.put("A", AT + MINUTE, {"i": 2})
    live, put, dead = world.backend.live, world.backend.live.put, RuntimeError("its memory is gone")
    mapping = world.mappings[1]

    def overtaken(item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        live.put = put  # type: ignore[method-assign]
        mapping.time_out(given_up)
        mapping.drain()  # Lambda tries again
        world.put("A", AT + MINUTE, deleted=True)
        mapping.drain()
        live.put = last  # type: ignore[method-assign]
        put(item, condition, until)

    def last(item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        live.put = put  # type: ignore[method-assign]
        put(item, condition, until)
        raise dead

    given_up = mapping.take(0, hurry=True) or mapping.take(1, hurry=True)
    assert given_up is not None
    live.put = overtaken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="its memory is gone"):
        mapping.handler(given_up.event)
    mapping.drain()
    assert live.get(latest_key("weather", "A"))["fields"] == {"i": 1}


def test_a_batch_reads_the_catalog_once() -> None:
    world = World(plant("hourly", "daily"))
    world.put("A", AT, {"i": 1})
    world.drain()
    asked: list[str] = []
    query = world.backend.catalog.query

    def counted(pk: str, *arguments: Any, **named: Any) -> Any:
        asked.append(pk)
        return query(pk, *arguments, **named)

    world.backend.catalog.query = counted  # type: ignore[method-assign]
    world.put("A", AT + MINUTE, {"i": 1})
    world.drain()
    assert asked == ["outage", "outage"]  # one batch of each function


# the archiver -----------------------------------------------------------------------------------------------------------


def test_a_latest_value_that_is_newer_than_the_clock_of_who_marks_it_is_not_repaired_from_before_it() -> None:
    world = World(plant("hourly", "daily"))
    world.put("A", world.now, {"i": 1})
    world.drain()
    close(world)
    begun = world.now  # of a run that comes to this group eight minutes later
    world.pass_time(4 * MINUTE)
    world.archive()
    world.pass_time(4 * MINUTE)
    world.put("A", world.now, {"i": 2})
    world.drain()
    key = latest_key("weather", "A")
    mark_latest(world.backend.live, key, begun)
    repair.run(world.backend, world.catalog, world.now)
    assert world.backend.live.get(key)["stale"]
    close(world)
    assert world.backend.live.get(key)["fields"] == {"i": 2}


def test_a_damaged_configuration_does_not_keep_the_repairs_of_other_datasets_waiting() -> None:
    world = World(plant("hourly", "daily"))
    other = apply(world.catalog, replace(plant("hourly"), name="other"), world.now).dataset
    world.put("A", PAST, {"i": 1})
    world.drain()
    close(world)
    write(world, other, "X", PAST, {"i": 7})
    world.drain()
    damage(world, "other")
    for item, level in zip(items(world), world.dataset.levels, strict=True):
        mark(world.backend.live, (item["pk"], item["sk"]), level, world.now)
    with pytest.raises(DamagedError):
        close(world)
    assert not list(entries(world.backend.live))
    assert [item["rows"] for item in items(world)] == [1, 1]


def test_differences_are_found_though_the_run_that_saw_them_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(plant("hourly", "daily"))
    for group in "AB":
        world.put(group, PAST, {"i": 1})
    world.drain()
    for group in "AB":
        write(world, world.dataset, group, PAST + MINUTE, {"i": 7}, lost=True)
    real = snapshots._group

    def dying(backend: Any, catalog: Any, dataset: Any, group: str, *rest: Any) -> Any:
        if group == "B":
            raise KeyboardInterrupt
        return real(backend, catalog, dataset, group, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_group", dying)
        with pytest.raises(KeyboardInterrupt):
            close(world)
    closing.run(world.backend, world.catalog, world.now)
    world.pass_time(timedelta(minutes=61))
    missed = closing.run(world.backend, world.catalog, world.now).missed
    assert {seen.pk.split("#")[1] for seen in missed if "latest" not in seen.pk} == {"A", "B"}


def test_a_change_between_the_two_reads_of_a_comparison_is_no_missed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(plant("hourly", "daily"))
    world.put("A", PAST, {"i": 1})
    world.drain()
    real: Callable[..., Any] = raw_rows.read

    def late(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        monkeypatch.setattr(raw_rows, "read", real)
        world.put("A", PAST + MINUTE, {"i": 9})
        world.drain()
        return found

    monkeypatch.setattr(raw_rows, "read", late)
    close(world)
    close(world)
    world.pass_time(timedelta(minutes=61))
    assert closing.run(world.backend, world.catalog, world.now).missed == []


def test_the_periods_before_a_level_was_added_are_not_missed_changes() -> None:
    world = World(plant("hourly"), start=START + 10 * HOUR)
    world.put("A", START + 9 * HOUR, {"i": 1})
    world.drain()
    close(world)
    world.now += 10 * MINUTE
    world.dataset = apply(world.catalog, plant("hourly", "daily"), world.now).dataset
    world.pass_time(15 * HOUR)
    world.put("B", world.now, {"i": 2})
    world.drain()
    close(world)  # the day has ended, and has its row
    world.pass_time(timedelta(minutes=61))
    assert closing.run(world.backend, world.catalog, world.now).missed == []


@dataclass
class Budget:
    """Calls that a run may make before its time is up."""

    left: int


def test_the_end_of_an_outage_is_reached_though_each_run_is_cut_short() -> None:
    world = World(plant("1min", "hourly", "daily"))
    for hour in range(30):
        for group in "ABC":
            world.put(group, AT + hour * HOUR, {"i": 1})
    world.drain()
    world.now += 32 * HOUR
    world.archive()
    world.catalog.extend_outage(Outage(int(START.timestamp()), int(world.now.timestamp()) - 600))
    budget, put = Budget(0), world.backend.live.put

    def limited(item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        budget.left -= 1
        if budget.left < 0:
            raise KeyboardInterrupt
        put(item, condition, until)

    world.backend.live.put = limited  # type: ignore[method-assign]
    runs = 0
    while world.catalog.outage() and runs < 10:
        runs, budget.left, world.now = runs + 1, 3000, world.now + 15 * MINUTE
        try:
            healing.heal(world.backend, world.catalog, world.now)
        except KeyboardInterrupt:
            continue
    assert world.catalog.outage() is None
    assert 1 < runs < 10
    assert all("stale_at" in item for group in "ABC" for item in items(world, group))
