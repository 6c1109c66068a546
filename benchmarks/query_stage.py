"""A stage as a client of ours reads it, over the servers of the benchmarks, and what is timed of it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks import query_samples, query_servers
from benchmarks.query_servers import Servers
from tesseract.config.dataset import Dataset
from tesseract.storage import aws
from tesseract.storage.base import Backend
from tesseract.store import Store
from tesseract.utils.aws_helpers import client

Work = Callable[[], object]


class Stage(NamedTuple):
    """A stage, who serves its tables, where they and its bucket are, and its storage as ours reads it."""

    name: str
    dynamodb: str
    s3: str
    backend: Backend


def backend(servers: Servers, stage: str, dynamodb: str) -> Backend:
    """The storage of a stage as `tesseract.connect` makes it: DynamoDB at `dynamodb`, the bucket in MiniStack."""
    os.environ.update({"AWS_ENDPOINT_URL": servers.cloud, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb})
    aws.backend.cache_clear()
    client.cache_clear()
    return aws.backend(stage, query_servers.bucket(stage))


@contextmanager
def stages(*datasets: Dataset) -> Iterator[dict[str, Stage]]:
    """Who serves DynamoDB → a stage with the datasets: the same data, the same bucket's server."""
    with query_servers.running() as servers:
        found = {}
        for who, endpoint in servers.dynamodb.items():
            name = who.lower().replace(" ", "")
            query_servers.create(name, servers, endpoint)
            found[who] = Stage(name, endpoint, servers.cloud, backend(servers, name, endpoint))
            query_samples.load(found[who].backend, *datasets)
        yield found


def store(of: Backend) -> Store:
    """A store that knows nothing yet, at the moment that the data are made for."""
    return Store(of, "bench", lambda: query_samples.NOW)


def turns(rounds: int, *works: Work) -> list[list[float]]:
    """The seconds of each, measured in turns after one round that does not count."""
    runs = [[timed(work) for work in works] for _ in range(rounds + 1)][1:]
    return [list(column) for column in zip(*runs, strict=True)]


def timed(work: Work) -> float:
    """Its seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median_ms(seconds: list[float]) -> float:
    """The median in milliseconds."""
    return 1000 * statistics.median(seconds)


def p99_ms(seconds: list[float]) -> float:
    """What 99 of 100 are not longer than, in milliseconds."""
    return 1000 * sorted(seconds)[-(-99 * len(seconds) // 100) - 1]
