"""The words of a formula's text: names, quoted or bare, operators and parentheses; see `explain.neurons.formula`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from explain.errors import InputError

__all__ = ["Token", "quoted", "shown", "tokens_of", "unreadable"]

_RESERVED = frozenset({"and", "or", "not"})
_NEIGHBORS = re.compile(r'NEIGHBORS\([^\s()"\\]+\)(?=[\s()]|$)')


def _is_bare(name: str) -> bool:
    if _NEIGHBORS.fullmatch(name):
        return name.isprintable()
    odd = any(sign in '()"\\' or sign.isspace() or not sign.isprintable() for sign in name)
    return bool(name) and not odd and name.lower() not in _RESERVED


def quoted(name: str) -> str:
    """Return a name as `explain.neurons.formula.parse` reads it back."""
    if _is_bare(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Token(NamedTuple):
    """A word, name or parenthesis of a formula's text."""

    kind: str
    """``name``, ``and``, ``or``, ``not``, ``(``, ``)`` or ``end``."""
    text: str
    column: int
    """Counts from 1."""


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of a text, the end last.

    Raises
    ------
    InputError
        A quoted name that is empty or not closed.
    """
    at = 0
    while at < len(text):
        start, sign = at, text[at]
        at += 1
        if sign.isspace():
            continue
        if sign in "()":
            yield Token(sign, sign, start + 1)
        elif sign == '"':
            name, at = _read_quoted(text, start)
            yield Token("name", name, start + 1)
        elif neighbors := _NEIGHBORS.match(text, start):
            at = neighbors.end()
            yield Token("name", neighbors.group(), start + 1)
        else:
            while at < len(text) and not (text[at].isspace() or text[at] in '()"'):
                at += 1
            word = text[start:at]
            yield Token(word.lower() if word.lower() in _RESERVED else "name", word, start + 1)
    yield Token("end", "", len(text) + 1)


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    """Read the quoted name that opens at ``start``; return it and the position behind it."""
    signs: list[str] = []
    at = start + 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        signs.append(text[at : at + 1])
        at += 1
    if at >= len(text):
        raise unreadable(text, start + 1, 'a closing "', "the end")
    if not signs:
        raise unreadable(text, start + 1, "a concept name", 'an empty name ""')
    return "".join(signs), at + 1


def unreadable(text: str, column: int, expected: str, got: str) -> InputError:
    """Return the error that names the column (from 1), what was expected there, and what was got."""
    shown = " ".join(text.split()) if not text.isprintable() else text
    return InputError(f"cannot read the formula {shown!r}: at column {column} expected {expected}, got {got}")


def shown(token: Token) -> str:
    """Return a token as errors tell it."""
    if token.kind == "end":
        return "the end"
    if token.kind in _RESERVED:
        return f'{token.text} (a concept of this name is written "{token.text}")'
    return repr(token.text)
