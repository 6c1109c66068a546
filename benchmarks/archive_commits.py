"""Commits a second of sixteen writers to one partition, on DynamoDB Local: all commit, nothing is lost.

Each commit adds a segment's entry and the copy of the manifest in the bucket, which is memory here. The peer is one writer alone,
who meets no conflict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from benchmarks import stream_tables
from benchmarks.archive_samples import START
from benchmarks.figures import Figure, medians
from tesseract.model import Manifest, Segment
from tesseract.processing.segments import added
from tesseract.storage.catalog import Catalog
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.memory import MemoryObjects
from tesseract.utils.time_utils import to_micros

WRITERS, EACH, ROUNDS = 16, 6, 3
ENTRY = Segment("", "daily", 0, 86_400_000_000, 1, 1, 0, 0, 1, 0, 0, "")


def run() -> Iterator[Figure]:
    """In turns, each time to a partition that is new."""
    with stream_tables.emulator() as endpoint:
        name = stream_tables.create(endpoint, "commits")
        catalog = Catalog(DynamoTable(stream_tables.Metered(endpoint), name), MemoryObjects())
        names = iter(range(1000))
        many, one = medians(
            ROUNDS,
            lambda: _commits(catalog, f"many-{next(names)}", WRITERS),
            lambda: _commits(catalog, f"one-{next(names)}", 1),
        )
    rates = [WRITERS * EACH / seconds for seconds in (many, one)]
    told = f"one writer alone {rates[1]:.0f}/s; all {WRITERS * EACH} entries there"
    yield Figure(f"commits of {WRITERS} writers to one partition", rates[0], "commits/s", told)


def _commits(catalog: Catalog, group: str, writers: int) -> float:
    def write(writer: int) -> None:
        for number in range(WRITERS * EACH // writers):
            key = f"{writer}-{number}"

            def change(manifest: Manifest, key: str = key) -> Manifest | None:
                return added(manifest, [replace(ENTRY, key=key)], key, to_micros(START), 0, "bench")

            if catalog.commit("d", "raw", group, change, START) is None:
                raise AssertionError("refused")

    begun = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    seconds = time.perf_counter() - begun
    manifest = catalog.manifest("d", "raw", group)
    if len({segment.key for segment in manifest.segments}) != WRITERS * EACH or manifest.version != WRITERS * EACH:
        raise AssertionError(manifest)
    return seconds
