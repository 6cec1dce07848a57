"""The language of conditions on runs and events: ``lr < 0.01 and ending == 'completed'``.

    condition   either ("or" either)*
    either      one ("and" one)*
    one         "not" one | "(" condition ")" | value [comparison value]
    comparison  == != < <= > >= in ~
    value       a number, a 'text', true, false, none, or a name

A name has letters, digits and any of ``_ . / -`` within; any other stands in `backticks`. A name
that there is not is none, and none is equal to none only. ``a in b`` is true if the text or the
list b contains a; ``a ~ b`` if the text a contains b, whatever the case. A condition is parsed
here, and nothing of it is ever run as code.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import UsageError

Lookup = Callable[[str], Any]
Condition = Callable[[Lookup], bool]
_Value = Callable[[Lookup], Any]

MAX_CHARS = 10_000
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`[^`]+`)
    |(?P<name>[^\W\d][\w./-]*)
    |(?P<sign>==|!=|<=|>=|<|>|~|\(|\))
    )""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in"}
_CONSTANTS = {"true": True, "false": False, "none": None}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "~")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EXAMPLE = "expected a condition such as \"lr < 0.01 and ending == 'completed'\""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Condition:
    """Return a condition that can be asked of anything that has names.

    Args:
        text: the condition.

    Returns:
        A function, which gets a function that returns the value of a name; None if there is none.

    Raises:
        UsageError: it is not a condition; the message says where.
    """
    if len(text) > MAX_CHARS:
        raise UsageError(
            f"the condition has {len(text):,} characters; at most {MAX_CHARS:,} can be"
        )
    parser = _Parser(text)
    condition = parser.condition()
    parser.expect_end()
    return lambda lookup: _is_true(condition(lookup))


def names_in(text: str) -> list[str]:
    """Return the names that a condition asks for.

    Args:
        text: the condition.

    Raises:
        UsageError: a character does not belong into one.
    """
    found = [token.text for token in _tokens(text) if token.kind == "name"]
    return list(dict.fromkeys(found))


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _error(text, at, f"{text[at]!r} does not belong here")
        kind, word = match.lastgroup, match[match.lastgroup]
        if kind == "quoted":
            kind, word = "name", word[1:-1]
        elif kind == "name" and word.lower() in _WORDS | _CONSTANTS.keys():
            kind, word = "word", word.lower()
        tokens.append(_Token(kind, word, match.start(match.lastgroup)))
        at = match.end()
    return tokens


def _error(text: str, at: int, what: str) -> UsageError:
    return UsageError(f"the condition {text!r} is wrong at character {at + 1}: {what}; {_EXAMPLE}")


class _Parser:
    """Reads one condition from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def condition(self) -> _Value:
        parts = [self._either()]
        while self._takes("or"):
            parts.append(self._either())
        if len(parts) == 1:
            return parts[0]
        return lambda lookup: any(_is_true(part(lookup)) for part in parts)

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            raise _error(self._text, token.at, f"{token.text!r} does not belong here")

    def _either(self) -> _Value:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        if len(parts) == 1:
            return parts[0]
        return lambda lookup: all(_is_true(part(lookup)) for part in parts)

    def _one(self) -> _Value:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise _error(self._text, self._at, "too many parentheses or nots in one another")
            if self._takes("not"):
                negated = self._one()
                return lambda lookup: not _is_true(negated(lookup))
            if self._takes("("):
                inner = self.condition()
                if not self._takes(")"):
                    raise _error(self._text, self._at, "a closing parenthesis is missing")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> _Value:
        left = self._value()
        for sign in _COMPARISONS:
            if self._takes(sign):
                right = self._value()
                return lambda lookup: _compare(sign, left(lookup), right(lookup))
        return left

    def _value(self) -> _Value:
        if self._next >= len(self._tokens):
            raise _error(self._text, len(self._text), "a value or a name is missing")
        kind, text, at = self._tokens[self._next]
        self._next += 1
        if kind == "number":
            constant: Any = float(text) if re.search("[.eE]", text) else int(text)
        elif kind == "text":
            constant = _ESCAPED.sub(r"\1", text[1:-1])
        elif text in _CONSTANTS:
            constant = _CONSTANTS[text]
        elif kind == "name":
            return lambda lookup: lookup(text)
        else:
            raise _error(self._text, at, f"a value or a name is missing before {text!r}")
        return lambda lookup: constant

    def _takes(self, text: str) -> bool:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token.kind in ("word", "sign") and token.text == text:
                self._next += 1
                return True
        return False

    @property
    def _at(self) -> int:
        is_left = self._next < len(self._tokens)
        return self._tokens[self._next].at if is_left else len(self._text)


def _is_true(value: Any) -> bool:
    return bool(value) and value == value  # NaN is not true


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign == "==":
        return bool(left == right)
    if sign == "!=":
        return bool(left != right)
    if sign == "in":
        is_text = isinstance(right, str) and isinstance(left, str)
        return (is_text or isinstance(right, list | tuple | dict)) and left in right
    if sign == "~":
        return left is not None and right is not None and str(right).lower() in str(left).lower()
    is_ordered = (isinstance(left, str) and isinstance(right, str)) or (
        isinstance(left, int | float) and isinstance(right, int | float)
    )
    if not is_ordered:
        return False
    if sign == "<":
        return bool(left < right)
    if sign == "<=":
        return bool(left <= right)
    return bool(left > right) if sign == ">" else bool(left >= right)
