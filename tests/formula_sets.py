"""Small random sets of overlapping concepts and units near formulas, and brute force over them."""

import numpy as np
from oracles.compexp import OPS, apply

from explain.neurons.cells import build_index
from explain.neurons.counts import unit_counts
from explain.neurons.formula import And, Leaf, Not
from explain.types import Concept, Labels


def scene(seed, concepts, images=3, side=6, units=2):
    """Masks bool (C, N, h, w) of overlapping concepts, some alike or empty, and units near formulas (U, N, h, w)."""
    rng = np.random.default_rng(seed)
    shape = (images, side, side)
    masks = rng.random((concepts, *shape)) < rng.choice([0.03, 0.15, 0.4], concepts)[:, None, None, None]
    masks &= rng.random((concepts, images))[:, :, None, None] < 0.8
    for number in range(concepts):
        if rng.random() < 0.2:  # ties
            masks[number] = masks[rng.integers(concepts)]
    active = np.zeros((units, *shape), bool)
    for unit in range(units):
        chain = rng.integers(0, concepts, 3)
        mask = masks[chain[0]]
        for concept in chain[1:]:
            mask = apply(OPS[rng.integers(3)], mask, masks[concept])
        active[unit] = mask ^ (rng.random(shape) < rng.choice([0.0, 0.05, 0.2]))
    return masks, active


def labels_of(masks):
    """The labels of each image: one layer per concept."""
    numbers = np.arange(len(masks))[:, None, None]
    return [Labels(np.where(masks[:, image], numbers, -1).astype(np.int32)) for image in range(masks.shape[1])]


def as_cells(masks, active):
    names = tuple(Concept(f"c{number}", "object") for number in range(len(masks)))
    index = build_index(names, labels_of(masks))
    ids = np.stack([index.cell_ids(image) for image in range(masks.shape[1])])
    return index.cells, unit_counts(np.array([np.bincount(ids[unit], minlength=len(index.cells)) for unit in active]))


def flat(masks):
    return masks.reshape(len(masks), -1)


def formula_mask(formula, masks):
    if isinstance(formula, Leaf):
        return masks[int(formula.name[1:])]
    if isinstance(formula, Not):
        return ~formula_mask(formula.part, masks)
    parts = [formula_mask(part, masks) for part in formula.parts]
    return np.logical_and.reduce(parts) if isinstance(formula, And) else np.logical_or.reduce(parts)


def deep_best(unit, concepts, length):
    """The best IoU of the grammar, each set of pixels followed once."""
    level = {mask.tobytes(): mask for mask in concepts}
    best = 0.0
    for step in range(length):
        for mask in level.values():
            shared = int((mask & unit).sum())
            best = max(best, shared / int((mask | unit).sum()) if shared else 0.0)
        if step + 1 < length:
            new = (apply(op, g, c) for g in level.values() for c in concepts for op in OPS)
            level = {mask.tobytes(): mask for mask in new}
    return best
