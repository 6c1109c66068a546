"""Files of every format give the same lines; a file that is not what its name says is refused in one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import InputError
from tesseract.ingestion.files import count_lines, format_of, read_lines

DATASET = parse(
    """
datasets:
  d:
    group_by: g
    time_field: t
    fields: {x: float, n: int, s: string, ok: bool, deep: {type: float, path: wind.speed}}
"""
)["d"]
RECORDS = [
    {"g": "a", "t": "2026-01-05T11:00:00Z", "x": 1.5, "wind": {"speed": 2}},
    {"g": "b", "t": "2026-01-05T11:00:00Z", "x": None},
]


def read(path, body, name="data.ndjson"):
    (path / name).write_bytes(body)
    return [json.loads(line) for line in read_lines(str(path / name), DATASET)]


def csv_of(path, text, name="data.csv"):
    return read(path, text.encode(), name)


def test_every_format_gives_the_same_records(tmp_path):
    lines = "\r\n\n".join(map(json.dumps, RECORDS)).encode()
    assert read(tmp_path, lines) == RECORDS
    assert read(tmp_path, lines, "data.jsonl") == RECORDS
    assert read(tmp_path, json.dumps(RECORDS, indent=1).encode(), "data.json") == RECORDS
    assert read(tmp_path, gzip.compress(lines), "data.ndjson.gz") == RECORDS
    assert read(tmp_path, json.dumps(RECORDS[0], indent=1).encode(), "data.json") == RECORDS[:1]
    header = "g,t,x,wind.speed\n"
    rows = "a,2026-01-05T11:00:00Z,1.5,2\nb,2026-01-05T11:00:00Z,,\n"
    nulls = [RECORDS[0], {**RECORDS[1], "wind": {"speed": None}}]
    assert csv_of(tmp_path, header + rows) == nulls
    columns = {"g": ["a", "b"], "t": ["2026-01-05T11:00:00Z"] * 2, "x": [1.5, None], "wind.speed": [2, None]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    assert [json.loads(line) for line in read_lines(str(tmp_path / "data.parquet"), DATASET)] == nulls


def test_standard_input_is_lines(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"g": 1}\n\n{"g": 2}')))
    assert list(read_lines("-", DATASET)) == [b'{"g": 1}\n', b'{"g": 2}']


def test_lines_are_passed_on_as_they_are_for_the_dataset_to_judge(tmp_path):
    (tmp_path / "x.ndjson").write_bytes(b'{"g": 1}\noops\n\xff\n')
    assert len(list(read_lines(str(tmp_path / "x.ndjson"), DATASET))) == 3


def test_cells_of_declared_numbers_are_sent_digit_for_digit_and_other_text_as_text(tmp_path):
    (tmp_path / "x.csv").write_text("g,t,x,n,s,ok,other\n007,2026,1.50,9007199254740993,5,TRUE,12\n1,2026,NA,1e3,true,no,N\n")
    first, second = read_lines(str(tmp_path / "x.csv"), DATASET)
    assert first == b'{"g":"007","t":"2026","x":1.50,"n":9007199254740993,"s":"5","ok":true,"other":12}'
    assert second == b'{"g":"1","t":"2026","x":"NA","n":1e3,"s":"true","ok":"no","other":"N"}'


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


@given(TEXT)
def test_a_cell_is_its_text_or_the_number_that_it_spells(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["g", "x", "s"], ["a", text, text]])
        (line,) = read_lines(str(path), DATASET)
    record = json.loads(line)
    assert record["s"] == (text or None)
    assert record["x"] == (text or None) or float(text) == record["x"]


def test_a_byte_order_mark_and_empty_lines_of_a_csv_are_nothing(tmp_path):
    assert csv_of(tmp_path, "\ufeffg,x\na,1\n\nb,2\n\n") == [{"g": "a", "x": 1}, {"g": "b", "x": 2}]
    assert count_lines(str(tmp_path / "data.csv")) == 2


def test_the_lines_of_a_file_are_counted_where_that_is_cheap(tmp_path):
    (tmp_path / "x.ndjson.gz").write_bytes(gzip.compress(b"{}\n\n{}\n{}"))
    assert count_lines(str(tmp_path / "x.ndjson.gz")) == 3
    assert count_lines("x.json") is None
    assert count_lines("-") is None


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("x.txt", b"", "the format 'txt' is not known (one of ndjson, jsonl, json, csv, parquet)"),
        ("x", b"", "without a suffix"),
        ("x.json", b"[1, 2", "not a JSON array"),
        ("x.json", b"5", "not a JSON array"),
        ("x.json", b"[" * 100_000, "not a JSON array"),
        ("x.parquet", b"PAR1 or not", "not a Parquet file"),
        ("x.ndjson.gz", b"not gzip", "cannot be read"),
        ("x.ndjson.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read"),
        ("x.ndjson.gz", gzip.compress(b"abcdefgh", mtime=0)[:12] + b"\xff" * 20, "cannot be read"),
        ("x.csv", b"", "is empty"),
        ("x.csv", b"g,x\na\n", "line 2: 1 cells, the header has 2"),
        ("x.csv", b"g,x\n\xff,1\n", "not a UTF-8 csv"),
        ("x.csv", b"g,g\na,b\n", "the column 'g' comes twice"),
        ("x.csv", b"g,wind.speed,wind\na,1,2\n", "'wind.speed' lies inside the column 'wind'"),
        ("x.csv", b"g,\na,1\n", "column 2 has no name"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_name_says_is_refused_in_one_sentence(tmp_path, name, body, words):
    with pytest.raises(InputError) as caught:
        read(tmp_path, body, name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"the file nowhere\.csv cannot be read: No such file"):
        list(read_lines("nowhere.csv", DATASET))
    assert format_of("a.b.CSV") == "csv"


def test_a_nan_of_a_parquet_file_is_a_null(tmp_path):
    pq.write_table(pa.table({"x": [float("nan"), 1.5]}), tmp_path / "nan.parquet")
    assert [json.loads(line) for line in read_lines(str(tmp_path / "nan.parquet"), DATASET)] == [{"x": None}, {"x": 1.5}]
