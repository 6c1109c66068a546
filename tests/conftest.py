"""What several suites share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples in every run: a change is refused for what it does, not for what was drawn. `pytest
# --hypothesis-profile=default` draws new ones, and `make fuzz` always does.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a moto server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def credentials(monkeypatch) -> None:
    """Keys for an emulator, where the shell has none of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one of them at the end (`--no-loadscope-reorder` keeps the order)."""
    long = ("e2e/test_demo", "simulation/")
    items.sort(
        key=lambda item: next((place for place, name in enumerate(long) if f"tests/{name}" in item.path.as_posix()), len(long))
    )
