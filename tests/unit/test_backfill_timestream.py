"""What Amazon Timestream's UNLOAD writes becomes records: folders as AWS documents them, made here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from tesseract.config.dataset import Dataset, Field
from tesseract.errors import InputError
from tesseract.ingestion.files import Source
from tesseract.ingestion.validators import Validator
from tesseract.processing.backfill_timestream import convert, is_unload
from tests.support.archive_world import weather
from tests.support.backfill_world import BackfillWorld

NOW = datetime(2024, 3, 20, 9, 30, tzinfo=UTC)
AT = datetime(2023, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
QUERY = "AEDAGANLHLBH4OLISD3CVOZZRWPX5GV2XCXRBKCVD554N6GWPWWXBP7LSG74V2Q"
TYPES = {
    "time": pa.timestamp("ns"),
    "measure_value::double": pa.float64(),
    "measure_value::bigint": pa.int64(),
    "measure_value::boolean": pa.bool_(),
    "measure_value::timestamp": pa.timestamp("ns"),
    "temp": pa.float64(),
    "wind": pa.int64(),
    "seen": pa.timestamp("ns"),
}
FIELDS = {
    "temp": Field("float", "temp"),
    "wind": Field("int", "wind"),
    "sky": Field("string", "sky"),
    "wet": Field("bool", "wet"),
    "seen": Field("timestamp", "seen"),
}
DATASET = replace(weather(), fields=FIELDS)


def unload(folder: Path, *parts: list[dict], partitioned: tuple[str, ...] = (), int96: bool = False, **manifest: object) -> Path:
    """A folder as UNLOAD leaves it: each part a file of its own, or one for each of its folders."""
    listed = []
    for number, rows in enumerate(parts):
        folders: dict[str, list[dict]] = {}
        for row in rows:
            folders.setdefault("/".join(f"{name}={row[name]}" for name in partitioned), []).append(row)
        for inside, own in folders.items():
            name = f"{QUERY}_{number}{len(listed)}.parquet"
            path = folder / "results" / inside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            names = [name for name in own[0] if name not in partitioned]
            columns = {name: pa.array([plain(row[name]) for row in own], TYPES.get(name, pa.string())) for name in names}
            pq.write_table(pa.table(columns), path, compression="gzip", use_deprecated_int96_timestamps=int96)
            url = f"s3://bucket/unload/results/{inside}/{name}"
            listed.append({"url": url, "file_metadata": {"content_length_in_bytes": path.stat().st_size, "row_count": len(own)}})
    about = {"result_files": listed, "query_metadata": {"total_row_count": 0}, "author": {"name": "Amazon Timestream"}}
    (folder / f"{QUERY}_x_manifest.json").write_text(json.dumps(about | manifest))
    (folder / f"{QUERY}_x_metadata.json").write_text(json.dumps({"ColumnInfo": [], "Author": {"Name": "Amazon Timestream"}}))
    return folder


def plain(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def single(station: str, at: datetime, measure: str, kind: str, value: object, **others: object) -> dict:
    """A row of one measure."""
    typed = {f"measure_value::{name}": value if name == kind else None for name in ("double", "bigint", "varchar", "boolean")}
    return {"station": station, **others, "measure_name": measure, "time": at, **typed}


def records(found: str, dataset: Dataset = DATASET) -> dict[tuple[str, datetime], dict]:
    decoded = Validator(dataset).decode(list(Source(found, dataset)), NOW)
    assert not decoded.rejected, decoded.rejected
    return {(record.group, record.valid_time): record.fields for _, record in decoded.records}


@pytest.mark.parametrize("int96", [False, True])
def test_rows_of_one_measure_each_are_joined(tmp_path, int96):
    rows = [
        single("A", AT, "temp", "double", 21.5),
        single("A", AT + SECOND, "temp", "double", 22.0),
        single("B", AT, "temp", "double", 1.25),
    ]
    others = [
        single("A", AT, "wind", "bigint", 7),
        single("A", AT, "sky", "varchar", "it's clear"),
        single("A", AT + 2 * SECOND, "wet", "boolean", True),
    ]
    folder = unload(tmp_path, rows, others, int96=int96)
    assert is_unload(folder)
    found = convert([str(folder)], DATASET, tmp_path)
    assert found.rows == 4
    assert records(found.path) == {
        ("A", AT): {"temp": 21.5, "wind": 7, "sky": "it's clear"},
        ("A", AT + SECOND): {"temp": 22},
        ("A", AT + 2 * SECOND): {"wet": True},
        ("B", AT): {"temp": 1.25},
    }
    assert not list(tmp_path.glob("*.duckdb*"))


def test_multi_measure_records_and_timestamps_to_the_nanosecond(tmp_path):
    rows = [
        {"station": "A", "measure_name": "m", "time": AT, "temp": 1.5, "wind": 2, "sky": None, "seen": AT - SECOND},
        {"station": "A", "measure_name": "n", "time": AT, "temp": None, "wind": None, "sky": "x", "seen": None},
        {"station": "A", "measure_name": "m", "time": AT + SECOND, "temp": 2.5, "wind": 3, "sky": None, "seen": None},
    ]
    found = convert([str(unload(tmp_path, rows))], DATASET, tmp_path)
    assert records(found.path) == {
        ("A", AT): {"temp": 1.5, "wind": 2, "sky": "x", "seen": "2023-05-01T11:59:59.000000Z"},
        ("A", AT + SECOND): {"temp": 2.5, "wind": 3},
    }


@pytest.mark.parametrize("form", ["epoch_s", "epoch_ms", "epoch_us", "epoch_ns"])
def test_times_are_written_as_the_dataset_reads_them(tmp_path, form):
    dataset = replace(DATASET, time_format=form, time_field="t")
    found = convert([str(unload(tmp_path, [single("A", AT, "temp", "double", 1.0)]))], dataset, tmp_path)
    assert list(records(found.path, dataset)) == [("A", AT)]


def test_folders_carry_columns_and_one_that_nobody_declared_is_left_out(tmp_path):
    rows = [
        single(station, AT + n * SECOND, "temp", "double", float(n), day="2023-05-01")
        for n, station in enumerate(["North Pole", "B"])
    ]
    found = convert([str(unload(tmp_path, rows, partitioned=("station", "day")))], DATASET, tmp_path)
    assert found.notes == ("left out, since it is a folder's name and no declared field: day",)
    assert {group for group, _ in records(found.path)} == {"North%20Pole", "B"}


def test_series_that_the_group_does_not_tell_apart_are_an_error(tmp_path):
    rows = [single("A", AT, "temp", "double", 1.0, sensor="1"), single("A", AT, "temp", "double", 2.0, sensor="2")]
    with pytest.raises(InputError, match="two rows at station A, time 2023-05-01 12:00:00 differ in column"):
        convert([str(unload(tmp_path, rows))], DATASET, tmp_path)
    grouped = replace(DATASET, group_by=("station", "sensor"))
    (tmp_path / "again").mkdir()
    found = convert([str(tmp_path)], grouped, tmp_path / "again")
    assert set(records(found.path, grouped)) == {("A/1", AT), ("A/2", AT)}


def test_what_is_missing_is_said(tmp_path):
    rows = [single("A", AT, "temp", "double", 1.0)]
    folder = unload(tmp_path, rows)
    with pytest.raises(InputError, match="have no column 'site'"):
        convert([str(folder)], replace(DATASET, group_by=("site",)), tmp_path)
    (file,) = folder.rglob("*.parquet")
    pq.write_table(pa.table({"station": ["A"]}).slice(0, 0), file)
    with pytest.raises(InputError, match="has 0 rows, the manifest says 1"):
        convert([str(folder)], DATASET, tmp_path)
    file.unlink()
    with pytest.raises(InputError, match=r"the manifest names AED.*, which is not there"):
        convert([str(folder)], DATASET, tmp_path)
    with pytest.raises(InputError, match="No such file"):
        convert([str(tmp_path / "none.parquet")], DATASET, tmp_path)
    assert not is_unload(tmp_path / "results")


def test_an_unload_becomes_rows_of_the_archive(tmp_path):
    dataset = replace(weather(), fields={"temp": Field("float", "temp"), "wind": Field("int", "wind")})
    world = BackfillWorld(dataset, tmp_path, NOW)
    rows = [
        single(station, AT + n * SECOND, measure, kind, value)
        for station in "AB"
        for n in range(50)
        for measure, kind, value in (("temp", "double", n / 4), ("wind", "bigint", n))
    ]
    folder = unload(made(tmp_path / "unload"), rows[::2], rows[1::2])
    found = convert([str(folder)], world.dataset, made(tmp_path / "joined"))
    assert world.backfill_files([Path(found.path)]).tiers == {"yearly": 100}
    assert [row["temp"] for row in world.store.query("weather", "B").to_pylist()] == [n / 4 for n in range(50)]
    assert [row["wind_sum"] for row in world.store.query("weather", "A", level="daily").to_pylist()] == [sum(range(50))]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
