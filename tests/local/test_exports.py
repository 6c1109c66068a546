"""The exports of the laptop cloud: AWS's layout, what lies in a window, what is refused."""

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.local.exports import FILES, Change, Clock, Request, changed_in, files, refusal, state_at

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/tesseract-local-raw"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECOND = 1_000_000


def keys(name: str) -> dict[str, Any]:
    return {"pk": {"S": name}, "sk": {"S": "0"}}


def change(second: float, name: str, old: str | None, new: str | None) -> Change:
    def image(value: str | None) -> dict[str, Any] | None:
        return None if value is None else {**keys(name), "v": {"S": value}}

    return Change(int(second * SECOND), keys(name), image(new), image(old))


def request(start: int | None, end: int, prefix: str = "exports/w", view: str = "NEW_IMAGE") -> Request:
    return Request(f"{ARN}/export/0170-ab", ARN, "bucket", prefix, "token", end, start, view)


def lines(objects: dict[str, bytes]) -> list[dict[str, Any]]:
    """The data lines of an export, read as a collector reads them: by the listing, every checksum and count verified."""
    summary = json.loads(next(body for key, body in objects.items() if key.endswith("manifest-summary.json")))
    found = []
    for entry in map(json.loads, objects[summary["manifestFilesS3Key"]].splitlines()):
        body = objects[entry["dataFileS3Key"]]
        assert base64.b64decode(entry["md5Checksum"]) == hashlib.md5(body, usedforsecurity=False).digest()
        part = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        assert entry["itemCount"] == len(part)
        found += part
    assert summary["itemCount"] == len(found)
    return found


def test_an_incremental_export_has_the_documented_layout() -> None:
    objects = files(request(1, 10), [change(2, "a", None, "x")], NOW, "id")
    names = list(objects)
    folder = "exports/w/AWSDynamoDB/0170-ab"
    assert names[0] == f"{folder}/_started"
    assert names[-1] == f"{folder}/manifest-summary.json"
    data = [name for name in names if name.endswith(".json.gz")]
    assert len(data) == FILES
    assert all(name.startswith("exports/w/AWSDynamoDB/data/") for name in data)
    summary = json.loads(objects[names[-1]])
    assert (summary["exportType"], summary["outputView"]) == ("INCREMENTAL_EXPORT", "NEW_IMAGE")
    assert (summary["exportFromTime"], summary["exportToTime"]) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:10.000Z")
    assert lines(objects) == [
        {"Metadata": {"WriteTimestampMicros": {"N": "2000000"}}, "Keys": keys("a"), "NewImage": {**keys("a"), "v": {"S": "x"}}}
    ]


def test_a_full_export_has_items_alone_in_a_folder_of_its_own() -> None:
    objects = files(request(None, 10), [change(2, "a", None, "x"), change(3, "b", None, "y"), change(4, "b", "y", None)], NOW, "id")
    assert lines(objects) == [{"Item": {**keys("a"), "v": {"S": "x"}}}]
    assert all(name.startswith("exports/w/AWSDynamoDB/0170-ab/data/") for name in objects if name.endswith(".gz"))


def test_without_a_prefix_no_key_begins_with_a_slash() -> None:
    objects = files(request(1, 10, prefix=""), [change(2, "a", None, "x")], NOW, "id")
    assert all(name.startswith("AWSDynamoDB/") for name in objects)
    assert len(lines(objects)) == 1


def test_a_window_is_half_open_and_shows_only_the_last_state() -> None:
    history = [change(1, "a", None, "0"), change(2, "a", "0", "1"), change(3, "a", "1", "2"), change(4, "a", "2", "3")]
    (only,) = changed_in(history, 2, 4)
    assert only.new is not None
    assert only.new["v"] == {"S": "2"}
    assert only.old is not None
    assert only.old["v"] == {"S": "0"}, "the old image is the one before the window, not before the last change"


def test_a_removed_item_has_keys_alone() -> None:
    objects = files(request(2, 10), [change(1, "a", None, "x"), change(2, "a", "x", None)], NOW, "id")
    (line,) = lines(objects)
    assert set(line) == {"Metadata", "Keys"}


def test_an_item_that_came_and_went_within_the_window_leaves_no_line() -> None:
    assert changed_in([change(2, "a", None, "x"), change(3, "a", "x", None)], 1, 10) == []


def test_both_images_are_written_only_when_they_are_asked_for() -> None:
    objects = files(request(2, 10, view="NEW_AND_OLD_IMAGES"), [change(2, "a", "x", "y")], NOW, "id")
    assert {"NewImage", "OldImage"} < set(lines(objects)[0])


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans())), st.lists(st.integers(1, 29), max_size=4))
def test_abutting_windows_replayed_give_the_full_export(writes: list[tuple[int, str, bool]], cuts: list[int]) -> None:
    clock, state, history = Clock(), dict[str, str](), []
    for number, (second, name, there) in enumerate(sorted(writes, key=lambda write: write[0])):
        new = str(number) if there else None
        history.append(change(clock.micros(second) / SECOND, name, state.get(name), new))
        state.pop(name, None)
        if new is not None:
            state[name] = new
    bounds = [0, *sorted(set(cuts)), 31]
    replayed: dict[str, Any] = {}
    for start, end in pairwise(bounds):
        for last in changed_in(history, start, end):
            replayed[json.dumps(last.keys)] = last.new
    assert {k: v for k, v in replayed.items() if v is not None} == {json.dumps(c.keys): c.new for c in state_at(history, 31)}


def test_write_times_are_distinct_and_stay_in_their_second() -> None:
    clock = Clock()
    times = [clock.micros(second) for second in (5, 5, 5, 6, 5, 7)]
    assert times == sorted(set(times))
    assert [time // SECOND for time in times] == [5, 5, 5, 6, 6, 7]


def test_no_later_change_falls_into_a_window_that_was_read() -> None:
    clock = Clock()
    clock.micros(5)
    clock.close(7)
    assert clock.micros(6) == 7 * SECOND
    assert clock.micros(9) == 9 * SECOND


@pytest.mark.parametrize(
    ("start", "end", "earliest", "code"),
    [
        (100, 200, 50, None),
        (100, 101, 100, None),
        (100, 200, None, "PointInTimeRecoveryUnavailableException"),
        (100, 100, 50, "InvalidExportTimeException"),
        (200, 100, 50, "InvalidExportTimeException"),
        (100, 1001, 50, "InvalidExportTimeException"),
        (49, 200, 50, "InvalidExportTimeException"),
        (None, 200, 50, "ValidationException"),
    ],
)
def test_windows_that_aws_would_refuse(start: int | None, end: int, earliest: int | None, code: str | None) -> None:
    window = {"ExportToTime": end} | ({} if start is None else {"ExportFromTime": start})
    body = {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": window}
    answer = refusal(body, 1000, earliest, 1)
    assert (answer[0] if answer else None) == code


@pytest.mark.parametrize(("length", "fine"), [(899, False), (900, True), (86_400, True), (86_401, False)])
def test_a_window_is_between_the_least_and_a_day_long(length: int, fine: bool) -> None:
    window = {"ExportFromTime": 0, "ExportToTime": length}
    body = {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": window}
    assert (refusal(body, 10**6, 0, 900) is None) == fine


@pytest.mark.parametrize(("moment", "fine"), [(49, False), (50, True), (1000, True), (1001, False)])
def test_a_full_export_is_of_a_restorable_time(moment: int, fine: bool) -> None:
    assert (refusal({"ExportTime": moment}, 1000, 50, 1) is None) == fine
