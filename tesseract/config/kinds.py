"""The types of fields, and which of them holds all values of another. Pure."""

from __future__ import annotations

from tesseract.config.dataset import Field

NEW_FIELD = "give the new meaning a new field name"


def kind(field: Field) -> str:
    """The type of a field's values as a person reads it: `int`, `int of 38 digits`, `decimal(2)`."""
    if field.type == "decimal":
        return f"decimal({field.scale})"
    return "int of 38 digits" if field.wide else field.type


def narrows(old: Field, new: Field) -> str | None:
    """Why values of `old` do not all fit into `new`; None where they do."""
    match old.type, new.type:
        case "int", "int":
            lost = "it would no longer fit 64 bits as it may; leave min or max where they were" if old.wide else None
        case "int", "float":
            lost = f"38 digits do not fit a double; {NEW_FIELD}" if old.wide else None
        case "int", "decimal":
            fits = new.scale == 0 if old.wide else new.scale <= 19
            lost = None if fits else f"the digits before the point would not fit 38 with that scale; {NEW_FIELD}"
        case "decimal", "decimal":
            lost = f"stored values have more digits after the point; {NEW_FIELD}" if new.scale < old.scale else None
        case _:
            lost = f"stored values of type {kind(old)} are not all of type {kind(new)}; {NEW_FIELD}"
    return lost


def widened(old: Field, new: Field) -> str:
    """How stored values of `old` read as those of `new`, which does not narrow it."""
    if new.type == "float":
        return "stored integers read as doubles, those beyond 2^53 as the nearest one"
    if old.type == "decimal":
        return f"stored values read with that scale; one of more than {38 - new.scale} digits before the point would read as null"
    return "every stored value is one of the new type, and reads as such"
