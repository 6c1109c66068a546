"""What a stage has beside its storage: the queue of archive tasks, its functions, its stream and its HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol, cast

import msgspec
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as NoConnection

from tesseract.errors import BackendError, NotFoundError, RetryError, TesseractError, Throttled
from tesseract.storage.dynamodb import batches, translate
from tesseract.storage.wire import NO_DELAY
from tesseract.utils.aws_helpers import client, region
from tesseract.utils.time_utils import utc_now

SEND_BATCH = 10
HIDDEN = 300  # seconds that a received message is nobody else's
LONGEST_CALL = 900  # seconds: the longest that a function may run
HTTP_TIMEOUT = (5, 35)  # seconds to connect, to answer; the gateway itself gives up after 30
MAX_CONNECTIONS = 64
NAMESPACE = "tesseract"  # of metrics


class Queue(Protocol):
    """Where tasks are put for the workers."""

    def send(self, bodies: Sequence[str]) -> None:
        """Put messages; all of them, or an error. A message may arrive more than once."""


class Message(NamedTuple):
    """A message that was received; `receipt` removes it."""

    body: str
    receipt: str


class Received(Protocol):
    """A queue that we take messages from, as that of dead letters."""

    def depth(self) -> int:
        """About how many messages there are."""

    def receive(self) -> list[Message]:
        """Some messages, nobody else's for the next minutes; none where there are none."""

    def remove(self, messages: Sequence[Message]) -> None:
        """Remove messages that were received; all of them, or an error."""


class SqsQueue:
    """A queue in SQS. `client` is a boto3 SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url

    def send(self, bodies: Sequence[str]) -> None:
        for batch in batches(bodies, SEND_BATCH):
            entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(batch)]
            answer = self._call("send_message_batch", Entries=entries)
            if answer.get("Failed"):
                raise Throttled(f"{len(answer['Failed'])} tasks were not taken", operation="send_message_batch", key=self.url)

    def depth(self) -> int:
        answer = self._call("get_queue_attributes", AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def receive(self) -> list[Message]:
        # a second's wait asks all of SQS's machines: without it, some messages are not seen
        answer = self._call("receive_message", MaxNumberOfMessages=SEND_BATCH, VisibilityTimeout=HIDDEN, WaitTimeSeconds=1)
        return [Message(one["Body"], one["ReceiptHandle"]) for one in answer.get("Messages", [])]

    def remove(self, messages: Sequence[Message]) -> None:
        for batch in batches(messages, SEND_BATCH):
            entries = [{"Id": str(index), "ReceiptHandle": message.receipt} for index, message in enumerate(batch)]
            answer = self._call("delete_message_batch", Entries=entries)
            if answer.get("Failed"):
                raise Throttled(
                    f"{len(answer['Failed'])} messages were not removed", operation="delete_message_batch", key=self.url
                )

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, operation)(QueueUrl=self.url, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, self.url) from error


def queue(stage: str, role: str) -> SqsQueue:
    """A queue of a stage: `work`, or `work-dead`, its dead letters. Raises NotFoundError where the stage is not deployed."""
    name, sqs = f"tesseract-{stage}-{role}", client("sqs")
    try:
        return SqsQueue(sqs, sqs.get_queue_url(QueueName=name)["QueueUrl"])
    except (ClientError, BotoCoreError) as error:
        if "NonExistentQueue" in str(error):
            raise NotFoundError(
                "there is no such queue", operation="get_queue_url", key=name, hint="is the stage deployed?"
            ) from error
        raise _trouble(error, "get_queue_url", name) from error


def invoke(stage: str, function: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Call the function `tesseract-{stage}-{function}` and wait for its answer, an object.

    Raises NotFoundError where it is not deployed, BackendError where it failed, RetryError where nobody answers.
    """
    name = f"tesseract-{stage}-{function}"
    try:
        answer = client("lambda", LONGEST_CALL).invoke(FunctionName=name, Payload=msgspec.json.encode(payload))
        body = answer["Payload"].read()
    except (ClientError, BotoCoreError) as error:
        raise _trouble(error, "invoke", name) from error
    result = msgspec.json.decode(body) if body else {}
    if answer.get("FunctionError"):
        reason = result.get("errorMessage", result) if isinstance(result, dict) else result
        raise BackendError(f"the function failed: {reason}", operation="invoke", key=name, hint="its log says more")
    return cast(dict[str, Any], result)


def put_metric(name: str, value: float, **dimensions: str) -> None:
    """Publish a count as a CloudWatch metric. Raises BackendError where the caller may not."""
    datum = {
        "MetricName": name,
        "Dimensions": [{"Name": dimension, "Value": text} for dimension, text in dimensions.items()],
        "Value": value,
        "Unit": "Count",
    }
    try:
        client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=[datum])
    except (ClientError, BotoCoreError) as error:
        raise _trouble(error, "put_metric_data", name) from error


def clock_lag() -> timedelta:
    """By how much our clock is behind AWS's, to the second; nothing where it is not.

    AWS takes signatures that are minutes off. Whoever names a moment that writes are compared with has to know.
    """
    asked = utc_now()
    try:
        answer = client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        raise _trouble(error, "get_caller_identity", "") from error
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return max(parsedate_to_datetime(date) - asked, timedelta(0))
    except (TypeError, ValueError):  # an emulator that does not say
        return timedelta(0)


class Kinesis:
    """A Kinesis stream."""

    def __init__(self, name: str) -> None:
        self._client, self._name = client("kinesis"), name

    def put(self, data: bytes, partition_key: str) -> None:
        """Put one record. Raises Throttled where the shard is full."""
        try:
            self._client.put_record(StreamName=self._name, Data=data, PartitionKey=partition_key)
        except (ClientError, BotoCoreError) as error:
            raise _trouble(error, "put_record", self._name) from error


class Reply(NamedTuple):
    """The answer to an HTTP request; the names of its headers are in small letters."""

    status: int
    body: bytes
    headers: dict[str, str]


class SignedHttp:
    """HTTP with AWS's signature (SigV4), connections kept. Safe to share between threads."""

    def __init__(self, service: str) -> None:
        from botocore.httpsession import URLLib3Session
        from botocore.session import get_session

        session = get_session()
        self._credentials = session.get_credentials()
        if self._credentials is None:
            raise BackendError("there are no AWS credentials", hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret")
        self._service, self._region = service, region(session)
        self._session = URLLib3Session(timeout=HTTP_TIMEOUT, max_pool_connections=MAX_CONNECTIONS, socket_options=NO_DELAY)

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        """The answer. For requests that may arrive twice: where a connection ends without one, it is sent once more.

        Raises RetryError where nobody answers, BackendError where the other side is not who it should be.
        """
        try:
            return self._send(url, body, headers)
        except ConnectionClosedError:  # a kept connection that the other side has closed, most of the time
            with suppress(ConnectionClosedError):
                return self._send(url, body, headers)
            raise RetryError("the connection was closed before an answer came", operation="POST", key=url) from None

    def _send(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("POST", url, data=body, headers=headers)
        SigV4Auth(self._credentials.get_frozen_credentials(), self._service, self._region).add_auth(request)
        try:
            answer = self._session.send(request.prepare())
        except ConnectionClosedError:
            raise
        except BotoCoreError as error:
            raise _trouble(error, "POST", url) from error
        return Reply(answer.status_code, answer.content, {name.lower(): value for name, value in answer.headers.items()})

    def close(self) -> None:
        """Close the connections that are kept."""
        self._session.close()


def _trouble(error: Exception, operation: str, key: str) -> TesseractError:
    """As `translate`, but silence of the network is worth another try: what is sent here may arrive twice."""
    if isinstance(error, HTTPClientError | NoConnection) and not isinstance(error, SSLError):
        hint = "check the network, the region and the endpoint"
        return RetryError(f"no answer from AWS: {error}", operation=operation, key=key, hint=hint)
    return translate(error, operation, key)


def http_api_url(stage: str) -> str:
    """The address of the stage's HTTP API. Raises NotFoundError where the stage has none."""
    try:
        pages = client("apigatewayv2").get_paginator("get_apis").paginate()
        for api in (api for page in pages for api in page["Items"]):
            if api["Name"] in (f"{stage}-tesseract", f"tesseract-{stage}"):
                return str(api["ApiEndpoint"]).rstrip("/")
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "get_apis", stage) from error
    raise NotFoundError(f"stage {stage!r} has no HTTP API here", hint="is it deployed in this account and region?")
