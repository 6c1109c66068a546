"""Whether a row within known bounds of its columns can satisfy a condition. Pure.

The bounds are those of stored values. A reader may see these as another type: integers as doubles, text as numbers, as nulls where
they are none of the declared type. So only bounds of the literal's own kind leave anything out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tesseract.query.where_text import Every, Missing, Node, Some, Within
from tesseract.storage.codec import shortest

Bounds = Mapping[str, tuple[Any, Any, int | None, int | None]]  # column → (least, greatest, nulls, rows); None: not known


def possible(node: Node, bounds: Bounds) -> bool:
    """False only where no row within `bounds`, as they are stored, can satisfy, whatever is in its other columns."""
    if isinstance(node, Every):
        return all(possible(part, bounds) for part in node.parts)
    if isinstance(node, Some):
        return any(possible(part, bounds) for part in node.parts)
    low, high, nulls, rows = bounds.get(node.column, (None, None, None, None))
    if isinstance(node, Missing) and not node.negated:
        return True  # a stored value that is none of the declared type reads as null
    if nulls is not None and nulls == rows:
        return False
    if isinstance(node, Missing) or low is None or high is None:
        return True
    if isinstance(node, Within):
        inside = [_fits(low, high, "=", value) for value in node.values]
        return any(inside) if not node.negated else all(_fits(low, high, "!=", value) for value in node.values)
    return _fits(low, high, node.sign, node.value)


def _fits(low: Any, high: Any, sign: str, value: Any) -> bool:
    """Whether a value in [low, high] can compare so; True where they are not alike: stored values may be of another type."""
    families = [_family(one) for one in (low, high, value)]
    if len(set(families)) > 1 or families[0] is None:
        return True
    if families[0] is Decimal:
        low, high = _hull(low)[0], _hull(high)[1]
    match sign:
        case "=":
            return bool(low <= value <= high)
        case "!=":
            return not low == high == value
        case "<":
            return bool(low < value)
        case "<=":
            return bool(low <= value)
        case ">":
            return bool(high > value)
    return bool(high >= value)


def _family(value: Any) -> type | None:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return None if isinstance(value, float) and math.isnan(value) else Decimal
    return next((kind for kind in (bool, str, datetime) if isinstance(value, kind)), None)


def _hull(stored: Any) -> tuple[Any, Any]:
    """A stored number, and the double that it reads as where the column is one of doubles: the less, the greater."""
    near = shortest(float(stored))
    exact = near if isinstance(stored, float) else stored
    return min(exact, near), max(exact, near)
