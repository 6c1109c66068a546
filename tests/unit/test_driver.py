"""The driver keeps the rules that AWS documents, each named with its page; and where AWS is silent, the reading that is taken.

Silent on: a failed record whose number is not in the batch (a failure of the whole batch, as all that is no success); whether a
batch that shrank counts on (it does); a window in which nothing came (the next one follows it); how long after 24 h a record can
still be read (not at all); the condition of a message about records too old (RecordAgeExceeded); whether the rest of a batch is
topped up with new records (no); whether a child's sequence numbers are above its parent's (they are: audits look for the contrary).
"""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from tests.support.driver import OURS, PAYLOAD, Deadline, Faults, Mapping, StreamedTable, TimedOut
from tests.unit.test_template import TEMPLATE

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


class World:
    """A table, its clock, one function that fails where it is told to, and what it was sent."""

    def __init__(self, count=0, shards=1, **options):
        self.now = START
        self.table = StreamedTable(lambda: self.now, shards)
        self.seen, self.messages = [], []
        self.answers = []  # for one invocation each; an error is raised
        self.mapping = Mapping(self.table, self.handle, on_failure=self.messages.append, **options)
        self.put(*range(count))

    def put(self, *numbers, pk="a", **fields):
        for n in numbers:
            self.table.put({"pk": pk, "sk": f"{n:03}", "n": n, **fields})

    def handle(self, event):
        self.seen.append(delivered(event))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, list):  # failed places
            numbers = [number(record) for record in event["Records"]]
            answer = {"batchItemFailures": [{"itemIdentifier": numbers[place]} for place in answer]}
        return answer

    def drain(self):
        self.mapping.drain(200)
        return self.seen


def delivered(event):
    return [int(record["dynamodb"]["Keys"]["sk"]["S"]) for record in event["Records"]]


def number(record):
    return record["dynamodb"]["SequenceNumber"]


# the stream ----------------------------------------------------------------------------------------------------------------------


def test_a_put_that_changes_nothing_makes_no_record_and_records_carry_both_images():
    """DynamoDB, "Change data capture for DynamoDB Streams": no record for a write that does not change any data."""
    world = World(1)
    world.put(0)
    world.table.put({"pk": "a", "sk": "000", "n": 1})
    world.table.delete(("a", "000"))
    world.table.delete(("a", "000"))
    first, second, third = world.table.shards[0]
    assert [record["eventName"] for record in (first, second, third)] == ["INSERT", "MODIFY", "REMOVE"]
    images = [
        (r["dynamodb"].get("OldImage", {}).get("n"), r["dynamodb"].get("NewImage", {}).get("n")) for r in (first, second, third)
    ]
    assert images == [(None, {"N": "0"}), ({"N": "0"}, {"N": "1"}), ({"N": "1"}, None)]


def test_only_removes_by_ttl_say_who_removed():
    """DynamoDB, "DynamoDB Streams and Time to Live"; Streams API, "Record": userIdentity of type Service."""
    world = World()
    late = (START + HOUR).timestamp()
    for n, expiry in enumerate((late, START.timestamp(), START.timestamp(), late)):
        world.put(n, expires_at=int(expiry))
    world.put(4)  # no such attribute: never expires
    world.table.delete(("a", "000"))
    world.table.expire(START, ("a", "001"))
    world.table.expire(START, ("a", "003"))
    assert [item["n"] for item in world.table.items()] == [2, 3, 4]
    world.table.expire(START)
    assert [item["n"] for item in world.table.items()] == [3, 4]
    removes = [
        (int(r["dynamodb"]["Keys"]["sk"]["S"]), r.get("userIdentity")) for r in world.table.shards[0] if r["eventName"] == "REMOVE"
    ]
    service = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert removes == [(0, None), (1, service), (2, service)]


def test_the_creation_time_is_cut_to_the_second():
    """Streams API, "StreamRecord": ApproximateCreationDateTime is rounded down to the closest second."""
    world = World()
    world.now += timedelta(milliseconds=1999)
    world.put(0)
    assert world.table.shards[0][0]["dynamodb"]["ApproximateCreationDateTime"] == START.timestamp() + 1


def test_sequence_numbers_grow_within_a_lineage_and_their_text_does_not():
    """Streams API, "StreamRecord": a text of 21 to 40 characters. "Change data capture for DynamoDB Streams": they reflect
    the order of publication."""
    world = World(shards=2)
    for n in range(3000):
        if n in (500, 1500):
            world.table.split(world.table.shard_of("k0"))
        world.put(n, pk=f"k{n % 9}")
    lineage, shard = [], world.table.shard_of("k0")
    while shard is not None:
        lineage, shard = [*world.table.shards[shard], *lineage], world.table.shards[shard].parent
    numbers = [number(record) for record in lineage]
    assert all(int(low) < int(high) for low, high in pairwise(numbers))
    assert not any(text.startswith("0") for text in numbers)
    lengths = {len(number(record)) for shard in world.table.shards for record in shard}
    assert (min(lengths), max(lengths)) == (21, 40)
    assert len({number(record) for shard in world.table.shards for record in shard}) == 3000  # no two shards share one
    wrong = sum(low > high for low, high in pairwise(numbers[:60]))
    assert wrong >= 4  # early in a stream, where tests live


def test_a_partition_key_stays_in_one_shard_in_order():
    """DynamoDB, "Change data capture": each item's records come in the order of its changes. "Item collections in Local Secondary
    Indexes": a table with one keeps an item collection together."""
    world = World(shards=3)
    for n in range(60):
        world.put(n, pk=f"p{n % 7}")
    homes = {}
    for place, shard in enumerate(world.table.shards):
        for record in shard:
            assert homes.setdefault(record["dynamodb"]["Keys"]["pk"]["S"], place) == place
    assert set(homes.values()) == set(range(len(world.table.shards))) == {0, 1, 2}
    for pk, place in homes.items():
        assert world.table.shard_of(pk) == place
        own = [int(r["dynamodb"]["Keys"]["sk"]["S"]) for r in world.table.shards[place] if r["dynamodb"]["Keys"]["pk"]["S"] == pk]
        assert own == sorted(own)


def test_a_shard_splits_and_its_parent_is_read_first():
    """DynamoDB, "Change data capture": shards split; applications must always process a parent shard before it processes a child
    shard, and Lambda does."""
    world = World(batch_size=4)
    keys = [f"p{n}" for n in range(8)]
    for n, pk in enumerate(keys):
        world.put(n, pk=pk)
    left, right = world.table.split(0)
    assert world.table.children(0) == [left, right]
    for n, pk in enumerate(keys):
        world.put(10 + n, pk=pk)
    homes = {pk: world.table.shard_of(pk) for pk in keys}
    assert set(homes.values()) == {left, right}
    with pytest.raises(AssertionError, match="shard 0 is closed"):
        world.table.split(0)
    mapping = world.mapping
    grandchild, other = world.table.split(left)
    world.put(20, pk=next(pk for pk, home in homes.items() if home == left))
    assert not any(mapping.poll(shard) for shard in (left, right, grandchild, other))
    assert mapping.poll(0)
    last = mapping.take(0)
    assert mapping.take(right) is None  # the parent's last batch is not through
    mapping.settle(last, {})
    assert not mapping.poll(grandchild)
    assert not mapping.poll(other)
    while mapping.poll(left):
        pass
    assert mapping.poll(grandchild) or mapping.poll(other)
    world.drain()
    order = [n for batch in world.seen for n in batch]
    assert sorted(order) == [*range(4), *range(10, 18), 20]  # 4 to 7 went to `last`
    assert mapping.through(other)


def test_the_open_shards_always_cover_every_partition_key_once():
    """Ibid.: children take over what their parent took."""
    table, dice = StreamedTable(lambda: START, 3), random.Random(4)
    for _ in range(20):
        chosen = dice.choice([place for place, shard in enumerate(table.shards) if not shard.closed])
        table.split(chosen, dice.choice((1, 2, 3)))
        ranges = sorted((shard.low, shard.high) for shard in table.shards if not shard.closed)
        assert (ranges[0][0], ranges[-1][1]) == (0, 2**32)
        assert all(before == after for (_, before), (after, _) in pairwise(ranges))


def test_a_shard_may_have_a_single_child():
    """DynamoDB, "Change data capture": it is also possible for a parent shard to have just one child shard."""
    world = World(2)
    (child,) = world.table.split(0, children=1)
    world.put(2)
    assert world.table.shard_of("a") == child
    assert world.drain() == [[0, 1], [2]]


def test_a_parent_whose_rest_is_trimmed_or_filtered_out_lets_its_children_be_read():
    """DynamoDB, "Change data capture": records expire, shards with them."""
    world = World(2, filter=[{"dynamodb": {"Keys": {"sk": {"S": ["005"]}}}}])
    (child,) = world.table.split(0, children=1)
    world.put(5)
    assert world.mapping.poll(child)
    trimmed = World(2)
    (child,) = trimmed.table.split(0, children=1)
    trimmed.now += 25 * HOUR
    trimmed.put(5)
    assert trimmed.mapping.poll(child)
    assert trimmed.seen == [[5]]


def test_records_are_gone_after_24_hours_and_a_reader_that_falls_behind_never_sees_them():
    """DynamoDB, "Change data capture", data retention limit: data older than 24 hours is susceptible to trimming at any moment."""
    world = World(2)
    world.now += HOUR
    world.put(2)
    world.now = START + 24 * HOUR
    assert world.mapping.take(0) is not None
    late = World(2)
    late.now += HOUR
    late.put(2)
    late.now = START + 24 * HOUR + SECOND
    assert late.drain() == [[2]]
    assert (late.mapping.lost, late.messages) == (2, [])
    late.now += 48 * HOUR
    late.mapping.redeliver(0, 3)
    assert late.drain() == [[2]]
    assert late.mapping.lost == 2


def test_a_table_made_anew_has_another_stream():
    """DynamoDB, "Change data capture": a new stream has a different descriptor; what was in the old one stays readable 24 hours."""
    world = World(shards=2, batch_size=3)
    for n in range(40):
        world.put(n, pk=f"p{n}")
    old = max(int(number(record)) for shard in world.table.shards for record in shard)
    world.table.renew("2027-01-01T00:00:00.000")
    world.put(99)
    (record,) = [record for shard in world.table.shards[2:] for record in shard]
    assert record["eventName"] == "INSERT"
    assert record["eventSourceARN"].rpartition("/")[2] == "2027-01-01T00:00:00.000"
    assert all(old_one["eventSourceARN"] != record["eventSourceARN"] for shard in world.table.shards[:2] for old_one in shard)
    assert int(number(record)) < old  # numbers begin again
    assert world.table.get(("p0", "000")) is not None
    world.drain()
    assert sorted(n for batch in world.seen for n in batch) == [*range(40), 99]


# batches -------------------------------------------------------------------------------------------------------------------------


def test_a_batch_is_cut_by_count_and_comes_from_one_shard():
    """Lambda, "How Lambda processes records from stream and queue-based event sources": invoked when the batch size is met."""
    world = World(5, batch_size=2)
    assert world.drain() == [[0, 1], [2, 3], [4]]
    assert world.mapping.invocations == 3
    assert list(map(len, World(101).drain())) == [100, 1]  # the default


def test_a_batch_is_cut_by_the_size_of_its_event():
    """Ibid.: the payload size reaches 6 MB, which cannot be changed."""
    world = World()
    world.put(*range(20), text="x" * 350_000)  # about 350 kB each: 17 fill 6 MB
    assert world.drain() == [list(range(17)), [17, 18, 19]]
    assert PAYLOAD == 6 * 2**20
    waiting = World(3, window_seconds=60, payload=1)
    assert waiting.mapping.poll(0)  # full: it does not wait for its window
    small = World(3)
    exact = len(msgspec.json.encode({"Records": small.table.shards[0][:2]}))
    for payload, wanted in (
        (exact, [[0, 1], [2]]),
        (exact - 1, [[0], [1], [2]]),
        (1, [[0], [1], [2]]),
    ):  # a record alone always goes
        Mapping(small.table, small.handle, payload=payload).drain()
        assert small.seen == wanted
        small.seen.clear()


def test_a_batch_waits_for_its_window():
    """Ibid.: the batching window reaches its maximum; the next one begins as soon as the previous invocation completes."""
    world = World(1, window_seconds=60, batch_size=3)
    world.now += 59 * SECOND
    assert not world.mapping.poll(0)
    assert world.mapping.take(0) is None
    world.put(1)
    world.now += SECOND
    assert world.mapping.poll(0)
    world.put(2)
    world.now += 59 * SECOND
    assert not world.mapping.poll(0)
    world.now += SECOND
    assert world.mapping.poll(0)
    world.now += 150 * SECOND  # two windows without a record, half of a third
    world.put(3)
    world.now += 29 * SECOND
    assert not world.mapping.poll(0)
    world.now += SECOND
    assert world.mapping.poll(0)
    world.put(4, 5)
    assert not world.mapping.poll(0)
    world.put(6)  # a full batch does not wait
    assert world.mapping.poll(0)
    world.put(7)
    assert world.drain() == [[0, 1], [2], [3], [4, 5, 6], [7]]  # a drain does not wait either


def test_a_failed_batch_does_not_wait_for_a_window_again():
    """Ibid.: a window is for gathering records, and these are gathered."""
    world = World(1, window_seconds=60)
    world.now += 60 * SECOND
    world.answers = [RuntimeError()]
    assert world.mapping.poll(0)
    assert world.mapping.poll(0)
    assert world.seen == [[0], [0]]


def test_a_record_that_no_filter_wants_is_passed_over_and_takes_no_room_in_a_batch():
    """Lambda, "Control which events Lambda sends to your function": each new record is held against the filters, of which one must
    match; the iterator advances past the others. "Using event filtering with a DynamoDB event source"."""
    world = World(filter=OURS, batch_size=2)
    world.put(0)
    world.table.put({"pk": "a", "sk": "r#000", "n": 7})
    world.table.put({"pk": "a", "sk": "r#001", "n": 7})
    world.put(1)
    world.table.delete(("a", "000"))
    world.put(2)
    assert world.drain() == [[0, 1], [2]]
    world.table.delete(("a", "001"))
    assert not world.mapping.poll(0)
    either = World(3, filter=[{"dynamodb": {"Keys": {"sk": {"S": [text]}}}} for text in ("000", "002")])
    assert either.drain() == [[0, 2]]
    for image in ({"none": {"S": ["x"]}}, {"n": {"N": {"deeper": ["0"]}}}, {"n": {"N": [0]}}):
        assert World(1, filter=[{"dynamodb": {"NewImage": image}}]).drain() == []
    with pytest.raises(ValueError, match="anything-but"):
        World(1, filter=[{"eventName": [{"anything-but": ["REMOVE"]}]}]).mapping.poll(0)


def test_our_filter_is_that_of_the_template():
    for name in ("aggregates", "latest"):
        (event,) = TEMPLATE["functions"][name]["events"]
        assert event["stream"]["filterPatterns"] == OURS


# answers and failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}, {"other": 1}])
def test_an_empty_answer_is_a_success(answer):
    """Lambda, "Configuring partial batch response with DynamoDB and Lambda": empty or null list, empty or null answer."""
    world = World(2)
    world.answers = [answer]
    assert world.drain() == [[0, 1]]


@pytest.mark.parametrize(
    "failures",
    [
        [{"itemIdentifier": ""}],
        [{"itemIdentifier": None}],
        [{"identifier": "1"}],
        [{"itemIdentifier": "7"}],
        ["7"],
        [{}],
        "7",
        7,
        {},
    ],
)
def test_an_answer_that_names_no_record_of_the_batch_fails_it_whole(failures):
    """Ibid.: an empty or null itemIdentifier, a bad key name; all that is no success is a failure."""
    world = World(2, bisect=False)
    world.answers = [{"batchItemFailures": failures}]
    assert world.drain() == [[0, 1], [0, 1]]
    world = World(2)
    first = number(world.table.shards[0][1])
    good = {"itemIdentifier": first}
    world.answers = [{"batchItemFailures": [good, *failures] if isinstance(failures, list) else failures}, RuntimeError()]
    assert world.drain()[:2] == [[0, 1], [0]]  # split like any failed batch, not taken up at the good number


@pytest.mark.parametrize("answer", ["done", 7, [1]])
def test_an_answer_that_is_no_object_is_a_failure(answer):
    """Ibid.: Lambda treats all other results as a complete failure."""
    world = World(2, bisect=False)
    world.mapping.handler = lambda event: (world.seen.append(delivered(event)), answer if len(world.seen) == 1 else {})[1]
    assert world.drain() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("bisect", [True, False])
def test_a_partial_failure_rewinds_to_the_lowest_number(bisect):
    """Ibid.: Lambda uses the record with the lowest sequence number as the checkpoint, and retries all records from it on."""
    world = World(6, bisect=bisect)
    world.answers = [[4, 2]]
    assert world.mapping.poll(0)
    world.put(6)
    assert world.drain() == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [6]]


def test_the_lowest_is_the_lowest_as_a_number():
    world = World(40)
    numbers = [number(record) for record in world.table.shards[0]]
    low, high = next((n, m) for n, m in pairwise(range(40)) if numbers[n] > numbers[m])  # as text
    world.answers = [[high, low]]
    assert world.drain()[1][0] == low


def test_a_failed_batch_comes_again_whole_and_the_shard_waits():
    """Lambda, "How Lambda processes records": the entire batch again until it succeeds or expires; only its shard waits."""
    world = World(shards=2, bisect=False, batch_size=2)
    first, second = "p0", next(f"p{n}" for n in range(99) if world.table.shard_of(f"p{n}") != world.table.shard_of("p0"))
    world.put(0, 1, 2, pk=first)
    world.put(7, pk=second)
    world.answers = [RuntimeError(), RuntimeError()]
    shard = world.table.shard_of(first)
    assert all(world.mapping.poll(place) for place in (shard, shard, shard, 1 - shard, shard))
    assert world.seen == [[0, 1], [0, 1], [0, 1], [7], [2]]


def test_a_failed_batch_is_split_in_two_until_the_bad_record_is_alone():
    """Lambda API, "CreateEventSourceMapping": BisectBatchOnFunctionError splits the batch in two and retries."""
    world = World(5, batch_size=5)
    world.mapping.handler = lambda event: world.handle(event) if 3 not in delivered(event) else world.handle(event)[1]
    with pytest.raises(AssertionError, match=r"shards \[0\] are stuck"):
        world.drain()
    assert world.seen[:6] == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4], [3]]
    assert set(map(tuple, world.seen[6:])) == {(3,)}


def test_a_time_out_splits_the_batch_too():
    """Lambda, "Retain discarded records for a DynamoDB event source in Lambda": to split a batch avoids timeouts."""
    world = World(4)
    world.answers = [TimedOut()]
    assert world.drain() == [[0, 1, 2, 3], [0, 1], [2, 3]]


def test_without_a_limit_a_batch_is_tried_until_its_records_expire():
    """Lambda, "Lambda parameters for Amazon DynamoDB event source mappings": -1 means until the record expires."""
    world = World(2, bisect=False)
    world.now += HOUR
    world.put(2)
    world.answers = [RuntimeError()] * 500
    for _ in range(300):
        assert world.mapping.poll(0)
    world.now = START + 24 * HOUR + SECOND
    world.answers = []
    assert world.drain()[300:] == [[2]]
    (message,) = world.messages
    assert message["requestContext"]["condition"] == "RecordAgeExceeded"
    assert message["DDBStreamBatchInfo"]["batchSize"] == 2
    assert world.mapping.lost == 0  # Lambda had them, and says so
    whole = World(2, bisect=False)
    whole.answers = [RuntimeError()]
    assert whole.mapping.poll(0)
    whole.now += 25 * HOUR
    assert whole.drain() == [[0, 1]]
    assert whole.mapping.through(0)
    again = World(2, bisect=False)
    again.answers = [RuntimeError()]
    assert again.mapping.poll(0)
    again.now += 25 * HOUR
    again.mapping.redeliver(0, 1)
    assert again.drain() == [[0, 1]]
    assert (again.mapping.lost, [m["DDBStreamBatchInfo"]["batchSize"] for m in again.messages]) == (0, [2])


def test_after_its_retries_a_batch_is_discarded_and_the_destination_gets_metadata_only():
    """Lambda, "Retain discarded records for a DynamoDB event source in Lambda": SQS and SNS get where the records are."""
    world = World(3, bisect=False, batch_size=2, retries=2)
    world.answers = [RuntimeError(), [0], TimedOut()]
    assert world.drain() == [[0, 1], [0, 1], [0, 1], [2]]
    (message,) = world.messages
    first, last = world.table.shards[0][:2]
    assert message["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert message["requestContext"]["approximateInvokeCount"] == 3
    assert message["responseContext"]["functionError"] == "Unhandled"
    assert message["DDBStreamBatchInfo"] == {
        "shardId": world.table.shards[0].id,
        "startSequenceNumber": number(first),
        "endSequenceNumber": number(last),
        "approximateArrivalOfFirstRecord": "2026-01-05T00:00:00.000000Z",
        "approximateArrivalOfLastRecord": "2026-01-05T00:00:00.000000Z",
        "batchSize": 2,
        "streamArn": first["eventSourceARN"],
    }
    assert "NewImage" not in str(message)


def test_no_retry_at_all():
    """Lambda, "Lambda parameters": MaximumRetryAttempts from 0."""
    world = World(2, bisect=False, retries=0)
    world.answers = [RuntimeError()]
    assert world.drain() == [[0, 1]]
    assert len(world.messages) == 1


def test_a_split_takes_no_retry():
    """Lambda, "Retain discarded records": splitting batches doesn't consume the retry quota."""
    world = World(4, retries=1)
    world.mapping.handler = lambda event: world.handle(event) if 1 not in delivered(event) else world.handle(event)[1]
    assert world.drain() == [[0, 1, 2, 3], [0, 1], [0], [1], [1], [2, 3]]
    assert [m["DDBStreamBatchInfo"]["batchSize"] for m in world.messages] == [1]


def test_a_rest_after_a_partial_failure_counts_on():
    """ "Configuring partial batch response": with bisect, the batch is split at the returned number, which is no retry; without, it
    is a failure like others, and what is discarded is the rest."""
    world = World(4, bisect=False, retries=2)
    world.answers = [[1], [1], [0]]
    assert world.drain() == [[0, 1, 2, 3], [1, 2, 3], [2, 3]]
    assert world.messages[0]["DDBStreamBatchInfo"]["startSequenceNumber"] == number(world.table.shards[0][2])
    split = World(4, retries=0)
    split.answers = [[1], [1], [0]]
    assert split.drain() == [[0, 1, 2, 3], [1, 2, 3], [2, 3]]
    assert [m["DDBStreamBatchInfo"]["batchSize"] for m in split.messages] == [2]


def test_records_beyond_the_maximum_age_are_discarded():
    """Lambda, "Lambda parameters": MaximumRecordAgeInSeconds; "Retain discarded records": while failing and before invocation."""
    world = World(2, max_age=60, bisect=False)
    world.now += 30 * SECOND
    world.put(2)
    world.now += 30 * SECOND
    world.answers = [RuntimeError()]
    assert world.mapping.poll(0)  # exactly 60 s old: not beyond
    world.now += SECOND
    assert world.mapping.poll(0)
    assert world.seen == [[0, 1, 2], [2]]
    world.put(3)
    world.now += 61 * SECOND
    world.put(4)
    assert world.drain()[2:] == [[4]]
    assert [m["DDBStreamBatchInfo"]["batchSize"] for m in world.messages] == [2, 1]
    assert [m["requestContext"]["condition"] for m in world.messages] == ["RecordAgeExceeded"] * 2
    assert ["responseContext" in m for m in world.messages] == [True, False]
    assert world.mapping.lost == 0
    world.mapping.redeliver(0, 5)
    assert world.drain()[3:] == [[4]]
    assert len(world.messages) == 2


# at least once -------------------------------------------------------------------------------------------------------------------


def test_redelivery_brings_the_last_records_again():
    """Lambda, "How Lambda processes records": each event at least once, and duplicate processing can occur."""
    world = World(3)
    world.drain()
    world.mapping.redeliver(0, 2)
    assert world.drain() == [[0, 1, 2], [1, 2]]
    world.mapping.redeliver(0, 9)
    assert world.drain()[2:] == [[0, 1, 2]]
    world.put(3, 4)
    world.answers = [[1], {}]
    assert world.mapping.poll(0)
    world.mapping.redeliver(0, 2)
    assert world.drain()[4:] == [[2, 3, 4]]  # from two before the first that is not through


def test_a_running_invocation_and_a_redelivery_are_two_at_once():
    """Ibid."""
    world = World(3)
    first = world.mapping.take(0)
    world.mapping.redeliver(0, 0)
    second = world.mapping.take(0)
    assert delivered(first.event) == delivered(second.event) == [0, 1, 2]
    world.mapping.settle(first, {"batchItemFailures": [{"itemIdentifier": ""}]})  # nobody listens
    world.mapping.settle(second, {})
    assert world.drain() == []


def test_a_parent_is_not_read_again_once_its_children_are():
    """DynamoDB, "Change data capture": a parent shard before its child shards."""
    world = World(2)
    world.drain()
    (child,) = world.table.split(0, children=1)
    world.put(2)
    world.mapping.redeliver(0, 1)
    assert world.drain() == [[0, 1], [1], [2]]
    world.mapping.redeliver(0, 1)
    assert world.drain() == [[0, 1], [1], [2]]
    world.mapping.redeliver(child, 1)
    assert world.drain()[3:] == [[2]]


def test_one_invocation_a_shard_until_it_ends():
    """Lambda, "Lambda parameters": ParallelizationFactor 1."""
    world = World(3, batch_size=1)
    first = world.mapping.take(0)
    assert world.mapping.take(0) is None
    assert not world.mapping.through(0)
    with pytest.raises(AssertionError, match=r"shards \[0\] are stuck"):
        world.drain()
    world.mapping.settle(first, {})
    second = world.mapping.take(0)
    assert delivered(second.event) == [1]
    world.mapping.fail(second, RuntimeError())
    with pytest.raises(AssertionError, match="over already"):
        world.mapping.settle(second, {})
    assert world.drain() == [[1], [2]]


def test_a_batch_is_not_discarded_while_the_function_runs_on_it():
    """Lambda, "Retain discarded records": records are discarded before an invocation or after it."""
    world = World(2, max_age=60)
    running = world.mapping.take(0)
    world.now += 120 * SECOND
    assert world.mapping.take(0) is None
    assert not world.mapping.through(0)
    assert world.messages == []
    world.mapping.settle(running, {})
    assert world.mapping.through(0)
    assert world.messages == []


def test_after_a_time_out_the_batch_is_delivered_while_the_old_invocation_may_go_on():
    """Lambda, "Configure Lambda function timeout" and at least once: the function's calls under way are not taken back."""
    world = World(3, bisect=False)
    first = world.mapping.take(0)
    world.mapping.time_out(first)
    second = world.mapping.take(0)
    assert delivered(second.event) == [0, 1, 2]
    world.mapping.settle(first, {})  # too late: it changes nothing
    world.mapping.fail(first, RuntimeError())
    world.mapping.time_out(first)
    assert not world.mapping.through(0)
    world.mapping.settle(second, {})
    world.mapping.settle(first, {"batchItemFailures": [{"itemIdentifier": number(world.table.shards[0][0])}]})
    assert world.drain() == []
    assert world.mapping.through(0)
    assert world.mapping.invocations == 2


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_a_function_may_time_out_after_any_call(calls):
    world = World(1)
    target = StreamedTable(lambda: world.now)
    deadline = Deadline(calls)
    watched, other = deadline.wrap(target), deadline.wrap(world.table)

    def handler(event):
        for name in ("x", "y"):
            try:
                watched.put({"pk": name, "sk": "0"})
                other.get(("a", "000"))
            except Exception:  # code that carries on after errors does not carry on after its end
                continue
        world.seen.append(len(list(target.items())))
        return {}

    world.mapping.handler = handler
    assert world.mapping.poll(0)
    assert (len(list(target.items())), world.seen) == ((calls + 1) // 2, [])
    assert world.drain() == [2]


def test_faults_raise_before_or_after_a_call():
    world = World()
    faulty = Faults(world.table, random.Random(1), 0.3, RuntimeError())
    outcomes = set()
    for n in range(60):
        try:
            faulty.put({"pk": "a", "sk": f"{n:03}"})
            raised = False
        except RuntimeError:
            raised = True
        outcomes.add((raised, world.table.get(("a", f"{n:03}")) is not None))
    assert outcomes == {(False, True), (True, True), (True, False)}
    faulty.armed = False
    assert len(faulty.get_many([("a", "000")])) <= 1


def test_the_same_seed_gives_the_same_stream():
    def run(seed):
        table = StreamedTable(lambda: START, 3, seed)
        for n in range(50):
            table.put({"pk": f"p{n}", "sk": "0"})
        return [list(shard) for shard in table.shards]

    assert run(1) == run(1) != run(2)
