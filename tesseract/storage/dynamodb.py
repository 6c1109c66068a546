"""Tables in DynamoDB. Errors of botocore are translated here and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from tesseract.errors import BackendError, ConditionFailed, InputError, NotFoundError, RetryError, TesseractError, Throttled
from tesseract.model import Item
from tesseract.storage.base import Absent, Before, Condition, Counters, Is, Key, NotAfter, Page
from tesseract.storage.codec import Wire as WireItem
from tesseract.storage.codec import item_from_wire, item_to_json, to_wire
from tesseract.storage.wire import CONFLICTS, THROTTLED, Wire, WireError, pauses
from tesseract.utils.time_utils import utc_now

T = TypeVar("T")
WRITE_BATCH = 25
READ_BATCH = 100
PATIENCE = 60.0  # seconds of throttling that a call without a deadline sits out

_MISSING = {"ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "404"}
_TROUBLE = {"InternalError", "InternalFailure", "RequestTimeout", "500", "502", "503", "504"}  # of the other services; over soon
_BROKEN = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


def translate(error: Exception, operation: str, key: str) -> TesseractError:
    """An error of botocore or of the wire as the one of tesseract.errors that says what to do next."""
    if isinstance(error, WireError):
        return _by_code(error.code, error.message, operation, key)
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return _by_code(said.get("Code", ""), said.get("Message", "") or said.get("Code", ""), operation, key)
    if isinstance(error, _BROKEN):
        return RetryError(f"the answer broke off: {error}", operation=operation, key=key)
    hint = "check credentials, region and endpoint"
    return BackendError(f"no answer from AWS: {error}", operation=operation, key=key, hint=hint)


def _by_code(code: str, message: str, operation: str, key: str) -> TesseractError:
    if code == "ConditionalCheckFailedException":
        return ConditionFailed("somebody else wrote first", operation=operation, key=key)
    if code in THROTTLED:
        return Throttled(f"AWS throttles: {message}", operation=operation, key=key)
    if code in _TROUBLE:
        return RetryError(f"AWS has trouble: {message}", operation=operation, key=key)
    if code in CONFLICTS:
        return RetryError(f"a transaction is under way there: {message}", operation=operation, key=key)
    if code in _MISSING:
        return NotFoundError(f"it does not exist: {message}", operation=operation, key=key)
    if code == "ValidationException" and "size" in message.lower():
        return InputError(message, operation=operation, key=key)
    return BackendError(f"{code}: {message}", operation=operation, key=key)


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """`values` in lists of at most `size`."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


class DynamoTable:
    """One table. Safe to share between threads."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self.name = name
        self.counters = Counters()

    def get(self, key: Key) -> Item | None:
        answer = self._call("GetItem", key, Key=_key(key), ConsistentRead=True)
        return item_from_wire(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        found: dict[Key, Item] = {}
        for batch in batches(dict.fromkeys(keys), READ_BATCH):
            asked: list[WireItem] = [_key(key) for key in batch]
            waits, started = pauses(), time.monotonic()
            while asked:
                request = {self.name: {"Keys": asked, "ConsistentRead": True}}
                answer = self._call("BatchGetItem", batch[0], table=False, RequestItems=request)
                for wire in answer["Responses"].get(self.name, []):
                    item = item_from_wire(wire)
                    found[item["pk"], item["sk"]] = item
                asked = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                if asked:
                    if time.monotonic() - started > PATIENCE:
                        raise Throttled("reads were throttled for a minute", operation="BatchGetItem", key=self.name)
                    time.sleep(next(waits))
        return found

    def query(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Item]:
        for page in self.pages(pk, low, high, reverse=reverse, limit=limit):
            yield from map(item_from_wire, page)

    def pages(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Page]:
        if low is not None and high is not None and low >= high:
            return
        arguments: dict[str, Any] = {**_between(pk, low, high), "ConsistentRead": True, "ScanIndexForward": not reverse}
        if limit:
            arguments["Limit"] = limit
        left = limit
        while True:
            answer: _Page = self._call("Query", (pk, low or ""), form=_Page, **arguments)
            page = Page(answer.Items)
            edge = 0 if reverse else -1
            if high is not None and page and _sk(page[edge]) == high:
                del page[edge]  # BETWEEN includes its end, a half-open range does not
            if limit:
                del page[left:]
                left -= len(page)
            page.more = bool(answer.LastEvaluatedKey) and not (limit and not left)
            yield page
            if not page.more:
                return
            arguments["ExclusiveStartKey"] = answer.LastEvaluatedKey

    def put(self, item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        key = (str(item["pk"]), str(item["sk"]))
        arguments = {"Item": item_to_json(item), **_expression(condition)}
        waits = pauses()
        while until is None or _left(until) > 0:
            try:
                self._call("PutItem", key, until=until, **arguments)
                return
            except Throttled:
                self.counters.add("throttled")
                if until is None:
                    raise
            time.sleep(min(next(waits), max(_left(until), 0)))
        raise Throttled("the time to write it in is over", operation="PutItem", key=f"{self.name} {key[0]} {key[1]}")

    def put_checked(self, item: Item, condition: Condition | None, check_key: Key, check: Condition) -> None:
        put = {"TableName": self.name, "Item": item_to_json(item), **_expression(condition)}
        checked = {"TableName": self.name, "Key": _key(check_key), **_expression(check)}
        parts = [{"Put": put}, {"ConditionCheck": checked}]
        token = uuid4().hex  # the call is sent again where no answer came: it is the same one then
        self._call("TransactWriteItems", _item_key(item), table=False, TransactItems=parts, ClientRequestToken=token)

    def put_many(self, items: Iterable[Item], until: datetime | None = None) -> list[Item]:
        left: list[Item] = []
        for batch in batches(items, WRITE_BATCH):
            left += self._put_batch(batch, until)
        return left

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        self._call("DeleteItem", key, Key=_key(key), **_expression(condition))

    def _put_batch(self, batch: list[Item], until: datetime | None) -> list[Item]:
        requests: list[WireItem] = [{"PutRequest": {"Item": item_to_json(item)}} for item in batch]
        waits, started = pauses(), time.monotonic()
        while requests and (until is None or _left(until) > 0):
            try:
                arguments = {"RequestItems": {self.name: requests}}
                answer = self._call("BatchWriteItem", _item_key(batch[0]), False, until, **arguments)
                requests = answer.get("UnprocessedItems", {}).get(self.name, [])
                self.counters.add("unprocessed", len(requests))
            except Throttled:
                self.counters.add("throttled")  # the whole batch is still to be written
            if requests:
                if until is None and time.monotonic() - started > PATIENCE:
                    break
                time.sleep(next(waits) if until is None else min(next(waits), max(_left(until), 0)))
        return [item_from_wire(request["PutRequest"]["Item"]) for request in requests]

    def _call(
        self, operation: str, key: Key, table: bool = True, until: datetime | None = None, form: Any = Any, **arguments: Any
    ) -> Any:
        if table:
            arguments["TableName"] = self.name
        try:
            return self._wire.call(operation, arguments, until, form)
        except WireError as error:
            raise translate(error, operation, f"{self.name} {key[0]} {key[1]}".strip()) from error


class _Page(msgspec.Struct):
    """An answer to a Query, whose items are left as they are."""

    Items: list[msgspec.Raw]
    LastEvaluatedKey: WireItem | None = None


class _Named(msgspec.Struct):
    """What tells an item of a partition from the others."""

    sk: dict[str, str]


def _sk(item: msgspec.Raw) -> str:
    return msgspec.json.decode(item, type=_Named).sk["S"]


def _between(pk: str, low: str | None, high: str | None) -> dict[str, Any]:
    """The condition of a Query for low <= sk < high, or <= high where there is a low: DynamoDB takes two conditions in one form."""
    names: dict[str, Any] = {":pk": {"S": pk}}
    condition = "pk = :pk"
    if low is not None:
        condition += " AND sk >= :low" if high is None else " AND sk BETWEEN :low AND :high"
        names[":low"] = {"S": low}
    elif high is not None:
        condition += " AND sk < :high"
    if high is not None:
        names[":high"] = {"S": high}
    return {"KeyConditionExpression": condition, "ExpressionAttributeValues": names}


def _left(until: datetime) -> float:
    """Seconds until a moment."""
    return (until - utc_now()).total_seconds()


def _item_key(item: Item) -> Key:
    return str(item["pk"]), str(item["sk"])


def _key(key: Key) -> WireItem:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def _expression(condition: Condition | None) -> dict[str, Any]:
    match condition:
        case None:
            return {}
        case Absent():
            return {"ConditionExpression": "attribute_not_exists(pk)"}
        case Is(attribute, value):
            return {
                "ConditionExpression": "#a = :a",
                "ExpressionAttributeNames": {"#a": attribute},
                "ExpressionAttributeValues": {":a": to_wire(value)},
            }
        case NotAfter(attribute, None):
            return {"ConditionExpression": "attribute_not_exists(#a)", "ExpressionAttributeNames": {"#a": attribute}}
        case Before(attribute, value) | NotAfter(attribute, value):
            less = "<" if isinstance(condition, Before) else "<="
            return {
                "ConditionExpression": f"attribute_not_exists(#a) OR #a {less} :a",
                "ExpressionAttributeNames": {"#a": attribute},
                "ExpressionAttributeValues": {":a": to_wire(value)},
            }
