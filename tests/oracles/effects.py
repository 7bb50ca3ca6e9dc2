"""Slow, literal versions of effects: written from Mu & Andreas (2020), Zhou et al. (2016) and their released code's
definitions, image by image and place by place."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch


def fires(unit_map, threshold):
    """A unit fires in an image where any place of its map is above the threshold."""
    return any(float(value) > threshold for value in np.ravel(unit_map))


def accuracy_when_active(maps, thresholds, predicted, labels):
    """(images, right) of each unit; maps (n, u, h, w)."""
    found = []
    for unit, threshold in enumerate(thresholds):
        images = right = 0
        for image in range(len(maps)):
            if fires(maps[image, unit], threshold):
                images += 1
                right += int(predicted[image] == labels[image])
        found.append((images, right))
    return found


def pearson(x, y):
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    top = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return top / sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))


def ranks(values):
    """The mean place of each value among all, from 1."""
    found = []
    for value in values:
        below = sum(other < value for other in values)
        same = sum(other == value for other in values)
        found.append(below + (same + 1) / 2)
    return found


def spearman(x, y):
    return pearson(ranks(x), ranks(y))


def contribution(head, feature_map, label, unit):
    """Σ over places of ∂logit/∂A · A by central differences in float64; ``head`` takes maps ``(1, u, h, w)``."""
    total = weight = 0.0
    step = 1e-4
    for y in range(feature_map.shape[1]):
        for x in range(feature_map.shape[2]):
            values = []
            for sign in (1, -1):
                moved = feature_map.clone().double()
                moved[unit, y, x] += sign * step
                with torch.no_grad():
                    values.append(float(head(moved[None])[0, label]))
            slope = (values[0] - values[1]) / (2 * step)
            weight += slope
            total += slope * float(feature_map[unit, y, x])
    return total, weight


def pooled_to(maps, grid):
    """Means of equal blocks, (n, u, *grid)."""
    height, width = maps.shape[2] // grid[0], maps.shape[3] // grid[1]
    found = np.zeros((*maps.shape[:2], *grid))
    for y in range(grid[0]):
        for x in range(grid[1]):
            found[:, :, y, x] = maps[:, :, y * height : (y + 1) * height, x * width : (x + 1) * width].mean((2, 3))
    return found


def between(later, before, later_thresholds, before_thresholds):
    """Correlation, overlap and inhibition of every pair of units, over all places of all images."""
    before = pooled_to(before, later.shape[2:])
    rows = [np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1) for maps in (later, before)]
    found = {name: np.full((len(rows[0]), len(rows[1])), np.nan) for name in ("correlation", "overlap", "inhibition")}
    for u, one in enumerate(rows[0]):
        for v, other in enumerate(rows[1]):
            if one.std() > 0 and other.std() > 0:
                found["correlation"][u, v] = pearson(one.tolist(), other.tolist())
            a, b = one > later_thresholds[u], other > before_thresholds[v]
            if (a | b).any():
                found["overlap"][u, v] = (a & b).sum() / (a | b).sum()
            if (~a | b).any():
                found["inhibition"][u, v] = (~a & b).sum() / (~a | b).sum()
    return found
