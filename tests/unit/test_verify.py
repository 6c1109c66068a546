"""Verification: a sound archive is found sound, and every kind of damage is named."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from tesseract import cli
from tesseract.model import Manifest, Segment
from tesseract.processing.segments import RAW, VALID_TIME, Partition, write_segment
from tesseract.processing.verify import Verified, inspect, verify
from tesseract.storage import keys, segment_reader
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros
from tests.support.archive_world import weather
from tests.support.keeping_world import KeepingWorld


@cache
def _lived(seed: int, changes: tuple[tuple[str, Any], ...]) -> KeepingWorld:
    world = KeepingWorld(weather(**dict(changes)))
    chance = random.Random(seed)
    for _ in range(8):
        world.day(chance)
    return world


def lived(seed: int = 1, **changes: Any) -> KeepingWorld:
    return _lived(seed, tuple(changes.items())).copy()


def look(world: KeepingWorld) -> Verified:
    return verify(world.catalog, world.backend.objects, [world.dataset], world.now)


def found(report: Verified, kind: str = "damaged") -> list[str]:
    return [finding.finding for finding in report.findings if finding.kind == kind]


def newest(world: KeepingWorld) -> tuple[Manifest, Segment]:
    manifest = world.catalog.manifest("weather", RAW, keys.partition_name(world.dataset, "A"))
    return manifest, max(manifest.segments, key=lambda segment: segment.rows)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("changes", [{}, {"partitions": 2}, {"ladder": ("weekly", "yearly")}, {"ladder": ("daily",)}])
def test_a_sound_archive_is_sound(seed: int, changes: dict[str, Any]) -> None:
    world = lived(seed=seed, **changes)
    report = look(world)
    assert found(report) == []
    assert not report.damaged
    assert report.segments > 0
    partitions = [world.catalog.manifest("weather", RAW, name) for name in world.catalog.partitions(world.dataset, RAW)]
    assert report.rows >= sum(segment.rows for manifest in partitions for segment in manifest.segments)
    assert found(report, "orphan") == []  # all versions are kept still


def test_damaged_bytes_are_named() -> None:
    world = lived()
    _, segment = newest(world)
    body = world.backend.objects.get(segment.key)
    for broken, says in (
        (body[:-1], f"it has {len(body) - 1} bytes, its manifest says {len(body)}"),
        (body[:9] + bytes([body[9] ^ 1]) + body[10:], "its sha256 is"),
        (body[:-4] + b"PAR2", "its footer is not where its manifest says"),
    ):
        world.backend.objects.put(segment.key, broken)
        assert any(says in text for text in found(look(world))), says
    world.backend.objects.delete(segment.key)
    assert found(look(world)) == ["the object does not exist"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {"rows": s.rows + 1}, "rows, its manifest says"),
        (lambda s: {"first": s.first - 1}, "its rows are of"),
        (lambda s: {"last": s.last + 1}, "its rows are of"),
        (lambda s: {"footer_offset": s.footer_offset - 1}, "footer"),
        (lambda s: {"end": s.end + 1}, "period"),
        (lambda s: {"last": s.end}, "are not within its period"),
        (lambda s: {"groups": {"A": (s.first, s.last)}}, "the groups of its rows"),
        (lambda s: {"tier": "hourly"}, "is no hourly period"),
    ],
)
def test_a_manifest_that_says_something_else_is_named(change, says) -> None:  # type: ignore[no-untyped-def]
    world = lived()
    _, segment = newest(world)
    partition = Partition(world.dataset, RAW, "A")
    assert inspect(world.backend.objects, partition, segment) == []
    assert any(says in text for text in inspect(world.backend.objects, partition, replace(segment, **change(segment))))


def test_disorder_and_a_key_twice_are_named() -> None:
    world = lived()
    _, segment = newest(world)
    partition = Partition(world.dataset, RAW, "A")
    table = segment_reader.read(world.backend.objects, segment, VALID_TIME)
    period = segment.period
    backwards = table.take(list(range(len(table)))[::-1])
    written = write_segment(world.backend.objects, partition, segment.tier, period, backwards, segment.window_end)
    assert inspect(world.backend.objects, partition, written) == [f"its rows are not sorted: {len(table) - 1} follow a later one"]
    double = pa.concat_tables([table.slice(0, 1), table])
    written = write_segment(world.backend.objects, partition, segment.tier, period, double, segment.window_end)
    assert inspect(world.backend.objects, partition, written) == ["1 of its rows have the key of the row before"]


def test_orphans_and_what_waits_for_a_merge_are_information() -> None:
    world = lived()
    _, segment = newest(world)
    stray = segment.key.replace(".parquet", "-1.parquet")
    world.backend.objects.put(stray, b"12345")
    world.now = from_micros(segment.end).replace(year=2026)
    report = look(world)
    assert not report.damaged
    assert [(finding.key, finding.bytes) for finding in report.findings if finding.kind == "orphan"] == [(stray, 5)]
    assert any(text.endswith("segments wait: daily→monthly 2024-03") for text in found(report, "unmerged"))


def test_a_manifest_that_does_not_decode_is_named_and_makes_no_orphans() -> None:
    world = lived()
    manifest, _ = newest(world)
    pk = keys.manifest_pk("weather", RAW, "A")
    world.backend.catalog.put({"pk": pk, "sk": keys.version_sk(manifest.version), "object": "catalog/manifests/gone.json"})
    assert [text.partition(":")[0] for text in found(look(world))] == ["a manifest cannot be read"]
    world.backend.catalog.put({"pk": pk, "sk": keys.version_sk(manifest.version), "body": "{"})
    report = look(world)
    assert [text.partition(":")[0] for text in found(report)] == ["a manifest cannot be read"]
    assert found(report, "orphan") == []


def test_the_command_exits_with_one_where_something_is_damaged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = lived()
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: Store(world.backend, clock=lambda: world.now))
    assert cli.run(["archive", "verify"]) == 0
    assert "none is damaged" in capsys.readouterr().err
    _, segment = newest(world)
    world.backend.objects.delete(segment.key)
    assert cli.run(["archive", "verify", "weather", "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert [(row["key"], row["finding"]) for row in json.loads(out) if row["kind"] == "damaged"] == [
        (segment.key, "the object does not exist")
    ]
    assert "1 damaged" in err
