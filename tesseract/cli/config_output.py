"""How `tesseract config` shows configurations, plans and versions: colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import unified_diff

import msgspec
from rich.console import Console
from rich.text import Text

from tesseract.cli.common import say
from tesseract.config.changes import BACKFILL, COMPATIBLE, REFUSED, compare
from tesseract.config.dataset import Dataset, encode_dataset
from tesseract.config.manager import SHORT, Plan, fingerprint
from tesseract.utils.time_utils import from_micros, iso_seconds

COLOURS = {COMPATIBLE: "green", BACKFILL: "yellow", REFUSED: "red"}
DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def summary(dataset: Dataset) -> str:
    """The main settings in a few words."""
    fields = f"{len(dataset.fields)} fields" if dataset.fields else "fields as they come"
    levels = ", ".join(level.name for level in dataset.levels) or "no levels"
    return f"grouped by {'/'.join(dataset.group_by)}; {fields}; {levels}; {' → '.join(('buffer', *dataset.ladder))}"


def line(dataset: Dataset) -> str:
    """A stored configuration in a line."""
    return f"{dataset.name}: version {dataset.version}, hash {fingerprint(dataset)[:SHORT]} ({summary(dataset)})"


def complete(dataset: Dataset) -> str:
    """The form that functions read, as JSON."""
    return msgspec.json.format(encode_dataset(dataset), indent=2).decode() + "\n"


def user_form(dataset: Dataset) -> str:
    """The form that a user writes, as YAML."""
    from tesseract.config.document import document_of, to_yaml

    return to_yaml(document_of(dataset))


def header(dataset: Dataset) -> str:
    """Comment lines: which version this is, who applied it and when, its hash."""
    return (
        f"# {dataset.name}, version {dataset.version}, applied {_when(dataset)} by {_who(dataset)}\n# hash {fingerprint(dataset)}\n"
    )


def print_plan(planned: Plan) -> None:
    """The verdict, the difference in the user's form, and every change with what it means."""
    new, old = planned.dataset, planned.before
    say(f"{new.name}: {planned.verdict}, version {new.version} ({summary(new)})")
    if old is not None and planned.changes:
        before, after = (user_form(dataset).splitlines() for dataset in (old, new))
        for text in unified_diff(before, after, f"{new.name} version {old.version}", f"{new.name} as wanted", lineterm=""):
            _coloured("  ", text, DIFF_COLOURS.get(text[:1], ""))
    _print_changes(planned)


def print_applied(planned: Plan) -> None:
    """What applying a configuration did."""
    new = planned.dataset
    say(f"{new.name}: {planned.verdict}, version {new.version}, hash {fingerprint(new)[:SHORT]} ({summary(new)})")
    _print_changes(planned)


def _print_changes(planned: Plan) -> None:
    for change in planned.changes:
        _coloured("  ", change.verdict, COLOURS[change.verdict], f": {change} ({change.why})")
    for fault in planned.faults:
        _coloured("  ", REFUSED, COLOURS[REFUSED], f": {fault}")


def print_history(versions: Sequence[Dataset]) -> None:
    """One block of lines per version, newest first: version, when, who, hash; below it what changed."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("version", "applied", "by", "hash", "what changed"):
        table.add_column(name, no_wrap=name != "what changed", overflow="fold")
    for at in range(len(versions) - 1, -1, -1):
        dataset = versions[at]
        changed = [str(change) for change in compare(versions[:at], dataset)] if at else ["new dataset"]
        cells = (str(dataset.version), _when(dataset), _who(dataset), fingerprint(dataset)[:SHORT], "\n".join(changed))
        table.add_row(*map(Text, cells))
    _console().print(table)


def _when(dataset: Dataset) -> str:
    return iso_seconds(from_micros(dataset.applied_at // 1_000_000 * 1_000_000)) if dataset.applied_at else "at an unknown time"


def _who(dataset: Dataset) -> str:
    return dataset.applied_by or "somebody"


def _console() -> Console:
    return Console(file=sys.stdout) if sys.stdout.isatty() else Console(file=sys.stdout, width=10_000)


def _coloured(indent: str, text: str, colour: str, rest: str = "") -> None:
    """A line with a coloured part. Rich leaves the colour out in a pipe and under NO_COLOR."""
    _console().print(Text(indent).append(text, colour).append(rest), soft_wrap=True, highlight=False)
