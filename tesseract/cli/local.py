"""`tesseract local`: the laptop cloud."""

from __future__ import annotations

import typer

from tesseract.cli.common import Stage, say

local_app = typer.Typer(name="local", help="The laptop cloud: all of AWS that Tesseract needs, on 127.0.0.1.", no_args_is_help=True)


@local_app.command()
def up(stage: Stage = None) -> None:
    """Start it, deploy to it, and say how to reach it. Doing it twice changes nothing."""
    from tesseract import local

    _check(stage)
    local.up(say=say)


@local_app.command()
def down(stage: Stage = None) -> None:
    """End exactly what `up` started."""
    from tesseract import local

    _check(stage)
    local.down(say=say)


@local_app.command()
def status(stage: Stage = None) -> None:
    """Whether it runs, and the lines to export for other tools. Exit code 1 where it does not."""
    from tesseract import local
    from tesseract.errors import NotFoundError

    _check(stage)
    stack = local.status()
    if stack is None:
        raise NotFoundError(local.absence(), hint="start one with `tesseract local up`")
    for name, value in stack.environment().items():
        say(f"export {name}={value}")


def _check(stage: str | None) -> None:
    from tesseract.errors import InputError

    if stage not in (None, "local"):
        raise InputError(f"the laptop cloud is stage local, not {stage!r}", hint="leave --stage out, and unset TESSERACT_STAGE")
