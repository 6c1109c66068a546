"""`tesseract rebuild` of many groups: of a dataset, or of all; and what comes first where the live table was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from tesseract.cli.common import note, say, spinner, thousands
from tesseract.errors import InputError

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.processing.rebuild import Span
    from tesseract.store import Store


def rebuild_all(
    store: Store,
    names: list[str],
    level: str | None,
    span: Span,
    lost: bool,
    clock: Callable[[], datetime],
) -> None:
    """Mark the aggregates and latest values of all groups of some datasets; where the live table was `lost`, say so first."""
    from tesseract.processing.lost_live import declare, renew
    from tesseract.query.catalog import Lookup, group_name

    counts: Counter[str] = Counter()
    if lost:
        declare(store.catalog, clock())
    with spinner() as progress:
        for config in [store.dataset(name) for name in names]:
            groups = Lookup(store.backend, store.catalog).groups(config)
            for place, group in enumerate(groups):
                progress(f"dataset {config.name}: group {place + 1} of {len(groups)}, {group_name(group)}")
                counts.update(_mark(store, config, group, level, span, clock))
                counts["groups"] += 1
                if lost:
                    renew(store.catalog, clock())
    found = counts.pop("groups", 0)
    what = ", ".join(f"{thousands(count)} {name}" for name, count in counts.items() if count)
    say(f"marked to be computed anew of {thousands(found)} {'group' if found == 1 else 'groups'}: {what or 'nothing'}")
    if what:
        say("the next export window computes them; `tesseract archive export` makes one now")
    if lost:
        note("until that window is closed nobody believes a live item, and queries read all days of their range from the buffer")


def _mark(store: Store, config: Dataset, group: str, level: str | None, span: Span, clock: Callable[[], datetime]) -> Counter[str]:
    """What was marked of one group: how many items of each level, and latest values."""
    from tesseract.cli.live import levels_of, mark_latest, times_of
    from tesseract.processing import rebuild as rebuilding

    levels = levels_of(config, level)
    times = partial(times_of, store, config.name, group)
    marks = rebuilding.run(store.backend, store.catalog, config, group, levels, span, times, clock)
    counts = Counter({name: len(keys) for name, keys in marks.keys.items()})
    if level is None:
        counts["latest values"] = int(mark_latest(store, config, group, clock()))
    return counts


def check(dataset: str | None, everything: bool, lost: bool, wait: bool, narrowed: bool) -> None:
    """Raises InputError where the command line asks for what does not go together."""
    if dataset is None and not everything:
        raise InputError("name a dataset, or give --all for all of them")
    if dataset is not None and everything:
        raise InputError(f"--all is of all datasets: leave out {dataset}, or --all")
    if wait:
        raise InputError(
            "--wait waits for one group", hint="`tesseract archive export` makes the window that computes all that is marked"
        )
    if lost and not (everything and not narrowed):
        raise InputError("a lost table is rebuilt whole: --all --lost-table, without --level, --start and --end")
