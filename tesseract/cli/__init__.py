"""The `tesseract` command. What a command needs is imported when it runs: `tesseract --help` loads typer and rich alone.

Exit codes: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 AWS said no or stored data is damaged, 130 interrupted.
Errors are one line on stderr, never a trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tesseract.cli.archive import archive_app
from tesseract.cli.backfill import backfill
from tesseract.cli.catalog import catalog
from tesseract.cli.config import config_app
from tesseract.cli.data import register
from tesseract.cli.delete import register as register_delete
from tesseract.cli.infer import infer
from tesseract.cli.ingest import ingest
from tesseract.cli.live import register as register_live
from tesseract.cli.local import local_app
from tesseract.cli.quarantine import quarantine_app
from tesseract.cli.watch import register as register_watch
from tesseract.errors import InputError, TesseractError

app = typer.Typer(
    name="tesseract",
    help="A multi-tier time-series store on AWS: live in DynamoDB, archived in Parquet on S3, one query over both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app.command()(infer)
app.add_typer(config_app)
app.command()(ingest)
app.command()(backfill)
app.command()(catalog)
register(app)
register_delete(app)
register_live(app)
register_watch(app)
app.add_typer(local_app)

app.add_typer(archive_app, name="archive")
app.add_typer(quarantine_app)


@app.callback()
def root(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log to stderr, as JSON lines; TESSERACT_LOG=debug for more.")
    ] = False,
) -> None:
    """Options of every command."""
    level = os.environ.get("TESSERACT_LOG") or ("info" if verbose else "")
    if level:
        from tesseract.utils.logs import configure

        configure(level)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line, and return its exit code."""
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name="tesseract", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except InputError as error:
        return _fail(str(error), 1)
    except TesseractError as error:
        return _fail(str(error), 3)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # the reader (`| head`) has all that it wants; without this the interpreter complains once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own copy of click has no public name for its usage errors
            raise
        return _usage(error)


def main() -> None:
    """The console script."""
    sys.exit(run())


def _usage(error: Exception) -> int:
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if not message.strip():  # no_args_is_help: the help has been printed
        return 2
    hint = f" (see `{context.command_path} --help`)" if context else ""
    return _fail(f"{message.rstrip('.').removeprefix('Invalid value: ')}{hint}", 2)


def _fail(message: str, code: int) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return code
