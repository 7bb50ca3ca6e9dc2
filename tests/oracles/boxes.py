"""Slow and literal localization: boxes by flood fill, IoU by sets of pixels, scores by loops over images."""

from __future__ import annotations

import numpy as np
from oracles.components import largest


def box_at(plane, threshold):
    """The tight box of the largest component above a share of the maximum; None where nothing is positive."""
    top = plane.max()
    if not top > 0:
        return None
    return largest(plane > np.float32(threshold) * top)


def pixels(box):
    x0, y0, x1, y1 = box
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}


def pixel_iou(one, other):
    """IoU of two integer boxes by counting pixels."""
    a, b = pixels(one), pixels(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def best_pixel_iou(box, truths):
    return max((pixel_iou(box, truth) for truth in truths), default=0.0) if box is not None else 0.0


def top_k_error(logits, labels, boxes, truths, k, level=0.5):
    """Percent of images where the true class is not among the k best, or its box misses every truth."""
    wrong = 0
    for row, label, box, truth in zip(logits, labels, boxes, truths, strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        wrong += not (label in order[:k] and best_pixel_iou(box, truth) >= level)
    return 100 * wrong / len(labels)


def max_box_accuracy(planes, truths, thresholds, level=0.5):
    """The best accuracy over thresholds, in percent, and its first threshold."""
    best, where = -1.0, None
    for threshold in thresholds:
        hits = 0
        for plane, truth in zip(planes, truths, strict=True):
            hits += best_pixel_iou(box_at(plane, threshold), truth) >= level
        if 100 * hits / len(planes) > best:
            best, where = 100 * hits / len(planes), threshold
    return best, where
