"""How long data are kept: the arithmetic of `retention`, for who removes, who refuses and who computes anew. Pure, in UTC.

Rows are removed by whole files, so some stay longer than asked. Three moments matter, for raw rows in this order:

    ──┬────────────────────┬─────────────────────────────┬──────────────▶ valid time
      raw files that end   no period that begins before  no record before
      before may be gone   is computed from raw rows     this is taken
      (two weeks behind)   (`rows_kept_from`, a week)    (`kept_from`)

What was accepted just before `kept_from` has a week to reach the archive and every level, counted in what is archived, not by the
clock: both other moments follow `snapshot_through`. Where that stands still nothing is removed, however late it is. A change of the
setting counts for them a week and two weeks after it was applied, for what was accepted under the former one likewise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import MERGED_LEVELS, UNITS
from tesseract.utils.time_utils import EPOCH, MICROSECOND, from_micros, to_micros

RAW, EVERY_TIER = "raw", "*"
TRAVEL = timedelta(days=7)  # what a record may take to every level once its window's snapshots are committed: minutes do
RETIRED = timedelta(days=14)  # more than that: who computes may have looked a while ago, and months differ by three days
NEVER = to_micros(datetime.min.replace(tzinfo=EPOCH.tzinfo))  # no row is older
_SPAN = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?")
_LEAP_CYCLE = datetime(2000, 1, 1, tzinfo=EPOCH.tzinfo), datetime(2004, 1, 1, tzinfo=EPOCH.tzinfo)


def before(moment: datetime, span: str) -> datetime:
    """The start of the day that lies a duration (`P5Y`, `P1Y6M`, `P90D`) before that of `moment`; it never goes back.

    A day that the month does not have is its last one: a month before the 31st of March is the end of February.
    """
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    years, months, weeks, days = _parts(span)
    first = datetime.min.replace(tzinfo=EPOCH.tzinfo)
    index = day.year * 12 + day.month - 1 - (years * 12 + months)
    if index < 12:
        return first
    year, month = divmod(index, 12)
    start = day.replace(year=year, month=month + 1, day=1)
    try:
        last = (UNITS["monthly"].end(start) - timedelta(days=1)).day
        return start.replace(day=min(day.day, last)) - timedelta(days=7 * weeks + days)
    except OverflowError:
        return first


def _parts(span: str) -> tuple[int, int, int, int]:
    match = _SPAN.fullmatch(span)
    if match is None:
        raise ValueError(f"{span!r} is not a duration of years, months, weeks, days")
    years, months, weeks, days = (int(part or 0) for part in match.groups())
    return years, months, weeks, days


def spans_of(tiers: Mapping[str, str], ladder: Sequence[str]) -> dict[str, str]:
    """Tier → how long its files are kept. The tiers of the ladder, finest first; absent: for ever."""
    return {tier: span for tier in ladder if (span := tiers.get(tier) or tiers.get(EVERY_TIER))}


def too_short(tiers: Mapping[str, str], ladder: Sequence[str]) -> list[tuple[str, str]]:
    """The tiers, each with the next one, whose files would go before their rows can climb; none where all tiers have one limit."""
    spans = spans_of(tiers, ladder)
    if len(spans) == len(ladder) and len(set(spans.values())) == 1:
        return []
    return [(tier, above) for tier, above in pairwise(ladder) if tier in spans and not _lasts(spans[tier], above)]


def _lasts(span: str, tier: str) -> bool:
    """Whether a duration is at least as long as any period of a tier."""
    return all(before(period.end, span) <= period.start for period in UNITS[tier].periods(*_LEAP_CYCLE))


def outlasts(base: Mapping[str, str], raw: Mapping[str, str], ladder: Sequence[str]) -> bool:
    """Whether what weeks and months are merged from is there, whole, for as long as one of their raw rows may change."""
    kept, taken = (spans_of(tiers, ladder).get(ladder[-1]) for tiers in (base, raw))
    if kept is None or taken is None:
        return kept is None
    days = [period.start for period in UNITS["daily"].periods(*_LEAP_CYCLE)]
    return all(before(day, kept) <= UNITS[name].floor(before(day, taken)) for day in days for name in MERGED_LEVELS)


def limits_of(dataset: Dataset, level: str) -> dict[str, str]:
    """Tier → duration of a level, `raw` among them; nothing where the setting cannot be meant (of an earlier release)."""
    tiers = dataset.retention.get(level, {})
    return {} if too_short(tiers, dataset.ladder) else spans_of(tiers, dataset.ladder)


def longest(dataset: Dataset, level: str) -> str | None:
    """How long rows of a level are kept at least: the coarsest tier's limit, since all rows climb there. None: for ever."""
    return limits_of(dataset, level).get(dataset.ladder[-1])


# what is taken, and what is there ---------------------------------------------------------------------------------------


def kept_from(dataset: Dataset, now: datetime) -> datetime | None:
    """The oldest valid time that is taken; None where any is. Of one configuration it never goes back."""
    span = longest(dataset, RAW)
    moments = [] if span is None else [before(now, span)]
    moments += [from_micros(dataset.removed[RAW])] if RAW in dataset.removed else []
    return max(moments, default=None)


def rows_kept_from(dataset: Dataset, level: str, through: int) -> int:
    """The moment (µs) from which on every row of a level (`raw`: buffer and archive) is there. What begins before is not computed.

    `through` is `snapshot_through`. Always the start of a day, so that a period up to a day lies on one side.
    """
    if not through:
        return NEVER
    span, moment = longest(dataset, level), from_micros(through) - TRAVEL
    found = [NEVER] if span is None or moment < since(dataset) else [to_micros(before(moment, span))]
    # what a former limit removed ended before that: it was two weeks behind
    found += [dataset.removed[level] - TRAVEL // MICROSECOND] if level in dataset.removed else []
    return max(found)


def since(dataset: Dataset) -> datetime:
    """Since when the limits of a dataset hold."""
    return from_micros(dataset.retention_since or dataset.applied_at)


def applied(old: Dataset, wanted: Dataset, now: datetime) -> tuple[dict[str, int], int]:
    """`removed` and `retention_since` of a version that is applied after `old`."""
    if (old.retention, old.ladder) == (wanted.retention, wanted.ladder):
        return old.removed, (old.retention_since or old.applied_at) if old.retention else 0
    if now - since(old) < TRAVEL:  # nothing has been removed by it
        return old.removed, 0
    found = {level: to_micros(before(now, span)) for level in sorted(old.retention) if (span := longest(old, level))}
    return found | {level: max(moment, found.get(level, moment)) for level, moment in old.removed.items()}, 0


# people -----------------------------------------------------------------------------------------------------------------


def consequence(old: Dataset, wanted: Dataset) -> str:
    """What a change of the setting means, in one sentence."""
    shorter = [level for level in wanted.retention if _shortened(old, wanted, level)]
    said = []
    if shorter:
        rows = " and ".join(f"{level} data older than {_said(limits_of(wanted, level))}" for level in sorted(shorter))
        said.append(f"{rows} are removed for good, by whole files, {RETIRED.days} days after this is applied at the earliest")
    span = longest(wanted, RAW)
    if span is not None and RAW in shorter:
        said.append(f"records older than {span} are refused at once")
    if any(_shortened(wanted, old, level) for level in old.retention):
        said.append("what is there is kept for longer, what has been removed does not come back")
    return "; ".join(said) or "what is kept stays the same"


def _said(limits: Mapping[str, str]) -> str:
    spans = set(limits.values())
    return spans.pop() if len(spans) == 1 else ", ".join(f"{span} ({tier} files)" for tier, span in limits.items())


def _shortened(old: Dataset, wanted: Dataset, level: str) -> bool:
    """Whether files of a level go earlier than they did."""
    before_, after = limits_of(old, level), limits_of(wanted, level)
    end = _LEAP_CYCLE[1]
    return any(tier not in before_ or before(end, span) > before(end, before_[tier]) for tier, span in after.items())
