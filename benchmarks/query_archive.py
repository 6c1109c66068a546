"""Three hours of one of 1,000 sensors from a month on S3: against one ranged GET, pyiceberg and deltalake; and 100 sensors at once.

A warm reader has had a row of each sensor that it is asked for before, never the hours that it is asked for. The floor is boto3's
get_object of just the bytes that hold the hours, by a client that is warm too; where they lie it knows. Our query looks for a newer
manifest and for day marks as well.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from benchmarks.query_peers import peers
from benchmarks.query_samples import DAYS, FLEET, HOURS, MANIFESTS, SENSORS, START, made, sensor
from benchmarks.query_servers import bucket, client
from benchmarks.query_stage import Stage, Work, median_ms, p99_ms, stages, store, turns
from tesseract.model import Manifest, Segment

ASKED, MANY = 8, (1, 10, 100)
MOST, FEW = 200, 7  # rounds
Asked = tuple[str, datetime, datetime]
Way = Callable[[str, datetime, datetime], object]


def run() -> Iterator[Figure]:
    """With the tables on MiniStack, which serves all then, and on DynamoDB Local."""
    with stages(FLEET) as found:
        for who, stage in found.items():
            yield from _one(who, stage)
            yield from _many(who, stage)


def _one(who: str, stage: Stage) -> Iterator[Figure]:
    files, ours, asked = _files(), store(stage.backend), _asked()
    for question in asked:
        assert len(ours.query(FLEET.name, *question)) == HOURS * 60
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as folder:
        others = dict(peers(stage, files, Path(folder)))
        warm = {"ours": partial(ours.query, FLEET.name), "one ranged GET": Floor(stage, files).get}
        yield from _warm(who, warm | {name: peer.warm for name, peer in others.items()}, asked)
        cold = {"ours": lambda *question: store(stage.backend).query(FLEET.name, *question)}
        yield _cold(who, cold | {name: peer.cold for name, peer in others.items()}, asked)


def _warm(who: str, ways: dict[str, Way], asked: list[Asked]) -> Iterator[Figure]:
    """Against the floor in many rounds, against the peers in fewer: they take longer."""
    name = f"3 h of one of {SENSORS:,} sensors, {who}"
    seconds = _measured({way: ways[way] for way in ("ours", "one ranged GET")}, asked, MOST)
    told = f"{_told(seconds)}; p99 of ours {p99_ms(seconds['ours']):.1f} ms"
    yield Figure(f"{name}: of one ranged GET", _ratio(seconds, "ours", "one ranged GET"), "×", told, bar=2)
    seconds = _measured(ways, asked, FEW)
    for peer in list(ways)[2:]:
        bar = 5 if peer.endswith("a file a day") else None
        pair = _told({way: seconds[way] for way in ("ours", peer)})
        yield Figure(f"{name}: faster than {peer}", _ratio(seconds, peer, "ours"), "×", pair, bar, more_is_better=True)


def _measured(ways: dict[str, Way], asked: list[Asked], rounds: int) -> dict[str, list[float]]:
    return dict(zip(ways, turns(rounds, *(_each(way, asked) for way in ways.values())), strict=True))


def _ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.median(seconds[one]) / statistics.median(seconds[other])


def _cold(who: str, ways: dict[str, Way], asked: list[Asked]) -> Figure:
    seconds = _measured(ways, asked, FEW)
    return Figure(f"3 h of one of {SENSORS:,} sensors, {who}: cold", median_ms(seconds["ours"]), "ms", _told(seconds))


def _told(seconds: dict[str, list[float]]) -> str:
    return "; ".join(f"{name} {median_ms(found):.1f} ms" for name, found in seconds.items())


def _many(who: str, stage: Stage) -> Iterator[Figure]:
    """The same hours of several sensors in one query."""
    _, start, end = _asked()[0]
    reader = store(stage.backend)
    works = [partial(reader.read, FLEET.name, [sensor(number) for number in range(count)], start, end) for count in MANY]
    requests = []
    for work, count in zip(works, MANY, strict=True):
        work()
        found = work()
        assert found.stats.rows == count * HOURS * 60
        requests.append(found.stats.dynamodb_requests + found.stats.s3_requests)
    seconds = [statistics.median(found) for found in turns(7, *works)]
    each = [f"{count}: {1000 * took:.0f} ms, {asked} requests" for count, took, asked in zip(MANY, seconds, requests, strict=True)]
    name = f"{MANY[-1]} sensors at once, {who}"
    yield Figure(f"{name}: time of as many queries", seconds[-1] / (seconds[0] * MANY[-1]), "×", "; ".join(each), bar=1)
    yield Figure(f"{name}: requests of as many queries", requests[-1] / (requests[0] * MANY[-1]), "×", "; ".join(each), bar=1)


def _files() -> dict[str, Segment]:
    """Sensor → its month."""
    manifests = msgspec.json.decode((made(FLEET) / MANIFESTS).read_bytes(), type=list[Manifest])
    return {manifest.group: manifest.segments[0] for manifest in manifests}


def _asked() -> list[Asked]:
    """Several hours of a few sensors, never the same twice in a row."""
    dice, found = random.Random(3), []
    sensors = dice.sample(range(SENSORS), ASKED)
    for place in range(4 * ASKED):
        start = START + timedelta(minutes=dice.randrange((DAYS - 2) * 1440))
        found.append((sensor(sensors[place % ASKED]), start, start + timedelta(hours=HOURS)))
    return found


def _each(way: Way, asked: list[Asked]) -> Work:
    """A call that asks the next question each time."""
    questions = cycle(asked)
    return lambda: way(*next(questions))


class Floor:
    """boto3's get_object of the row groups that have the hours; where they lie it knows."""

    def __init__(self, stage: Stage, files: dict[str, Segment]) -> None:
        self._client, self._bucket, self._files = client("s3", stage.s3), bucket(stage.name), files
        self._known: dict[str, list[tuple[datetime, datetime, int, int]]] = {}

    def get(self, group: str, start: datetime, end: datetime) -> bytes:
        """The bytes, by one request."""
        key = self._files[group].key
        if key not in self._known:
            self._known[key] = _row_groups(made(FLEET) / key)
        own = [(low, high) for first, last, low, high in self._known[key] if first < end and last >= start]
        low, high = own[0][0], own[-1][1]
        answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={low}-{high - 1}")
        body: bytes = answer["Body"].read()
        assert len(body) == high - low
        return body


def _row_groups(path: Path) -> list[tuple[datetime, datetime, int, int]]:
    """The first and the last valid time of each row group of a file, and where it begins and ends."""
    metadata, found = pq.read_metadata(path), []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = [group.column(place) for place in range(group.num_columns)]
        times = next(chunk.statistics for chunk in chunks if chunk.path_in_schema == "valid_time")
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        ends = [low + chunk.total_compressed_size for low, chunk in zip(starts, chunks, strict=True)]
        found.append((times.min, times.max, min(starts), max(ends)))
    return found
