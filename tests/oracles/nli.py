"""The published search for formulas of NLI neurons (Mu & Andreas 2020), mask by mask, from a description alone.

Two forms. ``form="paper"`` is what the paper defines: NEIGHBORS(w) holds where w or one of its five nearest words
stands, and may stand anywhere in a formula; overlap is the share of common words among all words of the pair.
``form="code"`` is what the released code does instead, and is a yardstick only: NEIGHBORS(w) selects what w alone
selects, is a leaf of the first round and never a right operand, so that each leaf is tried twice in each round. Both
probe the model as they say: in evaluation mode, or batch by batch in training mode (`firing`).

A mask is a bool array over the pairs. Every candidate's mask is built anew from its parts. Formulas have no equality
but identity: logical duplicates each take a slot of the beam. Only concepts that overlap with the unit extend formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from oracles.compexp import Item

Form = Literal["paper", "code"]
Metric = Literal["iou", "precision", "recall"]


def overlap_levels(premise: Sequence[str], hypothesis: Sequence[str], form: Form) -> set[int]:
    """Return which of the levels 0, 25, 50 and 75 (percent) the overlap of a pair's words exceeds."""
    first, second = set(premise), set(hypothesis)
    if form == "paper":
        share = len(first & second) / len(first | second)
        return {level for level in (0, 25, 50, 75) if 100 * share > level}
    apart = len(first ^ second)
    share = len(first & second) / apart if apart else np.inf
    return {level for level in (25, 50, 75) if 100 * share > level}


def neighbours(word: str, vectors: Mapping[str, np.ndarray], vocabulary: Sequence[str], count: int = 5) -> set[str]:
    """Return a word and its nearest ones of the vocabulary by cosine; the word alone where it has no vector."""
    if word not in vectors:
        return {word}
    own = vectors[word]
    near = []
    for other in vocabulary:
        if other != word and other in vectors:
            cosine = float(own @ vectors[other] / (np.linalg.norm(own) * np.linalg.norm(vectors[other])))
            near.append((-cosine, vocabulary.index(other), other))
    return {word, *(other for *_, other in sorted(near)[:count])}


def firing(
    model: Callable[[Any], torch.Tensor], module: torch.nn.Module, pairs: Sequence[Any], form: Form, seed: int = 0
) -> np.ndarray:
    """Return bool ``(N, U)``: units above 0. The code: 16 pairs at a time, with dropout and batch statistics."""
    kept = torch.get_rng_state()
    torch.manual_seed(seed)
    module.train(form == "code")
    with torch.no_grad():
        parts = [model(pairs[begin : begin + 16]) > 0 for begin in range(0, len(pairs), 16)]
    torch.set_rng_state(kept)
    return torch.cat(parts).numpy()


class Node:
    """A formula; no ``__eq__``, so dictionaries tell formulas apart by identity."""


class Leaf(Node):
    def __init__(self, name: str, mask: np.ndarray) -> None:
        self.name, self.kept = name, mask

    def mask(self) -> np.ndarray:
        return self.kept

    def text(self) -> str:
        return self.name


class Neighbours(Node):
    """NEIGHBORS of a leaf as the code has it: the same mask."""

    def __init__(self, part: Leaf) -> None:
        self.part = part

    def mask(self) -> np.ndarray:
        return self.part.mask()

    def text(self) -> str:
        return f"(NEIGHBORS {self.part.text()})"


class Not(Node):
    def __init__(self, part: Leaf) -> None:
        self.part = part

    def mask(self) -> np.ndarray:
        return ~self.part.mask()

    def text(self) -> str:
        return f"(NOT {self.part.text()})"


class Binary(Node):
    def __init__(self, left: Any, word: str, right: Any) -> None:
        self.left, self.word, self.right = left, word, right

    def mask(self) -> np.ndarray:
        if self.word == "OR":
            return self.left.mask() | self.right.mask()
        return self.left.mask() & self.right.mask()

    def text(self) -> str:
        return f"({self.left.text()} {self.word} {self.right.text()})"


def scored(formula: Any, unit: np.ndarray, metric: Metric) -> tuple[float, int, int]:
    """Return score, intersection and the formula's pairs; precision is the share of the unit's pairs, as published."""
    mask = formula.mask()
    pairs, shared = int(np.count_nonzero(mask)), int(np.count_nonzero(mask & unit))
    active = int(np.count_nonzero(unit))
    whole = {"iou": active + pairs - shared, "precision": active, "recall": pairs}[metric]
    return shared / (whole + 1e-10), shared, pairs


def search(
    unit: np.ndarray,
    concepts: Mapping[str, np.ndarray],
    *,
    length: int = 5,
    beam: int = 10,
    form: Form = "paper",
    metric: Metric = "iou",
    least: int = 0,
) -> list[Item]:
    """Return the final beam, best first; none for a unit that fires on fewer than ``least`` pairs (published: 500).

    ``concepts``: name to mask ``(N,)``. In the paper's form, NEIGHBORS concepts are among them.
    """
    if np.count_nonzero(unit) < least:
        return []
    plain = [Leaf(name, mask) for name, mask in concepts.items()]
    first: list[Any] = list(plain)
    if form == "code":
        first += [Neighbours(leaf) for leaf in plain]
    found: dict[Any, tuple[float, int, int]] = {leaf: scored(leaf, unit, metric) for leaf in first}
    used = [leaf for leaf in first if found[leaf][0] > 0]
    operands = [leaf.part if isinstance(leaf, Neighbours) else leaf for leaf in used]
    kept = dict(Counter({leaf: found[leaf][0] for leaf in used}).most_common(beam))  # stable: the earlier one first
    for _ in range(length - 1):
        made: dict[Any, float] = {}
        for formula in kept:
            for leaf in operands:
                for new in (
                    Binary(formula, "OR", leaf),
                    Binary(formula, "AND", leaf),
                    Binary(formula, "AND", Not(leaf)),
                ):
                    found[new] = scored(new, unit, metric)
                    made[new] = found[new][0]
        kept = dict(Counter({**kept, **made}).most_common(beam))
        found = {formula: found[formula] for formula in kept}
    return [Item(formula.text(), *found[formula]) for formula in kept]
