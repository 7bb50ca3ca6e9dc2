"""The published beam search of Mu & Andreas (2020), mask by mask on run-length masks, and brute force on dense ones.

Written from a description of the search alone; nothing here knows of cells. A mask is one run-length encoding over all
pixels of all images (pycocotools, column-major). The plain ``cocoapi`` has no negation, so each concept is negated once
and kept. Formulas have no equality but identity, as published: logical duplicates each take a slot of the beam.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from pycocotools import mask as coco

Rle = dict[str, Any]
OPS = ("OR", "AND", "AND NOT")


def encoded(mask: np.ndarray) -> Rle:
    """Encode a bool mask ``(H, W)``; images are stacked along H."""
    return coco.encode(np.asfortranarray(mask, np.uint8))


class Masks:
    """The masks of all concepts, in ascending order of their ids, each negated once on first use."""

    def __init__(self, masks: Iterable[tuple[str, Rle]]) -> None:
        pairs = list(masks)
        self.names = [name for name, _ in pairs]
        self.masks = [mask for _, mask in pairs]
        self.areas = [int(coco.area(mask)) for mask in self.masks]
        self._negated: dict[int, Rle] = {}

    def negated(self, label: int) -> Rle:
        if label not in self._negated:
            with warnings.catch_warnings():  # pycocotools' array has no copy keyword, which numpy 2 warns of
                warnings.simplefilter("ignore", DeprecationWarning)
                dense = coco.decode(self.masks[label])
            self._negated[label] = encoded(1 - dense)
        return self._negated[label]


class Node:
    """A formula; no ``__eq__``, so dictionaries tell formulas apart by identity."""


class Leaf(Node):
    def __init__(self, label: int) -> None:
        self.label = label

    def mask(self, masks: Masks) -> Rle:
        return masks.masks[self.label]

    def text(self, masks: Masks) -> str:
        return masks.names[self.label]

    def __len__(self) -> int:
        return 1


class Not(Node):
    def __init__(self, part: Leaf) -> None:
        self.part = part

    def mask(self, masks: Masks) -> Rle:
        return masks.negated(self.part.label)

    def text(self, masks: Masks) -> str:
        return f"(NOT {self.part.text(masks)})"

    def __len__(self) -> int:
        return 1 + len(self.part)  # NOT counts, as published


class Binary(Node):
    word = ""
    intersect = False

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right

    def mask(self, masks: Masks) -> Rle:
        """Rebuild the mask from its parts, every time."""
        return coco.merge([self.left.mask(masks), self.right.mask(masks)], self.intersect)

    def text(self, masks: Masks) -> str:
        return f"({self.left.text(masks)} {self.word} {self.right.text(masks)})"

    def __len__(self) -> int:
        return len(self.left) + len(self.right)


class Or(Binary):
    word = "OR"


class And(Binary):
    word = "AND"
    intersect = True


@dataclass(frozen=True)
class Item:
    """One slot of the final beam."""

    text: str
    score: float
    intersection: int
    pixels: int


def overlap(formula: Any, unit: Rle, active: int, masks: Masks) -> tuple[float, int, int]:
    """Return IoU, intersection and the formula's pixels."""
    mask = formula.mask(masks)
    pixels, shared = int(coco.area(mask)), int(coco.area(coco.merge([mask, unit], True)))
    return shared / (active + pixels - shared + 1e-10), shared, pixels


def search(
    unit: Rle, masks: Masks, allowed: Sequence[bool], *, length: int, beam: int, penalty: float = 1.0
) -> list[Item]:
    """Return the final beam, best first.

    ``allowed``: the concepts that occur in an image where the raw unit fires; only they are leaves of the first beam.
    """
    active = int(coco.area(unit))
    counts: dict[Node, tuple[int, int]] = {}
    scores: dict[Any, float] = {}
    for label in range(len(masks.masks)):
        if allowed[label]:
            leaf = Leaf(label)
            iou, *counts[leaf] = overlap(leaf, unit, active, masks)
            if iou > 0:
                scores[leaf] = iou
    kept = dict(Counter(scores).most_common(beam))  # stable: the smaller id first
    for _ in range(length - 1):
        if not kept:
            break
        made: dict[Any, float] = {}
        for formula in kept:
            for label in range(len(masks.masks)):
                for op in OPS:
                    right = Not(Leaf(label)) if op == "AND NOT" else Leaf(label)
                    new = Or(formula, right) if op == "OR" else And(formula, right)
                    iou, *counts[new] = overlap(new, unit, active, masks)
                    made[new] = penalty ** (len(new) - 1) * iou
        kept = dict(Counter({**kept, **made}).most_common(beam))
    return [Item(formula.text(masks), score, *counts[formula]) for formula, score in kept.items()]


def allowed_labels(firing: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return bool ``(U, C)`` from where units fire, bool ``(U, N)``, and what images show, bool ``(N, C)``."""
    return np.array([[bool((fires & shows).any()) for shows in present.T] for fires in firing])


@dataclass(frozen=True)
class Best:
    """The best formulas of a grammar by brute force."""

    iou: float
    length: int
    """Leaves of the shortest of them."""
    chains: tuple[tuple[tuple[str, int], ...], ...]
    """All of that length, as (operator, concept) from left to right, in lexicographic order of operator and number."""


def apply(op: str, mask: np.ndarray, concept: np.ndarray) -> np.ndarray:
    if op == "OR":
        return mask | concept
    if op == "OR NOT":
        return mask | ~concept
    return mask & concept if op == "AND" else mask & ~concept


def brute_force(unit: np.ndarray, concepts: np.ndarray, length: int = 3) -> Best:
    """Try every ``((c1 op c2) op c3) …`` of at most ``length`` leaves on dense bool masks ``(C, P)``."""
    active, whole = int(unit.sum()), concepts.astype(np.int64)
    sizes, own = whole.sum(1), whole[:, unit].sum(1)
    found: dict[tuple[tuple[str, int], ...], tuple[int, int]] = {
        (("", c),): (int(own[c]), int(sizes[c])) for c in range(len(concepts))
    }
    prefixes = {(("", c),): concepts[c] for c in range(len(concepts))}
    for size in range(2, length + 1):
        longer = {}
        for chain, mask in prefixes.items():
            for op, c in product(OPS, range(len(concepts))):
                new = apply(op, mask, concepts[c])
                found[(*chain, (op, c))] = (int((new & unit).sum()), int(new.sum()))
                if size < length:
                    longer[(*chain, (op, c))] = new
        prefixes = longer
    ious = {chain: a / (active + n - a) if a else 0.0 for chain, (a, n) in found.items()}
    best = max(ious.values())
    winners = [chain for chain, iou in ious.items() if iou == best]
    shortest = min(map(len, winners))
    return Best(best, shortest, tuple(sorted(chain for chain in winners if len(chain) == shortest)))


def brute_ceiling(active: Sequence[int], pixels: Sequence[int]) -> float:
    """Return the best IoU over all sets of cells; ``active`` and ``pixels`` are counts per cell."""
    total, best = sum(active), 0.0
    for chosen in product((False, True), repeat=len(pixels)):
        a = sum(count for count, own in zip(active, chosen, strict=True) if own)
        n = sum(count for count, own in zip(pixels, chosen, strict=True) if own)
        best = max(best, a / (total + n - a) if a else 0.0)
    return best


def text_of(chain: Sequence[tuple[str, int]], names: Mapping[int, str] | Sequence[str]) -> str:
    """Return a chain as the published code prints formulas."""
    text = ""
    for op, concept in chain:
        name = names[concept]
        right = f"(NOT {name})" if op == "AND NOT" else name
        text = f"({text} {op.split()[0]} {right})" if op else name
    return text
