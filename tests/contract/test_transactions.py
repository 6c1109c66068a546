"""What DynamoDB answers where a transaction is not done, or something else meets one under way, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from tesseract.errors import BackendError, ConditionFailed, RetryError, Throttled
from tesseract.storage import wire
from tesseract.storage.base import Absent, Is
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.wire import ATTEMPTS, Wire, WireError

PREFIX = "com.amazonaws.dynamodb.v20120810#"
CANCELED = "Transaction cancelled, please refer cancellation reasons for specific reasons"


def canceled(*reasons: str, listed: bool = True) -> bytes:
    """The answer as AWS documents it (API reference, TransactWriteItems, errors); `listed`: with the reasons as a list, too."""
    body = {"__type": f"{PREFIX}TransactionCanceledException", "Message": f"{CANCELED} [{', '.join(reasons)}]"}
    return json.dumps(body | ({"CancellationReasons": [{"Code": reason} for reason in reasons]} if listed else {})).encode()


def refused(name: str) -> bytes:
    return json.dumps({"__type": f"{PREFIX}{name}", "message": "busy"}).encode()


class Scripted(Wire):
    """A wire whose answers are given; the last one comes again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.bodies = list(answers), []

    def _send(self, operation: str, body: bytes, form: object) -> object:
        self.bodies.append(json.loads(body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == b"{}":
            return {}
        raise wire._refusal(400, answer)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.0)


def checked(scripted: Scripted) -> None:
    DynamoTable(scripted, "t").put_checked({"pk": "a", "sk": "1"}, Absent(), ("b", "2"), Is("used", False))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("reasons", "error", "calls"),
    [
        (("ConditionalCheckFailed", "None"), ConditionFailed, 1),
        (("None", "ConditionalCheckFailed"), ConditionFailed, 1),
        (("TransactionConflict", "ConditionalCheckFailed"), ConditionFailed, 1),
        (("None", "TransactionConflict"), RetryError, ATTEMPTS),
        (("ThrottlingError", "None"), Throttled, ATTEMPTS),
        (("ProvisionedThroughputExceeded", "TransactionConflict"), RetryError, ATTEMPTS),
        (("ValidationError", "TransactionConflict"), BackendError, 1),
        (("ItemCollectionSizeLimitExceeded", "None"), BackendError, 1),
        (("AccessDenied", "None"), BackendError, 1),
    ],
)
def test_a_canceled_transaction_is_the_error_of_its_reason(reasons, error, calls, listed):
    scripted = Scripted(canceled(*reasons, listed=listed))
    with pytest.raises(error) as caught:
        checked(scripted)
    assert type(caught.value) is error
    assert len(scripted.bodies) == calls


def test_a_conflict_is_over_soon_and_the_repeated_call_is_the_same_one():
    scripted = Scripted(canceled("None", "TransactionConflict"), refused("TransactionInProgressException"), b"{}")
    checked(scripted)
    first, *others = scripted.bodies
    assert others == [first, first]
    assert len(first["ClientRequestToken"]) == 32
    put, check = first["TransactItems"]
    assert (put["Put"]["TableName"], put["Put"]["ConditionExpression"]) == ("t", "attribute_not_exists(pk)")
    assert check["ConditionCheck"]["Key"] == {"pk": {"S": "b"}, "sk": {"S": "2"}}


def test_a_put_that_meets_a_transaction_is_sent_again():
    scripted = Scripted(refused("TransactionConflictException"), b"{}")
    DynamoTable(scripted, "t").put({"pk": "a", "sk": "1"})
    assert len(scripted.bodies) == 2
    with pytest.raises(RetryError, match="a transaction is under way there"):
        DynamoTable(Scripted(refused("TransactionConflictException")), "t").put({"pk": "a", "sk": "1"})


def test_what_says_no_reason_is_told_as_it_is():
    with pytest.raises(BackendError, match="TransactionCanceledException: no reason"):
        checked(Scripted(json.dumps({"__type": f"{PREFIX}TransactionCanceledException", "Message": "no reason"}).encode()))
    assert isinstance(wire._refusal(400, canceled("None")), WireError)
