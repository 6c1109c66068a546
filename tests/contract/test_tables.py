"""What every table does."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest

from tesseract.errors import ConditionFailed, InputError
from tesseract.storage.base import Absent, Before, Is, NotAfter
from tesseract.storage.codec import item_from_wire

ITEM = {
    "pk": "a#b",
    "sk": "1",
    "text": "Zürich ☂ 𝄞",
    "whole": 10**37 + 1,
    "decimal": Decimal("-10.357019999999999"),
    "tiny": Decimal("1e-130"),
    "huge": Decimal("9.9e125"),
    "flag": True,
    "nothing": None,
    "bytes": b"\x00\xff",
    "list": [1, "x", [None]],
    "fields": {"a.b": 1, "ünï cöde": "any name but the empty one", "nested": {"deep": Decimal("0.5")}},
}


def test_an_item_comes_back_as_it_went_in(table):
    table.put(ITEM)
    assert table.get(("a#b", "1")) == ITEM
    assert table.get(("a#b", "2")) is None
    assert table.get_many([("a#b", "1"), ("a#b", "2"), ("a#b", "1")]) == {("a#b", "1"): ITEM}


def test_an_equal_number_is_the_same_item(table):
    table.put({"pk": "a", "sk": "1", "n": Decimal("2.50")})
    assert table.get(("a", "1"))["n"] == Decimal("2.5")
    table.put({"pk": "a", "sk": "1", "n": Decimal("2.0")})
    assert type(table.get(("a", "1"))["n"]) is int


def test_a_query_is_half_open_in_order_and_may_be_reversed_or_limited(table):
    for index in range(9):
        table.put({"pk": "a", "sk": f"{index}"})
    table.put({"pk": "b", "sk": "4"})

    def keys(*arguments, **options):
        return "".join(item["sk"] for item in table.query("a", *arguments, **options))

    assert keys() == "012345678"
    assert keys("2", "5") == "234"
    assert keys("7") == "78"
    assert keys(None, "2") == "01"
    assert keys("2", "5", reverse=True) == "432"
    assert keys(reverse=True, limit=2) == "87"
    assert keys("2", "5", reverse=True, limit=1) == "4"
    assert keys("5", "5") == keys("6", "5") == ""
    assert list(table.query("nobody")) == []


def test_a_query_goes_on_beyond_a_page(table):
    body = "x" * 200_000
    table.put_many({"pk": "big", "sk": f"{index:02}", "body": body} for index in range(12))
    assert [item["sk"] for item in table.query("big")] == [f"{index:02}" for index in range(12)]
    assert len(list(table.query("big", limit=7))) == 7


def test_pages_have_the_items_of_a_query_undecoded(table):
    table.put_many({**ITEM, "pk": "big", "sk": f"{index:02}", "body": "x" * 200_000} for index in range(12))
    spans = [(None, None), ("02", None), ("02", "11"), (None, "03"), ("03", "04"), ("04", "04"), ("5", None), ("05", "02")]
    for (low, high), reverse, limit in product(spans, (False, True), (0, 1, 5, 7, 20)):
        pages = list(table.pages("big", low, high, reverse=reverse, limit=limit))
        found = [item_from_wire(raw) for page in pages for raw in page]
        names = [f"{index:02}" for index in range(12) if (low or "") <= f"{index:02}" < (high or "a")]
        names = names[::-1] if reverse else names
        assert [item["sk"] for item in found] == (names[:limit] if limit else names)
        assert all({**item, "sk": "1", "pk": "a#b"} == {**ITEM, "body": "x" * 200_000} for item in found)
        assert max(map(len, pages), default=0) <= 6  # of items of 200 kB a MB holds no more
        assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False] * bool(pages)
    assert [raw for page in table.pages("nobody") for raw in page] == []


def test_many_items_are_written_and_read_in_any_number(table):
    items = [{"pk": f"p{index % 7}", "sk": f"{index:03}", "n": index} for index in range(230)]
    assert table.put_many(items) == []
    found = table.get_many((item["pk"], item["sk"]) for item in items)
    assert sorted(item["n"] for item in found.values()) == list(range(230))


def test_absent_lets_the_first_writer_win(table):
    table.put({"pk": "a", "sk": "1", "by": "first"}, Absent())
    with pytest.raises(ConditionFailed):
        table.put({"pk": "a", "sk": "1", "by": "second"}, Absent())
    assert table.get(("a", "1"))["by"] == "first"


def test_is_holds_only_for_the_value_that_was_read(table):
    with pytest.raises(ConditionFailed):
        table.put({"pk": "a", "sk": "1", "version": 2}, Is("version", 1))
    table.put({"pk": "a", "sk": "1", "version": 1})
    table.put({"pk": "a", "sk": "1", "version": 2}, Is("version", 1))
    with pytest.raises(ConditionFailed):
        table.put({"pk": "a", "sk": "1", "version": 2}, Is("version", 1))
    with pytest.raises(ConditionFailed):
        table.delete(("a", "1"), Is("version", 1))
    table.delete(("a", "1"), Is("version", 2))
    assert table.get(("a", "1")) is None


def test_before_only_moves_forward(table):
    table.put({"pk": "a", "sk": "1", "at": 5}, Before("at", 5))
    for value in (4, 5):
        with pytest.raises(ConditionFailed):
            table.put({"pk": "a", "sk": "1", "at": value}, Before("at", value))
    table.put({"pk": "a", "sk": "1", "at": 6}, Before("at", 6))
    table.put({"pk": "a", "sk": "2"})
    table.put({"pk": "a", "sk": "2", "at": 1}, Before("at", 1))
    assert [item["at"] for item in table.query("a")] == [6, 1]


def test_not_after_refuses_an_older_value_and_takes_an_equal_one(table):
    def refused(value, by):
        item = {"pk": "a", "sk": "1", "by": by} | ({} if value is None else {"at": value})
        try:
            table.put(item, NotAfter("at", value))
        except ConditionFailed:
            assert table.get(("a", "1"))["by"] != by
            return True
        assert table.get(("a", "1")) == item
        return False

    times = ["2026-01-05T12:00:00.000000Z", "2026-01-05T12:00:00.000001Z", "2026-01-05T13:00:00.000000Z"]
    assert not refused(None, "absent")
    assert not refused(None, "none again")  # no value is before all others, and equal to none
    assert not refused(times[1], "a value after none")
    assert refused(None, "none after a value")
    assert refused(times[0], "older")
    assert not refused(times[1], "equal")
    assert not refused(times[2], "newer")
    assert refused(times[1], "older again")


def test_of_sixteen_values_in_any_order_the_greatest_remains(table):
    def write(value):
        with suppress(ConditionFailed):
            table.put({"pk": "a", "sk": "1", "at": f"{value:02}"}, NotAfter("at", f"{value:02}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, [index * 7 % 16 for index in range(16)]))
    assert table.get(("a", "1"))["at"] == "15"


def test_a_put_with_a_deadline_is_an_ordinary_one_before_it(table):
    item = {"pk": "a", "sk": "1"}
    table.put(item, NotAfter("at", "5"), datetime.now(UTC) + timedelta(minutes=1))
    assert table.get(("a", "1")) == item
    assert table.counters.read() == {}


def test_deleting_twice_is_no_error(table):
    table.put({"pk": "a", "sk": "1"})
    table.delete(("a", "1"))
    table.delete(("a", "1"))
    assert table.get(("a", "1")) is None


def test_of_sixteen_writers_of_one_version_one_wins(table):
    table.put({"pk": "a", "sk": "1", "version": 0})

    def write(writer):
        try:
            table.put({"pk": "a", "sk": "1", "version": 1, "by": writer}, Is("version", 0))
        except ConditionFailed:
            return None
        return writer

    with ThreadPoolExecutor(16) as pool:
        winners = [writer for writer in pool.map(write, range(16)) if writer is not None]
    assert winners == [table.get(("a", "1"))["by"]]


def test_a_number_that_does_not_fit_is_refused_before_it_is_sent(table):
    with pytest.raises(InputError, match="does not fit"):
        table.put({"pk": "a", "sk": "1", "n": 10**38 + 1})


def test_a_put_may_be_conditional_on_another_item(table):
    mark, version = ("marks", "d"), {"pk": "a", "sk": "v2", "by": "ann"}

    def refused():
        with pytest.raises(ConditionFailed):
            table.put_checked(version, Absent(), mark, Is("used", False))
        return table.get(("a", "v2"))

    assert refused() is None  # there is no mark
    table.put({"pk": "marks", "sk": "d", "used": False})
    table.put_checked(version, Absent(), mark, Is("used", False))
    assert table.get(("a", "v2")) == version
    assert table.get(mark) == {"pk": "marks", "sk": "d", "used": False}
    assert refused() == version  # the item is there
    table.delete(("a", "v2"))
    table.put({"pk": "marks", "sk": "d", "used": True})
    assert refused() is None  # the mark has changed


def test_a_put_may_be_conditional_on_the_absence_of_another_item(table):
    table.put_checked({"pk": "a", "sk": "1"}, None, ("b", "1"), Absent())
    table.put_checked({"pk": "a", "sk": "1", "again": True}, None, ("b", "1"), Absent())
    table.put({"pk": "b", "sk": "1"})
    with pytest.raises(ConditionFailed):
        table.put_checked({"pk": "a", "sk": "1"}, None, ("b", "1"), Absent())
    assert table.get(("a", "1"))["again"]


def test_of_eight_checked_puts_and_a_change_of_what_they_check_those_before_it_are_there(table, request):
    """Whoever is told that its put was done has done it before the mark changed; nobody is told anything else than yes or no."""
    table.put({"pk": "marks", "sk": "d", "used": False})

    def write(writer):
        if writer == 4:
            table.put({"pk": "marks", "sk": "d", "used": True})
            return None
        try:
            table.put_checked({"pk": "a", "sk": f"{writer}"}, Absent(), ("marks", "d"), Is("used", False))
        except ConditionFailed:
            return None
        return f"{writer}"

    # where moto refuses a transaction it puts all tables back as they were, without what others have written meanwhile
    threads = 1 if "moto" in request.node.name else 4
    with ThreadPoolExecutor(threads) as pool:
        done = [writer for writer in pool.map(write, range(9)) if writer is not None]
    assert done == [item["sk"] for item in table.query("a")]
    with pytest.raises(ConditionFailed):
        table.put_checked({"pk": "a", "sk": "late"}, Absent(), ("marks", "d"), Is("used", False))
