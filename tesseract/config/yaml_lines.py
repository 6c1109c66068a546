"""YAML and JSON with the lines where things stand: for messages, and for what a plain reader passes over in silence.

Plain words are read as YAML 1.2 and editors do: `no`, `on` and `2013-01-01` are text, `1e3` is a number. A key that is there
twice, and a number with more digits than a double keeps, are faults, not a silent choice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from tesseract.errors import ConfigError

Path = tuple[str | int, ...]
_NULL, _BOOL, _INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "merge"))


class _Empty:
    """What stands after `key:` with nothing behind it. Not None: `on_invalid: null` means something, this was forgotten."""

    def __repr__(self) -> str:
        return "nothing"


EMPTY = _Empty()


class _Loader(yaml.SafeLoader):
    """Text, numbers, true, false, null, lists, maps, anchors and `<<`; nothing else."""


_Loader.yaml_implicit_resolvers = {}  # not those of the base class, which reads YAML 1.1
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")), None)
}


def _null(_: _Loader, node: yaml.ScalarNode) -> Any:
    return None if node.value else EMPTY


def _int(_: _Loader, node: yaml.ScalarNode) -> int:
    based = re.match(r"0[ox]", node.value)
    return int(node.value, 0) if based else int(node.value)


for _tag, _pattern, _first, _construct in (
    (_NULL, r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""], _null),
    (_BOOL, r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF"), lambda _, node: node.value.lower() == "true"),
    (_INT, r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789"), _int),
    (
        _FLOAT,
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        list("-+.0123456789"),
        lambda _, node: float(re.sub(r"\.(?=inf|nan)", "", node.value.lower())),
    ),
    (_MERGE, r"^<<$", ["<"], None),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
    if _construct is not None:
        _Loader.add_constructor(_tag, _construct)


@dataclass(frozen=True)
class Loaded:
    """A document, its lines, and the faults of its text: (path, sentence)."""

    data: Any
    root: yaml.Node | None = None
    faults: list[tuple[Path, str]] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line (from 1) of the value at `path`, or of the nearest thing around it that was written."""
        if self.root is None:
            return None
        node, line = self.root, self.root.start_mark.line + 1
        for part in path:
            found = _below(node, part)
            if found is None:
                break
            line, node = found
        return line


def load(text: str, source: str) -> Loaded:
    """Read a document. Raises ConfigError where it is neither YAML nor JSON."""
    is_json, data, twice = _json(text)
    try:
        loader = _Loader(text.replace("\t", " ") if is_json else text)  # JSON may be indented with tabs
        root = loader.get_single_node()
        faults = list(_text_faults(root, (), set())) if root else []
        if root and not is_json:
            data = loader.construct_document(root)
        return Loaded(data, root, faults)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an integer of thousands of digits
        if is_json:
            return Loaded(data, None, [((), f"the key {key!r} is there twice") for key in twice])
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "problem", None) or str(error)
        fault = f"{source} is neither YAML nor JSON{place}: {' '.join(reason.split())}"
        raise ConfigError(fault, (fault,)) from error


def _json(text: str) -> tuple[bool, Any, list[str]]:
    """Whether the text is JSON, what it holds, and the keys that an object has twice."""
    twice: list[str] = []

    def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in members:
            if key in found:
                twice.append(key)
            found[key] = value
        return found

    if not text.lstrip().startswith("{"):
        return False, None, twice
    try:
        return True, json.loads(text, object_pairs_hook=unique), twice
    except (ValueError, RecursionError):
        return False, None, twice  # YAML's braces, or wrong: the YAML reader says where


def _below(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line and the node of a member; in a list also of the item that says `part`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if key.value == str(part):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            if part in (index, item.value):
                return item.start_mark.line + 1, item
    return None


def _text_faults(node: yaml.Node, path: Path, seen: set[int]) -> Iterator[tuple[Path, str]]:
    """What is wrong with the text itself. A node that is met again through an alias has been looked at."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in lines:
                    yield (*path, key.value), f"it is there twice, first in line {lines[key.tag, key.value]}"
                lines.setdefault((key.tag, key.value), key.start_mark.line + 1)
            yield from _text_faults(value, (*path, str(key.value)), seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _text_faults(item, (*path, index), seen)
    elif node.tag == _FLOAT:
        kept = float(re.sub(r"\.(?=inf|nan)", "", node.value.lower()))
        if math.isfinite(kept) and Decimal(node.value) != Decimal(repr(kept)):
            yield path, f"{node.value} has more digits than a double keeps: write {kept!r}"
