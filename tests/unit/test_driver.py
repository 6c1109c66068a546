"""The driver keeps the rules that it cites."""

from datetime import UTC, datetime

from tests.support.driver import Mapping, StreamedTable

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def table_of(count, shards=1):
    table = StreamedTable(lambda: NOW, shards)
    for index in range(count):
        table.put({"pk": "a", "sk": f"{index:03}", "n": index})
    return table


def delivered(event):
    return [int(record["dynamodb"]["Keys"]["sk"]["S"]) for record in event["Records"]]


def test_a_put_that_changes_nothing_makes_no_record():
    table = table_of(1)
    table.put({"pk": "a", "sk": "000", "n": 0})
    table.put({"pk": "a", "sk": "000", "n": 1})
    table.delete(("a", "000"))
    assert [record["eventName"] for record in table.shards[0]] == ["INSERT", "MODIFY", "REMOVE"]
    assert table.shards[0][1]["dynamodb"]["OldImage"]["n"] == {"N": "0"}


def test_a_partition_stays_in_one_shard_in_order():
    table = StreamedTable(lambda: NOW, 3)
    for index in range(30):
        table.put({"pk": f"p{index % 5}", "sk": f"{index}"})
    for shard in table.shards:
        numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in shard]
        assert numbers == sorted(numbers)
    homes = {}
    for index, shard in enumerate(table.shards):
        for record in shard:
            assert homes.setdefault(record["dynamodb"]["Keys"]["pk"]["S"], index) == index


def test_a_partial_failure_rewinds_to_the_lowest_number():
    seen = []

    def handler(event):
        seen.append(delivered(event))
        numbers = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
        return {"batchItemFailures": [{"itemIdentifier": n} for n in (numbers[4], numbers[2])] if len(seen) == 1 else []}

    Mapping(table_of(6), handler).drain()
    assert seen == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]]


def test_an_exception_fails_the_whole_batch_and_bisects_it():
    seen = []

    def handler(event):
        seen.append(delivered(event))
        if len(event["Records"]) > 2 or len(seen) == 2:
            raise RuntimeError
        return {}

    Mapping(table_of(4), handler, batch_size=4).drain()
    assert seen == [[0, 1, 2, 3], [0, 1], [0], [1, 2, 3], [1], [2, 3]]


def test_an_unknown_number_fails_the_whole_batch():
    seen = []

    def handler(event):
        seen.append(delivered(event))
        return {"batchItemFailures": [{"itemIdentifier": "7"}] if len(seen) == 1 else []}

    Mapping(table_of(2), handler, bisect=False).drain()
    assert seen == [[0, 1], [0, 1]]


def test_redelivery_brings_the_last_records_again():
    seen = []
    mapping = Mapping(table_of(3), lambda event: seen.append(delivered(event)) or {})
    mapping.drain()
    mapping.redeliver(0, 2)
    mapping.drain()
    assert seen == [[0, 1, 2], [1, 2]]
