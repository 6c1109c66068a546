"""What the batch window costs: capacity units of live items for each unit of raw items, as DynamoDB Local says that it takes them.

Two minutes of 100 groups at 1 Hz are put and then delivered to both stream functions in batches of one window's length; the share
is per group, so 1,000 groups have the same one. Of 1,000 groups in four shards Lambda cuts a batch at 6 MB, after 29 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from benchmarks import stream_samples, stream_tables
from benchmarks.figures import Figure

GROUPS, SECONDS = 100, 120
WINDOWS = {1: None, 5: None, 29: None, 60: 0.15}  # seconds → bar
CUT = {29: "where 6 MB cut a batch of 1,000 groups in four shards", 1: "0 s, too: a batch has one record of a group"}


def run() -> Iterator[Figure]:
    """A fresh stage for each window; the whole batches of two minutes count, raw writes and live writes of the same records."""
    with stream_tables.emulator() as endpoint:
        for window, bar in WINDOWS.items():
            yield _share(endpoint, window, bar)


def _share(endpoint: str, window: int, bar: float | None) -> Figure:
    stage, start = stream_tables.stage(endpoint, f"window-{window}"), stream_samples.last_hour()
    raw, live, units = stage.raw.name, stage.live.name, stage.wire.units
    for batch in range(SECONDS // window):
        items = stream_samples.items(GROUPS, start + timedelta(seconds=batch * window), window)
        stage.put(items)
        event = stream_samples.event(items)
        stage.aggregate(event)
        stage.latest(event)
    records = GROUPS * (SECONDS // window) * window
    written, read = units[live, False] / records, units[live, True] / records
    said = f"{written * 1e6:,.0f} write and {read * 1e6:,.0f} read units of live items per million records"
    said += f"; {units[raw, False] / records:g} write units a raw record" + (f" ({CUT[window]})" if window in CUT else "")
    share = units[live, False] / units[raw, False]
    return Figure(f"live writes per raw write, window {window} s", share, "×", said, bar=bar)
