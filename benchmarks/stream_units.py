"""What the batch window costs: capacity units of live items for each unit of raw items, as DynamoDB Local says that it takes them.

Readings of 100 groups at 1 Hz are put and then delivered to both stream functions in batches of one window's length; the share is
per group, so 1,000 groups have the same one. Lambda cuts a batch at 6 MB; where 1,000 groups come in four shards, that is after
some 30 s. The share of batches cut so is measured at 29 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from benchmarks import stream_memory, stream_samples, stream_tables
from benchmarks.figures import Figure

GROUPS = 100
WINDOWS = {1: 20, 5: 40, 29: 58, 60: 120}  # seconds → seconds of readings that are delivered
BARS = {60: 0.15}
CUT = {1: "and so at 0 s, where a batch has at most one record of a group"}


def run() -> Iterator[Figure]:
    """A fresh stage for each window: raw and live writes of the same records."""
    cut = Figure("a batch of 250 groups is cut at 6 MB", stream_memory.cut_after(250), "s", "1,000 groups at 1 Hz in four shards")
    yield cut
    with stream_tables.emulator() as endpoint:
        for window, seconds in WINDOWS.items():
            yield _share(endpoint, window, seconds // window)


def _share(endpoint: str, window: int, batches: int) -> Figure:
    stage, start = stream_tables.stage(endpoint, f"window-{window}"), stream_samples.last_hour()
    raw, live, units = stage.raw.name, stage.live.name, stage.wire.units
    for batch in range(batches):
        items = stream_samples.items(GROUPS, start + timedelta(seconds=batch * window), window)
        stage.put(items)
        event = stream_samples.event(items)
        stage.aggregate(event)
        stage.latest(event)
    records = GROUPS * batches * window
    written, read = units[live, False] / records, units[live, True] / records
    said = f"{written * 1e6:,.0f} write and {read * 1e6:,.0f} read units of live items per million records"
    said += f"; {units[raw, False] / records:g} write units a raw record" + (f" ({CUT[window]})" if window in CUT else "")
    share = units[live, False] / units[raw, False]
    return Figure(f"live writes per raw write, window {window} s", share, "×", said, bar=BARS.get(window))
