"""What histories are about: kinds of them, and the settings, times and values that they choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from tests.simulation.stage import START

MINUTES = (300, 305, 320, 1200)  # of a day: two in one quarter of an hour, three in one hour
NUMBERS = {
    "d": [1, 2, 3, Decimal("0.5"), Decimal("-2.25"), None],
    "w": [1, 2, 7, 10**38 - 1, 1 - 10**38, None],
    "f": [1, 3, Decimal("0.1"), Decimal("2.5E+20"), Decimal("-1E-7"), None],
}
REFS = [None, *(START - timedelta(days=n) for n in (3, 2, 1))]
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
LIMIT = 15 * MINUTE  # of any function
SHORT = (SECOND, 3 * SECOND, 20 * SECOND, 70 * SECOND, 5 * MINUTE, 20 * MINUTE, HOUR)
LONG = (3 * SECOND, 5 * MINUTE, HOUR, 10 * HOUR, 20 * HOUR, 30 * HOUR)
PACES = (SHORT, (*SHORT, 4 * HOUR, 10 * HOUR), LONG)
LAG, ARCHIVE_LAG = 17 * HOUR, 40 * HOUR  # what the alarms keep
TICK = 2 * HOUR  # how often they look
BURSTS = (1, 1, 1, 2, 4, 12, 40)  # calls that an actor makes in a row
LADDERS = (
    ("hourly", "daily"),
    ("hourly", "daily"),
    ("hourly", "daily"),
    ("15min", "hourly", "daily"),
    ("daily",),
    ("hourly",),
)
ACTIONS = {
    "advance": 1,
    "write": 2,
    "delete": 1.5,
    "invoke": 3,
    "time_out": 0.5,
    "rare_stream": 0.3,
    "timer": 1.5,
    "expire": 0.8,
    "rebuild": 0.3,
    "config": 0.2,
    "query": 0.4,
    "stall": 0.8,
}


@dataclass(frozen=True)
class Theme:
    """What a history is mostly about: actions that are more frequent, and from what times and settings it chooses."""

    more: dict[str, float]
    paces: tuple[Sequence[timedelta], ...] = PACES
    days: tuple[tuple[int, ...], ...] = (
        (0, -1, -4),
        (0, 0, -1),
        (-2, -4),
        (0, -400),
        (-4, -400),
        (0, 0, 1, 2),
        (0, -1, -2, -4, -400),
    )
    ttls: tuple[int, ...] = (24, 48, 72)
    again: float = 0.3  # how many writes are repetitions
    latest: float = 0.3  # how many invocations are of the latest values
    rare: str = ""
    whole_seconds: bool = False  # of all writes
    revisions: str = ""  # "" is any
    archive: dict[str, float] = field(default_factory=dict)  # what happens in it to the archive beside its round


THEMES = {
    "mixed": Theme({}),
    "twice": Theme({"invoke": 2, "time_out": 4, "stall": 2, "timer": 0.3, "advance": 0.3}, (SHORT,), ((0,), (-2, -4), (-4,))),
    "latest": Theme(
        {"invoke": 2, "time_out": 2, "delete": 2, "stall": 2, "timer": 0.3, "advance": 0.3},
        (SHORT,),
        ((0, -1), (-1, -2, -3)),
        latest=0.95,
    ),
    "old": Theme({"advance": 2, "expire": 3}, (LONG,), ((0, -1), (-1, -3), (-4,)), (24,), again=0.7),
    "repair": Theme({"rebuild": 8, "timer": 3, "stall": 2}, (SHORT, PACES[1]), ((0, -1), (-2, -4), (-400,))),
    "worklist": Theme(
        {"rebuild": 15, "timer": 5, "stall": 3, "invoke": 0.7}, (SHORT, (5 * MINUTE, 20 * MINUTE, HOUR)), ((-4,), (0,))
    ),
    "config": Theme({"config": 6}),
    "outage": Theme({"rare_stream": 3, "advance": 1.5}, rare="outage"),
}
CALM = {"invoke": 0.4, "time_out": 0, "rare_stream": 0, "stall": 0.7, "rebuild": 0.3}
OLD_DAYS = ((0, -1, -2), (-1, -2, -40), (0, -400), (-35, -36, -400))
THEMES |= {
    "windows": Theme(
        CALM | {"timer": 5, "expire": 0.5},
        (PACES[1], LONG),
        ((0, -1, -4), (0, 0, -1)),
        archive={"trouble": 0.6, "late_task": 1, "collect": 1, "merge": 0.3, "past": 0.3},
    ),
    "boundaries": Theme(
        CALM | {"timer": 4},
        ((5 * MINUTE,), (5 * MINUTE, 20 * MINUTE)),
        ((0, -1), (-2, -40)),
        whole_seconds=True,
        archive={"trouble": 0.2, "late_task": 0.5, "merge": 0.3},
    ),
    "readers": Theme(
        CALM | {"timer": 2, "stall": 2},
        ((20 * MINUTE, HOUR), (HOUR, 20 * HOUR)),
        ((-2, -4), (-3, -40)),
        (24,),
        archive={"race": 4, "gc": 0.3},
    ),
    "merges": Theme(
        CALM | {"timer": 4, "delete": 2, "advance": 1.5, "expire": 2},
        (LONG,),
        OLD_DAYS,
        (24,),
        again=0.5,
        archive={"late_task": 2, "merge": 3, "reconfigure": 0.2, "past": 0.3},
    ),
    "revisions": Theme(
        CALM | {"timer": 4, "advance": 2, "expire": 6, "delete": 2},
        (LONG,),
        ((-1, -2), (-40,), (-400, 0)),
        (24,),
        again=0.7,
        revisions="latest_ref",
        archive={"merge": 3, "late_task": 0.5},
    ),
    "backfills": Theme(
        CALM | {"timer": 3, "expire": 2},
        (LONG, PACES[1]),
        ((-4, -36), (-35, -36, -400), (0, -5)),
        (24,),
        archive={"backfill": 2, "merge": 1, "gc": 0.3},
    ),
    "erasures": Theme(
        CALM | {"timer": 4, "expire": 1},
        (LONG, PACES[1]),
        OLD_DAYS,
        (24,),
        revisions="last_write",
        archive={"remove": 1.5, "erase": 2, "merge": 1, "gc": 0.3, "past": 0.5, "late_task": 0.3},
    ),
    "garbage": Theme(
        CALM | {"timer": 4, "advance": 2, "expire": 1},
        (LONG,),
        OLD_DAYS,
        (24,),
        archive={"merge": 2, "gc": 3, "past": 2, "late_task": 0.3},
    ),
}
OF_STREAMS = [name for name, theme in THEMES.items() if not theme.archive]
OF_ARCHIVE = [name for name, theme in THEMES.items() if theme.archive]
