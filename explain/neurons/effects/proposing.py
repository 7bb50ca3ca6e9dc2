"""Which concept to add for which pair of classes: read off formulas and the head's weights.

Mu & Andreas (2020), section 6, went by hand from a class to the units with the largest weights, and from those to a
concept in their formulas that has nothing to do with the class. Here every concept is scored for every pair. With
``w_cu`` the weight of unit u for class c (its mean activation times this adds to the logit), and ``g_uk`` how much
higher the unit's activation is on concept k than everywhere, the logit of class c grows by

    S_ck = sum_u w_cu g_uk        over the units u whose formula names k, not under NOT

per share of the map that the concept takes. Adding k moves a photo of class a towards class b by ``S_bk - S_ak``, and
taking it away by as much from b towards a.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError, InputError
from explain.nets.subject import Subject
from explain.neurons.effects.opening import Explained
from explain.neurons.formula import And, Formula, Leaf, Not, Or, leaves, parse

__all__ = [
    "Favouring",
    "Naming",
    "Proposal",
    "best_of_pair",
    "class_scores",
    "favouring",
    "find_pairs",
    "naming_of",
    "parse_pair",
    "positive_leaves",
    "unnamed_concepts",
]

NEAREST = 10
"""Units at each end of a pair whose formulas' concepts cannot be controls."""


@dataclass(frozen=True)
class Favouring:
    """A unit whose formula names the concept, and what it adds to the difference of the two logits."""

    unit: int
    formula: str
    weight: float
    """Of the target class, less that of the source class."""
    gain: float
    """How much higher the unit's mean activation is on the concept than everywhere."""


@dataclass(frozen=True)
class Proposal:
    """A concept to add to photos of a class, so that the network says another class."""

    source: int
    target: int
    concept: int
    expected: float
    """Expected change of (logit of the target, less that of the source), where the concept takes the whole map."""
    margin: float
    """Mean of (logit of the source, less that of the target) over the photos of the source class that were right."""
    units: tuple[Favouring, ...]
    """The units that make up most of the change, largest first."""


@dataclass(frozen=True, eq=False)
class Naming:
    """Which units name which concepts, other than under NOT: pairs, by unit."""

    pairs: NDArray[np.int64]
    """``(i, 2)``: (row of the unit, concept number)."""
    formulas: tuple[Formula | None, ...]
    """Of each row."""


def positive_leaves(formula: Formula, *, negated: bool = False) -> tuple[str, ...]:
    """Return the names of the concepts that stand under an even number of NOTs, from left to right, each once.

    >>> positive_leaves(parse("(water OR river) AND NOT blue"))
    ('water', 'river')
    """
    if isinstance(formula, Leaf):
        return () if negated else (formula.name,)
    if isinstance(formula, Not):
        return positive_leaves(formula.part, negated=not negated)
    parts = formula.parts if isinstance(formula, And | Or) else ()
    return tuple(dict.fromkeys(name for part in parts for name in positive_leaves(part, negated=negated)))


def naming_of(explained: Explained) -> Naming:
    """Return which units of a run name which concepts.

    Raises
    ------
    InputError
        No unit has a formula.
    """
    formulas = tuple(parse(unit.formula) if unit.formula else None for unit in explained.units)
    numbers = explained.cells.numbers
    pairs = [
        (row, numbers[name])
        for row, formula in enumerate(formulas)
        if formula is not None
        for name in positive_leaves(formula)
    ]
    if not pairs:
        raise InputError("no unit of the run has a formula that names a concept to add: explain more units")
    return Naming(np.array(pairs, np.int64), formulas)


def class_scores(
    weights: NDArray[np.float64], naming: Naming, gains: NDArray[np.float64], concepts: int
) -> NDArray[np.float64]:
    """Return ``S`` ``(classes, concepts)`` of the module's formula; a concept that no unit names has 0.

    Parameters
    ----------
    weights
        ``(classes, units)``.
    gains
        ``(i,)``: of each pair of ``naming``.
    """
    by_concept = np.zeros((weights.shape[1], concepts))
    by_concept[naming.pairs[:, 0], naming.pairs[:, 1]] = gains
    return weights @ by_concept


def parse_pair(text: str, subject: Subject, classes: int) -> tuple[int, int]:
    """Return the classes of ``"SOURCE>TARGET"``, each as `Subject.class_index` takes it.

    Raises
    ------
    InputError
        That is no pair, or a class is unknown.
    """
    parts = [part.strip() for part in text.split(">")]
    if len(parts) != 2 or not all(parts):
        raise InputError(f"pair {text!r}: give SOURCE>TARGET, two classes by name or index")
    source, target = (subject.class_index(part, classes) for part in parts)
    if source == target:
        raise InputError(f"pair {text!r} names one class twice: give two classes")
    return source, target


def best_of_pair(
    pair: tuple[int, int], scores: NDArray[np.float64], allowed: NDArray[np.bool_]
) -> tuple[int, float] | None:
    """Return the concept that moves the first class's photos most towards the second, and by how much.

    None where no allowed concept is expected to. ``allowed``: bool ``(concepts,)``.
    """
    change = np.where(allowed, scores[pair[1]] - scores[pair[0]], -np.inf)
    best = int(change.argmax())
    return (best, float(change[best])) if change[best] > 0 else None


def find_pairs(
    scores: NDArray[np.float64],
    margins: dict[int, NDArray[np.float64]],
    allowed: NDArray[np.bool_],
    count: int,
    share: float,
) -> list[tuple[int, int]]:
    """Return the pairs of classes that a pasted concept is expected to bring nearest to the target, or over.

    A pair's best concept is expected to move the difference of the logits by ``share`` times the change above; the
    pairs with the most left after the source's margin come first. Each class is source about equally often, and so is
    each target: as often as it takes to fill the list.

    Parameters
    ----------
    margins
        For each class that has photos the network is right on, ``(classes,)``: the mean of its logit less the others'.
    share
        Of the map, that a pasted concept takes.

    Raises
    ------
    DataError
        No concept is expected to move any pair.
    """
    classes, sources = len(scores), sorted(margins)
    left = np.full((len(sources), classes), -np.inf)
    for row, source in enumerate(sources):
        change = np.where(allowed, scores - scores[source], -np.inf).max(1)
        left[row] = np.where(change > 0, share * change - margins[source], -np.inf)
        left[row, source] = -np.inf
    usable = np.isfinite(left)
    if not usable.any():
        raise DataError("no concept in the formulas is expected to move any class to another: explain more units")
    order = [divmod(int(place), classes) for place in np.argsort(-left, axis=None, kind="stable")[: usable.sum()]]
    even = -(-count // int(usable.any(1).sum())), -(-count // int(usable.any(0).sum()))
    found: list[tuple[int, int]] = []
    for most in (even, (classes, classes)):  # what is still missing then comes in order alone
        ends = [Counter(pair[side] for pair in found) for side in (0, 1)]
        for row, target in order:
            if len(found) == count:
                break
            pair = sources[row], target
            if pair not in found and ends[0][pair[0]] < most[0] and ends[1][target] < most[1]:
                found.append(pair)
                ends[0][pair[0]] += 1
                ends[1][target] += 1
    return found


def favouring(
    pair: tuple[int, int],
    concept: int,
    weights: NDArray[np.float64],
    naming: Naming,
    gains: NDArray[np.float64],
    explained: Explained,
    top: int = 3,
) -> tuple[Favouring, ...]:
    """Return the units that add most to what a concept is expected to change."""
    rows = np.flatnonzero(naming.pairs[:, 1] == concept)
    units = naming.pairs[rows, 0]
    weight = weights[pair[1], units] - weights[pair[0], units]
    order = np.argsort(-weight * gains[rows], kind="stable")[:top]
    return tuple(
        Favouring(
            explained.units[units[one]].unit,
            str(explained.units[units[one]].formula),
            float(weight[one]),
            float(gains[rows[one]]),
        )
        for one in order
        if weight[one] * gains[rows[one]] > 0
    )


def unnamed_concepts(
    pair: tuple[int, int], weights: NDArray[np.float64], naming: Naming, concepts: dict[str, int]
) -> NDArray[np.bool_]:
    """Return bool ``(concepts,)``: those that no formula of the pair's units names, under NOT or not.

    The pair's units are the ten with the largest weight for the target less that for the source, and the ten with the
    smallest; a unit that both classes weigh alike is none of them.
    """
    weight = weights[pair[1]] - weights[pair[0]]
    order = np.argsort(-weight, kind="stable")
    near_ends = {*order[:NEAREST].tolist(), *order[-NEAREST:].tolist()}
    found = np.ones(len(concepts), np.bool_)
    for row in near_ends:
        formula = naming.formulas[row]
        if formula is not None and weight[row] != 0:
            found[[concepts[name] for name in leaves(formula)]] = False
    return found
