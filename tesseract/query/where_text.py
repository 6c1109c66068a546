"""The grammar of a condition on rows, from text to a tree. Pure.

    condition   one comparison, or several joined by `and`, `or`, `not` and parentheses
    comparison  column = != <> < <= > >= value  (or the value first)
                column [not] in (value, …)      column [not] between value and value      column is [not] null
    column      a name of the result: temp, wind.speed, temp_avg; any other character in "double quotes"
    value       20, -1.5e3, 'text' (a quote doubled: 'it''s'), '2026-03-01T12:00:00Z', true, false

Words are read in any case. A comparison of a null is neither true nor false, as in SQL, so a `not` can be carried down to the
comparisons: the tree has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from tesseract.errors import InputError

Value = Decimal | str | bool | datetime  # a datetime once the column is known to be a time
OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SPELLED = {"==": "=", "<>": "!="}
_WORDS = {"and", "or", "not", "in", "between", "is", "null", "true", "false"}
_DEEPEST = 50  # parentheses in parentheses
_MAX_EXPONENT, _MAX_DIGITS = 400, 100
_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<name>[^\W\d]\w*(?:\.\w+)*)
      | (?P<sign><=|>=|<>|!=|==|[=<>(),])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")


class Compare(NamedTuple):
    """A column and a value; `at` is the place of the value in the text, from 1."""

    column: str
    sign: str
    value: Value
    at: int


class Within(NamedTuple):
    """A column that has one of some values; `negated`: that has another one."""

    column: str
    values: tuple[Value, ...]
    negated: bool
    at: int


class Missing(NamedTuple):
    """A column without a value; `negated`: with one."""

    column: str
    negated: bool


class Every(NamedTuple):
    """All of some conditions."""

    parts: tuple[Node, ...]


class Some(NamedTuple):
    """At least one of some conditions."""

    parts: tuple[Node, ...]


Leaf = Compare | Within | Missing
Node = Leaf | Every | Some


class _Token(NamedTuple):
    kind: str  # word, name, number, text, sign, end
    text: str  # a word in lower case, a name or a text without its quotes
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def tree(text: str) -> Node:
    """The condition in a text. Raises InputError with the place of what is wrong."""
    return _Parser(_tokens(text)).whole()


def leaves(node: Node) -> list[Leaf]:
    """The comparisons of a tree, from left to right."""
    return [leaf for part in node.parts for leaf in leaves(part)] if isinstance(node, Every | Some) else [node]


def mapped(node: Node, change: Callable[[Leaf], Node]) -> Node:
    """A tree with each comparison replaced by what `change` makes of it."""
    if isinstance(node, Every | Some):
        return node._replace(parts=tuple(mapped(part, change) for part in node.parts))
    return change(node)


def shown(value: Value) -> str:
    """A value as it is written in a condition."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


def wrong(message: str, at: int, hint: str = "") -> InputError:
    """What is wrong with a condition, and where."""
    return InputError(f"where: {message} at character {at}", hint=hint)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = _end(_SPACE.match(text))
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unreadable(text, place)
        found.append(_token(match, place + 1))
        place = _end(_SPACE.match(text, match.end()))
    return [*found, _Token("end", "", len(text) + 1)]


def _end(match: re.Match[str] | None) -> int:
    return 0 if match is None else match.end()  # never None: any text begins with no space at all


def _token(match: re.Match[str], at: int) -> _Token:
    kind, text = match.lastgroup or "", match[0]
    if kind == "name":
        return _Token("word", text.lower(), at) if text.lower() in _WORDS else _Token("name", text, at)
    if kind == "quoted":
        return _Token("name", text[1:-1].replace('""', '"'), at)
    if kind == "text":
        return _Token("text", text[1:-1].replace("''", "'"), at)
    return _Token(kind, _SPELLED.get(text, text), at)


def _unreadable(text: str, place: int) -> InputError:
    start = text[place]
    if start in "'\"":
        return wrong(f"there is no closing {start} for the one", place + 1)
    if start.isdigit() or start in "+-":
        word = re.split(r"[\s(),<>=!]", text[place:])[0]
        return wrong(
            f"{word!r} is not a number", place + 1, "texts and times go in single quotes, names with such characters in double ones"
        )
    return wrong(f"{start!r} cannot be read", place + 1, 'a name with such a character goes in double quotes: "wind-speed" > 20')


class _Parser:
    """Goes through the tokens once. `negated` says that a `not` is around: each comparison is made its opposite at once."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._place, self._depth = tokens, 0, 0

    def whole(self) -> Node:
        if self._next.kind == "end":
            raise wrong("there is no condition", 1, "write one as in temp > 20 and note is not null")
        node = self._any(False)
        if self._next.kind != "end":
            hint = "times go in single quotes" if self._next.kind == "number" else ""
            raise self._expected("`and`, `or` or the end", hint)
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        self._place += 1
        return self._tokens[self._place - 1]

    def _takes(self, text: str) -> bool:
        """Whether the next word or sign is this one; it is taken then."""
        same = self._next.kind in ("word", "sign") and self._next.text == text
        self._place += same
        return same

    def _expected(self, what: str, hint: str = "") -> InputError:
        return wrong(f"expected {what} instead of {self._next}", self._next.at, hint)

    def _any(self, negated: bool) -> Node:
        parts = [self._all(negated)]
        while self._takes("or"):
            parts.append(self._all(negated))
        return _joined(Every if negated else Some, parts)

    def _all(self, negated: bool) -> Node:
        parts = [self._one(negated)]
        while self._takes("and"):
            parts.append(self._one(negated))
        return _joined(Some if negated else Every, parts)

    def _one(self, negated: bool) -> Node:
        while self._takes("not"):
            negated = not negated
        opening = self._next.at
        if not self._takes("("):
            return self._comparison(negated)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise wrong(f"more than {_DEEPEST} parentheses are open", opening)
        node = self._any(negated)
        if not self._takes(")"):
            raise self._expected(f"`and`, `or` or the `)` of the one at character {opening}")
        self._depth -= 1
        return node

    def _comparison(self, negated: bool) -> Node:
        if self._next.kind != "name":
            return self._turned(negated)
        column = self._take().text
        if self._takes("is"):
            without = self._takes("not")
            if not self._takes("null"):
                raise self._expected("`null` or `not null`", f"for a value write {column} = …")
            return Missing(column, without != negated)
        opposite = self._takes("not")
        negated, at = opposite != negated, self._next.at
        if self._takes("in"):
            return Within(column, self._list(), negated, at)
        if self._takes("between"):
            return self._between(column, negated)
        if opposite:
            raise self._expected("`in` or `between`")
        sign = self._sign(column)
        at = self._next.at
        return self._done(Compare(column, OPPOSITE[sign] if negated else sign, self._value(), at))

    def _turned(self, negated: bool) -> Node:
        """A comparison that begins with its value."""
        at, value = self._next.at, self._value("a column")
        sign = _TURNED[self._sign(shown(value))]
        if self._next.kind != "name":
            raise self._expected("a column", "one side of a comparison is a column: its name, or its name in double quotes")
        return self._done(Compare(self._take().text, OPPOSITE[sign] if negated else sign, value, at))

    def _done(self, leaf: Compare) -> Compare:
        if self._next.kind == "sign" and self._next.text in OPPOSITE:
            raise self._expected("`and`, `or` or the end", f"write {leaf.column} between … and …")
        return leaf

    def _sign(self, before: str) -> str:
        if self._next.kind != "sign" or self._next.text not in OPPOSITE:
            raise self._expected(f"a comparison after {before!r}", "= != < <= > >= in between is")
        return self._take().text

    def _between(self, column: str, negated: bool) -> Node:
        at, low = self._next.at, self._value()
        if not self._takes("and"):
            raise self._expected(f"`and` after between {shown(low)}")
        last, high = self._next.at, self._value()
        if negated:
            return Some((Compare(column, "<", low, at), Compare(column, ">", high, last)))
        return Every((Compare(column, ">=", low, at), Compare(column, "<=", high, last)))

    def _list(self) -> tuple[Value, ...]:
        if not self._takes("("):
            raise self._expected("`(` and the values after `in`")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        if not self._takes(")"):
            raise self._expected("`,` or `)`")
        return tuple(values)

    def _value(self, what: str = "a value") -> Value:
        token = self._next
        if token.kind == "text":
            return self._take().text
        if token.kind == "number":
            return _number(self._take())
        if token.kind == "word" and token.text in ("true", "false"):
            return self._take().text == "true"
        if token.text == "null" and token.kind == "word":
            raise self._expected(what, "write `is null` or `is not null`")
        hint = f"a text goes in single quotes: {shown(token.text)}" if token.kind == "name" else ""
        raise self._expected(what, hint)


def _joined(kind: type[Every | Some], parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _number(token: _Token) -> Decimal:
    number = Decimal(token.text)
    if len(token.text) > _MAX_DIGITS or abs(number.adjusted()) > _MAX_EXPONENT:
        raise wrong(f"the number {token.text[:20]}… is beyond every value", token.at)
    return number
