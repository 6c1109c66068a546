"""Files of every format give the same lines; a file that is not what its name says is refused in one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.errors import InputError
from tesseract.ingestion.chunks import Refused
from tesseract.ingestion.files import Source, expand, format_of, read_lines

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


def test_how_far_a_file_is_read_is_known(tmp_path):
    lines = b"".join(b'{"x": %d}\n' % x for x in range(100_000))
    table = pa.table({"x": list(range(5))})
    pq.write_table(table, tmp_path / "x.parquet")
    for name, body, total in (
        ("x.ndjson", lines, len(lines)),
        ("x.ndjson.gz", gzip.compress(lines), len(gzip.compress(lines))),
        ("x.csv", b"x\n1\n2\n", 6),
        ("x.json", b"[1, 2, 3]", 3),
        ("x.parquet", None, 5),
    ):
        if body:
            (tmp_path / name).write_bytes(body)
        source = Source(str(tmp_path / name), DATASET)
        seen = [source.done for _ in source]
        assert (source.total, source.done) == (total, total), name
        assert seen == sorted(seen)


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'{"g": 1}\n{"g": 2}\n',))
    writer.start()
    source = Source(str(pipe), DATASET, "ndjson")
    assert list(source) == [b'{"g": 1}\n', b'{"g": 2}\n']
    assert source.total == 0
    writer.join()


def test_patterns_are_files_in_order(tmp_path):
    for name in ("b.csv", "a.csv", "[odd].csv"):
        (tmp_path / name).touch()
    assert [Path(name).name for name in expand([str(tmp_path / "?.csv"), "-", __file__])] == [
        "a.csv",
        "b.csv",
        "-",
        Path(__file__).name,
    ]
    assert expand([str(tmp_path / "[odd].csv")]) == [str(tmp_path / "[odd].csv")]  # there is a file of that very name
    with pytest.raises(InputError, match=r"no file matches .*\*\.json"):
        expand([str(tmp_path / "*.json")])
    with pytest.raises(InputError, match=r"the file plain\.csv cannot be read: No such file"):
        expand([__file__, "plain.csv"])


def test_a_format_can_be_named(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"g,x\na,1\n")))
    assert list(Source("-", DATASET, "csv")) == [b'{"g":"a","x":1}']


def test_a_byte_order_mark_of_lines_is_nothing(tmp_path):
    assert read(tmp_path, b'\xef\xbb\xbf{"g": 1}\n{"g": 2}') == [{"g": 1}, {"g": 2}]


def test_a_csv_row_of_another_length_is_refused_alone(tmp_path):
    (tmp_path / "x.csv").write_text("g,x\na\nb,2\nc,3,4\n")
    first, good, last = read_lines(str(tmp_path / "x.csv"), DATASET)
    assert first == Refused(b'["a"]', "", "", "line 2 has 1 cells, the header has 2")
    assert good == b'{"g":"b","x":2}'
    assert last == Refused(b'["c","3","4"]', "", "", "line 4 has 3 cells, the header has 2")


def test_cells_of_epochs_and_decimals_are_numbers(tmp_path):
    dataset = parse(
        "datasets: {d: {group_by: g, time_field: t, time_format: epoch_ms, "
        "fields: {p: {type: decimal, scale: 2}, at: {type: timestamp}}}}"
    )["d"]
    (tmp_path / "x.csv").write_text("g,t,p,at\n1,1767610800000,1.50,2026\n")
    assert list(read_lines(str(tmp_path / "x.csv"), dataset)) == [b'{"g":"1","t":1767610800000,"p":1.50,"at":"2026"}']


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


def test_a_nan_of_a_parquet_file_is_refused_and_a_null_is_null(tmp_path):
    pq.write_table(pa.table({"g": ["a", "b", "c"], "x": [float("nan"), None, 1.5]}), tmp_path / "nan.parquet")
    nan, null, value = read_lines(str(tmp_path / "nan.parquet"), DATASET)
    assert (nan.body, nan.field, nan.value) == (b'{"g": "a", "x": NaN}', "x", "nan")
    assert nan.reason.startswith("NaN and infinities are no values")
    assert [null, value] == [b'{"g":"b","x":null}', b'{"g":"c","x":1.5}']
