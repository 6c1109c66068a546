"""A configuration changes in the middle of stored rows: raw and levels read as the new version says, wherever the rows lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset, Field, Level
from tesseract.config.manager import apply
from tesseract.config.tiers import UNITS
from tesseract.errors import DamagedError
from tesseract.model import FieldValue, Record
from tesseract.processing import archiver, raw_rows
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.aggregator import Fields, fold, identity, shown
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.publisher import datasets_of, publish
from tesseract.processing.stream import run
from tesseract.storage.arrow_types import value_as
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table, raw_table
from tesseract.storage.conform import conform_values, declared_kinds
from tesseract.storage.items import raw_item
from tesseract.storage.keys import config_pk, days_pk, live_pk, version_sk
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import iso_day, to_micros
from tests.support import archive_world
from tests.support.archive_world import START, MemoryExports, MemoryQueue
from tests.support.driver import Mapping, StreamedTable

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = dict.fromkeys(("count", "sum", "avg", "std", "min", "max", "first", "last"), ())
BASE = archive_world.weather(levels=tuple(Level(name, dict(ALL)) for name in ("hourly", "daily", "weekly")))
LOOSE = replace(BASE, fields={}, unknown_fields="keep")


class World(archive_world.World):
    """A stage in memory with its archive and its two stream functions, and an oracle of what was written."""

    def __init__(self, dataset: Dataset) -> None:
        clock = lambda: self.now
        self.now = START
        self.raw = StreamedTable(clock)
        objects = MemoryObjects()
        self.backend = Backend(self.raw, MemoryTable("live"), MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        self.exports, self.queue = MemoryExports(self.backend, START - DAY), MemoryQueue()
        self.dataset = apply(self.catalog, dataset, START - DAY).dataset
        self.catalog.mark_used(dataset.name)
        self.written: dict[datetime, dict[str, FieldValue]] = {}
        configs = Configs(self.catalog, clock)
        aggregates = AggregateProcessor(self.backend.raw, self.backend.live, self.catalog, configs, clock)
        latest = LatestProcessor(self.raw, self.backend.live, self.catalog, configs, clock)
        self.mappings = [
            Mapping(self.raw, lambda event, process=function.process: run(event, process, configs, objects), batch_size=50)
            for function in (aggregates, latest)
        ]

    def put(self, at: datetime, under: Dataset | None = None, **fields: FieldValue) -> None:
        self.now += timedelta(milliseconds=1)
        if at < self.now - DAY:  # as the writer does, before a late write
            self.backend.live.put({"pk": days_pk("weather", "A"), "sk": iso_day(at), "marked_at": to_micros(self.now)})
        item = raw_item(under or self.dataset, Record("A", at, None, fields), self.now)
        self.raw.put(item)
        self.exports.log.append((to_micros(self.now), item["pk"], item["sk"], item))
        self.written[at] = fields
        for mapping in self.mappings:
            mapping.drain()

    def change(self, wanted: Dataset) -> None:
        self.dataset = apply(self.catalog, wanted, self.now).dataset

    def store(self) -> Store:
        return Store(self.backend, "test", lambda: self.now)

    # what a query gives, and what it should -----------------------------------------------------------------------------

    def check(self) -> None:
        store = self.store()
        rows = store.query("weather", "A").to_pylist()
        known = {name for row in rows for name in row}
        assert rows == [self._row(at, known) for at in sorted(self.written)]
        assert known >= {"station", "valid_time", "ref_time", *self.dataset.fields}
        last = store.latest("weather", "A")[0]
        assert {name: last.get(name) for name in known} == self._row(max(self.written), known)
        for level in self.dataset.levels:
            found = store.query("weather", "A", level=level.name).to_pylist()
            assert found == self._level(level, found), level.name

    def _fields(self, at: datetime) -> dict[str, FieldValue]:
        kinds = declared_kinds(self.dataset.fields, raw_table(self.dataset, "A", []).schema)
        found = conform_values(self.written[at], self.dataset, kinds)
        return found if self.dataset.unknown_fields == "keep" else {n: v for n, v in found.items() if n in self.dataset.fields}

    def _row(self, at: datetime, known: set[str]) -> dict[str, object]:
        row: dict[str, object] = dict.fromkeys(known) | {"station": "A", "valid_time": at}
        for name, value in self._fields(at).items():
            number = isinstance(value, int | Decimal) and not isinstance(value, bool)
            field = self.dataset.fields.get(name)
            if field is not None and field.type == "timestamp":
                row[name] = datetime.fromisoformat(str(value))
            else:
                row[name] = float(value) if number and (field is None or field.type == "float") else value
        return row

    def _level(self, level: Level, found: list[dict[str, object]]) -> list[dict[str, object]]:
        states = {}
        for at in sorted(self.written):
            start = UNITS[level.name].floor(at)
            state = states.get(start, identity())
            states[start] = fold(state, self._fields(at), to_micros(at) - to_micros(start), Fields(level.covered()))
        rows = [LevelRow(start, state.rows, shown(state, level), b"", 0, None) for start, state in states.items()]
        table = level_table(self.dataset, level, "A", rows).to_pylist()
        assert {name for row in table for name in row if not name.startswith("__")} == {name for row in found for name in row}
        return [{name: value for name, value in row.items() if not name.startswith("__")} for row in table]


def fields(**changes: Field | None) -> dict[str, Field]:
    return {name: field for name, field in (BASE.fields | changes).items() if field is not None}


NUMBERS = [{"temp": Decimal("1.5"), "wind": 3}, {"temp": 2, "wind": 2**60}, {"wind": 7}, {"temp": Decimal("-0.1")}]
SMALL = [{"temp": Decimal("1.5"), "wind": 3}, {"temp": 2, "wind": 2**40}, {"wind": 7}]
MIXED = [*NUMBERS, {"temp": "n/a", "wind": True}, {"temp": "2.25", "note": "x"}, {"wind": Decimal("2.5"), "note": 5}]
MIXED_TEMP = [{"temp": Decimal("1.5"), "z": 1}, {"temp": "n/a"}, {"temp": True, "note": "x"}, {"temp": "2.25", "note": 5, "z": 3}]
Y, NOTE = Field("float", "y"), Field("string", "note")
FLOAT_WIND = replace(BASE, fields=fields(wind=Field("float", "wind")))
NO_WIND = replace(BASE, fields=fields(wind=None))


def typed(kind: str, **settings: Any) -> Dataset:
    """With `wind` of that type."""
    return replace(BASE, fields=fields(wind=Field(kind, "wind", **settings)))


HOURLY_TEMP = replace(BASE, levels=(Level("hourly", {"max": ("temp",)}),))
LAST = [{"temp": 9, "wind": 4}]

CASES = {
    "a field more": ([BASE, replace(BASE, fields=fields(y=Y))], NUMBERS, [{"y": Decimal("0.5"), "temp": 1}]),
    "a field less": ([BASE, NO_WIND], NUMBERS, [{"temp": 9}]),
    "a field comes back": ([BASE, NO_WIND, BASE], NUMBERS, LAST),
    "a field comes back wider": ([BASE, NO_WIND, FLOAT_WIND], SMALL, [{"wind": Decimal("4.5")}]),
    "int to float": ([BASE, FLOAT_WIND], SMALL, [{"wind": Decimal("4.5")}]),
    "int to decimal": ([BASE, typed("decimal", scale=2)], NUMBERS, [{"wind": Decimal("4.25")}]),
    "int to 38 digits": ([BASE, typed("int", max=10**30)], NUMBERS, [{"wind": 10**25, "temp": 3}]),
    "a decimal of more digits": (
        [typed("decimal", scale=1), typed("decimal", scale=3)],
        [{"wind": Decimal("0.5")}, {"wind": 10**30}],
        [{"wind": Decimal("4.125")}],
    ),
    "a time comes back": (
        [typed("timestamp"), NO_WIND, typed("timestamp")],
        [{"wind": "2026-01-05T01:00:00.000000Z"}, {"temp": 1}],
        [{"wind": "2026-01-06T01:00:00.000000Z"}],
    ),
    "another statistic": ([replace(BASE, levels=(Level("hourly", {"avg": ()}), BASE.levels[1])), BASE], NUMBERS, LAST),
    "a level more": ([replace(BASE, levels=BASE.levels[1:]), BASE], NUMBERS, LAST),
    "a level less": ([BASE, replace(BASE, levels=BASE.levels[1:])], NUMBERS, LAST),
    "a level of one field, then of two": (
        [HOURLY_TEMP, replace(BASE, levels=(Level("hourly", {"max": ("temp", "wind")}),))],
        NUMBERS,
        LAST,
    ),
    "undeclared values are no longer kept": ([LOOSE, replace(LOOSE, fields=BASE.fields, unknown_fields="reject")], MIXED, LAST),
    "a field of undeclared values is declared": (
        [LOOSE, replace(LOOSE, fields={"temp": BASE.fields["temp"], "note": NOTE})],
        MIXED_TEMP,
        [{"temp": 9, "note": "z"}],
    ),
    "former fields are shown as undeclared ones": ([BASE, replace(NO_WIND, unknown_fields="keep")], NUMBERS, LAST),
    "another path": ([BASE, replace(BASE, fields=fields(wind=Field("int", "w.s")))], NUMBERS, LAST),
    "another schedule": ([BASE, replace(BASE, ladder=("weekly", "monthly"))], NUMBERS, LAST),
}


@pytest.mark.parametrize("place", ["buffer", "archived after", "everywhere"])
@pytest.mark.parametrize("case", CASES)
def test_rows_of_before_and_after_read_as_the_new_version_says(case, place):
    configs, before, after = CASES[case]
    world = World(configs[0])
    for index, values in enumerate(before):
        world.now = max(world.now, START + index * 7 * HOUR)
        world.put(world.now, **values)
    mixed = configs[0] is LOOSE  # undeclared values of several types read as text as long as nobody declares them
    if not mixed:
        world.check()
    if place == "everywhere":
        world.now += 2 * DAY
        world.archive()
        world.snapshot()
        if not mixed:
            world.check()
    old = world.dataset
    for wanted in configs[1:]:
        world.change(wanted)
        world.check()
    if place == "everywhere":
        world.archive()
        world.snapshot()
        world.check()
    world.put(world.now + timedelta(seconds=1), under=old, **before[0])  # in flight under the old version
    world.check()
    for index, values in enumerate(after):
        world.now += (3 + index) * DAY
        world.put(world.now, **values)
        world.put(START + HOUR + index * timedelta(minutes=1), **values)  # and a late one, among the old rows
        world.check()
    if place != "buffer":
        world.now += 2 * DAY
        world.archive()
        world.snapshot()
        world.check()
        world.now += 40 * DAY
        world.compact()
        world.check()


def test_a_level_that_gets_a_field_keeps_its_items_and_shows_the_others():
    world = World(HOURLY_TEMP)
    world.put(START + HOUR / 2, temp=1, wind=5)
    world.change(replace(BASE, levels=(Level("hourly", {"max": ("temp", "wind")}),)))
    world.put(START + HOUR / 3, temp=2, wind=7)
    moment = world.dataset.levels[0].since["wind"]
    world.now += 2 * HOUR
    world.put(world.now, temp=3, wind=9)
    old, new = world.backend.live.query(live_pk("weather", "A", "hourly"))
    assert (old["fields"].keys(), old["fields"]["temp"]["max"]) == ({"temp"}, 2)
    assert new["fields"].keys() == {"temp", "wind"}
    assert not {"live_from", "stale_at"} & old.keys()
    assert to_micros(world.now) // (3600 * 10**6) * 3600 * 10**6 > moment >= to_micros(START)
    result = world.store().read("weather", "A", level="hourly")
    assert result.table["wind_max"].to_pylist() == [7, 9]
    assert (result.stats.live_items, result.stats.recomputed) == (1, 1)


def test_what_is_no_longer_declared_is_kept_in_the_archive():
    world = World(BASE)
    world.put(START + HOUR, temp=1, wind=5)
    world.change(NO_WIND)
    world.now += DAY
    world.archive()  # the rows go to the archive under a version that does not know the field
    for item in list(world.raw.items()):
        world.raw.delete((item["pk"], item["sk"]))
    assert "wind" not in world.store().query("weather", "A").column_names
    world.change(BASE)
    assert world.store().query("weather", "A")["wind"].to_pylist() == [5]


def test_a_type_that_no_longer_fits_does_not_hold_up_the_archive():
    world = World(LOOSE)
    for index, value in enumerate(["n/a", 5, True, Decimal("2.5"), 2**70]):
        world.put(START + index * HOUR, temp=value)
    world.change(replace(LOOSE, fields={"temp": Field("int", "temp")}))
    world.now += DAY
    world.archive()
    assert world.store().query("weather", "A")["temp"].to_pylist() == [None, 5, None, None, None]
    world.change(LOOSE)
    texts = world.store().query("weather", "A")["temp"].to_pylist()
    assert texts[:4] == ["n/a", "5", "true", "2.5"]  # nothing of it was lost


@pytest.mark.parametrize("archived", [False, True])
def test_what_levels_are_computed_from_reads_alike_from_buffer_and_archive(archived):
    world = World(LOOSE)
    for index, value in enumerate(["n/a", 5, True, "2.25", Decimal("0.1")]):
        world.put(START + index * HOUR, temp=value, note=index)
    world.change(replace(LOOSE, fields={"temp": Field("float", "temp"), "note": NOTE}))
    if archived:
        world.now += DAY
        world.archive()
        for item in list(world.raw.items()):
            world.raw.delete((item["pk"], item["sk"]))
    manifest = world.catalog.manifest("weather", "raw", "A")
    found = raw_rows.read(world.backend, manifest, world.dataset, [to_micros(START) // 86_400_000_000])
    assert [values.get("temp") for _, values in found] == [None, 5, None, Decimal("2.25"), Decimal("0.1")]


EPOCH = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "values", "read"),
    [
        (pa.int64(), [1, 2.0, 2.5, "3", "x", True, 2**63, None, Decimal("4.0")], [1, 2, None, 3, None, None, None, None, 4]),
        (pa.float64(), [1, 2.5, "0.1", "nan", "inf", "x", False, Decimal("0.3")], [1.0, 2.5, 0.1, None, None, None, None, 0.3]),
        (pa.bool_(), [True, "false", 1, "yes", None], [True, False, None, None, None]),
        (pa.string(), [True, 1.5, 7, "x", EPOCH], ["true", "1.5", "7", "x", "2026-01-05T00:00:00.000000Z"]),
        (
            pa.decimal128(38, 2),
            [1, "2.25", 0.125, Decimal(10) ** 36, 10**35],
            [Decimal(1), Decimal("2.25"), None, None, Decimal(10) ** 35],
        ),
        (pa.timestamp("us", "UTC"), ["2026-01-05T01:00:00+01:00", "2026-01-05", 5, "x"], [EPOCH, None, None, None]),
    ],
)
def test_a_value_reads_by_the_type_that_its_field_has_today(kind, values, read):
    assert [value_as(value, kind) for value in values] == read
    pa.array(read, kind)


# one damaged configuration ------------------------------------------------------------------------------------------------


def damaged_world() -> World:
    """Two datasets; the newest version of `other` does not decode."""
    world = World(BASE)
    other = apply(world.catalog, replace(BASE, name="other"), world.now).dataset
    for config in (other, world.dataset):
        item = raw_item(config, Record("A", START + HOUR, None, {"temp": 1}), world.now + timedelta(milliseconds=1))
        world.raw.put(item)
        world.exports.log.append((to_micros(world.now + timedelta(milliseconds=1)), item["pk"], item["sk"], item))
    world.catalog.table.put({"pk": config_pk("other"), "sk": version_sk(2), "body": '{"name":"other","fields":"?"}'})
    world.now += DAY
    return world


def test_streams_go_on_with_the_others_and_keep_its_changes_back():
    world = damaged_world()
    for mapping in world.mappings:
        for _ in range(3):
            for shard in range(2):
                mapping.poll(shard)
    assert list(world.backend.live.query(live_pk("weather", "A", "hourly")))
    assert not list(world.backend.live.query(live_pk("other", "A", "hourly")))
    fields = {"temp": {"type": "float", "path": "temp"}, "wind": {"type": "int", "path": "wind"}}
    assert {name: field.type for name, field in world.dataset.fields.items()} == {name: f["type"] for name, f in fields.items()}
    mended = replace(world.catalog.dataset("other", 1), version=2)
    world.catalog.table.delete((config_pk("other"), version_sk(2)))
    world.catalog.put_dataset(mended, world.now)
    for mapping in world.mappings:
        mapping.drain()
    assert list(world.backend.live.query(live_pk("other", "A", "hourly")))


def test_the_archive_goes_on_with_all_rows_and_with_the_other_levels():
    world = damaged_world()
    world.open()
    done = [archiver.run(world.catalog, world.backend.objects, task, world.now) for task in world.collect()]
    assert sum(one.rows for one in done) == 2
    assert done[-1].window_closed
    with pytest.raises(DamagedError, match="other version 2"):
        world.snapshot()
    assert world.catalog.groups("weather", "hourly") == ["A"]
    assert [dataset.name for dataset in datasets_of(world.catalog)] == ["weather"]
    publish(world.catalog, world.backend.objects, world.now)
    assert world.store().sql("select count(*) as c from weather").to_pylist() == [{"c": 1}]
    with pytest.raises(DamagedError, match="other version 2"):
        world.store().query("other", "A")


def test_a_process_that_does_not_know_a_fields_moment_yet_changes_no_item_of_one_that_does():
    world = World(replace(BASE, levels=(Level("hourly", {"max": ()}),)))
    clock, objects = lambda: world.now, world.backend.objects

    def process():
        configs = Configs(world.catalog, clock)
        aggregates = AggregateProcessor(world.backend.raw, world.backend.live, world.catalog, configs, clock)
        return lambda event: run(event, aggregates.process, configs, objects)

    old, new = process(), process()
    turn = [old]
    world.mappings = [Mapping(world.raw, lambda event: turn[0](event), batch_size=50)]
    first = world.dataset
    world.put(START + HOUR / 6, temp=Decimal("8.5"), wind=5)  # the old process keeps version 1 for a minute
    world.change(replace(BASE, levels=(Level("hourly", {"max": (), "min": ()}),)))
    turn[0] = new
    world.put(START + HOUR / 5, temp=2, wind=7)
    turn[0] = old
    world.now += timedelta(seconds=20)
    world.put(START + HOUR / 4, under=first, temp=3, wind=9)
    (item,) = world.backend.live.query(live_pk("weather", "A", "hourly"))
    assert (item["rows"], item["fields"]) == (3, {})  # a field of which a part is known shows nothing
    assert item["config_version"] == 2
    found = world.store().query("weather", "A", level="hourly").to_pylist()
    assert [(row["temp_max"], row["temp_min"]) for row in found] == [(8.5, 2.0)]
