"""Where the laptop cloud keeps what it knows of itself: one folder, one JSON file, one log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from tesseract.errors import InputError


class Process(msgspec.Struct, frozen=True):
    """A process that `up` started. Its start time tells it from a later one with the same pid."""

    name: str
    pid: int
    started: str


class Stack(msgspec.Struct, frozen=True):
    """A laptop cloud. `api_url` is the base of the HTTP API, empty until the stage is deployed."""

    endpoint: str
    exports_endpoint: str
    processes: tuple[Process, ...]
    api_url: str = ""
    bucket: str = ""
    stage: str = "local"
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """What a shell exports to work on this stage; the standard AWS variables among it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_DYNAMODB": self.exports_endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "TESSERACT_STAGE": self.stage,
            **({"TESSERACT_API_URL": self.api_url} if self.api_url else {}),
        }


def project_root() -> Path:
    """The folder of serverless.yml: the working directory or one above it, else that of an editable install."""
    here = Path.cwd()
    source = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, source):
        if (folder / "serverless.yml").exists() and (folder / "package.json").exists():
            return folder
    raise InputError(f"there is no serverless.yml in {here} or above it", hint="run this in a checkout of Tesseract")


def state_folder() -> Path:
    """TESSERACT_LOCAL_DIR, else `.tesseract` beside serverless.yml."""
    given = os.environ.get("TESSERACT_LOCAL_DIR")
    return Path(given).resolve() if given else project_root() / ".tesseract"


def load() -> Stack | None:
    """What the last `up` wrote, whether it still runs or not."""
    try:
        return msgspec.json.decode((state_folder() / "stack.json").read_bytes(), type=Stack)
    except (OSError, msgspec.DecodeError, InputError):
        return None


def save(stack: Stack) -> None:
    """Replace the file whole, so that no reader sees half of it."""
    path = state_folder() / "stack.json"
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(stack))
    partial.replace(path)


def start_time(pid: int) -> str:
    """When a process started, as `ps` writes it; empty where there is none, or only its remains."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    stat, _, started = answer.stdout.strip().partition(" ")
    return "" if stat.startswith("Z") else " ".join(started.split())


def is_alive(process: Process) -> bool:
    """Whether this very process still runs. One that ended before its start time could be read does not."""
    return bool(process.started) and start_time(process.pid) == process.started
