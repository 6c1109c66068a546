"""The audit: what it finds, what it forgives, and what the command says."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract import cli
from tesseract.cli.live import queries
from tesseract.config.dataset import Level
from tesseract.errors import BackendError, InputError
from tesseract.processing import audit
from tesseract.processing.aggregator import decode_state, encode_state, fold_all, same, shown
from tesseract.processing.audit import CALM, LOOKS, Sample, share_of
from tesseract.processing.live_item import LiveItem, encode_item, live_levels
from tesseract.processing.marking import mark, mark_latest
from tesseract.storage.catalog import Outage
from tesseract.storage.keys import latest_key, live_pk
from tesseract.utils import aws_helpers
from tests.support.level_world import ALL, DAY, HOUR, World, plant

NOW = datetime(2024, 3, 10, 10, 30, tzinfo=UTC)
EVERY = Sample(Fraction(1), "s")
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 3599), st.fixed_dictionaries({}, optional={"a": st.integers(-9, 9), "b": st.decimals(-9, 9, places=2)})
    )
)


@pytest.fixture
def world(monkeypatch):
    made = World(plant("hourly", "daily", "weekly"), NOW)
    chance = random.Random(1)
    for hour in range(60):
        fields = {"f": Decimal(chance.randrange(-500, 500)) / 10, "i": hour, "d": Decimal(chance.randrange(99)) / 100, "s": "x"}
        made.put("AB"[hour % 2], made.now - hour * HOUR, fields, deleted=hour % 7 == 5)
    made.drain()
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: made.store)
    monkeypatch.setattr("tesseract.cli.live.utc_now", lambda: made.now)
    monkeypatch.setattr("tesseract.cli.live.PAUSE", 0.0)
    metrics = []
    monkeypatch.setattr("tesseract.storage.services.put_metric", lambda name, value, **about: metrics.append((name, value, about)))
    made.metrics = metrics
    return made


def check(world: World, wait=lambda: None, sample: Sample = EVERY, **changes) -> audit.Report:
    stage = audit.Stage(world.backend, world.catalog, world.dataset, queries(world.store, "weather"))
    return audit.run(stage, ["A", "B"], live_levels(world.dataset), sample, wait, **changes)


def item_of(world: World, level: str, group: str = "A") -> dict:
    return next(world.backend.live.query(live_pk("weather", group, level), limit=1))


def ask(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# the sample ---------------------------------------------------------------------------------------------------------------


def test_a_sample_is_a_percentage():
    assert [share_of(text) for text in ("1%", "0.1%", " 100 %", "5")] == [Fraction(1, 100), Fraction(1, 1000), 1, Fraction(1, 20)]
    for text in ("0%", "101%", "-1%", "x", "", "1/0"):
        with pytest.raises(InputError, match="is not a sample"):
            share_of(text)


def test_the_same_seed_takes_the_same_items_and_about_the_share_that_was_asked_for():
    keys = [(f"w#{group}#hourly", f"2024-03-01T{hour:02}:00:00Z") for group in range(500) for hour in range(24)]
    taken = {key for key in keys if Sample(Fraction(1, 20), "a").takes(key)}
    assert taken == {key for key in keys if Sample(Fraction(1, 20), "a").takes(key)}
    assert 0.04 < len(taken) / len(keys) < 0.06
    assert taken < {key for key in keys if Sample(Fraction(1, 2), "a").takes(key)}  # a larger sample takes these too
    assert taken != {key for key in keys if Sample(Fraction(1, 20), "b").takes(key)}
    assert all(EVERY.takes(key) for key in keys)
    assert max(Counter(pk for pk, _ in taken).values()) < 8  # spread over groups


# what is found ------------------------------------------------------------------------------------------------------------


@given(RECORDS, RECORDS)
def test_an_item_differs_from_the_state_of_other_records_and_from_no_other(left, right):
    level = Level("hourly", dict(ALL))
    states = [fold_all(sorted(records, key=lambda record: record[0])) for records in (left, right)]
    live = LiveItem("w#A#hourly", "2024-03-01T10:00:00Z", states[0])
    found = list(audit.compare(live, encode_item(live, level, NOW), states[1], level))
    assert bool(found) == (not same(*states))
    numbers = [shown(state, level) for state in states]
    for statistic, stored, recomputed in found:
        name, _, stat = statistic.partition(".")
        if statistic != "rows" and " " not in statistic:
            nothing = 0 if stat == "count" else None
            assert [each.get(name, {}).get(stat, nothing) for each in numbers] == [stored, recomputed]


def test_nothing_differs_where_nothing_is_wrong_in_buffer_and_archive(world):
    report = check(world)
    items = sum(
        1 for group in "AB" for level in ("hourly", "daily") for _ in world.backend.live.query(live_pk("weather", group, level))
    )
    assert (report.compared, report.different, report.stale, report.pending) == (items + 2, 0, 0, 0)
    world.settle()
    assert check(world).compared == items + 2
    assert check(world, latest=False).compared == items
    assert 0 < check(world, sample=Sample(Fraction(1, 4), "x")).compared < items / 2


@pytest.mark.parametrize("archived", [False, True])
def test_a_wrong_digit_is_found_in_plain_numbers_and_in_the_exact_state(world, archived):
    if archived:
        world.settle()
    item = item_of(world, "hourly")
    item["fields"]["i"]["sum"] += 1
    world.backend.live.put(item)
    day = item_of(world, "daily", "B")
    state = decode_state(day["state"])
    wrong = {**state.fields, "d": state.fields["d"]._replace(squares=state.fields["d"].squares + 1)}
    world.backend.live.put({**day, "state": encode_state(state._replace(fields=wrong))})
    waits = []
    report = check(world, lambda: waits.append(1))
    assert (report.different, len(report.differences)) == (2, 2)
    plain, exact = report.differences
    assert plain == ("A", "hourly", item["sk"], "i.sum", item["fields"]["i"]["sum"], item["fields"]["i"]["sum"] - 1)
    assert (exact.group, exact.level, exact.statistic, exact.stored) == ("B", "daily", "d state.squares", exact.recomputed + 1)
    assert len(waits) == (0 if archived else CALM)  # nothing of a day that the buffer has not can be in the stream


def test_rows_that_the_item_lacks_or_has_too_many(world):
    item = item_of(world, "hourly")
    world.backend.live.put({**item, "rows": item["rows"] + 1})
    (found,) = check(world).differences
    assert (found.statistic, found.stored, found.recomputed) == ("rows", item["rows"] + 1, item["rows"])


def test_lag_of_the_stream_is_no_difference(world):
    world.put("A", world.now - 3 * HOUR, {"f": Decimal(7)})
    world.put("A", world.now, {"i": 7})
    waits = []

    def wait() -> None:
        waits.append(1)
        if len(waits) == 3:
            world.drain()

    report = check(world, wait)
    assert (report.different, report.unsettled, len(waits)) == (0, 0, 3)


def test_what_never_stands_still_is_left_to_the_next_audit(world):
    def wait() -> None:
        world.put("A", NOW, {"i": world.now.microsecond})

    wait()
    report = check(world, wait)
    assert (report.different, report.unsettled) == (0, 3)  # the hour, the day, and the latest value
    world.drain()
    assert (check(world).different, LOOKS > CALM) == (0, True)


def test_a_stream_that_stands_still_for_good_is_a_difference(world):
    world.put("B", world.now - 3 * HOUR, {"f": Decimal(7)})
    report = check(world)
    assert report.different == 2
    assert {found.level for found in report.differences} == {"hourly", "daily"}


def test_stale_and_pending_items_are_counted_and_not_compared(world):
    before = check(world).compared
    for level in live_levels(world.dataset):
        item = item_of(world, level.name)
        mark(world.backend.live, (item["pk"], item["sk"]), level, world.now)
    pending = {name: value for name, value in item_of(world, "hourly", "B").items() if name not in ("rows", "fields")}
    world.backend.live.put({**pending, "pending": True})
    mark_latest(world.backend.live, latest_key("weather", "B"), world.now)
    report = check(world)
    assert (report.compared, report.stale, report.pending, report.different) == (before - 4, 3, 1, 0)


def test_an_outage_makes_every_item_doubtful(world):
    world.catalog.extend_outage(Outage(1, 2))
    report = check(world)
    assert (report.outage, report.compared) == (True, 0)


@pytest.mark.parametrize("wrong", ["value", "time", "gone"])
def test_a_wrong_latest_value_is_found(world, wrong):
    key = latest_key("weather", "A")
    item = world.backend.live.get(key)
    if wrong == "value":
        item["fields"]["i"] += 1
    elif wrong == "time":
        item |= {"valid_time": (world.now - 3 * DAY).isoformat().replace("+00:00", "Z")}
    else:
        item = {name: value for name, value in item.items() if name != "fields"} | {"valid_time": "", "none": True}
    world.backend.live.put(item)
    report = check(world)
    assert report.different == 1
    assert {found.level for found in report.differences} == {"latest"}
    assert {found.statistic for found in report.differences} == {"i" if wrong == "value" else "valid_time"}


# the command --------------------------------------------------------------------------------------------------------------


def test_the_command_prints_differences_counts_them_and_says_how_to_repeat_it(world, capsys):
    code, out, err = ask(capsys, "audit", "weather", "--sample", "100%")
    assert (code, out) == (0, "")
    assert err.splitlines()[-1].endswith("different 0, stale 0, pending 0 (sample 100%, seed 2024-03-10)")
    item = item_of(world, "hourly", "B")
    item["fields"]["f"]["avg"] = Decimal("0.1")
    world.backend.live.put(item)
    code, out, err = ask(capsys, "audit", "weather", "B", "--sample", "100%", "--seed", "7", "--format", "csv")
    assert code == 1
    assert out.splitlines()[0] == "group,level,period,statistic,stored,recomputed"
    assert out.splitlines()[1].startswith(f"B,hourly,{item['sk']},f.avg,0.1,")
    assert "different 1," in err
    assert "seed 7" in err
    assert ask(capsys, "audit", "weather", "A", "--sample", "100%")[0] == 0
    assert "f.avg" in ask(capsys, "audit", "weather", "--sample", "100%", "--level", "hourly")[1]
    assert ask(capsys, "audit", "weather", "--sample", "100%", "--level", "daily")[0] == 0
    assert "compared 2," in ask(capsys, "audit", "weather", "--sample", "100%", "--level", "latest")[2]
    about = {"stage": "test", "dataset": "weather"}
    assert world.metrics[:2] == [("AuditDifferences", 0, about), ("AuditDifferences", 1, about)]


def test_a_metric_that_may_not_be_published_is_a_warning(world, capsys, monkeypatch):
    def refuse(name, value, **about):
        raise BackendError("AccessDenied: no", operation="put_metric_data")

    monkeypatch.setattr("tesseract.storage.services.put_metric", refuse)
    code, _, err = ask(capsys, "audit", "weather")
    assert code == 0
    assert "warning: the metric AuditDifferences was not published: put_metric_data: AccessDenied: no" in err
    world.catalog.extend_outage(Outage(1, 2))
    assert "an outage of the stream is being healed" in ask(capsys, "audit", "weather")[2]


def test_the_metric_and_the_clock_as_aws_has_them(moto, credentials, monkeypatch):
    from tesseract.storage.services import clock_lag, put_metric

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    aws_helpers.client.cache_clear()
    try:
        put_metric("AuditDifferences", 3, stage="dev", dataset="weather")
        (metric,) = aws_helpers.client("cloudwatch").list_metrics(Namespace="tesseract")["Metrics"]
        assert metric["MetricName"] == "AuditDifferences"
        assert {d["Name"]: d["Value"] for d in metric["Dimensions"]} == {"stage": "dev", "dataset": "weather"}
        assert clock_lag() < timedelta(seconds=5)
    finally:
        aws_helpers.client.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["weater"], "there is no dataset 'weater' (did you mean 'weather'? known datasets: weather)"),
        (["weather", "C"], "dataset weather has no group 'C' (known: A, B)"),
        (["weather", "--sample", "200%"], "'200%' is not a sample"),
        (["weather", "--level", "weekly"], "level weekly of dataset weather is merged from finer ones"),
        (["weather", "--format", "xml"], "'xml' is not a format"),
    ],
)
def test_bad_input_is_one_line(world, capsys, arguments, says):
    code, out, err = ask(capsys, "audit", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1


def test_a_csv_without_differences_has_its_header_and_what_is_wrong_is_said_before_the_work(world, capsys, monkeypatch):
    code, out, _ = ask(capsys, "audit", "weather", "--sample", "100%", "--format", "csv")
    assert (code, out) == (0, "group,level,period,statistic,stored,recomputed\n")
    monkeypatch.setattr(audit, "run", None)  # not reached
    code, _, err = ask(capsys, "audit", "weather", "-o", "/nope/found.csv")
    assert (code, err) == (1, "error: /nope/found.csv cannot be written: No such file or directory\n")
    code, _, err = ask(capsys, "audit", "weather", "--level", "newest")
    assert (code, err) == (1, "error: dataset weather has no level 'newest' (levels: hourly, daily, latest)\n")
