"""A question as a user puts it, checked: one clear sentence for what cannot be asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, TypedDict

from tesseract.config.bases import named_level
from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS
from tesseract.errors import InputError
from tesseract.query.buckets import calendar, checked
from tesseract.query.catalog import nearest
from tesseract.query.plan import TIME_MAX, TIME_MIN, Range
from tesseract.query.question import Question
from tesseract.query.resample import Spec
from tesseract.query.where import parse
from tesseract.utils.time_utils import iso_seconds, parse_time, to_micros

Time = datetime | str | None


class Options(TypedDict, total=False):
    """What `Store.query` and its like take besides groups and range."""

    level: str
    fields: Iterable[str] | None
    where: str | None
    as_of: Time
    known_at: Time
    tz: str | None
    limit: int | None
    order: Literal["asc", "desc"]
    timeout: float | None


def question(
    dataset: Dataset,
    groups: Sequence[str] | None,
    span: tuple[datetime | None, datetime | None],
    options: Options,
    now: datetime,
    spec: Spec | None = None,
) -> Question:
    """The question, of a level or of the intervals of `spec`.

    Raises InputError for an option that is not there, or has a value that it cannot have.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise InputError(f"a query has no option {name!r}", hint=nearest(name, list(Options.__annotations__)))
    for name in ("level", "known_at", "limit", "order"):
        if spec is not None and options.get(name) is not None:
            raise InputError(f"{name} does not go with intervals", hint="it is for raw rows and levels: `query`")
    fields = options.get("fields")
    past = moment(options.get("as_of"), now, "as_of")
    if past is not None and past > now:
        raise InputError(f"as_of {iso_seconds(past)} lies ahead", hint="without it, a query shows everything as it is now")
    level = level_of(dataset, options.get("level", "raw")) if spec is None else spec.level(dataset)
    zone = checked(options.get("tz") or "")
    buckets = spec.buckets if spec else calendar(level.name, zone) if level and zone else None
    condition = options.get("where")
    where = None if condition is None else parse(condition).key_form(dataset, level)
    limit, order, timeout = options.get("limit"), options.get("order", "asc"), options.get("timeout")
    if limit is not None and not (isinstance(limit, int) and limit >= 1):
        raise InputError(f"limit {limit!r} is no number of rows", hint="1 or more")
    if order not in ("asc", "desc"):
        raise InputError(f"order {order!r} is none", hint="asc or desc")
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise InputError(f"timeout {timeout!r} is no time", hint="seconds, more than 0")
    if level is not None and options.get("known_at") is not None:
        raise InputError(f"known_at is for raw rows, not for level {level.name}", hint="aggregates are of the newest revisions")
    return Question(
        dataset,
        groups,
        *span,
        level=level,
        fields=_names(fields),
        as_of=past,
        known_at=moment(options.get("known_at"), now, "known_at"),
        where=where,
        limit=limit,
        newest_first=order == "desc",
        timeout=timeout,
        buckets=buckets,
        zone=zone,
    )


def _names(fields: Iterable[str] | None) -> list[str] | None:
    if fields is None or isinstance(fields, str):
        return None if fields is None else [fields]
    if not isinstance(fields, Iterable):
        raise InputError(f"fields {fields!r} are no names", hint="a list of them")
    names = list(fields)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{name!r} is no name of a field", hint="names are text")
    return names


def range_of(span: tuple[datetime | None, datetime | None]) -> Range:
    """[start, end) in µs; None is an open end."""
    start, end = span
    return Range(TIME_MIN if start is None else to_micros(start), TIME_MAX if end is None else to_micros(end))


def level_of(dataset: Dataset, name: str) -> Level | None:
    """A level by its name; None for raw. Raises InputError where there is none."""
    if name == "raw":
        return None
    level = named_level(dataset, name)
    if level is None:
        raise InputError(f"there is no level {name!r}", hint=nearest(name, ["raw", *UNITS]))
    return level


def moment(value: Time, now: datetime, what: str) -> datetime | None:
    """A time as a user gives it. Raises InputError where it is none."""
    if value is None:
        return None
    if isinstance(value, str):
        return parse_time(value, now, what)
    if not isinstance(value, datetime):
        raise InputError(
            f"{what} {value!r} is not a time", hint="an aware datetime, or text: 2013-07-01T12:00:00Z, 2013-07-01, -3h"
        )
    if value.tzinfo is None:
        raise InputError(f"{what} {value.isoformat()} has no time zone", hint="give it tzinfo=datetime.UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InputError(f"{what} {value.isoformat()} lies beyond the years 1 to 9999") from error
