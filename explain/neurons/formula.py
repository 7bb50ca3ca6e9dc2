"""The formula language: parse, print, canonical form, evaluate.

``(red OR blue) AND NOT sky``: NOT binds tighter than AND, AND tighter than OR. Operators are whole words in
any case. Names are written as they are, unless they hold blanks, parentheses, quotes or backslashes or are
operators themselves; those stand in double quotes, with a backslash before a quote or a backslash. One name may
hold parentheses without quotes: ``NEIGHBORS(hyp:dog)``, which is one concept (a word or its neighbours). The
length of a formula is its number of leaves (Mu & Andreas 2020, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError, near
from explain.neurons.formula_tokens import Token, quoted, shown, tokens_of, unreadable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "And",
    "Formula",
    "Leaf",
    "Not",
    "Or",
    "canonical",
    "check_names",
    "evaluate",
    "leaves",
    "length",
    "minor_negation",
    "parse",
]

Mask = TypeVar("Mask", "NDArray[np.bool_]", "Tensor")
_DEEPEST = 100  # parentheses and NOTs within each other; keeps recursion far from Python's own limit
_OR, _AND, _NOT, _LEAF = range(4)  # how tightly each kind of node binds


@dataclass(frozen=True, eq=False)
class Formula:
    """A logical formula over concept names; ``str`` prints it so that `parse` reads it back.

    Two formulas are equal, and hash alike, when their canonical forms are the same.
    """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Formula):
            return NotImplemented
        return _key(canonical(self)) == _key(canonical(other))

    def __hash__(self) -> int:
        return hash(_key(canonical(self)))

    def __str__(self) -> str:
        return _text(self)

    def __repr__(self) -> str:
        return f"parse({_text(self)!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Leaf(Formula):
    """One concept."""

    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Not(Formula):
    """All pixels where ``part`` does not hold."""

    part: Formula


@dataclass(frozen=True, eq=False, repr=False)
class And(Formula):
    """All pixels where every part holds; at least one part."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Or(Formula):
    """All pixels where some part holds; at least one part."""

    parts: tuple[Formula, ...]


def _key(formula: Formula) -> tuple[Any, ...]:
    """Return the structure as nested tuples, which compare part by part."""
    if isinstance(formula, Leaf):
        return (_LEAF, formula.name)
    return (_binding(formula), *(_key(part) for part in _parts(formula)))


def _parts(formula: Formula) -> tuple[Formula, ...]:
    if isinstance(formula, Not):
        return (formula.part,)
    if isinstance(formula, And | Or):
        return formula.parts
    return ()


def _binding(formula: Formula) -> int:
    if isinstance(formula, Or):
        return _OR
    if isinstance(formula, And):
        return _AND
    return _NOT if isinstance(formula, Not) else _LEAF


def leaves(formula: Formula) -> tuple[str, ...]:
    """Return the names of the leaves from left to right, repeats included."""
    if isinstance(formula, Leaf):
        return (formula.name,)
    return tuple(name for part in _parts(formula) for name in leaves(part))


def length(formula: Formula) -> int:
    """Return the number of leaves; NOT does not count."""
    return len(leaves(formula))


def minor_negation(formula: Formula) -> Formula:
    """Return the formula with one concept turned into its opposite: what the published pages show images of.

    Of two parts the longer one is gone into, of equal ones the left one, down to a concept (the rule of the code of
    Mu & Andreas 2020); a chain is read from the left: ``a OR b OR c`` is ``(a OR b) OR c``.
    """
    if isinstance(formula, Leaf):
        return Not(formula)
    if isinstance(formula, Not):
        return formula.part if isinstance(formula.part, Leaf) else Not(minor_negation(formula.part))
    assert isinstance(formula, And | Or)  # there are no others
    *before, last = formula.parts
    if not before:
        return minor_negation(last)
    kind = type(formula)
    left = before[0] if len(before) == 1 else kind(tuple(before))
    if length(left) < length(last):
        return kind((left, minor_negation(last)))
    return kind((minor_negation(left), last))


def canonical(formula: Formula) -> Formula:
    """Return the form that decides equality: parts sorted, repeats and double negation dropped, chains flat.

    Equal canonical forms mean equal pixels in any data; the reverse does not hold (De Morgan and the
    distributive laws are not applied).
    """
    if isinstance(formula, Not):
        part = canonical(formula.part)
        return part.part if isinstance(part, Not) else Not(part)
    if isinstance(formula, And | Or):
        kind = type(formula)
        flat: dict[tuple[Any, ...], Formula] = {}
        for part in map(canonical, formula.parts):
            for piece in part.parts if isinstance(part, kind) else (part,):
                flat[_key(piece)] = piece
        # Sorted by text: keys of different kinds of node cannot be compared.
        ordered = sorted(flat.values(), key=lambda piece: (not isinstance(piece, Leaf), _text(piece)))
        return ordered[0] if len(ordered) == 1 else kind(tuple(ordered))
    return formula


def evaluate(formula: Formula, lookup: Callable[[str], Mask]) -> Mask:
    """Return where the formula holds.

    Parameters
    ----------
    formula
        What to evaluate.
    lookup
        Gives the bool numpy array or bool tensor of a concept; all of one shape.

    Raises
    ------
    InputError
        A mask is not of type bool (``~`` on integers would go wrong without a word).
    """
    if isinstance(formula, Leaf):
        mask = lookup(formula.name)
        if str(mask.dtype) not in ("bool", "torch.bool"):
            raise InputError(f"the mask of {formula.name!r} is {mask.dtype}, not bool: pass mask > 0")
        return mask
    masks = [evaluate(part, lookup) for part in _parts(formula)]
    if isinstance(formula, Not):
        return ~masks[0]
    return reduce(and_ if isinstance(formula, And) else or_, masks)


def check_names(formula: Formula, known: Iterable[str]) -> None:
    """Raise `InputError` with the nearest known names for the first leaf that is not among ``known``."""
    names = set(known)
    for name in leaves(formula):
        if name not in names:
            close = near(name, sorted(names))
            raise InputError(f"unknown concept {name!r} in formula {_text(formula)}{close or _some(sorted(names))}")


def _some(names: list[str]) -> str:
    """Return a few of the names that there are, where none is near."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"; known: {', '.join(names[:5])}{more}" if names else ""


def _text(formula: Formula, around: int = _OR) -> str:
    """Print with the fewest parentheses; ``around`` is how tightly the surroundings bind."""
    if isinstance(formula, Leaf):
        return quoted(formula.name)
    own = _binding(formula)
    if isinstance(formula, Not):
        text = f"NOT {_text(formula.part, _NOT)}"
    else:
        text = (" AND " if own == _AND else " OR ").join(_text(part, own) for part in _parts(formula))
        if len(_parts(formula)) == 1:
            return _text(_parts(formula)[0], around)
    return f"({text})" if own < around else text


def parse(text: str) -> Formula:
    """Read a formula such as ``(red OR blue) AND NOT "swimming pool"``.

    Parameters
    ----------
    text
        Names, AND, OR, NOT, parentheses; names with blanks or reserved words in double quotes.

    Raises
    ------
    InputError
        The text is not a formula; the message gives the column (from 1) and what was expected there.
    """
    tokens = list(tokens_of(text))
    formula, at = _read(text, tokens, 0, _OR, 0)
    if tokens[at].kind != "end":
        token = tokens[at]
        hint = " (names with blanks are written in double quotes)" if token.kind == "name" else ""
        raise unreadable(text, token.column, "AND, OR or the end", shown(token) + hint)
    return formula


def _read(text: str, tokens: list[Token], at: int, level: int, depth: int) -> tuple[Formula, int]:
    """Read one expression that binds at least as tightly as ``level``; return it and the next position."""
    if level > _AND:
        return _read_single(text, tokens, at, depth)
    word, kind = ("or", Or) if level == _OR else ("and", And)
    first, at = _read(text, tokens, at, level + 1, depth)
    parts = [first]
    while tokens[at].kind == word:
        part, at = _read(text, tokens, at + 1, level + 1, depth)
        parts.append(part)
    return (first if len(parts) == 1 else kind(tuple(parts))), at


def _read_single(text: str, tokens: list[Token], at: int, depth: int) -> tuple[Formula, int]:
    """Read a name, a negation or an expression in parentheses."""
    token = tokens[at]
    if depth > _DEEPEST:
        raise unreadable(text, token.column, f"at most {_DEEPEST} levels of parentheses and NOT", "more")
    if token.kind == "name":
        return Leaf(token.text), at + 1
    if token.kind == "not":
        part, at = _read_single(text, tokens, at + 1, depth + 1)
        return Not(part), at
    if token.kind != "(":
        raise unreadable(text, token.column, 'a concept, NOT or "("', shown(token))
    inner, at = _read(text, tokens, at + 1, _OR, depth + 1)
    if tokens[at].kind != ")":
        raise unreadable(text, tokens[at].column, 'AND, OR or ")"', shown(tokens[at]))
    return inner, at + 1
