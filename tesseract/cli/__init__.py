"""The `tesseract` command. `tesseract --help` loads nothing; a command loads its own module, and what it needs when it runs.

Exit codes: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 AWS said no or stored data is damaged, 130 interrupted.
Errors are one line on stderr, never a trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from tesseract.errors import InputError, TesseractError

if TYPE_CHECKING:
    import typer

ABOUT = "A multi-tier time-series store on AWS: live in DynamoDB, archived in Parquet on S3, one query over both."
HELP = ("-h", "--help")
VERBOSE = "Log to stderr, as JSON lines; TESSERACT_LOG=debug for more."
# heading → command → (module and attribute, what it does): a command's own help says the rest
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Set up": {
        "config": ("config:config_app", "Dataset configurations: infer, check, plan, apply, show, take back."),
        "local": ("local:local_app", "The laptop cloud: all of AWS that Tesseract needs, on 127.0.0.1."),
    },
    "Write": {
        "ingest": ("ingest:ingest", "Send the records of files."),
        "backfill": ("backfill:backfill", "Write years of files straight into the archive."),
        "delete": ("delete:delete", "Delete the rows of a group in a range of time."),
    },
    "Read": {
        "latest": ("data:latest", "The newest reading of a group, of several, or of every group."),
        "query": ("query:query", "The records of a time range, raw or aggregated, from every tier."),
        "revisions": ("data:revisions", "Every revision of the records of a time range."),
        "sql": ("data:sql", "Ask in SQL over every dataset and level."),
        "watch": ("watch:watch", "Follow the latest readings and the current hour."),
    },
    "Look after": {
        "archive": ("archive:archive_app", "The archive: status, export, compact, verify, repair."),
        "catalog": ("catalog:catalog", "What the archive holds: partitions, files, versions."),
        "quarantine": ("quarantine:quarantine_app", "Records that Kinesis brought and nobody could accept."),
        "audit": ("live:audit", "Compare a sample of the aggregates with their raw records."),
        "rebuild": ("live:rebuild", "Compute aggregates anew."),
    },
}
PLACES = {name: place for part in COMMANDS.values() for name, (place, _) in part.items()}


def application(names: Iterable[str] = PLACES) -> typer.Typer:
    """The command line with these commands, whose modules are imported."""
    import typer

    app = typer.Typer(
        name="tesseract",
        help=ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP)},
    )

    @app.callback()
    def root(verbose: bool = typer.Option(False, "--verbose", "-v", help=VERBOSE)) -> None:
        """Options of every command."""
        level = os.environ.get("TESSERACT_LOG") or ("info" if verbose else "")
        if level:
            from tesseract.utils.logs import configure

            configure(level)

    for name in names:
        module, _, attribute = PLACES[name].partition(":")
        command = getattr(import_module(f"tesseract.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line, and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(str(error), 1)
    except TesseractError as error:
        return _fail(str(error), 3)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # the reader (`| head`) has all that it wants; without this the interpreter complains once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def main() -> None:
    """The console script."""
    sys.exit(run())


def _run(words: list[str]) -> int:
    leading = list(takewhile(lambda word: word.startswith("-"), words))
    if not words or any(word in HELP for word in leading):
        sys.stdout.write(_overview())
        return 0 if words else 2
    import typer

    name = words[len(leading)] if len(leading) < len(words) else ""
    app = application([name] if name in PLACES else PLACES)
    try:
        result: Any = app(args=words, prog_name="tesseract", standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own copy of click has no public name for its usage errors
            raise
        return _usage(error)
    return result if isinstance(result, int) else 0


def _overview() -> str:
    """`tesseract --help`."""
    width = max(map(len, PLACES)) + 2
    lines = ["Usage: tesseract [OPTIONS] COMMAND …", "", ABOUT]
    for heading, commands in COMMANDS.items():
        lines += ["", f"{heading}:", *(f"  {name.ljust(width)}{text}" for name, (_, text) in commands.items())]
    lines += ["", "Options:", f"  -v, --verbose  {VERBOSE}", "  -h, --help     Show this message, or that of a command, and exit."]
    lines += ["", "`tesseract COMMAND --help` shows its options. Every command takes --stage, or TESSERACT_STAGE."]
    return "\n".join(lines) + "\n"


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
