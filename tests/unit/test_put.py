"""`store.put`: dicts and tables of every library, each value exact or refused with a reason. The stage is in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import BackendError, InputError, Throttled, Undelivered
from tesseract.ingestion import client
from tesseract.ingestion.chunks import CHUNK_RECORDS, RECORD_BYTES, Refused
from tesseract.ingestion.client import Report, report_of
from tesseract.ingestion.encode import NO_NUMBER, encode_record
from tesseract.ingestion.frames import table_lines
from tesseract.ingestion.put import put, records_of
from tests.support.ingest_world import World, reading

FREE = parse("datasets: {d: {group_by: g, time_field: t}}")["d"]
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Road:
    """Direct invoke of a stage in memory."""

    by_group = False

    def __init__(self, world=None):
        self.world, self.bodies, self.calls = world, [], 0

    def __call__(self, dataset, lines, group):
        self.calls += 1
        self.bodies += [line.body for line in lines]
        if self.world is None:
            return Report(len(lines))
        records = [json.loads(line.body) for line in lines]
        return report_of(self.world.service.handle({"dataset": dataset, "records": records}, 28), lines)


def sent(data, dataset=FREE):
    road = Road()
    answer = put(road, dataset, data)
    return [body.decode() for body in road.bodies], answer


# dicts ------------------------------------------------------------------------------------------------------------------


def test_a_dict_a_list_and_a_generator_are_records():
    assert sent({"x": 1}) == (['{"x":1}'], {"accepted": 1, "rejected": []})
    assert sent([{"x": 1}, {"x": 2}])[0] == ['{"x":1}', '{"x":2}']
    assert sent({"x": x} for x in range(2))[0] == ['{"x":0}', '{"x":1}']
    assert sent([])[1] == {"accepted": 0, "rejected": []}


class Colour(str, Enum):  # noqa: UP042 - the older way, whose str() is another
    RED = "red"


class Size(StrEnum):
    BIG = "big"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 5, tzinfo=UTC), '"2026-01-05T00:00:00Z"'),
        (datetime(2026, 1, 5, 12, 0, 0, 5, timezone(timedelta(hours=1))), '"2026-01-05T12:00:00.000005+01:00"'),
        (datetime(2026, 1, 5), '"2026-01-05T00:00:00"'),  # the dataset's time_zone decides, else it is rejected
        (date(2026, 1, 5), '"2026-01-05"'),
        (Decimal("1.50"), "1.50"),
        (2**90, "1237940039285380274899124224"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.1), "0.10000000149011612"),
        (np.int64(-5), "-5"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "true"),
        (np.str_("é"), '"é"'),
        (np.datetime64("2026-01-05T00:00:00.123456789"), '"2026-01-05T00:00:00.123456789"'),
        (np.array([1, 2]), "[1,2]"),
        (pd.Timestamp("2026-01-05T00:00:00.123456789Z"), '"2026-01-05T00:00:00.123456789+00:00"'),
        (UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        (Colour.RED, '"red"'),
        (Size.BIG, '"big"'),
        ({"speed": np.int8(3), "at": [Decimal("0.1")]}, '{"speed":3,"at":[0.1]}'),
        (None, "null"),
        (True, "true"),
    ],
    ids=repr,
)
def test_values_of_python_and_numpy_are_said_exactly(value, text):
    assert encode_record({"x": value}) == f'{{"x":{text}}}'.encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), NO_NUMBER),
        (float("inf"), NO_NUMBER),
        (Decimal("NaN"), NO_NUMBER),
        (np.float32("nan"), NO_NUMBER),
        ({"deep": [1, -float("inf")]}, NO_NUMBER),
        (pd.NaT, "NaT is no value"),
        (np.datetime64("NaT"), "NaT is no value"),
        (pd.NA, "a NAType is no value of a record"),
        (b"ab", "bytes are no value; decode them to text"),
        (timedelta(1), "a timedelta is no value of a record"),
        pytest.param(object(), "an object is no value of a record", id="object"),
        ({1, 2}, "a set is no value of a record"),
        (1j, "a complex is no value of a record"),
        ("\ud800", "the record cannot be written as JSON"),
        ("x" * RECORD_BYTES, f"at most {RECORD_BYTES} can be sent"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_json_cannot_say_is_rejected_alone(value, reason):
    bodies, answer = sent([{"x": 1}, {"x": value, "n": None}, {"x": 2}])
    assert bodies == ['{"x":1}', '{"x":2}']
    assert answer["accepted"] == 2
    (rejected,) = answer["rejected"]
    assert rejected["index"] == 1
    assert reason in rejected["reason"]


def test_the_field_of_a_bad_value_is_named_and_a_list_inside_itself_ends():
    assert encode_record({"wind": {"speed": float("nan")}}).field == "wind.speed"
    endless = {}
    endless["x"] = [endless]
    assert "nested deeper" in encode_record(endless).reason
    assert encode_record(5).reason == "a record is a dict, not an int"


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.datetimes())
)
def test_a_record_is_said_exactly_or_refused(record):
    body = encode_record(record)
    bad = any(isinstance(value, float | Decimal) and not Decimal(value).is_finite() for value in record.values())
    assert isinstance(body, Refused) == bad
    if not bad:
        read = json.loads(body, parse_float=Decimal)
        assert list(read) == list(record)
        for name, value in record.items():
            if isinstance(value, float):
                assert float(read[name]) == value
            elif isinstance(value, datetime):
                assert datetime.fromisoformat(read[name]) == value
            else:
                assert read[name] == value
    else:
        assert b"\n" not in body.body


@pytest.mark.parametrize("data", ["text", b"bytes", 5, None])
def test_what_holds_no_records_is_an_error(data):
    with pytest.raises(InputError, match="holds no records"):
        records_of(data)


# tables -----------------------------------------------------------------------------------------------------------------

TABLE = pa.table({"g": ["a", "b", None], "t": pa.array([1, None, 3], pa.timestamp("s", "UTC")), "x": [1.5, None, 3.0]})
LINES = [
    '{"g":"a","t":"1970-01-01T00:00:01Z","x":1.5}',
    '{"g":"b","t":null,"x":null}',
    '{"g":null,"t":"1970-01-01T00:00:03Z","x":3.0}',
]


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        TABLE.to_pandas(),
        pl.from_arrow(TABLE),
        pl.from_arrow(TABLE).lazy(),
    ],
    ids=["Table", "RecordBatch", "RecordBatchReader", "pandas", "polars", "lazy"],
)
def test_every_table_gives_the_same_records(data):
    bodies, answer = sent(data)
    assert [body.replace(".000000Z", "Z").replace(".000Z", "Z") for body in bodies] == LINES
    assert answer == {"accepted": 3, "rejected": []}


def column(array):
    return [
        line if isinstance(line, Refused) else json.loads(line, parse_float=str)["x"]
        for line in table_lines(pa.table({"x": array}))
    ]


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([2**63 - 1, -(2**63)], pa.int64()), [2**63 - 1, -(2**63)]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([Decimal("123456789012345678901234567.890")], pa.decimal128(38, 3)), ["123456789012345678901234567.890"]),
        (pa.array([Decimal("1E+2")], pa.decimal256(50, 0)), [100]),
        (pa.array([0.1], pa.float32()), ["0.10000000149011612"]),
        (pa.array([1.5], pa.float16()), ["1.5"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array(["é"], pa.large_string()), ["é"]),
        (pa.array(["view"], pa.string_view()), ["view"]),
        (pa.array([True, None]), [True, None]),
        (pa.nulls(1), [None]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([-1, 1], pa.timestamp("ns", "UTC")), ["1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00.000000001Z"]),
        (pa.array([0], pa.timestamp("us", "America/New_York")), ["1970-01-01T00:00:00.000000Z"]),
        (pa.array([0], pa.timestamp("ms")), ["1970-01-01T00:00:00.000"]),
        (pa.array([-62135596800, 253402300799], pa.timestamp("s")), ["0001-01-01T00:00:00", "9999-12-31T23:59:59"]),
        (pa.array([{"a": 1, "t": 0}, None], pa.struct({"a": pa.int8(), "t": pa.timestamp("s")})),
         [{"a": 1, "t": "1970-01-01T00:00:00"}, None]),
        (pa.array([[1, None], None], pa.list_(pa.int8())), [[1, None], None]),
        (pa.array([[0]], pa.large_list(pa.timestamp("ns"))), [["1970-01-01T00:00:00.000000000"]]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_a_column_of_any_type_is_exact(array, values):
    assert column(array) == values


@pytest.mark.parametrize(
    ("array", "value", "reason"),
    [
        (pa.array([1.0, float("nan")]), "nan", NO_NUMBER),
        (pa.array([1.0, -float("inf")], pa.float32()), "-inf", NO_NUMBER),
        (pa.array([0, 253402300800], pa.timestamp("s")), "253402300800", "the time is outside the years 1 to 9999"),
        (pa.array([0, -(2**62)], pa.timestamp("us")), str(-(2**62)), "the time is outside the years 1 to 9999"),
        (pa.array([None, b"x"], pa.binary()), "", "bytes are no value; decode them to text"),
        (pa.array([None, 5], pa.duration("s")), "", "a value of Arrow's type duration[s] is no value of a record"),
        (pa.array([[0.5], [float("nan")]], pa.list_(pa.float64())), "nan", NO_NUMBER),
        (pa.array([{"a": 0.5}, {"a": float("nan")}]), "nan", NO_NUMBER),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_cell_that_is_no_value_refuses_its_row_alone(array, value, reason):
    first, second = column(array)
    assert not isinstance(first, Refused)
    assert (second.field, second.value, second.reason) == ("x", value, reason)


def test_missing_values_of_pandas_are_null_and_a_nan_of_polars_is_refused():
    frame = pd.DataFrame({"x": [1.5, float("nan")], "t": [pd.Timestamp(0, tz="UTC"), pd.NaT], "n": pd.array([1, pd.NA], "Int64")})
    assert json.loads(sent(frame)[0][1]) == {"x": None, "t": None, "n": None}
    answer = sent(pl.DataFrame({"x": [1.5, float("nan"), None]}))[1]
    assert (answer["accepted"], answer["rejected"][0]["index"], answer["rejected"][0]["reason"]) == (2, 1, NO_NUMBER)


def test_a_named_index_of_pandas_is_a_column_and_an_unnamed_one_is_not():
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="g"))
    assert [json.loads(body) for body in sent(frame)[0]] == [{"x": 1, "g": "a"}, {"x": 2, "g": "b"}]
    assert sent(frame[frame.x > 1].reset_index(drop=True).set_index(np.array([7])))[0] == ['{"x":2}']


def test_a_dotted_column_is_nested_and_columns_that_clash_are_an_error():
    assert sent(pa.table({"wind.speed": [1], "wind.gust": [2]}))[0] == ['{"wind":{"speed":1,"gust":2}}']
    with pytest.raises(InputError, match="lies inside"):
        sent(pa.table({"wind": [1], "wind.gust": [2]}))
    with pytest.raises(InputError, match="cannot be read as Arrow data"):
        sent(pd.DataFrame({"x": [1, "text"]}))


def test_a_large_frame_is_sent_in_parts_and_indices_are_those_of_its_rows():
    world = World()
    rows = 3 * CHUNK_RECORDS + 7
    frame = pl.DataFrame(
        {
            "g": ["a"] * rows,
            "t": [NOON - timedelta(seconds=row) for row in range(rows)],
            "x": [float("nan") if row == 4 else float(row) for row in range(rows)],
        }
    ).with_columns(pl.when(pl.int_range(rows) == rows - 1).then(pl.lit("")).otherwise("g").alias("g"))
    road = Road(world)
    answer = put(road, world.configs.get("plant"), frame)
    assert answer["accepted"] == rows - 2 == len(world.stored())
    assert [entry["index"] for entry in answer["rejected"]] == [4, rows - 1]
    assert road.calls == 4


# how it ends ------------------------------------------------------------------------------------------------------------


def test_what_the_stage_says_reaches_the_caller():
    world = World()
    answer = put(Road(world), world.configs.get("plant"), [reading(), reading(x="warm")])
    assert answer["accepted"] == 1
    assert answer["rejected"] == [
        {
            "index": 1,
            "field": "x",
            "value": "warm",
            "reason": "field 'x' is a number, not text",
            "hint": answer["rejected"][0]["hint"],
        }
    ]


def test_an_end_in_between_says_from_where_to_send_again(monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    road = Road()
    good = Road.__call__

    def call(self, dataset, lines, group):
        if lines[0].index >= CHUNK_RECORDS:
            raise Throttled("AWS throttles")
        return good(self, dataset, lines, group)

    monkeypatch.setattr(Road, "__call__", call)
    with pytest.raises(Undelivered, match=f"from index {CHUNK_RECORDS} on are not delivered") as caught:
        put(road, FREE, [{"x": x} for x in range(CHUNK_RECORDS * 2)])
    assert caught.value.first == CHUNK_RECORDS
    assert caught.value.answer == {"accepted": CHUNK_RECORDS, "rejected": []}


def test_the_first_error_is_the_error_itself():
    class Refusing(Road):
        def __call__(self, dataset, lines, group):
            raise BackendError("AWS said no")

    with pytest.raises(BackendError, match="AWS said no"):
        put(Refusing(), FREE, {"x": 1})


def test_dicts_are_sent_without_any_library_of_tables():
    script = """
import sys
from tesseract.config.dataset import Dataset
from tesseract.ingestion.client import Report
from tesseract.ingestion.put import put
class Road:
    by_group = False
    def __call__(self, dataset, lines, group):
        return Report(len(lines))
print(put(Road(), Dataset("d", 1, ("g",), "t", "r", "keep", 1, (), ()), [{"x": 1}])["accepted"])
print(*(name for name in ("pyarrow", "pandas", "polars", "numpy") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n\n"
