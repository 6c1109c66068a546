"""`tesseract query`: what it passes on, what it writes while it reads, and what it says of the plan."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract import cli
from tesseract.cli import progress
from tesseract.cli.columns import csv_rows, json_rows
from tesseract.cli.output import FORMATS, write_batches
from tesseract.errors import RetryError
from tesseract.model import Window
from tesseract.utils.text import cell, json_objects
from tesseract.utils.time_utils import to_micros

from .query_world import NOW, START, World, values

HOUR = timedelta(hours=1)
RANGE = ["--start", "2026-03-01", "--end", "2026-03-21"]


@pytest.fixture
def world(monkeypatch):
    made = World()
    for group in ("KJFK", "KLGA"):
        made.archive([(START + at * HOUR, values(at + 1), False, START) for at in range(60)], group)
    made.buffer(NOW - HOUR, values(3), group="KJFK")
    made.progress(START + timedelta(days=10), START)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    return made


def ask(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["query", "w", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def cells(capsys, *arguments: str) -> list[dict[str, str]]:
    code, out, err = ask(capsys, *arguments, "-f", "csv")
    assert (code, err) == (0, "")
    return list(csv.DictReader(out.splitlines()))


def test_rows_are_chosen(world, capsys):
    warm = cells(capsys, *RANGE, "--where", "temp > 14.5")
    assert [(row["station"], row["temp"]) for row in warm] == [("KJFK", "14.75"), ("KLGA", "14.75")]
    assert [row["n"] for row in cells(capsys, "KJFK", *RANGE, "--limit", "2")] == ["1", "2"]
    newest = cells(capsys, "K*", *RANGE, "--limit", "2", "--order", "desc")
    assert [row["valid_time"] for row in newest] == ["2026-03-20T11:00:00Z", "2026-03-03T11:00:00Z"]
    assert {row["station"] for row in cells(capsys, "K[L]*", *RANGE)} == {"KLGA"}


def test_a_dry_run_shows_the_plan_and_reads_no_row(world, capsys, monkeypatch):
    monkeypatch.setattr(world.backend.objects, "get", None)
    code, out, err = ask(capsys, "KJFK", *RANGE, "--dry-run", "-f", "json")
    plan = json.loads(out)
    assert code == 0
    assert [row["source"] for row in plan] == ["archive", *["buffer"] * 12]
    assert {name: value for name, value in plan[0].items() if name not in ("to", "bytes")} == {
        "source": "archive",
        "group": "KJFK",
        "what": "archive/raw/KJFK/1.parquet",
        "from": "2026-03-01T00:00:00Z",
        "rows": 60,
        "requests": 1,
    }
    total = sum(row["rows"] for row in plan)
    assert err.startswith(f"about {total} rows, 16 requests (3 of them to the catalog and the marks), ")
    assert "day 2026-03-20" in ask(capsys, "KJFK", *RANGE, "--dry-run")[1]
    _, out, _ = ask(capsys, "KJFK", "--all", "--dry-run", "-f", "csv")
    assert out.splitlines()[0] == "source,group,what,from,to,rows,requests,bytes"


def test_explain_holds_estimates_against_counts(world, capsys):
    code, out, err = ask(capsys, "KJFK", *RANGE, "--explain", "-f", "csv")
    assert (code, len(out.splitlines())) == (0, 62)
    lines = [line.split() for line in err.splitlines()]
    (requests,) = (line for line in lines if line[:2] == ["S3", "requests"])
    assert requests == ["S3", "requests", "1", "1"]
    for name in ("S3", "DynamoDB"):
        for what in ("requests", "bytes"):
            assert len([line for line in lines if line[:2] == [name, what] and line[3] != "0"]) == 1
    assert ["only", "archive", "60"] in lines
    assert ["only", "buffer", "1"] in lines
    assert err.index("the plan, estimated") < err.index("archive/raw/KJFK/1.parquet") < err.index("only archive")


def test_a_plot_takes_the_place_of_the_table(world, capsys, tmp_path):
    path = tmp_path / "w.svg"
    assert ask(capsys, *RANGE, "--plot", str(path)) == (0, "", f"{path}: 121 rows drawn\n")
    assert ">[°C]<" in path.read_text()
    code, out, err = ask(capsys, *RANGE, "--level", "daily", "--plot", str(path), "-f", "csv", "--explain")
    assert (code, len(out.splitlines())) == (0, 8)
    assert f"{path}: 7 rows drawn" in err
    assert ">w, daily<" in path.read_text()


def test_any_interval_with_its_gaps_filled(world, capsys):
    span = ["KJFK", "--start", "2026-03-03T09:00:00Z", "--end", "2026-03-03T15:00:00Z", "--fields", "n"]
    found = cells(capsys, *span, "--every", "2h", "--stats", "avg,count", "--fill", "previous")
    assert [(row["rows"], row["n_count"], row["n_avg"], row["filled"]) for row in found] == [
        ("2", "2", "59.5", "false"),
        ("0", "0", "59.5", "true"),
        ("0", "0", "59.5", "true"),
    ]
    assert [row["n_avg"] for row in cells(capsys, *span, "--every", "2h", "--stats", "avg", "--fill", "-1")][1:] == ["-1.0", "-1.0"]
    local = cells(capsys, "KJFK", *RANGE, "--level", "daily", "--tz", "America/New_York", "--fields", "n_sum")
    assert local[0]["period_start"] == "2026-03-01T00:00:00-05:00"


def test_of_a_past_state_it_says_how_much_it_holds_for_sure(world, capsys):
    start, end = to_micros(START - HOUR), to_micros(START)
    world.store.catalog.open_window(Window(start, end, "closed", closed_at=end))
    for arguments, says in (
        ([], "of writes before 2026-03-01T00:00:00Z all are in the state of then, of later ones some may be"),
        (["--level", "daily"], "how far the state of then was complete is not known"),
        (["--every", "1d"], "how far the state of then was complete is not known"),
    ):
        code, _, err = ask(capsys, *RANGE, "--as-of", "2026-03-20T12:00:00Z", *arguments)
        assert (code, err) == (0, says + "\n")


def test_several_groups_of_latest_and_no_revisions(world, capsys):
    assert cli.run(["latest", "w", "KLGA", "KJFK", "-f", "csv"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["KJFK", "KLGA"]
    assert cli.run(["revisions", "w", "KJFK"]) == 1
    assert capsys.readouterr().err.startswith("error: dataset w keeps no revisions")


def test_what_is_wrong_shows_before_the_first_row(world, capsys, tmp_path):
    path = tmp_path / "rows.csv"
    for arguments, says in (
        (["KJFC"], "dataset w has no group 'KJFC' (did you mean 'KJFK'?)"),
        (["--where", "tmp > 1"], "where: "),
        (["--plot", "x.gif"], "a plot is not written as 'x.gif' (name a file that ends in .png, .svg or .pdf)"),
    ):
        code, out, err = ask(capsys, *arguments, *RANGE, "-f", "csv")
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {says}")
        assert ask(capsys, *arguments, *RANGE, "-o", str(path))[0] == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fill", "null"], "--fill goes with --every"),
        (["--stats", "avg"], "--stats goes with --every"),
        (["--every", "1h", "--order", "desc"], "--order does not go with --every"),
        (["--every", "1h", "--level", "daily"], "--level does not go with --every"),
        (["--every", "1h", "--known-at", "now"], "--known-at does not go with --every"),
        (["--dry-run", "--plot", "a.png"], "--plot does not go with --dry-run"),
        (["--dry-run", "--explain"], "--explain does not go with --dry-run"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(world, capsys, arguments, says):
    code, out, err = ask(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {says}")


def test_progress_is_told_where_the_rows_go_elsewhere(world, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    _, _, err = ask(capsys, *RANGE, "-o", str(tmp_path / "rows.parquet"))
    assert err.splitlines()[-1] == "w: 121 rows, KLGA 2026-03-03T11:00:00Z"
    _, _, err = ask(capsys, *RANGE, "--level", "daily", "-o", str(tmp_path / "rows.parquet"))
    assert err.splitlines()[-1] == "w: 7 rows, KLGA 2026-03-03T00:00:00Z"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_the_same_however_the_rows_come(world, form, tmp_path):
    table = world.store.query("w")
    write_batches(table.schema, table.to_batches(), form, str(tmp_path / "whole"))
    write_batches(
        table.schema,
        [table.slice(at, 7).combine_chunks().to_batches()[0] for at in range(0, 121, 7)],
        form,
        str(tmp_path / "parts"),
    )
    if form == "parquet":
        whole, parts = (pq.read_table(tmp_path / name) for name in ("whole", "parts"))
        assert whole.equals(parts, check_metadata=True)
        assert whole.to_pylist() == table.to_pylist()
        assert whole.schema.metadata[b"tesseract.dataset"] == b"w"
    else:
        assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


@pytest.mark.parametrize("form", ["csv", "json", "ndjson", "parquet"])
def test_an_answer_of_any_size_is_written_in_bounded_memory(form, tmp_path):
    rows = 20_000 if form == "parquet" else 2_000
    made = pa.table({"valid_time": pa.array(range(rows), pa.timestamp("us", tz="UTC")), "x": [0.5] * rows})
    before, held = pa.total_allocated_bytes(), []

    def batches():
        for _ in range(30):
            yield made.to_batches()[0].take(pa.array(range(rows)))  # memory of its own
            held.append(pa.total_allocated_bytes() - before)

    write_batches(made.schema, batches(), form, str(tmp_path / "rows"))
    assert max(held[10:]) < 6 * made.nbytes


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_there_once_it_is_whole_or_as_it_was(world, form, tmp_path):
    path = tmp_path / "rows"
    path.write_text("before")
    table = world.store.query("w")

    def batches():
        yield table.to_batches()[0]
        raise RetryError("took too long")

    with pytest.raises(RetryError):
        write_batches(table.schema, batches(), form, str(path))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_plain_file_is_written_itself(world, tmp_path):
    table = world.store.query("w", "KJFK", limit=1)
    link, target, pipe = (tmp_path / name for name in ("link", "target", "pipe"))
    link.symlink_to(target)
    write_batches(table.schema, table.to_batches(), "csv", str(link))
    assert link.is_symlink()
    assert target.read_text().splitlines()[1] == "KJFK,2026-03-01T00:00:00Z,,0.25,1,r1,false"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        write_batches(table.schema, table.to_batches(), "csv", str(pipe))
        assert reader.communicate()[0] == target.read_text()
    assert pipe.is_fifo()


COLUMNS = {
    "s": st.text(max_size=5),
    "t": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC)),
    "f": st.floats(),
    "i": st.integers(-(2**63), 2**63 - 1),
    "b": st.booleans(),
    "d": st.decimals(-(10**20), 10**20, places=2),
}
KINDS = dict(
    zip(COLUMNS, (pa.string(), pa.timestamp("us", "UTC"), pa.float64(), pa.int64(), pa.bool_(), pa.decimal128(38, 2)), strict=True)
)


@given(st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in COLUMNS.items()}), max_size=8))
def test_columns_at_once_say_what_their_values_say_one_by_one(rows):
    batch = pa.RecordBatch.from_pylist(rows, pa.schema(KINDS.items()))

    def same(text: str, value: object, of: Callable[[object], str]) -> bool:
        if isinstance(value, float) and isfinite(value):  # other digits, the same number
            return float(text) == value and ("." in text or "e" in text)
        return text == of(value)

    rows = [{name: row[name] for name in COLUMNS} for row in rows]
    for row, texts in zip(rows, csv_rows(batch), strict=True):
        assert all(same(text, value, cell) for text, value in zip(texts, row.values(), strict=True)), texts
    for row, text in zip(rows, json_rows(batch), strict=True):
        found = json.loads(text, parse_float=str, parse_int=str)
        wanted = json.loads(next(json_objects(list(row), [list(row.values())])), parse_float=str, parse_int=str)
        assert found.keys() == wanted.keys()
        assert float(found.pop("f") or "nan") == float(wanted.pop("f") or "nan") or row["f"] is None or not isfinite(row["f"])
        assert found == wanted
