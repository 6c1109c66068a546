"""What histories are about: kinds of them, and the settings, times and values that they choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
