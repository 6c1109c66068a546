"""One suite, every backend: memory, moto, and Amazon's DynamoDB Local (tables only: it has no S3); or AWS_ENDPOINT_URL alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tesseract.storage.base import Objects, Table
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tests.support import backends, dynamodb_local


@pytest.fixture(scope="session")
def local_endpoint() -> Iterator[str]:
    with dynamodb_local.running() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _keys(credentials) -> None:
    """Every test here may call an emulator."""


@pytest.fixture(params=backends.backends("memory", "moto", "dynamodb-local"))
def table(request) -> Table:
    match request.param:
        case "memory":
            return MemoryTable()
        case "moto":
            return backends.table(request.getfixturevalue("moto"))
        case "dynamodb-local":
            return backends.table(request.getfixturevalue("local_endpoint"))
    return backends.table(backends.ENDPOINT)


@pytest.fixture(params=backends.backends("memory", "moto"))
def objects(request) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    return backends.objects(request.getfixturevalue("moto") if request.param == "moto" else backends.ENDPOINT)
