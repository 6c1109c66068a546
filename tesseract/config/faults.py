"""Faults as sentences: what stands where, what is allowed there, and the nearest right spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from tesseract.config.yaml_lines import EMPTY, Path

LONGEST_VALUE = 100
CLOSE = 0.7  # below, "median" would mean "min"
# words of other tools, where the nearest spelling would mislead
SYNONYMS = {
    "average": "avg", "mean": "avg", "stddev": "std", "total": "sum", "minutely": "1min",
    "integer": "int", "double": "float", "number": "float", "numeric": "decimal", "text": "string", "str": "string",
    "boolean": "bool", "datetime": "timestamp", "time": "timestamp",
}  # fmt: skip
_SHAPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a map",
    "tuple_type": "a list",
    "model_type": "a map of settings",
}


def nearest(word: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'float'?)`, or nothing where nothing is near."""
    found = nearest_word(word, allowed)
    return f" (did you mean {found!r}?)" if found else ""


def nearest_word(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that was probably meant."""
    folded = {one.lower(): one for one in allowed}
    wanted = SYNONYMS.get(word.lower(), word.lower())
    close = [wanted] if wanted in folded else difflib.get_close_matches(word.lower(), folded, n=1, cutoff=CLOSE)
    return folded[close[0]] if close else None


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and not at length."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def sentence(fault: Any, settings: Iterable[str]) -> str:
    """One fault of pydantic; `settings` are those that there are where an unknown one stands."""
    kind, value, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    simple = not isinstance(value, dict | list | tuple)
    if value is EMPTY:
        return "it has no value: write one, or leave the key out"
    if kind == "extra_forbidden":
        return f"there is no such setting{nearest(str(fault['loc'][-1]), settings)}"
    if kind == "literal_error":
        allowed = context["expected"]
        words = allowed.replace("'", "").replace(" or ", ", ").split(", ")
        return f"{shown(value)} should be {allowed}{nearest(str(value), words)}" if simple else f"it should be {allowed}"
    if kind == "missing":
        return "it is missing"
    if kind == "greater_than_equal":
        return f"{shown(value)} should be {context['ge']} or more"
    if kind == "less_than_equal":
        return f"{shown(value)} should be {context['le']} or less"
    if kind in _SHAPES:
        quotes = ": quote it" if kind == "string_type" and isinstance(value, int | float) else ""
        return f"{shown(value) if simple else 'it'} should be {_SHAPES[kind]}{quotes}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if message.startswith("it should") and simple:
        return shown(value) + message.removeprefix("it")
    return message


def told(source: str, line: int | None, path: Path, fault: str) -> str:
    """One fault in one line: `weather.yaml:12: datasets.weather.fields.temp: …`. Whatever a key holds, terminals get text."""
    at = ": ".join(part for part in (f"{source}:{line}" if line else source, ".".join(map(str, path)), fault) if part)
    return "".join(char if char.isprintable() else "�" for char in " ".join(at.split()))
