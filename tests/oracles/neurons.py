"""Slow, literal versions of network dissection and of the formula search, on dense masks.

Written from Bau et al. (2017) and Mu & Andreas (2020) alone; nothing here knows of cells.
Masks are bool arrays over all pixels of all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from PIL import Image


def exact_rank(quantile: str, count: int) -> int:
    return ceil(Fraction(quantile) * count)


def threshold_of(values, k):
    """The (k+1)-th largest value, -inf where there are not as many."""
    ordered = sorted((float(value) for value in np.ravel(values)), reverse=True)
    return ordered[k] if k < len(ordered) else -np.inf


def dense_iou(unit, concept) -> float:
    union = int((unit | concept).sum())
    return int((unit & concept).sum()) / union if union else 0.0


def cell_table(images, whole, ignored):
    """Label set -> pixels, by a dictionary; images are (layers, h, w) with -1 for no label."""
    table: dict[tuple[int, ...], int] = {}
    for maps, extra, skip in zip(images, whole, ignored, strict=True):
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                if skip[y, x]:
                    continue
                labels = {int(label) for label in maps[:, y, x] if label >= 0} | set(extra)
                key = tuple(sorted(labels))
                table[key] = table.get(key, 0) + 1
    return dict(sorted(table.items()))


def pillow_mask(grid, threshold, size):
    """Upsample one (h, w) map with Pillow's bilinear filter to (height, width) and compare."""
    image = Image.fromarray(np.asarray(grid, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > np.float32(threshold)


@dataclass
class Candidate:
    chain: tuple[tuple[str, int], ...]
    """(operator, concept) from left to right; the first operator is empty."""
    mask: np.ndarray
    iou: float

    @property
    def text(self) -> str:
        """Fully parenthesised, from the left."""
        text = ""
        for op, concept in self.chain:
            text = f"({text}) {op} c{concept}" if op else f"c{concept}"
        return text


def apply(op, mask, concept):
    if op == "OR":
        return mask | concept
    return mask & concept if op == "AND" else mask & ~concept


def best_of(candidates, beam):
    """The first ``beam`` by (-iou, length, order), each set of pixels once."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (-one.iou, len(one.chain))):  # sorted is stable
        if not any(np.array_equal(candidate.mask, other.mask) for other in kept):
            kept.append(candidate)
    return kept[:beam]


def dense_beam(unit, concepts, length, beam, min_pixels=0):
    """Return (best after each round, final beam). Every formula of the beam is extended in every round."""
    usable = [number for number, mask in enumerate(concepts) if mask.sum() >= max(min_pixels, 1)]
    leaves = [Candidate((("", c),), concepts[c], dense_iou(unit, concepts[c])) for c in usable]
    kept = best_of([leaf for leaf in leaves if leaf.iou > 0], beam)
    best = kept[:1]
    for _ in range(length - 1):
        candidates = list(kept)
        for parent in kept:
            for c in usable:
                for op in ("OR", "AND", "AND NOT"):
                    mask = apply(op, parent.mask, concepts[c])
                    iou = dense_iou(unit, mask)
                    if iou > 0 and not np.array_equal(mask, parent.mask):
                        candidates.append(Candidate((*parent.chain, (op, c)), mask, iou))
        kept = best_of(candidates, beam)
        best += kept[:1]
    return best, kept


def best_in_grammar(unit, concepts, length) -> float:
    """The best IoU of any ``((c1 op c2) op c3) …`` with at most ``length`` leaves, by trying them all."""
    level = {mask.tobytes(): mask for mask in concepts}
    best = 0.0
    for step in range(length):
        best = max([best, *(dense_iou(unit, mask) for mask in level.values())])
        if step + 1 < length:
            new = [apply(op, g, c) for g in level.values() for c in concepts for op in ("OR", "AND", "AND NOT")]
            level = {mask.tobytes(): mask for mask in new}
    return best
