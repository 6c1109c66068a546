"""The queue of archive tasks, and calls of a stage's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from tesseract.errors import BackendError, Throttled
from tesseract.storage.dynamodb import batches, translate
from tesseract.utils.aws_helpers import client

SEND_BATCH = 10
LONGEST_CALL = 900  # seconds: the longest that a function may run


class Queue(Protocol):
    """Where tasks are put for the workers."""

    def send(self, bodies: Sequence[str]) -> None:
        """Put messages; all of them, or an error. A message may arrive more than once."""


class SqsQueue:
    """A queue in SQS. `client` is a boto3 SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url

    def send(self, bodies: Sequence[str]) -> None:
        for batch in batches(bodies, SEND_BATCH):
            entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(batch)]
            try:
                answer = self.client.send_message_batch(QueueUrl=self.url, Entries=entries)
            except (ClientError, BotoCoreError) as error:
                raise translate(error, "send_message_batch", self.url) from error
            if answer.get("Failed"):
                raise Throttled(f"{len(answer['Failed'])} tasks were not taken", operation="send_message_batch", key=self.url)


def invoke(stage: str, function: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Call the function `tesseract-{stage}-{function}` and wait for its answer, an object.

    Raises NotFoundError where it is not deployed, BackendError where it failed.
    """
    name = f"tesseract-{stage}-{function}"
    try:
        answer = client("lambda", LONGEST_CALL).invoke(FunctionName=name, Payload=msgspec.json.encode(payload))
        body = answer["Payload"].read()
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "invoke", name) from error
    result = msgspec.json.decode(body) if body else {}
    if answer.get("FunctionError"):
        reason = result.get("errorMessage", result) if isinstance(result, dict) else result
        raise BackendError(f"the function failed: {reason}", operation="invoke", key=name, hint="its log says more")
    return cast(dict[str, Any], result)
