"""`tesseract config`: check, plan, apply and show dataset configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Stage, open_store, say

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.config.manager import Plan

config_app = typer.Typer(name="config", help="Dataset configurations: check, apply, show.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration, YAML or JSON.")]


@config_app.command()
def validate(file: File, stage: Stage = None) -> None:
    """Check a file, without any cloud: every fault is named, with what would be right."""
    for dataset in _parse(file).values():
        say(f"{dataset.name}: valid ({_summary(dataset)})")


@config_app.command()
def plan(file: File, stage: Stage = None) -> None:
    """What `apply` would do."""
    for planned in _plans(file, stage):
        _show(planned)


@config_app.command()
def apply(file: File, stage: Stage = None) -> None:
    """Make a file's datasets known to a stage; each change is a new version. All of them, or none where one is refused."""
    from tesseract.config import manager
    from tesseract.errors import ConfigError
    from tesseract.processing.archive_stage import archive_stage
    from tesseract.processing.exporter import ensure_started
    from tesseract.utils.time_utils import utc_now

    refusals = [f"dataset {p.dataset.name}: {refusal}" for p in _plans(file, stage) for refusal in p.refusals]
    if refusals:
        raise ConfigError("; ".join(refusals), tuple(refusals))
    catalog = open_store(stage).catalog
    for dataset in _parse(file).values():
        _show(manager.apply(catalog, dataset, utc_now()))
    archive = archive_stage(stage)
    ensure_started(archive.catalog, archive.exports)  # from here on readers know which days need no look at the buffer


@config_app.command()
def show(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="All of them, a line each, without.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="A former version.", show_default="the newest")] = None,
    stage: Stage = None,
) -> None:
    """The configuration that a stage works by, complete with its defaults, as JSON."""
    import msgspec

    from tesseract.config.dataset import encode_dataset

    store = open_store(stage)
    if dataset is not None:
        say(msgspec.json.format(encode_dataset(store.dataset(dataset, version)), indent=2).decode())
        return
    names = store.datasets()
    for name in names:
        known = store.dataset(name)
        say(f"{name}: version {known.version} ({_summary(known)})")
    if not names:
        say("no dataset yet; make one known with `tesseract config apply FILE`")


@config_app.command()
def schema(stage: Stage = None) -> None:
    """The JSON Schema of a configuration file, for editors."""
    from tesseract.config.schema import json_schema

    typer.echo(json_schema(), nl=False)


def _parse(file: Path) -> dict[str, Dataset]:
    from tesseract.config.schema import parse_file

    return parse_file(file)


def _plans(file: Path, stage: str | None) -> list[Plan]:
    from tesseract.config import manager
    from tesseract.utils.time_utils import utc_now

    wanted = _parse(file)
    store = open_store(stage)
    store.datasets()  # says so where there is no such stage
    return [manager.plan(store.catalog.dataset(name), dataset, utc_now()) for name, dataset in wanted.items()]


def _show(planned: Plan) -> None:
    say(f"{planned.dataset.name}: {planned.verdict}, version {planned.dataset.version} ({_summary(planned.dataset)})")
    for line in (*(planned.changes if planned.verdict == "changed" else ()), *planned.refusals):
        say(f"  {line}")


def _summary(dataset: Dataset) -> str:
    fields = f"{len(dataset.fields)} fields" if dataset.fields else "fields as they come"
    levels = ", ".join(level.name for level in dataset.levels) or "no levels"
    return f"grouped by {'/'.join(dataset.group_by)}; {fields}; {levels}; {' → '.join(('buffer', *dataset.ladder))}"
