"""Where a value lies in a record: `wind.speed`, or a subset of JSONPath: `$.wind.speed`, `$['a.b'].c`, `$.values[0]`. Pure."""

from __future__ import annotations

import re

Steps = tuple[str | int, ...]  # names of objects' members, and places in lists

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")


def parse_path(path: str) -> Steps:
    """The steps of a path. Raises ValueError with what would be right."""
    if not path.startswith("$"):
        steps = tuple(path.split("."))
        if not all(steps):
            raise ValueError(f"{path!r} is not a path: write wind.speed, or JSONPath such as $.wind.speed or $.values[0]")
        return steps
    found: list[str | int] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"{path!r} is not understood from {path[at:]!r} on: names and places only, such as $.wind['a.b'][0]")
        name, place, single, double = match.groups()
        quoted = re.sub(r"\\(.)", r"\1", single or double or "")
        found.append(int(place) if place is not None else name or quoted)
        at = match.end()
    if not found or isinstance(found[0], int):
        raise ValueError(f"{path!r} names no value of a record: it begins with a name, such as $.wind")
    return tuple(found)


def path_name(steps: Steps) -> str:
    """The dotted name of a path, as results and messages write it: `values.0`."""
    return ".".join(map(str, steps))


def written(steps: Steps) -> str:
    """A path as a configuration writes it: dotted where that says it, JSONPath elsewhere. The inverse of `parse_path`."""
    dotted = ".".join(map(str, steps))
    try:
        if parse_path(dotted) == steps:
            return dotted
    except ValueError:
        pass
    return "$" + "".join(
        f"[{step}]" if isinstance(step, int) else "['" + re.sub(r"(['\\])", r"\\\1", step) + "']" for step in steps
    )
