"""A piece of the simulation at every run of the tests; `make simulate` runs more of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 100


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the order of sets, which Python draws anew for each, is part of a history."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)


def test_fixed_seeds() -> None:
    done = simulate(f"0..{SEEDS}", "--processes=1", "--journal=no")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_history_is_the_same_every_time() -> None:
    from tests.simulation.patches import simulated
    from tests.simulation.runs import run

    with simulated():
        for seed in (3, 11, 17):
            assert run(seed, tracing=True) == run(seed, tracing=True)


def test_a_wrong_range_is_refused() -> None:
    done = simulate("many")
    assert done.returncode == 2
    assert "SEEDS is a number of seeds" in done.stderr
