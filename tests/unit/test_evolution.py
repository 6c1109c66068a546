"""Years of files under changing fields: added, dropped, renamed, widened, of another unit or range. Every read has one schema.

The oracle knows fields by numbers of its own, and reads with a configuration that was never renamed: names are its own affair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from tesseract.cli import watch
from tesseract.config.dataset import Dataset, decode_dataset, encode_dataset
from tesseract.config.document import document_of, to_yaml
from tesseract.config.manager import plan, rollback
from tesseract.config.schema import parse
from tesseract.errors import ConfigError, InputError
from tesseract.ingestion.validators import Decoded, Validator
from tesseract.processing.external import view_object
from tesseract.processing.publisher import publish
from tesseract.storage.keys import days_pk, latest_key
from tesseract.storage.segment_reader import read
from tesseract.utils.time_utils import iso_day, iso_micros, to_micros
from tests.support.archive_world import START
from tests.unit.test_config_reads import World as Reads
from tests.unit.test_external import Files

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEVELS = {name: ["count", "sum", "avg", "std", "min", "max", "first", "last"] for name in ("hourly", "daily", "weekly")}
Fields = dict[str, dict[str, Any]]


def dataset(fields: Fields, **settings: Any) -> Dataset:
    """The dataset that a document says."""
    body = {"group_by": "station", "time_field": "time", "aggregations": LEVELS, "fields": fields} | settings
    return parse(json.dumps({"datasets": {"weather": body}}))["weather"]


def plain(fields: Fields, **settings: Any) -> Dataset:
    """The same, as if its fields had always had these names."""
    return dataset({name: {k: v for k, v in spec.items() if k != "renamed_from"} for name, spec in fields.items()}, **settings)


def decoded(config: Dataset, record: dict[str, Any], now: datetime) -> Decoded:
    return Validator(config).decode([json.dumps(record).encode()], now)


class World(Reads):
    """A stage whose `fields` are those of a document; `ids` says which field of the oracle has which name now."""

    def __init__(self, fields: Fields, **settings: Any) -> None:
        super().__init__(dataset(fields, **settings))
        self.settings = settings
        self.fields, self.ids = fields, {name: number for number, name in enumerate(fields)}
        self.ever = {number: [name] for name, number in self.ids.items()}
        self.truth: dict[datetime, dict[int, Any]] = {}
        self.plain = plain(fields, **settings)
        self.before = (self.dataset, self.plain, dict(self.ids))

    def to(self, fields: Fields, ids: dict[str, int]) -> None:
        """Another version of the document."""
        self.before = (self.dataset, self.plain, self.ids)
        self.change(dataset(fields, **self.settings))
        self.fields, self.ids, self.plain = fields, ids, plain(fields, **self.settings)
        for name, number in ids.items():
            if name not in self.ever.setdefault(number, []):
                self.ever[number].append(name)
        assert list(self.dataset.keys) == list(fields)
        assert decode_dataset(encode_dataset(self.dataset)) == self.dataset

    def send(self, at: datetime, spell: Callable[[str], str] = lambda name: name, late: bool = False, **values: Any) -> None:
        """A record by the names of now, each spelt as `spell` says; `late`: by those of the version before."""
        config, oracle, ids = self.before if late else (self.dataset, self.plain, self.ids)
        self.now = max(self.now, at)
        fixed = {"station": "A", "time": iso_micros(at)}
        found = decoded(config, fixed | nested({spell(name): value for name, value in values.items()}), self.now)
        assert not found.rejected, found.rejected
        wanted = decoded(oracle, fixed | nested(values), self.now)
        self.put(at, config, **found.records[0][1].fields)
        self.truth[at] = {ids[name]: value for name, value in wanted.records[0][1].fields.items() if name in ids}

    def check(self) -> None:
        real, names = self.dataset, {number: name for name, number in self.ids.items()}
        self.written = {at: {names[n]: v for n, v in values.items() if n in names} for at, values in self.truth.items()}
        self.dataset = self.plain
        try:
            super().check()
        finally:
            self.dataset = real
        units = [(name, spec.get("unit", "")) for name, spec in self.fields.items()]
        schema = self.store().query("weather").schema
        assert [(name, (schema.field(name).metadata or {}).get(b"unit", b"").decode()) for name, _ in units] == units

    def settle(self) -> None:
        """Everything into the archive, and what is old out of the buffer."""
        self.now += 2 * DAY
        self.archive()
        self.snapshot()
        for item in list(self.raw.items()):
            if item["expires_at"] <= self.now.timestamp():
                self.raw.delete((item["pk"], item["sk"]))
        for mapping in self.mappings:
            mapping.drain()


def nested(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = name.split(".")
        inner = found
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


KINDS: list[dict[str, Any]] = [
    {"type": "int"}, {"type": "float"}, {"type": "decimal", "scale": 1},
    {"type": "string"}, {"type": "bool"}, {"type": "timestamp"},
]  # fmt: skip
WIDER: dict[str, list[dict[str, Any]]] = {
    "int": [{"type": "float"}, {"type": "decimal", "scale": 2}, {"type": "int", "max": 10**30}],
    "decimal": [{"type": "decimal", "scale": 3}],
}


def value(chance: random.Random, spec: dict[str, Any]) -> Any:
    match spec["type"]:
        case "int":
            return chance.randrange(-50, 50) if spec.get("max") is None or chance.random() < 0.5 else 10**25 + chance.randrange(9)
        case "float":
            number = chance.randrange(-500, 500) / 8
            return number if number <= spec.get("max", number) else -number
        case "decimal":
            return chance.randrange(-(10**4), 10**4) / 10 ** spec["scale"]
        case "string":
            return chance.choice(["calm", "ü", "7"])
        case "bool":
            return chance.random() < 0.5
        case _:
            return iso_micros(START + chance.randrange(1000) * HOUR)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"partitioning": "hash(2)", "unknown_fields": "drop"},
    {"revisions": "latest_ref", "archive_schedule": {"buffer_to_weekly": "P1W", "weekly_to_yearly": "P1Y"}},
]


class Life:
    """A random walk through versions."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.chance = random.Random(seed)
        fields: Fields = {"temp": {"type": "float"}, "wind.speed": {"type": "int"}, "price": {"type": "decimal", "scale": 1}}
        self.world = World(fields, **settings)
        self.number = 0
        self.kinds: dict[int, dict[str, Any]] = {}  # of each number the newest type that it had: what comes back is not narrower

    def name(self) -> str:
        self.number += 1
        return self.chance.choice(["n{}", "wind.n{}", "a_b{}"]).format(self.number)

    def evolve(self) -> None:
        world, chance = self.world, self.chance
        fields, ids = dict(world.fields), dict(world.ids)
        for _ in range(chance.choice((1, 1, 2))):
            step = chance.choice(("add", "drop", "rename", "rename", "rename", "widen", "widen", "unit", "back"))
            name = chance.choice(list(fields))
            if step == "add" and len(fields) < 7:
                name = self.name()
                fields[name], ids[name] = dict(chance.choice(KINDS)), max(world.ever.keys() | ids.values()) + 1
            elif step == "drop" and len(fields) > 2:
                del fields[name], ids[name]
            elif step == "rename" and name in world.fields and ids[name] == world.ids[name]:
                fresh, number = self.name(), ids[name]
                former = chance.choice(world.ever[number])
                spec = {key: part for key, part in fields[name].items() if key != "renamed_from"} | {"renamed_from": former}
                fields = {fresh if one == name else one: spec if one == name else own for one, own in fields.items()}
                ids = {fresh if one == name else one: own for one, own in ids.items()}
            elif step == "back":
                gone = [n for n, spelt in world.ever.items() if n not in ids.values() and n in self.kinds]
                if gone:
                    number = chance.choice(gone)
                    name = chance.choice(world.ever[number])
                    fields[name], ids[name] = dict(self.kinds[number]), number
            elif step == "widen" and "max" not in fields[name] and fields[name]["type"] in WIDER:
                wider = chance.choice(WIDER[fields[name]["type"]])
                if fields[name].get("scale", 0) < wider.get("scale", 1):
                    fields[name] = {k: v for k, v in fields[name].items() if k == "renamed_from"} | wider
            elif step == "unit":
                fields[name] = fields[name] | {"unit": chance.choice(["m/s", "K"])}
                if fields[name]["type"] == "float":
                    fields[name]["max"] = chance.choice((0, 1000))  # stored values beyond it stay, and are shown
        world.to(fields, ids)

    def live(self) -> None:
        world, chance = self.world, self.chance
        for name, number in world.ids.items():
            self.kinds[number] = {k: v for k, v in world.fields[name].items() if k != "renamed_from"}
        for _ in range(chance.randrange(1, 4)):
            at = world.now - chance.choice((0, 0, 1, 30)) * DAY + chance.randrange(50) * timedelta(minutes=1)
            at = max(at, START).replace(microsecond=0)
            former = chance.random() < 0.3
            old = not former and chance.random() < 0.2
            config = self.old if old else world.fields
            values = {n: value(chance, spec) for n, spec in config.items() if chance.random() < 0.8}
            world.send(at, (lambda n: chance.choice(world.ever[world.ids[n]])) if former else (lambda n: n), old, **values)
        match chance.randrange(5):
            case 0:
                world.settle()
            case 1:
                world.settle()
                world.compact(whole=chance.random() < 0.5)
            case 2:
                world.now += 40 * DAY
                world.settle()
                world.compact()
            case 3:
                world.archive()

    def step(self) -> None:
        self.old = self.world.fields
        self.evolve()
        self.world.check()
        self.live()
        self.world.check()


@pytest.mark.parametrize("seed", range(len(SETTINGS)))
def test_whatever_the_versions_were_every_read_is_of_the_newest(seed: int) -> None:
    life = Life(seed, **SETTINGS[seed])
    world = life.world
    life.old = world.fields
    life.live()
    for _ in range(6):
        life.step()
    world.settle()
    world.check()
    store = world.store()
    for level in ("raw", *LEVELS):
        table = store.query("weather", level=level)
        name = "weather" if level == "raw" else f"weather_{level}"
        assert store.sql(f"select * from {name}").to_pylist() == table.to_pylist()
        assert store.query("weather", level=level, as_of=world.now).equals(table)
    world.now += 800 * DAY
    world.settle()
    world.compact()
    world.check()


def test_compaction_brings_files_to_the_newest_types_and_reads_rewrite_nothing() -> None:
    world = World({"n": {"type": "int"}, "p": {"type": "decimal", "scale": 1}, "gone": {"type": "int"}})
    for day in range(3):
        world.send(START + day * DAY, n=day, p=0.5, gone=1)
    world.settle()
    world.to({"m": {"type": "float", "renamed_from": "n"}, "p": {"type": "decimal", "scale": 3}}, {"m": 0, "p": 1})
    before = list(world.backend.objects.list("archive/"))
    world.check()
    assert list(world.backend.objects.list("archive/")) == before

    def types(level: str, time: str) -> dict[str, str]:
        segments = world.catalog.manifest("weather", level, "A").segments
        schemas = [read(world.backend.objects, segment, time).schema for segment in segments]
        return {field.name: str(field.type) for schema in schemas for field in schema}

    assert types("raw", "valid_time")["n"] == types("hourly", "period_start")["n_min"] == "int64"
    world.now += 400 * DAY
    world.compact()
    world.check()
    raw, hourly = types("raw", "valid_time"), types("hourly", "period_start")
    assert (raw["n"], raw["p"], raw["gone"]) == ("double", "decimal128(38, 3)", "int64")
    assert (hourly["n_min"], hourly["n_sum"], hourly["p_sum"]) == ("double", "double", "decimal128(38, 3)")


# what a rename is ---------------------------------------------------------------------------------------------------------

TEMP: Fields = {"temp": {"type": "float", "unit": "°C"}, "wind": {"type": "int"}}
T: Fields = {"t": {"type": "float", "unit": "°C", "renamed_from": "temp"}, "wind": {"type": "int"}}
AIR: Fields = {"air": {"type": "float", "unit": "°C", "renamed_from": "t"}, "wind": {"type": "int"}}


def versions(*documents: Fields, **settings: Any) -> list[Dataset]:
    """The versions that documents make, one after the other."""
    found: list[Dataset] = []
    for fields in documents:
        planned = plan(found, dataset(fields, **settings), START + len(found) * DAY)
        assert not planned.refusals, planned.refusals
        found.append(planned.dataset)
    return found


def changes(documents: list[Fields], wanted: Fields, **settings: Any) -> list[str]:
    planned = plan(versions(*documents, **settings), dataset(wanted, **settings), START + 99 * DAY)
    return [f"{change.verdict}: {change} ({change.why})" for change in planned.changes]


def test_a_rename_is_one_compatible_change() -> None:
    assert changes([TEMP], T) == [
        "compatible: fields.t: renamed from temp (its stored values are shown under the new name, and nothing of them is written "
        "anew; records that carry 'temp' are understood)"
    ]
    first, second, third = versions(TEMP, T, AIR)
    assert [list(version.keys.items()) for version in (first, second, third)] == [
        [("temp", "temp"), ("wind", "wind")], [("t", "temp"), ("wind", "wind")], [("air", "temp"), ("wind", "wind")],
    ]  # fmt: skip
    assert third.former == {"temp": "temp", "t": "temp"}
    assert [level.since for level in third.levels] == [{}, {}, {}]
    assert encode_dataset(first).count(b'"name":') == 1 + len(first.levels)  # the form of earlier releases
    assert b"former" not in encode_dataset(first)


@pytest.mark.parametrize("left", ["t", "temp", None])
def test_what_is_left_in_the_file_over_later_versions_changes_nothing(left: str | None) -> None:
    spec = {key: part for key, part in AIR["air"].items() if key != "renamed_from"} | ({"renamed_from": left} if left else {})
    assert changes([TEMP, T, AIR], {"air": spec, "wind": TEMP["wind"]}) == []
    more = changes([TEMP, T, AIR], {"air": spec, "wind": TEMP["wind"], "x": {"type": "int"}})
    assert [line.partition(" (")[0] for line in more] == ["compatible: fields.x: added, int"]


def test_a_file_that_skips_a_name_means_the_same_field() -> None:
    (line,) = changes([TEMP, T], {"air": TEMP["temp"] | {"renamed_from": "temp"}, "wind": TEMP["wind"]})
    assert line.startswith("compatible: fields.air: renamed from t (")


def test_a_dataset_that_begins_with_a_renamed_field_has_its_key() -> None:
    (only,) = versions(T)
    assert (only.keys, only.former) == ({"t": "temp", "wind": "wind"}, {"temp": "temp"})
    assert not decoded(only, {"station": "A", "time": iso_micros(START), "temp": 1.5}, START).rejected


def test_the_users_form_means_the_same_dataset() -> None:
    last = versions(TEMP, T, AIR)[-1]
    again = parse(to_yaml(document_of(last)))["weather"]
    assert "renamed_from: temp" in to_yaml(document_of(last))
    assert plan(versions(TEMP, T, AIR), again, START + 9 * DAY).verdict == "unchanged"
    assert versions(TEMP, document_of(last)["datasets"]["weather"]["fields"])[-1].keys == last.keys


REFUSALS: list[tuple[list[Fields], Fields, str]] = [
    ([TEMP], {"t": {"type": "float", "renamed_from": "tmp"}}, "there is no field 'tmp' (did you mean 'temp'?)"),
    ([TEMP], {"wind": {"type": "float", "renamed_from": "temp"}}, "'wind' is or was the name of another field"),
    ([TEMP], {"temp": {"type": "int", "renamed_from": "wind"}}, "'temp' is or was the name of another field"),
    ([TEMP, T], {"t": TEMP["temp"], "temp": {"type": "int"}}, "'temp' and 't' are names of one field"),
    ([TEMP, T, AIR], {"air": TEMP["temp"], "t": {"type": "int"}}, "'t' and 'air' are names of one field"),
    ([TEMP, T], T | {"x": {"type": "int", "path": "temp"}}, "records may still carry field 't' there"),
    ([TEMP], {"t": {"type": "int", "renamed_from": "temp"}}, "stored values of type float are not all of type int"),
    ([TEMP], {"t": {"type": "string", "renamed_from": "temp"}}, "stored values of type float are not all of type string"),
    ([TEMP], {"temp": {"type": "decimal", "scale": 2}}, "stored values of type float are not all of type decimal(2)"),
    ([{"p": {"type": "decimal", "scale": 2}}], {"p": {"type": "decimal", "scale": 1}}, "have more digits after the point"),
    ([{"p": {"type": "int"}}], {"p": {"type": "decimal", "scale": 30}}, "would not fit 38 with that scale"),
    ([TEMP, {"wind": TEMP["wind"]}], {"wind": TEMP["wind"], "temp": {"type": "int"}}, "version 1 had it as float"),
    ([TEMP, {"wind": TEMP["wind"]}], {"t": {"type": "int", "renamed_from": "temp"}}, "version 1 had it as float"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case[2])
def test_what_would_take_a_name_or_lose_digits_is_refused_at_plan(case: tuple[list[Fields], Fields, str]) -> None:
    before, wanted, sentence = case
    planned = plan(versions(*before), dataset(wanted), START + 99 * DAY)
    assert planned.verdict == "refused"
    assert planned.dataset.version == len(before)
    assert any(sentence in refusal for refusal in planned.refusals), planned.refusals


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (T | TEMP, "'temp' is declared too: a field that is renamed leaves its old name"),
        (T | {"u": T["t"]}, "field 't' is renamed from 'temp' already"),
        ({"t": {"type": "float", "renamed_from": "station"}}, "'station' cannot have been a field's name"),
    ],
)
def test_a_file_that_contradicts_itself_is_not_valid(wanted: Fields, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dataset(wanted)


def test_a_level_of_named_fields_follows_the_rename() -> None:
    named = {"hourly": {"max": ["temp"]}, "daily": ["avg"]}
    renamed = {"hourly": {"max": ["t"]}, "daily": ["avg"]}
    (first,) = versions(TEMP, aggregations=named)
    planned = plan([first], dataset(T, aggregations=renamed), START + DAY)
    assert [str(change) for change in planned.changes] == ["fields.t: renamed from temp"]
    assert planned.dataset.levels == first.levels
    assert document_of(planned.dataset)["datasets"]["weather"]["aggregations"]["hourly"] == {"max": ["t"]}
    both = {"hourly": {"max": ["t", "wind"]}, "daily": ["avg"]}
    planned = plan([first, planned.dataset], dataset(T, aggregations=both), START + 2 * DAY)
    assert [str(change) for change in planned.changes] == ["aggregations.hourly: max(t) → max(t, wind)"]


def test_a_rename_can_be_taken_back() -> None:
    world = World(TEMP)
    world.send(START + HOUR, temp=1.5)
    world.to(T, {"t": 0, "wind": 1})
    world.send(START + 2 * HOUR, t=2.5)
    planned = rollback(world.catalog, "weather", 1, world.now)
    assert [str(change) for change in planned.changes] == ["fields.temp: renamed from t"]
    world.dataset, world.plain, world.fields, world.ids = planned.dataset, plain(TEMP), TEMP, {"temp": 0, "wind": 1}
    world.send(START + 3 * HOUR, lambda name: "t" if name == "temp" else name, temp=3.5)
    world.check()
    assert world.store().query("weather")["temp"].to_pylist() == [1.5, 2.5, 3.5]


# records, by either name --------------------------------------------------------------------------------------------------

NESTED: Fields = {"wind.speed": {"type": "float", "max": 90, "required": True}, "n": {"type": "int"}}
RENAMED: Fields = {
    "wind.velocity": {**NESTED["wind.speed"], "renamed_from": "wind.speed"},
    "m": {"type": "int", "renamed_from": "n"},
}


@pytest.mark.parametrize("unknown", ["reject", "drop", "keep"])
@pytest.mark.parametrize("fast", [True, False])
def test_records_carry_either_name_and_never_both(unknown: str, fast: bool) -> None:
    *_, now = versions(NESTED, RENAMED, unknown_fields=unknown, on_invalid="null")
    validator = Validator(now)
    if not fast:
        validator._fast = validator._older = None
    assert fast is False or unknown == "keep" or validator._older is not None

    def read(**record: Any) -> Decoded:
        return validator.decode([json.dumps({"station": "A", "time": iso_micros(START)} | record).encode()], START)

    for record in (
        {"wind": {"velocity": 5.5}, "m": 1}, {"wind": {"speed": 5.5}, "n": 1}, {"wind": {"speed": 5.5}, "m": 1},
        {"wind": {"speed": None, "velocity": 5.5}, "n": 1, "m": None},
    ):  # fmt: skip
        found = read(**record)
        assert not found.rejected, (record, found.rejected)
        assert {name: float(v) for name, v in found.records[0][1].fields.items()} == {"wind.speed": 5.5, "n": 1.0}
    (fault,) = read(wind={"speed": 1, "velocity": 1}).rejected
    assert fault.reason == "the record has 'wind.velocity' and 'wind.speed', which are names of one field"
    (fault,) = read(wind={"speed": 99}).rejected
    assert fault.reason == "field 'wind.velocity' is above its maximum 90"
    (fault,) = read(n=5).rejected
    assert fault.reason == "the required field 'wind.velocity' is missing or null"


def test_a_producer_with_former_names_stays_on_the_fast_road() -> None:
    *_, now = versions(TEMP, T, AIR)
    validator = Validator(now)
    limit = START + DAY
    for name, road in (("air", validator._fast), ("t", validator._older)):
        line = json.dumps({"station": "A", "time": iso_micros(START), name: 1.5, "wind": 3}).encode()
        assert (
            road.read(line, limit)
            == Validator(versions(TEMP)[0]).decode([line.replace(f'"{name}"'.encode(), b'"temp"')], limit).records[0][1]
        )
    assert Validator(versions(TEMP)[0])._older is None


def test_an_undeclared_value_of_a_former_name_stays_with_its_field() -> None:
    """The field is renamed, dropped and declared again while undeclared values are kept: it is one field all the time."""
    without = {"wind": TEMP["wind"]}
    world = World(TEMP, unknown_fields="keep")
    world.send(START + HOUR, temp=1.5)
    world.to(T, {"t": 0, "wind": 1})
    world.send(START + 2 * HOUR, t=2.5)
    world.change(dataset(without, unknown_fields="keep"))
    for minute, name in enumerate(("temp", "t")):
        found = decoded(
            world.dataset, {"station": "A", "time": iso_micros(START + (3 + minute) * HOUR), name: 3.5}, world.now + DAY
        )
        world.put(START + (3 + minute) * HOUR, **found.records[0][1].fields)
    both = decoded(world.dataset, {"station": "A", "time": iso_micros(START), "t": 1, "temp": 1}, world.now)
    assert both.rejected[0].reason == "the record has 't' and 'temp', which are names of one field"
    assert world.store().query("weather")["temp"].to_pylist() == [1.5, 2.5, 3.5, 3.5]
    world.change(dataset({"t": TEMP["temp"]} | without, unknown_fields="keep"))
    found = world.store().query("weather")
    assert found["t"].to_pylist() == [1.5, 2.5, 3.5, 3.5]
    assert "temp" not in found.column_names


def test_undeclared_values_of_the_new_name_are_hidden_and_kept() -> None:
    world = World(TEMP, unknown_fields="keep")
    world.put(START + HOUR, temp=1, t=7)
    world.settle()
    (change,) = plan([world.dataset], dataset(T, unknown_fields="keep"), world.now).changes
    assert change.why.endswith("values of an undeclared 't' that were kept are hidden")
    world.change(dataset(T, unknown_fields="keep"))
    store = world.store()
    assert store.query("weather").column_names == ["station", "valid_time", "ref_time", "t", "wind"]
    assert store.query("weather")["t"].to_pylist() == [1.0]
    assert store.latest("weather", "A")[0]["t"] == 1.0
    assert store.query("weather", level="hourly", fields=["t"])["t_max"].to_pylist() == [1.0]
    assert not any(name.startswith("t_") and name.count("t_") > 1 for name in store.query("weather", level="hourly").column_names)
    assert "t" in read(world.backend.objects, world.catalog.manifest("weather", "raw", "A").segments[0], "valid_time").column_names


# names at the edges -------------------------------------------------------------------------------------------------------


def test_fields_are_asked_for_by_the_name_of_now() -> None:
    world = World(TEMP)
    world.send(START + HOUR, temp=1.5, wind=3)
    world.to(T, {"t": 0, "wind": 1})
    store = world.store()
    assert store.query("weather", fields=["t"]).column_names == ["station", "valid_time", "ref_time", "t"]
    hourly = store.query("weather", level="hourly", fields=["t_max", "wind"])
    assert hourly.column_names[3] == "t_max"
    assert (hourly["t_max"].to_pylist(), hourly.schema.field("t_max").metadata) == ([1.5], {b"unit": "°C".encode()})
    for level, name, now in (("raw", "temp", "t"), ("hourly", "temp", "t"), ("hourly", "temp_max", "t_max")):
        with pytest.raises(InputError, match=f"has no field '{name}' any more") as caught:
            store.query("weather", level=level, fields=[name])
        assert caught.value.hint == f"it is {now!r} now"
    with pytest.raises(InputError, match="no field 'tt'") as caught:
        store.query("weather", fields=["tt"])
    assert caught.value.hint == "did you mean 't'?"


def test_watch_names_fields_as_they_are_called_now() -> None:
    world = World(TEMP)
    world.send(START + HOUR, temp=1.5)
    world.to(T, {"t": 0, "wind": 1})
    subject = watch.Subject(world.dataset, world.dataset.levels[0], watch._fields(world.dataset, "t"))
    (one,) = watch.facts(world.backend.live, subject, ["A"], START + HOUR)
    text = watch.line(subject, one)
    assert "t=1.5" in text
    assert "t.max=1.5" in text
    assert world.backend.live.get(latest_key("weather", "A"))["fields"] == {"temp": one.latest["fields"]["temp"]}


def test_readers_without_our_code_get_the_names_of_now_by_the_view(tmp_path: Any) -> None:
    world = World({**NESTED, "t": {"type": "int"}})
    world.send(START + HOUR, **{"wind.speed": 1.5, "n": 3, "t": 1})
    world.settle()
    without = {**RENAMED, "wind.velocity": RENAMED["wind.velocity"] | {"unit": "m/s"}}
    world.to({**without, "t": {"type": "float"}}, {"wind.velocity": 0, "m": 1, "t": 2})
    world.now += HOUR
    world.backend.live.put({"pk": days_pk("weather", "A"), "sk": iso_day(START), "marked_at": to_micros(world.now)})
    world.send(world.now, **{"wind.velocity": 2.5, "t": 1.5})
    world.settle()
    files = Files(tmp_path)
    for info in world.backend.objects.list(""):
        files.put(info.key, world.backend.objects.get(info.key))
    publish(world.catalog, files, world.now)
    for level, name, time in (("raw", "weather", "valid_time"), ("hourly", "weather_hourly", "period_start")):
        with duckdb.connect() as connection:
            connection.sql("set timezone = 'UTC'")
            connection.sql(files.get(view_object("weather", level)).decode())
            found = connection.sql(f'select * from "{name}" order by {time}').to_arrow_table()
        wanted = world.store().query("weather", level=level)
        assert found.select(wanted.column_names).to_pylist() == wanted.to_pylist()
        assert not {"wind.speed", "n", "wind.speed_max"} & set(found.column_names)
    newest = max(world.catalog.manifest("weather", "raw", "A").segments, key=lambda segment: segment.first)
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"select decode(value) from parquet_kv_metadata('{files.uri(newest.key)}') where key = 'tesseract.names'"
        )
        assert json.loads(rows.fetchall()[0][0]) == {"wind.speed": "wind.velocity", "n": "m"}
