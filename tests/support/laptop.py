"""A laptop cloud for the end-to-end tests: the demo deploys it and is checked first, then everything else is tried on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tesseract.local.state import Stack

ROOT = Path(__file__).parents[2]
TESSERACT = [sys.executable, "-m", "tesseract.cli"]


def clean_environment(folder: Path, **extra: str) -> dict[str, str]:
    """This process's environment without AWS settings: whatever runs must find the stack by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
    return {**kept, "TESSERACT_LOCAL_DIR": str(folder), "XDG_STATE_HOME": str(folder.parent / "state"), "COLUMNS": "160", **extra}


class Demo:
    """A demo that has run, and its stack, which is still up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "examples/demo.py", "JFK"]  # the same story with a third of the records
        self.run = subprocess.run(
            command, cwd=ROOT, env=clean_environment(folder, KEEP="1"), capture_output=True, text=True, timeout=900, check=False
        )

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = clean_environment(self.folder, **environment)
        return subprocess.run([*TESSERACT, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs until it is told to stop."""
        command, env, pipe = [*TESSERACT, *arguments], clean_environment(self.folder), subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)

    def done(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        result = self.cli(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows of `tesseract query`."""
        rows: list[dict[str, Any]] = json.loads(self.done("query", *arguments, "--format", "json"))
        return rows

    def stack(self) -> Stack:
        return msgspec.json.decode((self.folder / "stack.json").read_bytes(), type=Stack)

    @contextmanager
    def here(self) -> Iterator[Stack]:
        """This process on the stack."""
        stack = self.stack()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in stack.environment().items():
                patch.setenv(name, value)
            yield stack

    def post(self, body: bytes, dataset: str = "weather", **headers: str) -> tuple[int, dict[str, Any]]:
        """A signed request to the deployed API."""
        from tesseract.storage.services import SignedHttp

        with self.here() as stack:
            status, answer, _ = SignedHttp("execute-api").post(f"{stack.api_url}/datasets/{dataset}/records", body, headers)
        return status, json.loads(answer)
