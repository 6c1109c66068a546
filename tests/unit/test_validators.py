"""JSON to records, or to the reason why not: the fast road and the slow one agree, and nothing that is sent breaks anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import InputError
from tesseract.ingestion.bodies import split as split_bytes
from tesseract.ingestion.validators import MAX_ITEM_BYTES, Validator
from tesseract.storage.codec import item_bytes, item_to_json, item_to_wire, number_text, shortest
from tesseract.storage.items import raw_item, records_of
from tesseract.storage.keys import MAX_GROUP_BYTES, segment_object, split_group
from tesseract.storage.memory import MemoryTable

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
DECLARED = parse(
    """
datasets:
  plant:
    group_by: [site, machine.id]
    time_field: at
    ref_time_field: seen
    fields:
      temp: { type: float, missing: [NA, -9999.9], min: -50, max: 0.3 }
      count: { type: int, missing: [-1], min: 0, max: 9223372036854775807 }
      name: { type: string, missing: ["", "-"] }
      ok: { type: bool, missing: [unknown] }
      speed: { type: float, path: wind.speed, missing: [-9999] }
      gust: { type: float, path: wind.gust.max }
      must: { type: int, required: true, missing: [NA] }
"""
)["plant"]
FREE = parse('{"datasets": {"free": {"group_by": "g", "time_field": "t"}}}')["free"]
GOOD = {"site": "a", "machine": {"id": 7}, "at": "2026-01-05T11:00:00Z", "wind": {"speed": 1.5, "gust": {"max": 2}}, "must": 1}


def decode(dataset, *records, fast=True):
    validator = Validator(dataset)
    if not fast:
        validator._fast = None
    return validator.decode([r if isinstance(r, bytes) else json.dumps(r).encode() for r in records], NOW)


def free(**fields):
    return decode(FREE, {"g": "a", "t": "2026-01-05T11:00:00Z", **fields})


def reason(decoded):
    assert not decoded.records
    (rejection,) = decoded.rejected
    return rejection.reason


def fields_of(decoded):
    assert not decoded.rejected
    ((_, record),) = decoded.records
    return record.fields


# the two roads ----------------------------------------------------------------------------------------------------------

EDGES = [0, -0.0, 0.1, 0.3, 0.30000000000000004, -50, -50.0, 1e-131, 1e-130, 1e126, 2**53 + 1, 2**63, 10**300]
NUMBERS = st.one_of(st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(EDGES))
SENTINELS = st.sampled_from(["NA", "-", "unknown", -1, -9999, -9999.9])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), SENTINELS)
ODD = st.recursive(SCALARS, lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=3), part, max_size=2))
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
SPELLINGS = """2026-01-05T11:00Z 2026-01-05t11:00:00z 2026-01-05T11:00:00+0100 2026-01-05T11:00:00.1234567Z 20260105T110000Z
    2026-W02-1T00:00:00Z 2026-01-05T11:00:00,5Z 2026-01-05 2026-01-05T11:00:00 0001-01-01T00:00:00+01:00 now
    9999-12-31T23:59:59-01:00 2026-01-05T24:00:00Z 2026-01-05T11:00:60Z 2026-01-05T11:59:59.9999999Z"""
TIMES = st.datetimes(timezones=st.none() | ZONES).map(datetime.isoformat) | st.sampled_from(["", *SPELLINGS.split()])
OPTIONAL = {"seen": TIMES, "temp": NUMBERS, "count": NUMBERS, "name": st.text(max_size=5), "ok": st.booleans()}


@st.composite
def readings(draw):
    """Records as declared, but for a few values that are anything."""
    record = {"site": draw(st.text(max_size=4)), "machine": {"id": draw(st.integers() | st.text(max_size=3))}, "at": draw(TIMES)}
    record |= {"must": draw(st.integers(-5, 5)), "wind": {"speed": draw(NUMBERS), "gust": {"max": draw(NUMBERS)}}}
    record |= draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    for name in draw(st.lists(st.sampled_from([*record, *OPTIONAL, "extra", "wind.speed"]), max_size=2)):
        record[name] = draw(ODD)
    for name in draw(st.lists(st.sampled_from(list(record)), max_size=1)):
        del record[name]
    return record


def outcome(dataset, line, fast):
    decoded = decode(dataset, line, fast=fast)
    records = [record for _, record in decoded.records]
    types = [{name: type(value) for name, value in record.fields.items()} for record in records]
    return records, types, decoded.rejected


@given(readings())
@settings(max_examples=250, deadline=None)
def test_both_roads_give_the_same_records_and_the_same_reasons(record):
    line = json.dumps(record).encode()
    assert outcome(DECLARED, line, True) == outcome(DECLARED, line, False)


FLAT = parse("datasets: {f: {group_by: g, time_field: t, unknown_fields: drop, fields: {a: float, b: int}}}")["f"]


@given(st.dictionaries(st.sampled_from(["a", "b", "x", "x.y", "y"]), ODD, max_size=4))
@settings(max_examples=150, deadline=None)
def test_what_is_dropped_never_decides_whether_a_record_is_taken(values):
    record = {"g": "a", "t": "2026-01-05T11:00:00Z", **values}
    declared = {name: value for name, value in record.items() if name in "gtab"}
    for fast in (True, False):
        assert outcome(FLAT, json.dumps(record).encode(), fast)[0] == outcome(FLAT, json.dumps(declared).encode(), fast)[0]


def test_a_record_as_declared_takes_the_fast_road():
    validator = Validator(DECLARED)
    assert validator._fast.read(json.dumps(GOOD).encode(), NOW) == decode(DECLARED, GOOD, fast=False).records[0][1]
    assert Validator(FREE)._fast is None


def carried_and_made(dataset, line):
    """The items of the records on a line, as the body of a call carries them and as their values make them."""
    items = [raw_item(dataset, record, NOW) for _, record in decode(dataset, line).records]
    return [msgspec.json.decode(item_to_json(item)) for item in items], [item_to_wire(item) for item in items]


@given(readings())
@settings(max_examples=150, deadline=None)
def test_the_form_that_is_made_with_the_values_is_that_of_the_values(record):
    carried, made = carried_and_made(DECLARED, json.dumps(record).encode())
    assert carried == made


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e-4, 1e-4) | st.floats(1e15, 1e17))
@settings(max_examples=250, deadline=None)
def test_a_double_has_the_digits_of_its_repr_on_both_roads(value):
    line = json.dumps({"g": "a", "t": "2026-01-05T11:00:00Z", "a": value}).encode()
    assert outcome(FLAT, line, True) == outcome(FLAT, line, False)
    carried, made = carried_and_made(FLAT, line)
    assert carried == made
    assert all(item["fields"]["M"]["a"] == {"N": number_text(shortest(value))} for item in carried)


def test_names_of_fields_are_names_whatever_they_look_like():
    names = ["it's", '"', "{t0}", "'+limit+'", "class", "read", "\\", "\n", "\U0001f600", "#", "a b", "%s", "__import__('os')"]
    members = {f"f{index}": index + 0.5 for index in range(len(names))}
    fields = {name: msgspec.structs.replace(FLAT.fields["a"], path=path) for name, path in zip(names, members, strict=True)}
    dataset = msgspec.structs.replace(FLAT, fields=fields)
    line = json.dumps({"g": "a", "t": "2026-01-05T11:00:00Z", **members}).encode()
    record = Validator(dataset)._fast.read(line, NOW)
    assert record.fields == {name: Decimal(f"{index}.5") for index, name in enumerate(names)}
    carried, made = carried_and_made(dataset, line)
    assert carried == made


# whatever comes ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60) | ODD.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_record_or_a_reason(line):
    for dataset in (DECLARED, FLAT, FREE):
        decoded = decode(dataset, line)
        assert len(decoded.records) + len(decoded.rejected) == 1


@given(st.dictionaries(st.text(max_size=4), ODD, max_size=5), st.text(max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_is_accepted_can_be_stored_and_comes_back_equal(values, group):
    table = MemoryTable()
    for _, record in decode(FREE, {**values, "g": group, "t": "2026-01-05T11:00:00Z"}).records:
        item = raw_item(FREE, record, NOW)
        table.put(item)
        assert records_of(table.get((item["pk"], item["sk"])), record.group) == [record]
        assert split_group(record.group) == (group,)


# values -----------------------------------------------------------------------------------------------------------------


def test_undeclared_scalars_are_taken_as_they_come_nested_ones_dotted():
    record = {
        "wind": {"speed": 1.50, "gust": {"max": 3}},
        "big": 2**63,
        "least": -(2**63),
        "on": True,
        "name": "é#/ ",
        "none": None,
    }
    fields = fields_of(free(**record))
    assert fields == {
        "wind.speed": Decimal("1.5"),
        "wind.gust.max": 3,
        "big": Decimal("9223372036854776000"),  # the nearest double, as its shortest text
        "least": -(2**63),
        "on": True,
        "name": "é#/ ",
    }
    assert float(fields["big"]) == 2.0**63
    assert isinstance(fields["least"], int)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "9" * 5000, "1e126", "1e-131", "-1e-200"])
def test_a_number_that_cannot_be_kept_is_refused(text):
    line = b'{"g": "a", "t": "2026-01-05T11:00:00Z", "x": ' + text.encode() + b"}"
    assert "fit" in reason(decode(FREE, line)) or "not JSON" in reason(decode(FREE, line))


@pytest.mark.parametrize("where", ["value", "name", "group"])
@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800 and more text", r"\udfff and more text"])
def test_half_a_surrogate_pair_is_refused(where, escape):
    line = '{"g": "G", "t": "2026-01-05T11:00:00Z", "N": "V"}'.replace({"value": "V", "name": "N", "group": "G"}[where], escape)
    assert "not JSON" in reason(decode(FREE, line.encode()))


def test_bytes_that_are_not_utf8_are_refused():
    assert "not JSON" in reason(decode(FREE, b'{"g": "a", "t": "2026-01-05T11:00:00Z", "x": "\xff"}'))
    assert "not JSON" in reason(decode(DECLARED, b'{"site": "\xff"}'))


@pytest.mark.parametrize(("value", "accepted"), [(0.1, True), (0.3, True), (0.30000000000000004, False), (-50, True), (-51, False)])
@pytest.mark.parametrize("fast", [True, False])
def test_a_bound_itself_is_within_bounds(value, accepted, fast):
    decoded = decode(parse("datasets: {b: {group_by: site, time_field: at, fields: {x: {type: float, min: -50, max: 0.3}}}}")["b"],
                     {"site": "a", "at": "2026-01-05T11:00:00Z", "x": value}, fast=fast)  # fmt: skip
    assert bool(decoded.records) == accepted


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"temp": "warm"}, "temp", "is a number, not text"),
        ({"temp": True}, "temp", "not a truth value"),
        ({"temp": [1]}, "temp", "a list is not a value"),
        ({"temp": -50.1}, "temp", "below its minimum -50"),
        ({"count": 1.5}, "count", "an integer, not a fraction"),
        ({"count": 2**63}, "count", "64 bits"),
        ({"name": 5}, "name", "is text, not a number"),
        ({"ok": "yes"}, "ok", "true or false, not text"),
        ({"must": None}, "must", "missing or null"),
        ({"must": "NA"}, "must", "missing or null"),
        ({"extra": 1}, "extra", "no field 'extra' is declared"),
        ({"extra": [1]}, "extra", "no field 'extra' is declared"),
        ({"site": None}, "site", "the group field 'site' is missing"),
        ({"site": ""}, "site", "non-empty text or an integer"),
        ({"site": 1.5}, "site", "non-empty text or an integer"),
        ({"site": True}, "site", "non-empty text or an integer"),
        ({"site": "é" * 80}, "site", "longer than 450 bytes"),
        ({"site": ["a"]}, "site", "a list is not a value"),
        ({"at": None}, "at", "the time field 'at' is missing"),
        ({"at": 1767610800}, "at", "ISO 8601 text"),
        ({"at": "yesterday"}, "at", "not a time"),
        ({"at": "2026-01-05T11:00:00"}, "at", "no zone"),
        ({"at": "0001-01-01T00:00:00+01:00"}, "at", "outside the years 1 to 9999"),
        ({"at": "9999-12-31T23:59:59-01:00"}, "at", "outside the years 1 to 9999"),
        ({"at": "2026-01-05T13:00:01Z"}, "at", "lies in the future"),
        ({"at": "9999-12-31T23:59:59Z"}, "at", "lies in the future"),
        ({"seen": "2026-01-05T11:00:00"}, "seen", "no zone"),
        ({"wind.speed": 1}, "wind.speed", "comes twice"),
    ],
)
def test_each_fault_has_a_field_and_a_reason(changes, field, words):
    (rejection,) = decode(DECLARED, GOOD | changes).rejected
    assert rejection.field == field
    assert words in rejection.reason


@pytest.mark.parametrize(
    ("name", "words"),
    [("valid_time", "a name that results use"), ("rows", "a name that results use"), ("__x", "a name that results use"),
     ("", "1 to 255 characters"), (".", "1 to 255 characters"), ("n" * 256, "1 to 255 characters")],
)  # fmt: skip
def test_an_undeclared_field_may_not_have_every_name(name, words):
    assert words in reason(free(**{name: 1}))


def test_objects_may_be_nested_sixteen_deep():
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = {"d": value}
        return value

    assert fields_of(free(d=nested(15))) == {".".join("d" * 16): 1}
    assert "nested deeper than 16" in reason(free(d=nested(17)))
    for depth in (100, 980, 995, 1000, 100_000):
        line = b'{"g": "a", "t": "2026-01-05T11:00:00Z", "x": ' + b"[" * depth + b"]" * depth + b"}"
        assert reason(decode(FREE, line))


def test_sentinels_and_nulls_are_absent_fields():
    record = GOOD | {"temp": "NA", "count": -1, "name": "-", "ok": "unknown", "wind": None}
    for fast in (True, False):
        assert fields_of(decode(DECLARED, record, fast=fast)) == {"must": 1}
    assert fields_of(decode(DECLARED, GOOD | {"temp": -9999.9, "count": -1.0})) == {"speed": Decimal("1.5"), "gust": 2, "must": 1}


@pytest.mark.parametrize("group", ["#", "/", "%", "a b", "😀", "\x00", "%2F", "a#b/c%d", "..", "~", "7"])
def test_a_group_may_be_any_text_and_forges_no_key(group):
    ((_, record),) = decode(FREE, {"g": group, "t": "2026-01-05T11:00:00Z"}).records
    assert split_group(record.group) == (group,)
    assert raw_item(FREE, record, NOW)["pk"].count("#") == 2


def test_the_longest_group_still_fits_the_key_of_an_object():
    group = "%F0" * (MAX_GROUP_BYTES // 3)
    assert len(segment_object("d" * 64, "daily@1767614400000000", group, "quarterly", "2026-W01", "u" * 64)) <= 1024


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-05T11:00:00Z", datetime(2026, 1, 5, 11, tzinfo=UTC)),
        ("2026-01-05T11:00:00+05:30", datetime(2026, 1, 5, 5, 30, tzinfo=UTC)),
        ("2026-01-05 11:00-01:00", datetime(2026, 1, 5, 12, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("2026-01-05T11:00:00.1234567Z", datetime(2026, 1, 5, 11, 0, 0, 123457, tzinfo=UTC)),
        ("2026-01-05T13:00:00Z", datetime(2026, 1, 5, 13, tzinfo=UTC)),  # now + max_future exactly
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_times_of_any_zone_become_utc(text, moment, fast):
    ((_, record),) = decode(DECLARED, GOOD | {"at": text, "seen": text}, fast=fast).records
    assert (record.valid_time, record.ref_time) == (moment, moment)


@pytest.mark.parametrize("count", [1, 60])
def test_a_record_too_large_for_an_item_is_refused_however_its_text_is_spread(count):
    config = {"group_by": "g", "time_field": "t", "fields": {f"s{i}": "string" for i in range(count)}}
    dataset = parse(json.dumps({"datasets": {"s": config}}))["s"]
    for length, accepted in ((380_000 // count, True), (400_000 // count, False)):
        decoded = decode(dataset, {"g": "a", "t": "2026-01-05T11:00:00Z", **{f"s{i}": "x" * length for i in range(count)}})
        assert bool(decoded.records) == accepted
    assert "larger than" in decoded.rejected[0].reason
    many = free(**{f"{i:04}" + "n" * 240: i for i in range(2000)})
    assert f"larger than {MAX_ITEM_BYTES}" in reason(many)
    assert item_bytes({"s": "x" * 10}) == 11


def test_a_rejection_is_short_however_long_the_record():
    for record in ({"n" * 100_000: 1}, {"x": "v" * 100_000, "y" * 300: 2}, {"g": "g" * 100_000}, {"t": "t" * 100_000}):
        (rejection,) = decode(DECLARED, GOOD | record).rejected
        assert len(json.dumps(msgspec.structs.asdict(rejection))) < 700


# bodies -----------------------------------------------------------------------------------------------------------------


def split(body):
    return [bytes(line) for line in split_bytes(body, envelope=False)]


def test_a_body_is_an_object_an_array_or_lines():
    assert split(b' {"a": 1} ') == [b'{"a": 1}']
    assert split(b'{\n "a":\n 1\n}\n') == [b'{\n "a":\n 1\n}']
    assert split(b'[{"a": 1},\n {"a": 2}, 3]') == [b'{"a": 1}', b'{"a": 2}', b"3"]
    assert split(b'{"a": 1}\r\n\n{"a": 2}\n') == [b'{"a": 1}', b'{"a": 2}']
    assert split(b'\xef\xbb\xbf{"a": 1}') == [b'{"a": 1}']
    assert split(b"[]") == []


def test_a_bad_line_leaves_the_others_alone():
    assert len(split(b'{"a": 1}\noops\n{"a": 2}')) == 3
    assert len(split(b'oops\n{"a": 1}\n{"a": 2}')) == 3


@pytest.mark.parametrize(
    "body", [b"", b" \n\t", b"[1, 2", b"[1] 2", b"[" * 100_000, b"a,b\n1,2\n", b"hello", b"\xff\xfe", b"null", b"17"]
)
def test_a_body_that_is_none_of_these_is_refused_in_one_sentence(body):
    with pytest.raises(InputError, match="the body is"):
        split_bytes(body, envelope=False)


def test_a_ref_time_outside_the_years_is_rejected_on_the_fast_road_too():
    dataset = parse("datasets: {d: {group_by: g, time_field: t, ref_time_field: r, fields: {x: float}}}")["d"]
    line = b'{"g": "a", "t": "2026-01-05T11:00:00Z", "r": "0001-01-01T00:00:00+01:00", "x": 1}'
    decoded = Validator(dataset).decode([line], datetime(2026, 1, 6, tzinfo=UTC))
    assert decoded.records == []
    assert [(entry.field, entry.reason) for entry in decoded.rejected] == [("r", "the time is outside the years 1 to 9999")]
