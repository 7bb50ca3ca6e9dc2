"""Kinds of formula: whether a unit's explanation is one idea or several.

Mu & Andreas (2020), section 4.1, sorted units by hand into meaningful ones, of them such with a coherent OR, with a
perceptual one and with a specialisation by AND or AND NOT, and into polysemantic ones. The rule here reads the formula:

=================  ====================================================================================================
``none``           nothing overlaps with the unit
``single``         one concept
``related``        OR of concepts of which each is related to some other: together they hang as one group
``unrelated``      OR of concepts that fall into several groups
``specialised``    AND and AND NOT only: ``water AND NOT blue``
``mixed``          anything else
=================  ====================================================================================================

Two concepts are related where they share a category; where word vectors or a taxonomy are given, where these say so
(`explain.neurons.relatedness`). An OR of
unrelated concepts suggests a polysemantic unit and proves none: words for things that look alike may be unrelated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from explain.neurons.formula import And, Formula, Leaf, Not, Or, canonical

__all__ = ["KINDS", "PUBLISHED", "Kind", "Related", "kind_of", "shares", "suggests_polysemantic"]

Kind = Literal["none", "single", "related", "unrelated", "specialised", "mixed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Related = Callable[[str, str], bool]

PUBLISHED = (
    "of 128 units sorted by hand 69 % meaningful, 31 % polysemantic; of the 88 meaningful ones 57 % coherent ORs, 32 %"
    " perceptual only, 12 % specialised"
)
"""Mu & Andreas (2020), section 4.1: people's judgement of meaning, which no rule on formulas repeats."""


def kind_of(formula: Formula | None, categories: Mapping[str, str], related: Related | None = None) -> Kind:
    """Return the kind of a formula.

    Parameters
    ----------
    formula
        What a search found, or None.
    categories
        The category of each concept.
    related
        Tells whether two concepts are related; by equal categories where None.
    """
    if formula is None:
        return "none"
    form = canonical(formula)
    if isinstance(form, Leaf):
        return "single"
    if isinstance(form, Or) and all(isinstance(part, Leaf) for part in form.parts):
        names = [part.name for part in form.parts if isinstance(part, Leaf)]
        near = related or (lambda one, other: categories.get(one) == categories.get(other))
        return "related" if _one_group(names, near) else "unrelated"
    if isinstance(form, And) and all(_is_literal(part) for part in form.parts):
        return "specialised"
    return "mixed"


def _is_literal(formula: Formula) -> bool:
    return isinstance(formula, Leaf) or (isinstance(formula, Not) and isinstance(formula.part, Leaf))


def _one_group(names: list[str], near: Related) -> bool:
    """Tell whether a chain of related concepts joins them all."""
    reached, waiting = {names[0]}, [names[0]]
    while waiting:
        one = waiting.pop()
        fresh = [name for name in names if name not in reached and near(one, name)]
        reached.update(fresh)
        waiting += fresh
    return len(reached) == len(set(names))


def suggests_polysemantic(kind: Kind) -> bool:
    """Tell whether a kind suggests that the unit answers to several ideas: a suggestion, no verdict."""
    return kind == "unrelated"


def shares(kinds: Iterable[Kind]) -> dict[Kind, float]:
    """Return the share of each kind that occurs, of all units that have a formula, in the order of `KINDS`."""
    counts: Counter[Kind] = Counter(kind for kind in kinds if kind != "none")
    total = counts.total()
    return {kind: counts[kind] / total for kind in KINDS if counts[kind]}
