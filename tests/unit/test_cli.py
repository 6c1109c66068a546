"""The command: formats, exit codes, and one line for everything that can be wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tesseract.local
from tesseract import cli
from tesseract.cli import common
from tesseract.cli.output import choose, write_rows
from tesseract.errors import BackendError, InputError
from tesseract.storage.memory import memory_backend
from tesseract.utils.text import cell, moment

from .query_world import START, World, values

HOUR = timedelta(hours=1)
RANGE = ["--start", "2026-03-01", "--end", "2026-03-20"]


@pytest.fixture
def world(monkeypatch):
    made = World()
    made.archive([(START + at * HOUR, values(at + 1), False, START) for at in range(60)], "KJFK")
    made.progress(START + timedelta(days=10), START)  # archived, not snapshot yet
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    return made


def ask(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_csv_has_empty_cells_for_nulls_and_shortest_doubles(world, capsys):
    code, out, _ = ask(capsys, "query", "w", "KJFK", *RANGE, "--format", "csv", "--fields", "temp,ok")
    lines = out.splitlines()
    assert code == 0
    assert lines[:2] == ["station,valid_time,ref_time,temp,ok", "KJFK,2026-03-01T00:00:00Z,,0.25,false"]
    assert lines[5] == "KJFK,2026-03-01T04:00:00Z,,,"
    assert len(lines) == 61


def test_json_and_ndjson(world, capsys):
    _, out, _ = ask(capsys, "query", "w", "KJFK", *RANGE, "--level", "daily", "--format", "json", "--fields", "n_sum")
    first = {"station": "KJFK", "period_start": "2026-03-01T00:00:00Z", "rows": 24, "n_sum": 300}
    assert json.loads(out)[0] == first
    _, out, _ = ask(capsys, "query", "w", "KJFK", *RANGE, "--level", "daily", "--format", "ndjson", "--fields", "n_sum")
    assert json.loads(out.splitlines()[0]) == first
    _, out, _ = ask(capsys, "query", "w", "KJFK", "--start", "2025-01-01", "--end", "2025-01-02", "--format", "json")
    assert json.loads(out) == []


def test_a_table_shows_fifty_rows_and_says_how_many_more(world, capsys):
    code, out, err = ask(capsys, "query", "w", "KJFK", *RANGE, "--explain")
    assert code == 0
    assert out.splitlines()[-1] == "… 10 more rows; use --format csv"
    assert "only archive" in err
    assert "archive/raw/KJFK/1.parquet" in err


def test_parquet_goes_to_a_file_and_its_suffix_is_enough(world, capsys, tmp_path):
    path = tmp_path / "rows.parquet"
    assert ask(capsys, "query", "w", *RANGE, "-o", str(path))[0] == 0
    table = pq.read_table(path)
    assert table.num_rows == 60
    assert table.schema.field("temp").metadata[b"unit"] == "°C".encode()
    assert ask(capsys, "query", "w", *RANGE, "-f", "table", "-o", str(tmp_path / "rows.txt"))[0] == 0
    lines = (tmp_path / "rows.txt").read_text().splitlines()
    assert len(lines) == 62
    assert [line.split() for line in lines[:2]] == [["station", "valid_time", "ref_time", "temp", "n", "note", "ok"], ["°C"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet", "rows.txt"]


def test_a_table_has_units_below_the_names(world, capsys):
    for arguments, units in ((["query", "w", *RANGE, "--fields", "n,temp"], ["°C"]), (["latest", "w"], ["°C"])):
        lines = ask(capsys, *arguments)[1].splitlines()
        head = [line.split() for line in lines[: next(at for at, line in enumerate(lines) if "──" in line)]]
        assert sorted(word for words in head for word in words if word in ("°C", "temp", "n")) == ["n", "temp", *units]
    assert "°C" not in ask(capsys, "query", "w", *RANGE, "-f", "csv")[1]


def test_a_terminal_shows_the_columns_that_fit_and_names_the_others(world, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, _ = ask(capsys, "query", "w", *RANGE, "--level", "daily", "--fields", "n")
    assert code == 0
    assert out.splitlines() == [
        "station  period_start          rows",
        "───────────────────────────────────",
        "KJFK     2026-03-01T00:00:00Z    24",
        "KJFK     2026-03-02T00:00:00Z    24",
        "KJFK     2026-03-03T00:00:00Z    12",
        "… 8 more columns: n_count, n_sum, …",
    ]


def test_signs_that_are_no_text_are_shown_as_escapes_and_wide_ones_take_their_place(capsys):
    write_rows([{"a": "x\x1b[2J\ny", "b": 1}, {"a": "東京", "b": 2}], "table", None)
    assert capsys.readouterr().out.splitlines()[2:] == ["x\\x1b[2J\\ny  1", "東京         2"]


def test_latest_sql_catalog_and_relative_times(world, capsys):
    assert "2026-03-03T11:00:00Z" in ask(capsys, "latest", "w", "KJFK")[1]
    assert json.loads(ask(capsys, "latest", "w", "-f", "json")[1])[0]["n"] == 60
    assert ask(capsys, "sql", "select count(*) as c from w", "-f", "csv")[1] == "c\n60\n"
    assert ask(capsys, "sql", "select sum(n) as s from w", "-f", "json")[1] == '[\n  {"s": 1830}\n]\n'
    assert ask(capsys, "query", "w", "KJFK", "--start", "-3h")[:2] == (0, ask(capsys, "query", "w", "KJFK", "--start", "-2h")[1])
    assert len(ask(capsys, "query", "w", "--all", "-f", "csv")[1].splitlines()) == 61


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["query"], 2, "Missing argument 'DATASET'"),
        (["quary", "w"], 2, "No such command 'quary'"),
        (["query", "w", "--nope"], 2, "No such option: --nope"),
        (["query", "w", "KJFC"], 1, "dataset w has no group 'KJFC' (did you mean 'KJFK'?)"),
        (["query", "x"], 1, "there is no dataset 'x' (known datasets: w)"),
        (["query", "w", "--start", "2026-03-02", "--end", "2026-03-01"], 1, "end 2026-03-01T00:00:00Z is before start"),
        (["query", "w", "--start", "2026-03-02T00:00:00"], 1, "start '2026-03-02T00:00:00' has no time zone"),
        (["query", "w", "--level", "wekly"], 1, "there is no level 'wekly' (did you mean 'weekly'?)"),
        (["query", "w", "--fields", "tmp"], 1, "dataset w has no field 'tmp'"),
        (["query", "w", "--format", "xml"], 1, "'xml' is not a format"),
        (["query", "w", "--format", "parquet"], 1, "parquet is written to a file"),
        (["query", "w", *RANGE, "-o", "/nope/rows.csv"], 1, "/nope/rows.csv cannot be written: No such file"),
        (["latest", "w", "KJFC"], 1, "dataset w has no group 'KJFC'"),
        (["sql", "selct"], 1, "SQL: syntax error"),
        (["config", "validate", "/nope.yaml"], 1, "the configuration file /nope.yaml cannot be read"),
        (["config", "show", "w", "--version", "9"], 1, "dataset w has no version 9"),
        (["config", "show", "w", "--version", "0"], 2, "Invalid value for '--version'"),
        (["local", "status", "--stage", "dev"], 1, "the laptop cloud is stage local, not 'dev'"),
    ],
)
def test_bad_input_is_one_line(world, capsys, arguments, code, says):
    got, out, err = ask(capsys, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1


def test_stages_and_stacks(monkeypatch, capsys):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(tesseract.local, "status", lambda: None, raising=False)
    code, _, err = ask(capsys, "latest", "w", "--stage", "local")
    assert (code, err) == (
        1,
        "error: no laptop cloud is running (start one with `tesseract local up`, or name another --stage)\n",
    )
    code, _, err = ask(capsys, "latest", "w", "--stage", "My Stage")
    assert (code, err.split(" (")[0]) == (1, "error: 'My Stage' is not the name of a stage")


def test_a_bucket_is_enough_to_find_its_stage(monkeypatch):
    from tesseract import store

    asked = []
    monkeypatch.setenv("TESSERACT_STAGE", "dev")
    monkeypatch.setattr(
        "tesseract.storage.aws.backend", lambda stage, bucket=None: asked.append((stage, bucket)) or memory_backend()
    )
    bucket = "tesseract-prod-eu-123456789012-archive"
    assert store.connect(bucket=bucket).stage == "prod-eu"
    assert store.connect("prod-eu", bucket).stage == "prod-eu"
    assert store.connect("prod", "elsewhere").stage == "prod"
    assert store.connect().stage == "dev"
    assert asked == [("prod-eu", bucket), ("prod-eu", bucket), ("prod", "elsewhere"), ("dev", None)]
    with pytest.raises(InputError, match="is of stage 'prod-eu', not 'dev'"):
        store.connect("dev", bucket)
    for name in ("elsewhere", "tesseract-prod-archive", "tesseract-PROD-123456789012-archive"):
        with pytest.raises(InputError, match="tells no stage"):
            store.connect(bucket=name)


def test_aws_is_asked_for_the_account_when_the_bucket_is_needed(monkeypatch):
    from tesseract.storage import aws
    from tesseract.utils import aws_helpers

    asked = []
    monkeypatch.delenv("TESSERACT_BUCKET", raising=False)
    monkeypatch.setattr(aws_helpers, "account", lambda: asked.append(1) or "123456789012")
    made = aws.backend.__wrapped__("dev")
    assert asked == []
    assert made.objects.bucket == made.objects.bucket == "tesseract-dev-123456789012-archive"
    assert asked == [1]


def test_a_running_stack_is_found(monkeypatch):
    class Stack:
        def environment(self) -> dict[str, str]:
            return {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    from tesseract import stage

    environment: dict[str, str] = {}
    monkeypatch.setattr(stage.os, "environ", environment)
    monkeypatch.setattr(tesseract.local, "status", Stack, raising=False)
    assert stage.use_stage("local") == "local"
    assert environment == {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BackendError("AccessDenied: no", operation="query"), 3, "error: query: AccessDenied: no\n"),
        (InputError("two\nlines"), 1, "error: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, says):
    def fail(stage=None, bucket=None):
        raise error

    monkeypatch.setattr("tesseract.store.connect", fail)
    assert ask(capsys, "latest", "w") == (code, "", says)


def test_the_help_names_every_command_and_loads_nothing(capsys):
    code, out, err = ask(capsys, "--help")
    assert (code, err) == (0, "")
    for name, place in cli.PLACES.items():
        module, _, attribute = place.partition(":")
        assert getattr(import_module(f"tesseract.cli.{module}"), attribute)
        assert re.search(rf"^  {name} +[A-Z].*\.$", out, re.M)
    assert ask(capsys) == (2, out, "")
    assert ask(capsys, "-v", "-h") == (0, out, "")
    heavy = "[name for name in ('typer', 'rich', 'msgspec') if name in sys.modules]"
    program = f"import sys; from tesseract.cli import run; run(['--help']); print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{out}[]\n"


LATEST = """
import sys
from datetime import datetime, UTC
import tesseract.store, tesseract.storage.aws
from tesseract import cli
from tesseract.config.dataset import Dataset, Field
from tesseract.storage.keys import latest_key
from tesseract.storage.memory import memory_backend

backend = memory_backend()
store = tesseract.store.Store(backend)
fields = {"temp": Field("float", "temp", unit="°C")}
store.catalog.put_dataset(Dataset("w", 1, ("station",), "t", "", "reject", 168, (), (), fields), datetime(2026, 3, 1, tzinfo=UTC))
pk, sk = latest_key("w", "A")
item = {"pk": pk, "sk": sk, "valid_time": "2026-03-02T00:00:00.000000Z", "fields": {"temp": 1}, "version": 1}
backend.live.put(item)
tesseract.store.connect = lambda stage=None: store
for arguments in (["A"], ["A", "-f", "csv"], ["-f", "json"]):
    assert cli.run(["latest", "w", *arguments]) == 0
print(*(name for name in ("pyarrow", "numpy", "pandas", "duckdb", "pydantic", "yaml", "boto3", "rich") if name in sys.modules))
"""


def test_latest_loads_no_arrow():
    done = subprocess.run([sys.executable, "-c", LATEST], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == ""
    assert "A,2026-03-02T00:00:00Z,,1.0" in lines


def test_help_is_there_for_every_command():
    runner = CliRunner()
    for words in (
        [],
        ["config"],
        ["local"],
        ["query"],
        ["config", "apply"],
        ["sql"],
        ["latest"],
        ["catalog"],
        ["rebuild"],
        ["audit"],
        ["watch"],
        ["revisions"],
        ["quarantine"],
        ["archive"],
    ):
        assert runner.invoke(cli.application(), [*words, "--help"]).exit_code == 0
    assert cli.run(["config"]) == 2


def test_nothing_heavy_is_loaded_before_it_is_needed():
    heavy = ("pyarrow", "duckdb", "boto3", "botocore", "pydantic", "yaml")
    for name, allowed in (("tesseract", ()), ("tesseract.cli", ()), ("tesseract.store", ()), ("tesseract.query.latest", ())):
        program = f"import sys, {name}; print([m for m in {heavy!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(list(allowed)), name


def test_the_package_has_what_it_says():
    import tesseract as package

    assert all(getattr(package, name) for name in package.__all__)
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = package.nope


def test_cells():
    assert [cell(value) for value in (None, True, 0.1, 1e22, Decimal("1.50"), "x", [1])] == [
        "",
        "true",
        "0.1",
        "1e+22",
        "1.50",
        "x",
        "[1]",
    ]
    assert moment(datetime(2013, 1, 1, 6, 0, 0, 5, UTC)) == "2013-01-01T06:00:00.000005Z"
    assert moment(datetime(2013, 1, 1, 6)) == "2013-01-01T06:00:00"
    assert [choose(None, None), choose(None, "a.jsonl"), choose(None, "a"), choose("json", "a.csv")] == [
        "table",
        "ndjson",
        "csv",
        "json",
    ]


@pytest.mark.parametrize(
    ("every", "shown"), [(30, ["looked at 1 of 2,000", "items"]), (0, ["looked at 1 of 2,000", "looked at 2 of 2,000", "items"])]
)
def test_where_no_terminal_is_lines_that_differ_in_numbers_alone_come_now_and_then(capsys, monkeypatch, every, shown):
    monkeypatch.setattr(common, "EVERY", every)
    with common.spinner() as tell:
        for text in ("looked at 1 of 2,000", "looked at 2 of 2,000", "items"):
            tell(text)
    assert capsys.readouterr().err.splitlines() == shown
