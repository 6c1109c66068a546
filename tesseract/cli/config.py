"""`tesseract config`: check, plan, apply, show and take back dataset configurations."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from tesseract.cli.common import Stage, note, open_store, say
from tesseract.cli.infer import infer

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset
    from tesseract.config.manager import Plan
    from tesseract.store import Store

config_app = typer.Typer(name="config", help="Dataset configurations: check, plan, apply, show, take back.", no_args_is_help=True)
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Configurations, YAML or JSON.")]
Name = Annotated[str, typer.Argument(metavar="DATASET")]
config_app.command()(infer)


@config_app.command()
def validate(files: Files, stage: Stage = None) -> None:
    """Check files, without any cloud: every fault is named on a line of its own, with what would be right."""
    from tesseract.cli.config_output import summary

    for dataset in _parse(files):
        say(f"{dataset.name}: valid ({summary(dataset)})")


@config_app.command()
def plan(files: Files, stage: Stage = None) -> None:
    """What `apply` would do: the difference, and a verdict on each change. Exit code 1 where one is refused."""
    from tesseract.cli.config_output import print_plan

    plans = _plans(open_store(stage), _parse(files))
    for planned in plans:
        print_plan(planned)
    if any(planned.refusals for planned in plans):
        raise typer.Exit(1)


@config_app.command()
def apply(files: Files, stage: Stage = None) -> None:
    """Make the datasets of files known to a stage; each change is a new version. All of them, or none where one is refused."""
    from tesseract.cli.config_output import print_applied
    from tesseract.config import manager
    from tesseract.errors import ConfigError
    from tesseract.processing.archive_stage import archive_stage
    from tesseract.processing.exporter import ensure_started
    from tesseract.utils.time_utils import utc_now

    wanted, store = _parse(files), open_store(stage)
    refusals = [f"dataset {p.dataset.name}: {refusal}" for p in _plans(store, wanted) for refusal in p.refusals]
    if refusals:
        _fail([*refusals, "nothing was applied"])
    for dataset in wanted:
        try:
            print_applied(manager.apply(store.catalog, dataset, utc_now(), _caller()))
        except ConfigError as error:  # of a race: somebody applied between our plan and this
            _fail([f"dataset {dataset.name}: {fault}" for fault in error.faults])
    archive = archive_stage(stage)
    ensure_started(archive.catalog, archive.exports)  # from here on readers know which days need no look at the buffer


@config_app.command()
def show(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="All of them, a line each, without.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="A former version.", show_default="the newest")] = None,
    form: Annotated[
        Literal["yaml", "json"], typer.Option("--format", "-f", help="yaml: as a user writes it; json: as functions read it.")
    ] = "yaml",
    stage: Stage = None,
) -> None:
    """The configuration that a stage works by, with who applied it and when."""
    from tesseract.cli.config_output import complete, header, line, user_form
    from tesseract.errors import DamagedError

    store = open_store(stage)
    if dataset is not None:
        known = store.dataset(dataset, version)
        typer.echo(complete(known) if form == "json" else header(known) + user_form(known), nl=False)
        return
    names, damaged = store.datasets(), False
    for name in names:
        try:
            say(line(store.dataset(name)))
        except DamagedError as error:  # one must not hide the others
            note(f"error: {error}")
            damaged = True
    if not names:
        say("no dataset yet; make one known with `tesseract config apply FILE`")
    if damaged:
        raise typer.Exit(3)


@config_app.command()
def history(dataset: Name, stage: Stage = None) -> None:
    """The versions of a dataset's configuration: when, who, and what changed."""
    from tesseract.cli.config_output import print_history

    store = open_store(stage)
    store.dataset(dataset)  # says so where there is none
    print_history(store.catalog.versions(dataset))


@config_app.command()
def rollback(
    dataset: Name,
    to: Annotated[int, typer.Option("--to", min=1, help="The version whose body is applied again.")],
    stage: Stage = None,
) -> None:
    """Apply what a former version said, as a new version. Refused where a change to it would be."""
    from tesseract.cli.config_output import print_applied
    from tesseract.config import manager
    from tesseract.errors import ConfigError
    from tesseract.utils.time_utils import utc_now

    store = open_store(stage)
    store.datasets()  # says so where there is no such stage
    try:
        print_applied(manager.rollback(store.catalog, dataset, to, utc_now(), _caller()))
    except ConfigError as error:
        _fail([f"dataset {dataset}: {fault}" for fault in error.faults])


@config_app.command()
def schema(stage: Stage = None) -> None:
    """The JSON Schema of a configuration file, for editors."""
    from tesseract.config.schema import json_schema

    typer.echo(json_schema(), nl=False)


def _parse(files: Sequence[Path]) -> list[Dataset]:
    """The datasets of all files; every fault of every file is told before anything is done."""
    from tesseract.config.schema import parse_files
    from tesseract.errors import ConfigError

    try:
        return list(parse_files(files).values())
    except ConfigError as error:
        _fail(error.faults)


def _plans(store: Store, wanted: Sequence[Dataset]) -> list[Plan]:
    from tesseract.config import manager
    from tesseract.utils.time_utils import utc_now

    store.datasets()  # says so where there is no such stage
    catalog, now = store.catalog, utc_now()
    return [manager.plan(catalog.versions(dataset.name), dataset, now, catalog.unused(dataset.name)) for dataset in wanted]


def _fail(faults: Sequence[str]) -> NoReturn:
    """A line each on stderr, and exit code 1."""
    for fault in faults:
        note(f"error: {' '.join(fault.split())}")
    raise typer.Exit(1)


def _caller() -> str:
    """Who applies: `user@host`, as the machine knows them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in a container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
