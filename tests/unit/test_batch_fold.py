"""A batch at once is the same as change by change and value by value: what is fast must not be different."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tesseract.config.schema import parse
from tesseract.model import Change, RawImage
from tesseract.processing.aggregator import fold, identity
from tesseract.processing.field_state import FEW, merged, of_values, single
from tesseract.processing.live import Facts, apply, finish, news_of
from tesseract.processing.live_item import NO_LIMIT, LiveItem
from tesseract.utils.time_utils import iso_micros, to_micros

NOW = datetime(2026, 1, 5, 12, 30, tzinfo=UTC)
SECOND = int(NOW.timestamp())
DATASET = parse("datasets: {d: {group_by: g, time_field: t, aggregations: {hourly: [sum, min]}, fields: {a: int}}}")["d"]
KEY = ("d#g#hourly", "2026-01-05T12:00:00Z")
LEVEL = DATASET.levels[0]
VALUE = st.one_of(
    st.integers(-(10**38), 10**38),
    st.decimals("-1e6", "1e6", places=2, allow_nan=False),  # zeros at the end, too
    st.sampled_from([Decimal("1E+120"), Decimal("1E-130"), Decimal("-0.0"), Decimal("0.00"), Decimal("5E+1"), Decimal("10.10")]),
)


@given(st.lists(st.tuples(st.integers(0, 40), VALUE), min_size=1, max_size=40))
@example([(0, Decimal("1.50")), (1, Decimal("2.50")), (2, Decimal("-4.00")), (3, Decimal("0.50"))])
@example([(0, Decimal(f"{n}0.00")) for n in range(FEW)])
def test_many_values_are_the_same_as_their_singles_merged(pairs):
    times, values = zip(*pairs, strict=True)
    assert of_values(values, times) == reduce(merged, (single(value, at) for at, value in pairs))


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
@pytest.mark.parametrize("count", [1, FEW])
def test_what_is_no_number_is_refused(number, count):
    with pytest.raises(ValueError, match="not a number that can be aggregated"):
        of_values([Decimal(number)] * count, list(range(count)))


def image(value: int, deleted: bool, expires_at: int) -> RawImage:
    return RawImage({} if deleted else {"a": value}, None, deleted, expires_at, 1)


def change(
    sequence: int, label: str = "s", old: RawImage | None = None, new: RawImage | None = None, created: int = SECOND
) -> Change:
    at = NOW + timedelta(seconds=sequence)
    return Change("d", "g", iso_micros(at), to_micros(at), str(sequence), f"{label}/{sequence:040}", created, old, new)


def check(item: LiveItem | None, batch: list[Change], facts: Facts) -> None:
    """Both ways give the same item, numbers and all."""
    at_once, slowly = apply(item, KEY, batch, facts, news_of(batch)), apply(item, KEY, batch, facts)
    assert at_once == slowly, (item, batch, facts.outage)
    if at_once is not None and slowly is not None:
        assert finish(at_once, facts) == finish(slowly, facts)


IMAGE = st.builds(image, st.integers(0, 9), st.sampled_from([False, False, False, True]), st.integers(SECOND - 5, SECOND + 90))
CHANGE = st.builds(
    change,
    st.integers(8, 14),
    st.sampled_from("ssst"),
    st.none() | IMAGE,
    st.none() | IMAGE | IMAGE,
    st.integers(SECOND - 20, SECOND + 25),
)


@given(st.lists(CHANGE, min_size=1, max_size=6))
def test_any_changes_are_taken_one_after_the_other(batch):
    for item in (
        None,
        LiveItem(*KEY, state=fold(identity(), {"a": 1}, 0), version=1, applied=f"s/{10:040}", safe_until=SECOND + 60),
    ):
        check(item, batch, Facts(DATASET, LEVEL, NOW, lambda period: False))


APPLIED = ("", f"r/{10:040}", f"t/{10:040}", *(f"s/{sequence:040}" for sequence in (9, 10, 11, 12, 13)))
BATCHES = [  # new records, by when they were made and when they expire
    [(SECOND - 10, SECOND + 90), (SECOND - 9, SECOND + 80), (SECOND - 8, SECOND + 85)],
    [(SECOND - 8, SECOND + 90), (SECOND - 10, SECOND + 90)],
    [(SECOND - 10, SECOND + 90), (SECOND + 30, SECOND + 90)],
    [(SECOND - 10, SECOND + 90), (SECOND - 9, SECOND), (SECOND - 8, SECOND + 90)],
    [(SECOND - 10, SECOND + 1)],
]
ITEMS = list(product(APPLIED, (NO_LIMIT, SECOND + 20, SECOND), (None, SECOND - 100), (None, 7), (None, *range(-17, -3))))


@pytest.mark.parametrize("batch", BATCHES)
def test_new_records_at_once_are_the_same_as_one_after_the_other(batch):
    changes = [change(11 + n, new=image(n, False, expires), created=made) for n, (made, expires) in enumerate(batch)]
    assert news_of(changes) is not None
    for outage, archived in product((False, True), (False, True)):
        facts = Facts(DATASET, LEVEL, NOW, lambda period, archived=archived: archived, outage)
        check(None, changes, facts)
        for applied, safe_until, stale_at, live_from, through in ITEMS:
            state = identity() if stale_at else fold(identity(), {"a": 1}, 0)
            repaired = None if through is None else SECOND + through
            check(LiveItem(*KEY, state, 1, applied, safe_until, stale_at, live_from, repaired), changes, facts)


def test_news_are_new_records_of_one_stream_in_its_order():
    def new(sequence: int, label: str = "s", old: RawImage | None = None, deleted: bool = False) -> Change:
        return change(sequence, label, old, image(1, deleted, sequence), sequence)

    assert news_of([new(3), new(5), new(9)]) == (f"s/{3:040}", f"s/{9:040}", 3, 9, 3)
    again, streams = [new(9), new(5)], [new(10, "t"), new(10, "r")]
    for other in (*again, *streams, new(10, old=image(1, False, 1)), new(10, deleted=True), change(10)):
        assert news_of([new(3), new(9), other]) is None
