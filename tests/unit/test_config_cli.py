"""`tesseract config`: what it prints, where, and with which exit code."""

from __future__ import annotations

import getpass
import json
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from tesseract import cli
from tesseract.config.dataset import decode_dataset
from tesseract.config.manager import fingerprint
from tesseract.config.schema import parse
from tesseract.storage.keys import config_pk, version_sk

from .query_world import START, World

FIRST = "datasets: {a: {group_by: s, aggregations: {hourly: [avg]}, fields: {x: float, y: int}}}\n"
SECOND = """
datasets:
  a:
    group_by: s
    buffer_ttl_hours: 24
    aggregations: {hourly: [avg], daily: [avg]}
    fields: {x: {type: float, max: 5}, y: float}
"""
REFUSED = "datasets: {b: {}, a: {group_by: other, fields: {x: int}}}\n"


@pytest.fixture
def world(monkeypatch):
    made = World()
    made.progress(START)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    stage = SimpleNamespace(catalog=made.store.catalog, exports=None)
    monkeypatch.setattr("tesseract.processing.archive_stage.archive_stage", lambda stage_name=None: stage)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    return made


@pytest.fixture
def run(capsys, tmp_path):
    """A `config` command; texts become files. Gives the code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        words = []
        for at, word in enumerate(arguments):
            if "\n" in word:
                path = tmp_path / f"{at}.yaml"
                path.write_text(word)
                word = str(path)
            words.append(word)
        code = cli.run(["config", *words])
        return code, *capsys.readouterr()

    return call


def test_a_dataset_from_its_first_version_to_its_third(world, run):
    assert run("validate", FIRST)[:2] == (0, "a: valid (grouped by s; 2 fields; hourly; buffer → daily → monthly → yearly)\n")
    assert run("plan", FIRST)[1].startswith("a: new, version 1 (grouped by s")
    assert world.store.datasets() == ["w"]
    code, out, err = run("apply", FIRST)
    first = fingerprint(parse(FIRST)["a"])
    assert (code, out.split(" (")[0], err) == (0, f"a: new, version 1, hash {first[:12]}", "")
    assert run("apply", FIRST)[1].startswith("a: unchanged, version 1, hash")
    assert run("plan", SECOND)[1].startswith("a: compatible, version 2 (")
    world.store.catalog.mark_used("a")
    code, out, _ = run("plan", SECOND)
    assert code == 0
    assert out.startswith("a: needs backfill, version 2 (")
    for line in (
        "--- a version 1",
        "+++ a as wanted",
        "+    buffer_ttl_hours: 24",
        "+      daily: [avg]",
        "-      y: int",
        "+      y: float",
        "compatible: buffer_ttl_hours: 168 → 24 (new records get it; those in the buffer keep the expiry that they have)",
        "compatible: fields.y.type: int → float (stored integers read as doubles, those beyond 2^53 as the nearest one)",
        "needs backfill: aggregations.daily: added (level daily starts anew, earlier periods are computed from raw records",
    ):
        assert f"\n  {line}" in out
    assert "\x1b" not in out
    assert run("apply", SECOND)[1].startswith("a: needs backfill, version 2, hash")
    assert world.store.catalog.dataset("a").applied_by == "ann@laptop"
    code, _, err = run("rollback", "a", "--to", "1")
    assert (code, err) == (
        1,
        "error: dataset a: fields.y.type: float → int is refused: "
        "stored values of type float are not all of type int; give the new meaning a new field name\n",
    )
    run("apply", SECOND.replace("24", "48"))
    assert run("rollback", "a", "--to", "2")[1].startswith("a: compatible, version 4, hash")
    assert decode_dataset(world.backend.objects.get("config/a.json")).version == 4


def test_all_or_none_are_applied_and_each_fault_has_a_line(world, run):
    run("apply", FIRST)
    code, out, _ = run("plan", REFUSED)
    assert code == 1
    assert "b: new, version 1" in out
    assert "\n  refused: group_by: s → other (stored records are filed under the groups of the old one" in out
    code, out, err = run("apply", REFUSED)
    lines = err.splitlines()
    assert (code, out, len(lines)) == (1, "", 3)
    assert lines[0].startswith("error: dataset a: group_by: s → other is refused:")
    assert lines[1].startswith("error: dataset a: fields.x.type: float → int is refused:")
    assert lines[2] == "error: nothing was applied"
    assert world.store.datasets() == ["a", "w"]


def test_faults_of_several_files_are_told_together(world, run):
    for command in ("validate", "plan", "apply"):
        code, out, err = run(command, "datasets: {d: {grup_by: s}}\n", FIRST.replace("float", "flaot"), "datasets: {c: {}}\n")
        assert (code, out, len(err.splitlines())) == (1, "", 2)
        assert all(line.startswith("error: ") for line in err.splitlines())
        assert "did you mean 'group_by'?" in err
        assert "did you mean 'float'?" in err
    assert world.store.datasets() == ["w"]


def test_several_files_are_one_change(world, run):
    code, out, _ = run("apply", FIRST, "datasets: {b: {}, c: {}}\n")
    assert (code, [line.split(":")[0] for line in out.splitlines()]) == (0, ["a", "b", "c"])


def test_a_race_is_told_in_a_line(world, run, monkeypatch):
    run("apply", FIRST)
    catalog = world.store.catalog
    put = catalog.put_dataset

    def late(dataset, now, unused):
        put(replace(catalog.dataset("a"), version=2, description="somebody else's"), now)
        put(dataset, now, unused)

    monkeypatch.setattr(catalog, "put_dataset", late, raising=False)
    code, out, err = run("apply", SECOND)
    assert (code, out) == (1, "")
    assert err == "error: dataset a: somebody applied version 2 at the same time, and this was not applied: look, and apply again\n"


def test_show(world, run):
    run("apply", FIRST)
    run("apply", SECOND)
    code, out, _ = run("show", "a")
    header, rest = out.split("datasets:", 1)
    assert code == 0
    assert re.fullmatch(r"# a, version 2, applied 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ by ann@laptop\n# hash [0-9a-f]{64}\n", header)
    assert fingerprint(parse("datasets:" + rest)["a"]) in header  # what is shown may be applied again
    assert "# a, version 1, " in run("show", "a", "--version", "1")[1]
    complete = json.loads(run("show", "a", "--format", "json")[1])
    assert (complete["version"], complete["fields"]["y"]["type"], complete["applied_by"]) == (2, "float", "ann@laptop")
    assert [line.split(" (")[0].split(",")[0] for line in run("show")[1].splitlines()] == ["a: version 2", "w: version 1"]


def test_history(world, run):
    run("apply", FIRST)
    run("apply", SECOND)
    code, out, _ = run("history", "a")
    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 0
    assert lines[0].split() == ["version", "applied", "by", "hash", "what", "changed"]
    assert lines[2].split()[0] == "2"
    assert lines[2].split()[2] == "ann@laptop"
    assert lines[2].endswith("buffer_ttl_hours: 168 → 24")
    assert [line.strip() for line in lines[3:6]] == [
        "fields.x.max: none → 5",
        "fields.y.type: int → float",
        "aggregations.daily: added",
    ]
    assert lines[6].split()[0] == "1"
    assert lines[6].endswith("new dataset")
    assert run("history", "nope")[::2] == (1, "error: there is no dataset 'nope' (known datasets: a, w)\n")


def test_a_damaged_dataset_does_not_hide_the_others(world, run):
    run("apply", FIRST)
    world.store.catalog.table.put({"pk": config_pk("a"), "sk": version_sk(2), "body": "{"})
    world.store._configs._cache.clear()
    code, out, err = run("show")
    assert (code, out.split(",")[0]) == (3, "w: version 1")
    assert err.startswith("error: a version 2: the configuration does not decode")
    assert run("apply", "datasets: {b: {}}\n")[0] == 0
    code, _, err = run("apply", SECOND)
    assert (code, err.split(":")[1]) == (3, " a version 2")


def test_a_user_without_a_name_is_a_number(world, run, monkeypatch):
    def fail() -> str:
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", fail)
    run("apply", FIRST)
    assert world.store.catalog.dataset("a").applied_by == f"{os.getuid()}@laptop"


PROGRAM = """
from datetime import UTC, datetime
from tesseract.cli.config_output import print_plan
from tesseract.config.manager import plan
from tesseract.config.schema import parse
NOW = datetime(2026, 1, 5, tzinfo=UTC)
old = plan([], parse("datasets: {a: {fields: {x: float}}}")["a"], NOW).dataset
print_plan(plan([old], parse("datasets: {a: {fields: {x: int}}}")["a"], NOW))
"""


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_has_colours_unless_it_wants_none(no_color, coloured):
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "200"} | ({"NO_COLOR": no_color} if no_color else {})
    leader, follower = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stdout=follower, env=environment, check=True)
    os.close(follower)
    out = b""
    try:
        while part := os.read(leader, 65536):
            out += part
    except OSError:  # the other end is closed: all was read
        pass
    finally:
        os.close(leader)
    text = out.decode()
    assert "fields.x.type: float → int" in text
    assert ("\x1b[31m-      x: float" in text) == coloured
    assert ("\x1b[31mrefused" in text) == coloured
    assert ("\x1b" in text) == coloured
