"""`tesseract backfill`: what it prints, what it remembers, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tesseract import cli
from tesseract.ingestion import backfill
from tesseract.ingestion.journal import state_folder
from tests.support.backfill_world import BackfillWorld, line
from tests.support.level_world import HOUR, plant
from tests.unit.test_backfill_timestream import AT, single, unload

NOW = datetime(2024, 3, 20, 9, 30, tzinfo=UTC)
OLD = datetime(2022, 5, 3, 8, tzinfo=UTC)


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    world = BackfillWorld(plant("daily"), tmp_path, NOW)
    world.store.stage = "local"
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: world.store)
    monkeypatch.setattr("tesseract.ingestion.client.transport_of", lambda road, stage: world)
    return world


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["backfill", "weather", "--parallel", "1", *arguments])
    return code, *capsys.readouterr()


def test_a_directory_with_a_record_that_is_wrong(world, tmp_path, capsys):
    (tmp_path / "data" / "2022").mkdir(parents=True)
    (tmp_path / "data" / "2022" / "a.ndjson").write_text("".join(line("A", OLD + place * HOUR, {"i": place}) for place in range(5)))
    (tmp_path / "data" / "b.csv").write_text("station,time,i\nB,2022-05-03T08:00:00Z,x\nA,2022-05-03T08:00:00Z,7\n")
    (tmp_path / "data" / "notes.txt").write_text("not data")
    code, out, err = run(capsys, "data")
    assert code == 1
    assert [text.split()[:2] for text in out.splitlines()] == [
        ["read", "7"], ["accepted", "6,"], ["rejected", "1"], ["committed", "5"], ["levels", "1"],
    ]  # fmt: skip
    assert "1 of them superseded" in out
    assert "data/b.csv, record 1: i='x': " in err
    assert "1 rejected records are in weather.backfill.rejects.ndjson" in err
    assert [row["i"] for row in world.store.query("weather", "A").to_pylist()] == [7, 1, 2, 3, 4]
    assert not list((state_folder() / "ingest").glob("*"))


def test_what_was_interrupted_goes_on_where_it_ended(world, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.ndjson").write_text("".join(line(group, OLD, {"i": 1}) for group in "ABC"))

    class Stopping(backfill.Units):
        def take(self, unit):
            if unit.partition == "C":
                raise KeyboardInterrupt
            return super().take(unit)

    with monkeypatch.context() as patch:
        patch.setattr(backfill, "Units", Stopping)
        code, out, err = run(capsys, "a.ndjson")
    assert code == 130
    assert "not done" in out
    assert "the same command with --resume does the rest" in err
    code, out, _ = run(capsys, "a.ndjson", "--resume")
    assert code == 0
    assert "before     2 rows were committed by the run before" in out
    assert "committed  1 rows, yearly" in out
    assert world.store.groups("weather") == ["A", "B", "C"]


def test_what_cannot_be_backfilled_is_refused(world, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        (["-"], "standard input cannot be backfilled"),
        (["empty"], "holds no file of records"),
        (["none.csv"], "No such file"),
        (["--timestream", "empty"], "no Parquet file in empty"),
    ):
        code, _, err = run(capsys, *arguments)
        assert (code, said in err) == (1, True), err
    code, _, err = run(capsys, "empty", "--resume")
    assert code == 1


def test_a_folder_of_unload(world, tmp_path, capsys):
    rows = [single("A", AT, "i", "bigint", 3), single("A", AT, "f", "double", 0.5), single("B", AT, "i", "bigint", 4)]
    folder = tmp_path / "unload"
    folder.mkdir()
    code, out, _ = run(capsys, str(unload(folder, rows)))
    assert code == 0
    assert "2 records of Timestream" in out
    found = world.store.query("weather").select(["station", "f", "i"]).to_pylist()
    assert found == [{"station": "A", "f": 0.5, "i": 3}, {"station": "B", "f": None, "i": 4}]
