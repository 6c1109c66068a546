"""An emulator of AWS that misbehaves: MiniStack and the stand-in for exports, with microburst before each; processes of our own.

microburst answers some calls with AWS's errors in AWS's form, ends connections before the request or within the answer, or waits
and says 504. Its rules count calls (`sequence`), so that every run meets as many faults, whatever they hit.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tesseract.storage.keys import tables
from tests.support import backends

START_SECONDS = 60
STAGE = "faults"
ACCOUNT = "000000000000"
Rule = dict[str, Any]


def fault(service: str, every: int, in_a_row: int = 1, **effect: Any) -> Rule:
    """A rule: of `every` calls of a service the first `in_a_row` have it. Of several rules the first that fits counts."""
    return {"service": service, "sequence": {"fail": in_a_row, "pass": every - in_a_row}, **effect}


def error(code: str, status: int) -> Rule:
    return {"error": {"code": code, "status": status, "message": f"made up: {code}"}}


LOST = {"response": {"abort_frac": 0.3}}  # it is done, and the answer breaks off
RULES = [
    # one call in ten goes wrong. These use up all attempts of a client
    fault("dynamodb", 503, 6, **error("ProvisionedThroughputExceededException", 400)),
    fault("dynamodb", 997, 6, **error("InternalServerError", 500)),
    fault("s3", 311, 6, **error("InternalError", 500)),
    # and these it gets over, if it tries again
    fault("dynamodb", 53, **error("ProvisionedThroughputExceededException", 400)),
    fault("dynamodb", 71, **error("ThrottlingException", 400)),
    fault("dynamodb", 83, **error("ServiceUnavailable", 503)),
    fault("dynamodb", 97, reset=True),
    fault("dynamodb", 67, **LOST),
    fault("dynamodb", 211, timeout_ms=150),
    fault("s3", 37, **error("SlowDown", 503)),
    fault("s3", 53, reset=True),
    fault("s3", 31, **LOST),
    fault("s3", 139, timeout_ms=150),
    fault("sqs", 7, **error("InternalError", 500)),
]


class FaultyCloud:
    """Use in a `with` block. `direct` and `direct_exports` are the endpoints without faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        ports = _free_ports(4)
        self.direct, self.direct_exports = (f"http://127.0.0.1:{port}" for port in ports[:2])
        # a host with a dot in it makes microburst read botocore's models of all services first, half a minute
        self.faulty, self.faulty_exports = (f"http://localhost:{port}" for port in ports[2:])

    def __enter__(self) -> FaultyCloud:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        quiet = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
        self._spawn(["ministack"], {**quiet, "GATEWAY_PORT": _port(self.direct), "TMPDIR": str(self._folder)})
        stand_in = ["tesseract.local.exports_server", _port(self.direct_exports), self.direct, str(self._folder), "1"]
        self._spawn(stand_in, {"AWS_ENDPOINT_URL": self.direct})
        for listen, upstream in ((self.faulty, self.direct), (self.faulty_exports, self.direct_exports)):
            self._spawn(["microburst", "--port", _port(listen), "--upstream", upstream, "--no-resign"], {})
        for url in (f"{self.direct}/_ministack/health", self.direct_exports, *map(_health, (self.faulty, self.faulty_exports))):
            self._wait(url)

    def _spawn(self, module: Sequence[str], environment: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        with (self._folder / "faulty.log").open("ab") as log:
            command = [sys.executable, "-m", *module]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**clean, **keys, **environment})
            )

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and all(process.poll() is None for process in self._processes):
            try:
                urlopen(url, timeout=2).close()
                return
            except URLError as refused:
                if getattr(refused, "code", None):
                    refused.close()  # type: ignore[attr-defined] # it answers, if only with an error
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{url} did not start: {(self._folder / 'faulty.log').read_text()[-2000:]}")

    # the stage ------------------------------------------------------------------------------------------------------

    def deploy(self) -> dict[str, str]:
        """Tables, bucket and queues of a stage, made without faults; the environment of its functions, which meet them."""
        dynamodb, recovery = (backends.client("dynamodb", at) for at in (self.direct, self.direct_exports))
        for name in tables(STAGE).values():
            backends.create_table(dynamodb, name)
        on = {"PointInTimeRecoveryEnabled": True}
        recovery.update_continuous_backups(TableName=tables(STAGE)["raw"], PointInTimeRecoverySpecification=on)
        bucket = f"tesseract-{STAGE}-{ACCOUNT}-archive"
        backends.client("s3", self.direct).create_bucket(Bucket=bucket)
        sqs = backends.client("sqs", self.direct)
        dead = sqs.create_queue(QueueName=f"tesseract-{STAGE}-work-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "0"}  # a task that failed comes again at once
        work = sqs.create_queue(QueueName=f"tesseract-{STAGE}-work", Attributes=attributes)["QueueUrl"]
        config = self._folder / "aws.ini"
        config.write_text("[default]\ns3 =\n  addressing_style = path\n")  # no bucket in the host's name
        return {
            "AWS_CONFIG_FILE": str(config),
            "AWS_ENDPOINT_URL": self.faulty,
            "AWS_ENDPOINT_URL_DYNAMODB": self.faulty_exports,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "TESSERACT_STAGE": STAGE,
            "TESSERACT_BUCKET": bucket,
            "TESSERACT_WORK_QUEUE": work,
            "TESSERACT_EXPORT_LAG": "0",
            "TESSERACT_MIN_WINDOW": "1",
            "TESSERACT_CADENCE": "auto",
        }

    # the faults -----------------------------------------------------------------------------------------------------

    def rules(self, rules: Sequence[Rule]) -> None:
        """What is to go wrong from here on, in place of what was."""
        for endpoint in (self.faulty, self.faulty_exports):
            body = json.dumps(list(rules)).encode()
            _ask(Request(f"{endpoint}/_microburst/rules", body, {"content-type": "application/json"}))

    def fired(self) -> Counter[tuple[str, str]]:
        """How often each (service, effect) has come about."""
        found: Counter[tuple[str, str]] = Counter()
        for endpoint in (self.faulty, self.faulty_exports):
            for event in _ask(Request(f"{endpoint}/_microburst/fired?limit=100000")):
                found[event["service"], event["action"]] += 1
        return found


def _health(endpoint: str) -> str:
    return f"{endpoint}/_microburst/health"


def _ask(request: Request) -> Any:
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def _free_ports(count: int) -> list[int]:
    with socket.socket() as one, socket.socket() as two, socket.socket() as three, socket.socket() as four:
        found = []
        for probe in (one, two, three, four)[:count]:
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
    return found
