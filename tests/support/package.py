"""`make package`: what would go to AWS, packaged without an account in a copy of the tree, measured and linted.

A copy, because `sls` works in `.serverless/` beside serverless.yml, which a running laptop cloud may be using.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("serverless.yml", "stages.yml", "lifecycle.js", "package.json", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("ingestion", "stream_processors", "archive", "tesseract")
LIMIT = 250 * 2**20  # AWS: a function's unzipped code
TEMPLATE = "cloudformation-template-update-stack.json"
Json = dict[str, Any]


def main() -> int:
    """Package stage prod; returns how many things are wrong."""
    with tempfile.TemporaryDirectory(prefix="tesseract-package-") as folder:
        copy = Path(folder)
        _copy(copy)
        print("package: sls package --stage prod (arm64, python3.13; some minutes)", flush=True)
        started = time.monotonic()
        done = subprocess.run(
            [str(ROOT / "node_modules" / ".bin" / "sls"), "package", "--stage", "prod"],
            cwd=copy,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            print("\n".join(done.stdout.splitlines()[-30:]))
            return 1
        print(f"packaged in {time.monotonic() - started:.0f} s")
        faults = [*_sizes(copy / ".serverless"), *_rights(json.loads((copy / ".serverless" / TEMPLATE).read_text())["Resources"])]
        print("cfn-lint", flush=True)
        command = [
            str(Path(sys.executable).parent / "cfn-lint"),
            "--ignore-checks",
            "W3005",
            "--",
            str(copy / ".serverless" / TEMPLATE),
        ]
        if subprocess.run(command).returncode:
            faults.append("cfn-lint found faults in the template")
    print("\n".join(faults) or "package: fine")
    return len(faults)


def _copy(target: Path) -> None:
    for name in PARTS:
        shutil.copy(ROOT / name, target / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "node_modules").symlink_to(ROOT / "node_modules")


def _environment() -> dict[str, str]:
    """No endpoint and no credentials: packaging must need neither."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
    account = os.environ.get("TESSERACT_ACCOUNT", "123456789012")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_CONFIG_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
    return {**kept, **nowhere, "PATH": path, "TESSERACT_ACCOUNT": account, "SLS_TELEMETRY_DISABLED": "1"}


def _sizes(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*-tesseract-prod-*.zip")):
        with ZipFile(path) as archive:
            unzipped = sum(entry.file_size for entry in archive.infolist())
        name = path.stem.partition("-tesseract-prod-")[2]
        print(f"  {name:15} {path.stat().st_size / 1e6:6.1f} MB zipped {unzipped / 1e6:7.1f} MB unzipped")
        if unzipped >= LIMIT:
            yield f"{name} unzips to {unzipped / 2**20:.0f} MiB; Lambda takes 250"


def _rights(resources: Json) -> Iterator[str]:
    """No right to everything, and every function on a timer may invoke itself: its timer works in its role."""
    for name, role in ((n, r) for n, r in resources.items() if r["Type"] == "AWS::IAM::Role" and "Condition" not in r):
        for statement in _statements(role):
            # X-Ray knows no narrower resource
            traces = all(action.startswith("xray:Put") for action in _listed(statement["Action"]))
            if "*" in _listed(statement["Action"]) or ("*" in _listed(statement["Resource"]) and not traces):
                yield f"{name} has a right to everything: {json.dumps(statement)}"
    for name, schedule in ((n, r) for n, r in resources.items() if r["Type"] == "AWS::Scheduler::Schedule"):
        role = resources[schedule["Properties"]["Target"]["RoleArn"]["Fn::GetAtt"][0]]
        if not any("lambda:InvokeFunction" in _listed(statement["Action"]) for statement in _statements(role)):
            yield f"the timer {name} may not invoke its function"


def _statements(role: Json) -> list[Json]:
    return [s for policy in role["Properties"].get("Policies", []) for s in policy["PolicyDocument"]["Statement"]]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    sys.exit(main())
