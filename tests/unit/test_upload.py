"""`tesseract ingest` over a stage in memory: what it sends, what it remembers when it is cut short, and what it hands back."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract import cli
from tesseract.config.schema import parse
from tesseract.errors import BackendError, InputError
from tesseract.ingestion import chunks, client, journal
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import Report
from tesseract.ingestion.journal import Identity
from tesseract.ingestion.validators import Rejection
from tests.support.flaky_api import FlakyApi
from tests.support.ingest_world import NOW, World, reading

PLANT = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}")["plant"]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(chunks, "CHUNK_RECORDS", 5)
    stage = SimpleNamespace(stage="test", dataset=lambda name, version=None: PLANT)
    monkeypatch.setattr("tesseract.store.connect", lambda stage_=None, bucket=None: stage)


@pytest.fixture
def api(monkeypatch):
    with FlakyApi(World()) as made:
        monkeypatch.setenv("TESSERACT_API_URL", made.url)
        yield made


def run(capsys, *arguments):
    code = cli.run(["ingest", "plant", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def write(name, *records):
    Path(name).write_text("".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records))


def many(count, **changes):
    """Records of many keys, each key twice: the later put is the larger number."""
    return [
        {"g": f"g{place % 7}", "t": (NOW - timedelta(hours=1, minutes=place % (count // 2))).isoformat(), "x": place}
        for place in range(count)
    ]


def stored(api):
    return {(pk, sk): fields["x"] for (pk, sk), fields in api.world.stored().items()}


def expected(records):
    world = World()
    for record in records:
        assert world.send(record)[0] == 200
    return {key: fields["x"] for key, fields in world.stored().items()}


# numbers and rejects ----------------------------------------------------------------------------------------------------


def test_all_accepted(api, capsys):
    write("a.ndjson", *many(30))
    code, out, err = run(capsys, "a.ndjson")
    assert (code, err) == (0, "")
    assert out.startswith("a.ndjson: 30 of 30 records accepted in ")
    assert stored(api) == expected(many(30))
    assert not list(Path("state").rglob("*.journal"))
    assert sorted(os.listdir(".")) == ["a.ndjson", "state"]


def test_rejected_records_can_be_mended_and_sent_again(api, capsys):
    write("a.ndjson", reading(0), reading(1, x="warm"), "oops\n", {"g": "a", "x": 5})
    code, out, err = run(capsys, "a.ndjson")
    assert code == 1
    assert out.startswith("a.ndjson: 1 of 4 records accepted, 3 rejected in ")
    assert "a.ndjson, record 2: x='warm': field 'x' is a number, not text" in err
    assert "3 rejected records are in a.ndjson.rejects.ndjson, the reasons in a.ndjson.rejects.csv" in err
    with open("a.ndjson.rejects.csv", newline="") as file:
        reasons = list(csv.DictReader(file))
    lines = Path("a.ndjson.rejects.ndjson").read_text().splitlines()
    by_record = {int(row["record"]): (lines[int(row["line"]) - 1], row) for row in reasons}
    assert by_record[2][0] == json.dumps(reading(1, x="warm"))
    assert by_record[2][1]["field"] == "x"
    assert by_record[3][0] == "oops"
    assert by_record[3][1]["reason"].startswith("not JSON")
    assert by_record[4][1]["reason"] == "the time field 't' is missing"

    mended = Path("a.ndjson.rejects.ndjson").read_text().replace('"warm"', "20").replace("oops", json.dumps(reading(2)))
    Path("a.ndjson.rejects.ndjson").write_text(mended)
    code, out, err = run(capsys, "a.ndjson.rejects.ndjson")
    assert code == 1
    assert out.startswith("a.ndjson.rejects.ndjson: 2 of 3 records accepted, 1 rejected in ")


def test_only_the_first_rejections_are_printed(api, capsys):
    write("a.ndjson", *[reading(x="warm")] * 25)
    code, _, err = run(capsys, "a.ndjson")
    assert code == 1
    assert err.count("not text") == 10
    assert "… 15 more rejected" in err


def test_rejects_of_a_csv_are_json_and_go_where_they_are_told(api, capsys):
    Path("a.csv").write_text("g,t,x\na,2026-01-05T11:00:00Z,warm\na,2026-01-05T11:01:00Z\n")
    write("b.ndjson", reading(2, x="cold"), reading(3))
    code, _, err = run(capsys, "?.*", "--rejects", "out.ndjson")
    assert code == 1
    assert sorted(Path("out.ndjson").read_text().splitlines()) == [
        '["a","2026-01-05T11:01:00Z"]',
        '{"g": "a", "t": "2026-01-05T11:02:00Z", "x": "cold"}',
        '{"g":"a","t":"2026-01-05T11:00:00Z","x":"warm"}',
    ]
    with open("out.csv", newline="") as file:
        assert {(row["file"], row["record"]) for row in csv.DictReader(file)} == {("a.csv", "1"), ("a.csv", "2"), ("b.ndjson", "1")}
    assert err.count("rejected records are in") == 1
    write("good.ndjson", reading(0))
    assert run(capsys, "good.ndjson", "--rejects", "none.ndjson")[0] == 0
    assert not Path("none.ndjson").exists()
    assert not Path("none.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-", "--resume"], 1, "standard input cannot be resumed: it cannot be read again (write it to a file and send that)"),
        (["*.csv"], 1, "no file matches *.csv"),
        (["a.ndjson", "b.ndjson"], 1, "the file b.ndjson cannot be read: No such file or directory"),
        (["a.ndjson", "odd.txt"], 1, "odd.txt: the format 'txt' is not known"),
        (["a.ndjson", "--rejects", "./a.ndjson"], 1, "--rejects ./a.ndjson is a file that is to be sent"),
        (["a.ndjson", "--rejects", "/nope/x"], 1, "--rejects /nope/x cannot be written: No such file or directory"),
        (["a.ndjson", "--via", "pigeon"], 1, "--via 'pigeon' is not a road (one of http, kinesis, direct)"),
        (["a.ndjson", "--format", "xml"], 1, "'xml' is not a format (one of ndjson, jsonl, json, csv, parquet)"),
        (["a.ndjson", "--parallel", "0"], 2, "Invalid value for '--parallel'"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_is_sent(api, capsys, arguments, code, says):
    write("a.ndjson", reading(0))
    Path("odd.txt").touch()
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"error: {says}")
    assert api.arrived == []


def test_standard_input_has_no_journal_and_a_format(api, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"g,t,x\na,2026-01-05T11:00:00Z,bad\n")))
    code, out, _ = run(capsys, "-", "--format", "csv")
    assert (code, out[:15]) == (1, "-: 0 of 1 recor")
    assert Path("stdin.rejects.ndjson").exists()
    assert not Path("state").exists()


def test_a_place_without_room_for_a_journal_is_said_and_changes_nothing(api, capsys, monkeypatch):
    Path("state").write_text("a file where a folder should be")
    write("a.ndjson", reading(0))
    code, out, err = run(capsys, "a.ndjson")
    assert (code, out[:19]) == (0, "a.ndjson: 1 of 1 re")
    assert "an interruption could not be resumed" in err


def test_a_person_sees_a_bar_and_a_log_a_line_now_and_then(api, capsys, monkeypatch):
    write("a.ndjson", *many(30))
    monkeypatch.setattr(sys.modules["tesseract.cli.progress"], "EVERY", 0)
    code, _, err = run(capsys, "a.ndjson")
    assert code == 0
    last = err.splitlines()[-1]
    assert last.startswith("a.ndjson: 30 records, ")
    assert last.endswith(" records/s (100 %)")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    code, out, err = run(capsys, "a.ndjson")
    assert (code, out[:29]) == (0, "a.ndjson: 30 of 30 records ac")
    assert "100%" in err


# interruptions ----------------------------------------------------------------------------------------------------------


def test_trouble_with_aws_ends_with_3_and_resume_sends_the_rest(api, capsys):
    records = many(100)
    write("a.ndjson", *records)
    api.script = iter([*["ok"] * 6, *["down"] * 1000])
    code, out, err = run(capsys, "a.ndjson")
    assert code == 3
    assert "; the rest is not sent" in out
    assert "the same command with --resume sends the rest" in err
    assert err.splitlines()[-1].startswith("error: POST plant: the API answered 503")
    before = sum(map(len, api.arrived))
    assert 0 < before < 100

    api.script, api.arrived = iter([]), []
    code, out, err = run(capsys, "a.ndjson", "--resume")
    assert (code, err) == (0, "")
    assert out.startswith(f"a.ndjson: 100 of 100 records accepted, {before} of them sent before in ")
    assert sum(map(len, api.arrived)) == 100 - before
    assert stored(api) == expected(records)
    assert not list(Path("state").rglob("*.journal"))


def test_what_arrived_without_an_answer_is_sent_again_and_the_later_put_stays(api, capsys):
    records = many(60)
    write("a.ndjson", *records)
    api.script = iter([*["ok"] * 3, *["lose"] * 1000])
    assert run(capsys, "a.ndjson")[0] == 3
    api.script = iter([])
    assert run(capsys, "a.ndjson", "--resume", "--parallel", "2")[0] == 0
    assert stored(api) == expected(records)


def test_resume_writes_all_rejects_again(api, capsys):
    write("a.ndjson", "oops\n", *[reading(minute, x="warm") for minute in range(20)], reading(30))
    api.script = iter([*["ok"] * 2, *["down"] * 1000])
    assert run(capsys, "a.ndjson", "--parallel", "1")[0] == 3
    Path("a.ndjson.rejects.ndjson").unlink()
    api.script = iter([])
    code, out, _ = run(capsys, "a.ndjson", "--resume", "--parallel", "1")
    assert code == 1
    assert out.startswith("a.ndjson: 1 of 22 records accepted, 21 rejected, 10 of them sent before in ")
    assert len(Path("a.ndjson.rejects.ndjson").read_text().splitlines()) == 21


def test_of_several_files_those_done_are_not_sent_again(api, capsys):
    write("a.ndjson", *many(10))
    write("b.ndjson", *many(10))
    api.script = iter([*["ok"] * 3, *["down"] * 1000])
    assert run(capsys, "a.ndjson", "b.ndjson", "--parallel", "1")[0] == 3
    api.script, api.arrived = iter([]), []
    code, out, _ = run(capsys, "a.ndjson", "b.ndjson", "--resume", "--parallel", "1")
    assert code == 0
    assert "a.ndjson: 10 of 10 records accepted, 10 of them sent before" in out
    assert len(api.arrived) == 1


def test_a_changed_file_or_a_new_stage_is_not_resumed(api, capsys, monkeypatch):
    write("a.ndjson", *many(20))
    api.script = iter([*["ok"] * 2, *["down"] * 1000])
    assert run(capsys, "a.ndjson")[0] == 3
    api.script = iter([])
    made = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}")["plant"]
    anew = SimpleNamespace(stage="test", dataset=lambda name, version=None: msgspec.structs.replace(made, applied_at=5))
    with monkeypatch.context() as patch:
        patch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: anew)
        code, _, err = run(capsys, "a.ndjson", "--resume")
        assert (code, err.count("\n")) == (1, 1)
        assert "cannot be resumed: the dataset 'plant' was made anew since (send it whole, without --resume" in err
    write("a.ndjson", *many(22))
    code, _, err = run(capsys, "a.ndjson", "--resume")
    assert code == 1
    assert "a.ndjson cannot be resumed: the file has changed since (modified 20" in err
    assert run(capsys, "a.ndjson")[0] == 0  # without --resume it starts over
    assert "nothing of it was acknowledged before" in run(capsys, "a.ndjson", "--resume")[2]


SCRIPT = """
import sys
from types import SimpleNamespace
import tesseract.store
from tesseract.config.schema import parse
from tesseract import cli
plant = parse("datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}")["plant"]
tesseract.store.connect = lambda stage=None, bucket=None: SimpleNamespace(stage="test", dataset=lambda name, version=None: plant)
import tesseract.ingestion.chunks as chunks
chunks.CHUNK_RECORDS = 5
sys.exit(cli.run(["ingest", "plant", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_process_that_is_killed_goes_on_where_it_was(api, capsys, number, code):
    records = many(100)
    write("a.ndjson", *records)
    api.script = iter([*["ok"] * 4, *["wait"] * 1000])
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "a.ndjson"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert api.reached.wait(60)
    lines = lambda: sum(path.read_bytes().count(b"\n") for path in Path("state").rglob("*.journal"))
    until = time.monotonic() + 60
    while lines() < 2 and time.monotonic() < until:  # the head, and at least one chunk
        threading.Event().wait(0.01)
    process.send_signal(number)
    if number == signal.SIGINT:  # what is under way is answered, then it ends
        api.gate.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    if number == signal.SIGINT:
        assert b"; the rest is not sent" in out
        assert b"--resume sends the rest" in err
    api.gate.set()
    while len(api.arrived) < len(api.modes) and time.monotonic() < until:  # requests of the dead: they arrive, nobody hears
        threading.Event().wait(0.01)
    api.script = iter([])
    code, out, err = run(capsys, "a.ndjson", "--resume")
    assert (code, err) == (0, "")
    assert "of them sent before" in out
    assert stored(api) == expected(records)


# the journal ------------------------------------------------------------------------------------------------------------

IDENTITY = Identity("test", "plant", "http", "/data/a.ndjson", 10, 1767610800_000_000_000, 7)
CHUNKS = [[Line(place * 2, b'{"x": 1}'), Line(place * 2 + 1, b'{"x": 2}')] for place in range(6)]


@given(st.integers(0, 6), st.integers(0, 2000), st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_journal_that_is_cut_anywhere_keeps_its_whole_lines(acknowledged, length, garbage):
    path = IDENTITY.path()
    first = journal.begin(IDENTITY)
    for chunk in CHUNKS[:acknowledged]:
        first.acknowledge(chunk, Report(1, [Rejection(chunk[1].index, "x", "v", "r")]))
    first.close(remove=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:length] + (garbage if length < len(whole) else b""))
    kept = max(0, len(whole[:length].splitlines(keepends=True)) - 1 - (not whole[:length].endswith(b"\n")))
    second = journal.resume(IDENTITY)
    known = [chunk for chunk in CHUNKS if second.answer(chunk)]
    assert known == CHUNKS[: min(kept, acknowledged)]
    for chunk in CHUNKS[len(known) :]:
        second.acknowledge(chunk, Report(2))
    second.close(remove=False)
    third = journal.resume(IDENTITY)
    assert [third.answer(chunk).accepted for chunk in CHUNKS] == [1] * len(known) + [2] * (6 - len(known))
    assert all(third.answer(chunk).rejected[0].index == chunk[1].index for chunk in known)
    third.close(remove=True)
    assert not path.exists()


def test_a_chunk_elsewhere_or_of_other_content_is_another_one():
    first = journal.begin(IDENTITY)
    first.acknowledge(CHUNKS[0], Report(2))
    first.close(remove=False)
    second = journal.resume(IDENTITY)
    assert second.answer(CHUNKS[0])
    assert second.answer([Line(2, b'{"x": 1}'), Line(3, b'{"x": 2}')]) is None
    assert second.answer([Line(0, b'{"x": 1}'), Line(1, b'{"x": 3}')]) is None
    second.close(remove=True)


def test_journals_of_other_stages_roads_and_files_lie_apart():
    others = [msgspec.structs.replace(IDENTITY, **{name: "other"}) for name in ("stage", "dataset", "via", "file")]
    assert len({identity.path() for identity in [IDENTITY, *others]}) == 5


def test_a_home_is_used_where_no_state_folder_is_named(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert journal.state_folder() == Path("/home/somebody/.local/state/tesseract")


def test_an_error_of_the_road_leaves_the_journal(capsys, monkeypatch):
    class Road:
        by_group = False

        def __call__(self, dataset, lines, group):
            raise BackendError("AWS said no")

    monkeypatch.setattr("tesseract.ingestion.client.transport_of", lambda via, stage: Road())
    write("a.ndjson", reading(0))
    code, out, err = run(capsys, "a.ndjson")
    assert code == 3
    assert out.startswith("a.ndjson: 0 of 0 records accepted in ")
    assert err.splitlines()[-1] == "error: AWS said no"
    (path,) = Path("state").rglob("*.journal")
    identity = msgspec.json.decode(path.read_bytes(), type=Identity)  # the head alone: nothing was acknowledged
    with pytest.raises(InputError, match="the file has changed since"):
        journal.resume(msgspec.structs.replace(identity, size=99))
