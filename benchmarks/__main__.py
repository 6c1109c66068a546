"""`python -m benchmarks [ONLY]`: measures, prints a table, writes benchmarks/results.json; exit code 1 where a bar is not met."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    archive_commits,
    archive_decode,
    archive_late,
    archive_merge,
    archive_size,
    archive_trickle,
    imports,
    ingest_handler,
    ingest_items,
    ingest_memory,
    ingest_sustained,
    query_archive,
    query_levels,
    query_recent,
    stream_fold,
    stream_freshness,
    stream_handler,
    stream_memory,
    stream_units,
)
from benchmarks.figures import Figure

RESULTS = Path(__file__).parent / "results.json"
INGEST = (ingest_items.run, ingest_handler.run, imports.run, ingest_memory.run, ingest_sustained.run)
ARCHIVE = (
    archive_decode.run,
    archive_merge.run,
    archive_size.run,
    archive_late.run,
    archive_trickle.run,
    archive_commits.run,
)
STREAM = (stream_fold.run, stream_handler.run, stream_units.run, stream_memory.run, imports.run, stream_freshness.run)
QUERY = (query_recent.run, query_archive.run, query_levels.run)
PARTS: dict[str, tuple[Callable[[], Iterator[Figure]], ...]] = {
    "imports": (imports.run,),
    "memory": (ingest_memory.run,),
    "ingest": INGEST,
    "stream": STREAM,
    "archive": ARCHIVE,
    "query": QUERY,
}


def main(only: str | None = None) -> int:
    """Run all parts, or one."""
    if only is not None and only not in PARTS:
        print(f"there is no benchmark {only!r}: one of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    runs = PARTS[only] if only else dict.fromkeys(run for part in PARTS.values() for run in part)
    figures = [figure for run in runs for figure in run()]
    _write(figures)
    _show(figures)
    return int(any(figure.met is False for figure in figures))


def _write(figures: list[Figure]) -> None:
    """What was not measured this time keeps its last result."""
    old = {entry["name"]: entry for entry in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    new = {figure.name: _entry(figure) for figure in figures}
    RESULTS.write_text(json.dumps(list((old | new).values()), indent=2, ensure_ascii=False) + "\n")


def _entry(figure: Figure) -> dict[str, object]:
    entry = {**asdict(figure), "figure": round(figure.figure, 3), "met": figure.met}
    del entry["more_is_better"]
    return entry


def _show(figures: list[Figure]) -> None:
    table = Table("what", "figure", "against", "bar", "met")
    for figure in figures:
        sign = "≥" if figure.more_is_better else "≤"
        bar = "" if figure.bar is None else f"{sign} {figure.bar} {figure.unit}"
        met = {None: "", True: "[green]yes", False: "[red]no"}[figure.met]
        table.add_row(figure.name, f"{figure.figure:.2f} {figure.unit}", figure.against, bar, met)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
