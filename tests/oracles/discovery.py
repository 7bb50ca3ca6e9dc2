"""Slow and literal discovery: overlaps pixel by pixel, precision threshold by threshold, mining step by step."""

from __future__ import annotations

import numpy as np


def overlaps(masks, maps, ignored, concepts):
    """Lists of (inside, area) per image and concept, and of (region, total) per image, counted pixel by pixel."""
    counts, sizes = [], []
    for mask, layers, dropped in zip(masks, maps, ignored, strict=True):
        inside, area = [0] * concepts, [0] * concepts
        region = total = 0
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                if dropped is not None and dropped[y, x]:
                    continue
                total += 1
                region += bool(mask[y, x])
                for concept in {int(layer[y, x]) for layer in layers} - {-1}:
                    area[concept] += 1
                    inside[concept] += bool(mask[y, x])
        counts.append((inside, area))
        sizes.append((region, total))
    return counts, sizes


def lift(counts, sizes, concept):
    """Pixels of the concept inside the regions, over those expected if each region lay anywhere in its image."""
    seen = sum(inside[concept] for inside, _ in counts)
    expected = sum(area[concept] * region / total for (_, area), (region, total) in zip(counts, sizes, strict=True))
    return seen / expected if expected else 0.0


def average_precision(scores, positive):
    """The area under precision over recall, by lowering a threshold over each distinct score."""
    found, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = (taken & positive).sum() / positive.sum()
        found += (recall - before) * (taken & positive).sum() / taken.sum()
        before = recall
    return found


def mined(features, positive, fit, *, rounds, start):
    """Hard-negative mining: the chosen negatives and (negatives, hard) of each round; ``fit(rows)`` gives scores."""
    chosen, told = sorted(start), []
    for _ in range(rounds):
        scores = fit([*np.flatnonzero(positive).tolist(), *chosen])
        hard = [n for n in range(len(features)) if not positive[n] and n not in chosen and scores[n] > -1]
        told.append((len(chosen), len(hard)))
        if not hard or len(told) == rounds:
            break
        hardest = sorted(hard, key=lambda n: (-scores[n], n))[: len(chosen)]
        chosen = sorted([*chosen, *hardest])
    return chosen, told
