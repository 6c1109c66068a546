"""An export's data file to committed Parquet: against the bare steps, against boto3's TypeDeserializer, and its memory.

The floor inflates with isal, reads with pyarrow.json and an explicit schema of just what it needs, one half of the file on each of
two threads, and writes what came, text as it is, to Parquet: no checksums, no types, no groups, no order, no commit. The road by
boto3 is the same up to a Parquet file in memory: isal, msgspec's JSON, TypeDeserializer for each value, `Table.from_pylist`, write.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from boto3.dynamodb.types import TypeDeserializer
from isal import isal_zlib

from benchmarks.archive_samples import DATASET, START
from benchmarks.figures import Figure, medians
from benchmarks.imports import ENVIRONMENT
from tesseract.model import Window
from tesseract.processing import archiver
from tesseract.processing.collector import Task
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, memory_backend
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros

ROOT = Path(__file__).resolve().parents[1]
GROUPS = 20
LINES = 400_000
SIZES = (400_000, 3_200_000)
KEY, EXPORT = "data/file.json.gz", "01700000000000-00000000"


def run() -> Iterator[Figure]:
    """Rates on one file, then the peak of a fresh process on files of two sizes."""
    body, tenth = (b"".join(_gzipped(lines)) for lines in (LINES, LINES // 10))
    ours, floor, boto3 = medians(3, lambda: _ours(body, LINES), lambda: _floor(body), lambda: _boto3(tenth))
    rates = ", ".join(f"{who} {LINES / took / 1e6:.3f}" for who, took in (("ours", ours), ("floor", floor), ("boto3", boto3)))
    name, told = "export lines to committed Parquet", f"{rates} M lines/s"
    yield Figure(f"{name}, of the floor", floor / ours, "×", told, 0.8, more_is_better=True)
    yield Figure(f"{name}, of boto3's TypeDeserializer", boto3 / ours, "×", told, 8, more_is_better=True)
    gaps = b"".join(_gzipped(LINES, gaps=True))
    ours, floor = medians(3, lambda: _ours(gaps, LINES), lambda: _floor(gaps))
    told = f"ours {LINES / ours / 1e6:.3f}, floor {LINES / floor / 1e6:.3f} M lines/s"
    yield Figure(f"{name}, one in ten without a field, of the floor", floor / ours, "×", told, more_is_better=True)
    for lines in SIZES:
        yield Figure(f"memory: an export file of {lines:,} lines", _peak(lines), "MB", "VmHWM of a fresh process", bar=512)


def _gzipped(lines: int, gaps: bool = False) -> Iterator[bytes]:
    """A file, member by member; with gaps, every tenth line has no `state`, so that not all lines are alike."""
    chance = random.Random(1)
    for first in range(0, lines, 100_000):
        text = b"".join(_line(place, chance, gaps and place % 10 == 3) for place in range(first, min(first + 100_000, lines)))
        yield gzip.compress(text, 6)


def _line(place: int, chance: random.Random, gap: bool) -> bytes:
    moment = iso_micros(START + timedelta(seconds=place // GROUPS))
    key = f'"pk":{{"S":"d#s-{place % GROUPS:04}#{moment[:10]}"}},"sk":{{"S":"{moment}"}}'
    fields = (
        f'"temp":{{"N":"{chance.randrange(-1000, 4000) / 100:g}"}},"hum":{{"N":"{chance.randrange(10_000) / 100:g}"}},'
        f'"wind":{{"N":"{chance.randrange(40)}"}},"pressure":{{"N":"{chance.randrange(90_000, 110_000) / 100:g}"}}'
    )
    fields += "" if gap else f',"state":{{"S":"{chance.choice(["on", "off"])}"}}'
    own = '"expires_at":{"N":"1772928000"},"config_version":{"N":"1"}'
    written = to_micros(START) + 1000 * place
    return (
        f'{{"Metadata":{{"WriteTimestampMicros":{{"N":"{written}"}}}},"Keys":{{{key}}},'
        f'"NewImage":{{{key},"fields":{{"M":{{{fields}}}}},{own}}}}}\n'
    ).encode()


def _ours(body: bytes, lines: int) -> float:
    backend = memory_backend()
    backend.objects.put(KEY, body)
    return _timed(backend, b64encode(hashlib.md5(body).digest()).decode(), lines)


def _timed(backend: Backend, md5: str, lines: int) -> float:
    catalog = Catalog(backend.catalog, backend.objects)
    catalog.put_dataset(DATASET, START)
    end = to_micros(START + timedelta(days=3))
    arn = f"arn:aws:dynamodb:eu-central-1:123456789012:table/t/export/{EXPORT}"
    window = Window(to_micros(START), end, "collecting", export_arn=arn, files=1, items=lines)
    catalog.open_window(window)
    task = Task(window.id, EXPORT, KEY, md5, lines)
    begun = time.perf_counter()
    done = archiver.run(catalog, backend.objects, task, from_micros(end))
    seconds = time.perf_counter() - begun
    if (done.rows, done.commits) != (lines, GROUPS):
        raise AssertionError(done)
    return seconds


def _floor(body: bytes) -> float:
    begun = time.perf_counter()
    text = b"".join(_members(body))
    half = text.index(b"\n", len(text) // 2) + 1
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_read_and_write, (text[:half], text[half:])))
    return time.perf_counter() - begun


def _members(body: bytes) -> Iterator[bytes]:
    while body:
        inflate = isal_zlib.decompressobj(31)
        yield inflate.decompress(body)
        body = inflate.unused_data


def _read_and_write(text: bytes) -> None:
    kinds = {kind: pa.struct([(kind, pa.string())]) for kind in "SN"}
    fields = pa.struct([(name, kinds["S" if field.type == "string" else "N"]) for name, field in DATASET.fields.items()])
    members = [("pk", kinds["S"]), ("sk", kinds["S"]), ("fields", pa.struct([("M", fields)])), ("config_version", kinds["N"])]
    schema = pa.schema([("Metadata", pa.struct([("WriteTimestampMicros", kinds["N"])])), ("NewImage", pa.struct(members))])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    table = pj.read_json(pa.BufferReader(text), pj.ReadOptions(block_size=16 << 20), options)
    pq.write_table(table, pa.BufferOutputStream(), compression="zstd", compression_level=1)


def _boto3(body: bytes) -> float:
    """The seconds for all lines, from a tenth of them."""
    begun = time.perf_counter()
    lines = b"".join(_members(body)).splitlines()
    read, rows = TypeDeserializer().deserialize, []
    for line in lines:
        change = msgspec.json.decode(line)
        image = {name: read(value) for name, value in change["NewImage"].items()}
        rows.append({**image.pop("fields"), **image, "written": int(read(change["Metadata"]["WriteTimestampMicros"]))})
    pq.write_table(pa.Table.from_pylist(rows), pa.BufferOutputStream(), compression="zstd", compression_level=1)
    return (time.perf_counter() - begun) * LINES / len(lines)


def _peak(lines: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.json.gz"
        with path.open("wb") as out:
            out.writelines(_gzipped(lines))
        command = [sys.executable, "-m", "benchmarks.archive_decode", str(path), str(lines)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


class _Bucket(MemoryObjects):
    """The data file is read from the disk, and segments are dropped: what a bucket stores is not the process's memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def open(self, key: str) -> BinaryIO:
        return self._path.open("rb")

    def put(self, key: str, body: bytes) -> None:
        super().put(key, b"" if key.startswith("archive/") else body)


def _child(path: Path, lines: int) -> None:
    with path.open("rb") as file:
        md5 = b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    memory = memory_backend()
    _timed(Backend(memory.raw, memory.live, memory.catalog, _Bucket(path)), md5, lines)
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
