"""DynamoDB's JSON protocol, signed and sent by hand: a fifth of the time that botocore takes for an item of fifty numbers.

botocore still finds credentials and region; what is left out is its model of the service, which checks and walks every value of
every item in both directions. Our codec writes the wire form anyway.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from http.client import HTTPException
from typing import Any

import msgspec

from tesseract.errors import BackendError
from tesseract.storage.signed import Host, certificates, keys_of, sign
from tesseract.utils.aws_helpers import region as default_region
from tesseract.utils.time_utils import utc_now

ATTEMPTS = 4
TIMEOUT = (5, 60)  # seconds to connect, to answer
MAX_CONNECTIONS = 32
NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]  # else head and body of a request wait for each other, 40 ms
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
    "InternalServerError",
    "ServiceUnavailable",
}
CONFLICTS = {"TransactionConflictException", "TransactionInProgressException"}  # over as soon as the other one is
_CANCELED = re.compile(r"\[([\w, ]+)\]")  # why each part of a transaction was not done, for those who do not list it


class WireError(Exception):
    """An answer that says no: AWS's error code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def pauses() -> Iterator[float]:
    """Exponential back-off with full jitter, in seconds, for ever."""
    ceiling = FIRST_PAUSE
    while True:
        yield random.uniform(0, ceiling)  # noqa: S311 - spreads load, hides nothing
        ceiling = min(ceiling * 2, LONGEST_PAUSE)


class Wire:
    """Calls of DynamoDB. Safe to share between threads."""

    def __init__(self, endpoint: str | None = None, region: str | None = None) -> None:
        from botocore.session import get_session

        session = get_session()
        self._region = region or default_region(session)
        configured = session.get_scoped_config().get("endpoint_url") if os.environ.get("AWS_PROFILE") else None
        found = endpoint or os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL") or configured
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        self._url = (found or f"https://dynamodb.{self._region}.{suffix}").rstrip("/") + "/"
        self._credentials = session.get_credentials()
        self._host = Host(self._url, TIMEOUT, MAX_CONNECTIONS, certificates(session))

    def call(self, operation: str, payload: dict[str, Any], until: datetime | None = None, form: Any = Any) -> Any:
        """The answer to one call, as JSON decoded to the type `form`.

        Tries again where AWS throttles, does not answer, or is busy with a transaction; with `until` nothing is sent after it, and
        throttling is the caller's.
        Raises WireError with what AWS says, BackendError where nobody answers.
        """
        from botocore.exceptions import BotoCoreError

        body = msgspec.json.encode(payload)
        waits = pauses()
        for attempt in range(1, ATTEMPTS + 1):
            pause = next(waits)
            try:
                return self._send(operation, body, form)
            except (BotoCoreError, OSError, HTTPException) as error:
                if attempt == ATTEMPTS or (until is not None and utc_now() + timedelta(seconds=pause) >= until):
                    hint = "check credentials, region and endpoint"
                    raise BackendError(f"no answer from AWS: {error}", operation=operation, key=self._url, hint=hint) from error
            except WireError as error:
                if attempt == ATTEMPTS or until is not None or error.code not in THROTTLED | CONFLICTS:
                    raise
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _send(self, operation: str, body: bytes, form: Any) -> Any:
        if self._credentials is None:
            hint = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
            raise BackendError("there are no AWS credentials", operation=operation, hint=hint)
        headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", "content-type": "application/x-amz-json-1.0"}
        keys, target = keys_of(self._credentials), f"{self._host.path}/"
        signed = sign(keys, self._region, "dynamodb", self._host.name, "POST", target, headers, sha256(body).hexdigest())
        answer = self._host.send("POST", target, signed, body)
        if answer.status == 200:
            return msgspec.json.decode(answer.body, type=form)
        raise _refusal(answer.status, answer.body)


def _refusal(status: int, content: bytes) -> WireError:
    try:
        error: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        error = {}
    code = str(error.get("__type", "")).rpartition("#")[2] or ("ServiceUnavailable" if status >= 500 else f"HTTP {status}")
    message = str(error.get("message") or error.get("Message") or code)
    return WireError(_reason(error, message) if code == "TransactionCanceledException" else code, message)


def _reason(error: dict[str, Any], message: str) -> str:
    """The code that a single call would have got for what canceled a transaction."""
    listed = [reason.get("Code") for reason in error.get("CancellationReasons") or ()]
    said = _CANCELED.search(message)
    reasons = set(listed or (said[1].split(", ") if said else ())) - {"None", None}
    if "ConditionalCheckFailed" in reasons:
        return "ConditionalCheckFailedException"
    if reasons and reasons <= {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}:
        return "TransactionConflictException" if "TransactionConflict" in reasons else "ThrottlingException"
    return "TransactionCanceledException"
