"""Logs of the command: one JSON shape, that of the functions; nothing where nobody asked."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from tesseract import cli
from tesseract.utils import logs


@pytest.fixture(autouse=True)
def logger():
    made = logging.getLogger("tesseract")
    before = (list(made.handlers), made.level, made.propagate)
    yield made
    made.handlers, made.level, made.propagate = before


def test_the_shape_is_that_of_powertools(capsys):
    from io import StringIO

    from aws_lambda_powertools import Logger

    logs.configure("info")
    log = logging.getLogger("tesseract.ingestion.client")
    log.info("sent again", extra={"records": 3, "why": "é"})
    log.debug("not this")
    ours = json.loads(capsys.readouterr().err)
    theirs = StringIO()
    Logger(service=logs.SERVICE, logger_handler=logging.StreamHandler(theirs)).info("sent again", records=3, why="é")
    reference = json.loads(theirs.getvalue())
    assert list(ours) == list(reference)
    assert (ours["level"], ours["message"], ours["service"], ours["records"], ours["why"]) == (
        "INFO",
        "sent again",
        "tesseract",
        3,
        "é",
    )
    assert [len(ours["timestamp"]), ours["timestamp"][-5:]] == [len(reference["timestamp"]), reference["timestamp"][-5:]]


def test_an_exception_is_one_line(capsys):
    logs.configure("error")
    try:
        raise ValueError("oops")
    except ValueError:
        logging.getLogger("tesseract").exception("it failed")
    line = json.loads(capsys.readouterr().err)
    assert line["exception"].endswith("ValueError: oops")


@pytest.mark.parametrize(
    ("arguments", "environment", "level"), [(["-v"], None, "INFO"), ([], "debug", "DEBUG"), (["-v"], "error", "ERROR")]
)
def test_the_command_logs_where_it_is_asked_to(monkeypatch, capsys, logger, arguments, environment, level):
    if environment:
        monkeypatch.setenv("TESSERACT_LOG", environment)
    assert cli.run([*arguments, "config", "schema"]) == 0
    assert logging.getLevelName(logger.level) == level
    assert capsys.readouterr().err == ""


def test_a_level_that_is_none_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("TESSERACT_LOG", "loud")
    assert cli.run(["config", "schema"]) == 1
    assert capsys.readouterr().err == "error: TESSERACT_LOG=loud is not a level (one of debug, info, warning, error)\n"


def test_the_library_configures_nothing_and_is_quiet():
    script = """
import logging, sys
import tesseract.store, tesseract.ingestion.client, tesseract.ingestion.producer
logging.getLogger("tesseract.ingestion.client").info("sent again")
print("structlog" in sys.modules, logging.getLogger().handlers, logging.getLogger("tesseract").handlers)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False [] []\n", "")
