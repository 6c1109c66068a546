"""Deliberate faults of the protocols: the simulation catches each of them within 200 seeds."""

from __future__ import annotations

import json
from functools import cache

import pytest

from tests.simulation import archive_mutations, mutations  # noqa: F401 - they register them
from tests.simulation.faults import MUTATIONS
from tests.simulation.test_simulation import simulate


@cache
def seeds() -> dict[str, int | None]:
    """Fault → the seed that catches it."""
    done = simulate("--mutations")
    assert done.stdout, done.stderr
    found: dict[str, int | None] = json.loads(done.stdout)
    return found


def test_there_are_enough() -> None:
    assert len(MUTATIONS) >= 35


@pytest.mark.parametrize("name", MUTATIONS)
def test_caught(name: str) -> None:
    assert seeds()[name] is not None
