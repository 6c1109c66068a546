"""`tesseract catalog` and `archive rebuild-catalog`: what they say, and that the numbers add up."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tesseract import cli
from tesseract.processing.segments import RAW
from tesseract.processing.verify import verify
from tesseract.storage import keys
from tesseract.storage.memory import MemoryTable
from tesseract.store import Store
from tests.support.archive_world import weather
from tests.support.keeping_world import KeepingWorld

Ask = Any


@pytest.fixture(params=[0, 2])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KeepingWorld:
    made = KeepingWorld(weather(partitions=request.param))
    made.catalog.publish("weather")
    chance = random.Random(5)
    for _ in range(5):
        made.day(chance)
    store = Store(made.backend, "test", lambda: made.now)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: store)
    monkeypatch.setattr("tesseract.cli.keeping.utc_now", lambda: made.now)
    return made


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_dataset_is_shown_by_level_and_partition(world: KeepingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(ask(capsys, "catalog", "weather", "--format", "json")[1])
    checked = verify(world.catalog, world.backend.objects, [world.dataset], world.now)
    for rows in (shown["levels"], shown["partitions"]):
        assert sum(row["segments"] for row in rows) == checked.segments
        assert sum(row["rows"] for row in rows) == checked.rows
        assert sum(row["bytes"] for row in rows) == checked.bytes
    assert {row["groups"] for row in shown["levels"]} == {2}
    for row in shown["partitions"]:
        assert row["version"] == row["versions"] == world.catalog.manifest("weather", row["level"], row["partition"]).version
    code, out, err = ask(capsys, "catalog", "weather")
    assert code == 0
    assert out.count("hourly") == 1 + len(world.catalog.partitions(world.dataset, "hourly"))
    assert err == f"{len(shown['partitions'])} partitions, {checked.bytes:,} bytes\n"


def test_a_group_is_shown_with_its_segments_and_versions(world: KeepingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    levels = json.loads(ask(capsys, "catalog", "weather", "A", "--format", "json")[1])["levels"]
    assert [level["level"] for level in levels] == [RAW, "hourly", "daily"]
    for level in levels:
        manifest = world.catalog.manifest_of(world.dataset, level["level"], "A")
        assert {row["key"] for row in level["segments"]} == {segment.key for segment in manifest.segments}
        assert level["versions"][0]["operation"] == manifest.operation
        assert [row["version"] for row in level["versions"]] == list(range(manifest.version, 0, -1))
        assert all(not row["written"].startswith("by") for row in level["segments"])
    out = ask(capsys, "catalog", "weather", "A")[1]
    assert "tier" in out
    assert ".parquet" not in out
    assert "archive" in ask(capsys, "catalog", "weather", "A", "--versions")[1]
    assert ".parquet" in ask(capsys, "catalog", "weather", "A", "--format", "csv")[1]
    code, out, err = ask(capsys, "catalog", "weather", "AA")
    assert (code, out) == (1, "")
    assert "did you mean 'A'?" in err


def test_a_lost_catalog_is_brought_back_by_the_command(world: KeepingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    before = ask(capsys, "catalog", "weather", "--format", "json")
    table = world.backend.catalog
    assert isinstance(table, MemoryTable)
    table._partitions.clear()
    table._order.clear()
    code, out, err = ask(capsys, "archive", "rebuild-catalog", "--dry-run", "--format", "json")
    assert code == 0
    assert {row["level"] for row in json.loads(out)} == {RAW, "hourly", "daily"}
    assert err.endswith("dataset weather: 1 version of its configuration\nnothing was written\n")
    assert not list(table.items())
    code, out, err = ask(capsys, "archive", "rebuild-catalog")
    assert code == 0
    assert "export windows begin again at 2024-03-0" in err
    assert ask(capsys, "catalog", "weather", "--format", "json") == before
    assert ask(capsys, "archive", "rebuild-catalog")[2].endswith("the catalog has everything that the bucket has\n")
    name = world.catalog.partitions(world.dataset, RAW)[0]
    manifest = world.catalog.manifest("weather", RAW, name)
    world.backend.objects.put(keys.manifest_object("weather", RAW, name, manifest.version), b"{")
    code, _, err = ask(capsys, "archive", "rebuild-catalog")
    assert code == 3
    assert f"warning: nothing of manifest#weather#raw#{name} is brought back" in err
