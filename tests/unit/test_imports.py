"""What a cold start pays for: the functions that producers and streams wait for load none of the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("pyarrow", "pydantic", "numpy", "pandas", "duckdb", "boto3", "rich", "typer", "yaml")
SCRIPT = """
import sys
import {module} as function
print(*(name for name in {heavy} if name in sys.modules))
print(callable(function.handler))
"""


@pytest.mark.parametrize(
    "module", ["ingestion.http_api", "ingestion.kinesis_stream", "stream_processors.aggregates", "stream_processors.latest"]
)
def test_a_function_loads_nothing_heavy(module):
    script = SCRIPT.format(module=module, heavy=HEAVY)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\nTrue\n"


def test_the_library_itself_loads_nothing():
    script = f"import sys, tesseract; print(*(name for name in {(*HEAVY, 'msgspec', 'botocore')} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"
