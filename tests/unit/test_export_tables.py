"""An export's lines as tables: the vectorised road gives what the plain one gives, row for row and type for type."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import Dataset, Field
from tesseract.errors import DamagedError, RetryError
from tesseract.model import FieldValue, Record
from tesseract.processing import archiver, export_tables
from tesseract.processing.export_lines import Chunk
from tesseract.processing.export_tables import Decoded, Known, decode, decode_file, plain
from tesseract.processing.segments import RAW
from tesseract.storage.codec import shortest
from tesseract.storage.items import history_item, raw_item
from tesseract.storage.newest import newest
from tesseract.storage.segment_reader import read
from tesseract.utils.time_utils import iso_micros
from tests.support.archive_world import START, World, temp, weather
from tests.support.export_files import change_line, item_line, remove_line

FIELDS = {
    "f": Field("float", "f"),
    "i": Field("int", "i"),
    "d": Field("decimal", "d", scale=2),
    "w": Field("int", "w", max=10**30),
    "s": Field("string", "s"),
    "b": Field("bool", "b"),
    "t": Field("timestamp", "t"),
}
DATASETS = {
    "plain": weather(name="plain", fields=FIELDS),
    "shared": weather(
        name="shared", fields={"f": Field("string", "f"), "i": Field("int", "i")}, group_by=("net", "st"), partitions=2
    ),
    "bare": weather(name="bare", fields={}),
}
GROUPS = {"plain": ["A", "B%2F%23"], "shared": ["x/1", "x/2", "y/1"], "bare": ["A"]}
numbers = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(-(2**63) - 2, -(2**63) + 2),
    st.integers(2**53 - 2, 2**53 + 2),
    st.decimals(-1000, 1000, places=2),
    st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(digits).scaleb(-30)),
    st.floats(-1e20, 1e20).filter(lambda value: not value or abs(value) > 1e-130).map(shortest),
    st.sampled_from([0, Decimal("1E-130"), Decimal("9.9E+125"), 10**15, 10**15 - 1, Decimal("0.000000000000001"), -1]),
)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda moment: iso_micros(moment.replace(tzinfo=UTC)))
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(
        ["2024-03-01T00:00:00Z", "2024-03-01", "2024-02-30T00:00:00.000000Z", "0000-01-01T00:00:00.000000Z", ':{"', "a:{", "1"]
    ),
)
anything = st.one_of(numbers, texts, moments, st.booleans())
as_declared = {
    "f": st.one_of(st.integers(-9, 9), st.decimals(-1000, 1000, places=2)),
    "i": st.integers(-(2**63), 2**63 - 1),
    "d": st.one_of(st.integers(-(10**35), 10**35), st.decimals(-1000, 1000, places=2)),
    "w": st.integers(-(10**38) + 1, 10**38 - 1),
    "s": texts,
    "b": st.booleans(),
    "t": moments,
}
undeclared = {"x": anything, "y": st.integers(-9, 9), "z": st.decimals(-9, 9, places=1), "f.g": texts}
fields = st.one_of(
    st.fixed_dictionaries({}, optional=as_declared),
    st.fixed_dictionaries({}, optional=as_declared | undeclared),
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, anything)),
)
KINDS = ["row"] * 8 + ["tombstone", "history", "removed"]
valid_times = st.one_of(
    st.integers(0, 10**6).map(lambda second: START - timedelta(seconds=second)),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
ref_times = st.none() | valid_times


@st.composite
def line(draw: st.DrawFn, full: bool, clean: bool = False) -> bytes:
    """One line of an export, as our own writers make the item."""
    kind = "row" if clean else draw(st.sampled_from(KINDS))
    dataset = DATASETS["plain" if clean else draw(st.sampled_from(["plain", "plain", "shared", "bare"]))]
    found: dict[str, FieldValue] = draw(st.fixed_dictionaries({}, optional=as_declared) if clean else fields)
    record = Record(
        draw(st.sampled_from(GROUPS[dataset.name])),
        draw(valid_times),
        draw(ref_times),
        {} if kind == "tombstone" else found,
        kind == "tombstone",
    )
    item = (history_item if kind == "history" else raw_item)(dataset, record, START)
    micros = draw(st.integers(0, 2**50))
    if full:
        return item_line(item)
    return remove_line(str(item["pk"]), str(item["sk"]), micros) if kind == "removed" else change_line(item, micros)


def chunk(lines: list[bytes]) -> Chunk:
    return Chunk("file", 1, len(lines), b"".join(found + b"\n" for found in lines))


def known() -> Known:
    return Known(DATASETS.__getitem__)


def equal(one: Decoded, other: Decoded) -> None:
    assert one.lines == other.lines
    assert one.tables.keys() == other.tables.keys()
    for name, table in one.tables.items():
        table.validate(full=True)
        assert {field.name: field.type for field in table.schema} == {field.name: field.type for field in other.tables[name].schema}
        assert table.equals(other.tables[name]), (table.to_pylist(), other.tables[name].to_pylist())


@settings(max_examples=300, deadline=None)
@given(st.booleans().flatmap(lambda full: st.tuples(st.just(full), st.lists(line(full), min_size=1, max_size=12))))
def test_the_vectorised_road_gives_what_the_plain_one_gives(drawn: tuple[bool, list[bytes]]) -> None:
    full, lines = drawn
    moment = START if full else None
    equal(decode(chunk(lines), known(), moment), plain(chunk(lines), known(), moment))


@settings(max_examples=100, deadline=None)
@given(st.lists(line(False, clean=True).filter(lambda found: b':{"}' not in found), min_size=1, max_size=12))
def test_what_is_as_declared_goes_by_the_vectorised_road(lines: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_tables, "plain", None)
        quickly = decode(chunk(lines), known(), None)
    equal(quickly, plain(chunk(lines), known(), None))


@st.composite
def alike(draw: st.DrawFn) -> tuple[bool, list[bytes]]:
    """Lines with one set of fields, removed ones among them."""
    full, ref = draw(st.booleans()), draw(st.booleans())
    printable = st.text(st.characters(categories=["L", "N", "P"], exclude_characters='"\\\\'), min_size=1, max_size=6)
    kinds = {"f": as_declared["f"], "i": as_declared["i"], "s": printable, "x": printable, "y": as_declared["i"]}
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, unique=True))
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        found = {name: draw(kinds[name]) for name in names}
        record = Record(draw(st.sampled_from(["A", "B"])), draw(valid_times), draw(valid_times) if ref else None, found)
        item = raw_item(DATASETS["plain"], record, START)
        lines.append(item_line(item) if full else change_line(item, draw(st.integers(0, 2**50))))
        if not full and draw(st.integers(0, 3)) == 0:
            lines.append(remove_line(str(item["pk"]), str(item["sk"]), 5))
    return full, [
        json.dumps(json.loads(found), ensure_ascii=False, separators=(",", ":")).encode() for found in lines
    ]  # no escapes


@settings(max_examples=100, deadline=None)
@given(alike())
def test_lines_that_are_alike_go_by_the_shortest_road(drawn: tuple[bool, list[bytes]]) -> None:
    full, lines = drawn
    moment = START if full else None
    seen = known()
    quickly = decode(chunk(lines), seen, moment)
    assert seen.alike
    equal(quickly, plain(chunk(lines), known(), moment))


OTHERS = [  # of `rows`: what is there, and what comes in its place
    (b'"i":{"N":"3"}', b'"i":{"S":"3"}'),
    (b'"i":{"N":"3"}', b'"j":{"N":"3"}'),
    (b'"i":{"N":"3"}', b'"i":{"N": "3"}'),
    (b'"i":{"N":"3"}', b'"s":{"S":"\\u0041"}'),
    (b'"i":{"N":"3"}', b'"b":{"BOOL":true}'),
    (b'"config_version"', b'"other":{"S":"1"},"config_version"'),
    (b'"NewImage"', b'"OldImage":{},"NewImage"'),
]


@pytest.mark.parametrize(("old", "new"), OTHERS)
@pytest.mark.parametrize("place", [0, 3])
def test_one_line_that_differs_is_read_as_what_it_is(old: bytes, new: bytes, place: int) -> None:
    lines = rows(6)
    lines = [lines[3], *lines] if place == 0 else lines
    assert old in lines[place]
    lines[place] = lines[place].replace(old, new)
    seen = known()
    equal(decode(chunk(lines), seen, None), plain(chunk(lines), known(), None))
    assert not seen.alike


@pytest.mark.parametrize("bad", [b"\t", b"\r", b"\x00", b"\x7f\xff"])
def test_a_character_that_json_has_not_is_damage(bad: bytes) -> None:
    lines = [found.replace(b'"i":{"N":"', b'"s":{"S":"' + (bad if place == 3 else b"")) for place, found in enumerate(rows(5))]
    with pytest.raises(DamagedError):
        decode(chunk(lines), known(), None)


def file(lines: list[bytes]) -> tuple[io.BytesIO, str]:
    body = gzip.compress(b"\n".join(lines))
    return io.BytesIO(body), b64encode(hashlib.md5(body).digest()).decode()


def rows(count: int) -> list[bytes]:
    records = (Record("A", START + timedelta(seconds=place), None, {"i": place}) for place in range(count))
    return [change_line(raw_item(DATASETS["plain"], record, START), 1) for record in records]


def test_a_file_of_many_chunks_comes_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_tables, "CHUNK", 4000)
    stream, md5 = file(rows(20_000))
    parts = [
        table["i"].to_pylist() for found in decode_file(stream, "k", md5, 20_000, known(), None) for _, table in found.values()
    ]
    assert len(parts) > 1
    assert [value for part in parts for value in part] == list(range(20_000))


def test_damage_among_lines_that_ttl_removed_is_found() -> None:
    lines = [remove_line("plain#A#2024-03-01", "2024-03-01T00:00:00.000000Z", 5) for _ in range(3)]
    with pytest.raises(DamagedError, match="line 3 "):
        decode(chunk([*lines[:2], lines[2].replace(b"5", b"x"), *rows(2)]), known(), None)


@pytest.mark.parametrize(
    "bad", [b"{}", b"[1]", b'{"Metadata":', rows(1)[0].replace(b'{"N":"0"}', b'{"NULL":true}'), rows(1)[0] * 2]
)
def test_a_line_that_does_not_decode_is_named(bad: bytes) -> None:
    lines = rows(5)
    stream, md5 = file([*lines[:3], bad, *lines[3:]])
    with pytest.raises(DamagedError, match="line 4 of the export does not decode"):
        list(decode_file(stream, "k", md5, 6, known(), None))


def test_rows_of_a_dataset_that_nobody_knows_are_not_taken() -> None:
    def load(name: str) -> Dataset:
        raise RetryError("unknown", key=name)

    stream, md5 = file(rows(1))
    with pytest.raises(RetryError, match="unknown"):
        list(decode_file(stream, "k", md5, 1, Known(load), None))


def small(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(export_tables, "CHUNK", 1000)
    monkeypatch.setattr(archiver, "BUDGET", 0)
    monkeypatch.setattr("tesseract.processing.export_lines.PIECE", 1000)
    world = World(parts=1)
    for second in range(40):
        for group in "AB":
            world.put(group, START + timedelta(seconds=second), temp("1.5", second))
    world.open()
    return world


def test_what_is_more_than_the_budget_is_written_before_and_committed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(monkeypatch)
    (task,) = world.collect()
    done = world.work(task)
    assert (done.rows, done.partitions, done.commits) == (80, 2, 2)
    manifest = world.catalog.manifest("weather", RAW, "A")
    assert manifest.version == 1
    assert len(manifest.segments) > 5
    tables = [read(world.backend.objects, segment, "valid_time") for segment in manifest.segments]
    table, _ = newest(tables, archiver.Partition.of(world.dataset, RAW, "A").order)
    assert table["wind"].to_pylist() == list(range(40))
    before = world.state()
    assert world.work(task).commits == 0
    assert world.state() == before


def test_a_file_that_turns_out_damaged_at_its_end_commits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(monkeypatch)
    (task,) = world.collect()
    body = bytearray(world.backend.objects.get(task.key))
    body[9] ^= 1
    world.backend.objects.put(task.key, bytes(body))
    with pytest.raises(DamagedError, match="MD5"):
        world.work(task)
    assert world.catalog.groups("weather", RAW) == []
    assert world.catalog.manifest("weather", RAW, "A").version == 0
