"""Localization scores as pure functions of what was measured on each image, with intervals.

All scores are percentages. ``iou`` is the intersection over union of the predicted box with the best ground-truth
box of the image (any box of the labelled class counts); 0 where no box was predicted.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from explain.findings.scores import Score, proportion

__all__ = [
    "Score",
    "best_ious",
    "centre_boxes",
    "classification_error",
    "gt_known",
    "max_box_acc",
    "proportion",
    "top_loc_error",
]

CENTRE_SIGMA = sqrt(0.5) / 2 / sqrt(2 * np.log(5))
"""Spread of the centre baseline, as a share of the side: at 20 % of the maximum its box is half of the image."""


def classification_error(ranks: NDArray[np.int64], k: int) -> Score:
    """Return the top-``k`` classification error; ``ranks`` ``(n,)``: place of the true class, 0 is first."""
    return proportion(ranks >= k)


def gt_known(iou: NDArray[np.float64], level: float = 0.5) -> Score:
    """Return the share of images whose box *for the true class* reaches ``IoU >= level`` (GT-known localization)."""
    return proportion(iou >= level)


def top_loc_error(iou: NDArray[np.float64], ranks: NDArray[np.int64], k: int, level: float = 0.5) -> Score:
    """Return the top-``k`` localization error of ILSVRC (Zhou et al. 2016, table 2).

    An image is right when the true class is among the ``k`` best and *its* box reaches ``IoU >= level``; one box per
    class is predicted, so boxes of other classes cannot make it right.
    """
    return proportion(~((ranks < k) & (iou >= level)))


def max_box_acc(
    ious: NDArray[np.float64], level: float = 0.5, *, replicates: int = 1000, seed: int = 0
) -> tuple[Score, int]:
    """Return MaxBoxAcc (Choe et al. 2020, section 4.1): accuracy at the best threshold of the whole data set.

    The threshold is chosen on the very images that are scored (an oracle), so the interval re-chooses it in every
    bootstrap replicate over images.

    Parameters
    ----------
    ious
        ``(n, t)``: best IoU per image and threshold.

    Returns
    -------
    score, index
        The score and the index of the (first) best threshold.
    """
    hits = ious >= level
    n = len(hits)
    if n == 0:
        return Score(0.0, 0.0, 100.0, 0), 0
    counts = hits.sum(0)
    index = int(counts.argmax())
    generator = np.random.default_rng(seed)
    table = hits.astype(np.float32)
    best = np.empty(replicates)
    for start in range(0, replicates, 50):  # 50 at a time: 50,000 images stay within 30 MB
        size = min(50, replicates - start)
        weights = generator.multinomial(n, np.full(n, 1 / n), size=size)
        counts_of = weights.astype(np.float32) @ table  # whole numbers below 2^24: exact
        best[start : start + size] = counts_of.max(1).astype(np.float64) / n
    low, high = np.quantile(100 * best, [0.025, 0.975])
    value = 100 * int(counts[index]) / n
    return Score(value, min(float(low), value), max(float(high), value), n), index


def best_ious(boxes: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each box ``(t, 4)`` its IoU with the best of the ground-truth boxes ``(m, 4)``; half-open xyxy."""
    if len(truth) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes))
    a, b = boxes[:, None].astype(np.float64), truth[None].astype(np.float64)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    ious: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0).max(1)
    return ious


def centre_boxes(size: tuple[int, int], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the boxes ``(t, 4)`` of the centre baseline: a Gaussian in the middle of an image of (height, width).

    Its spread makes the box at 20 % of the maximum cover half of the image; other thresholds give every other
    centred box of the image's shape, so that its MaxBoxAcc does not depend on the spread.
    """
    with np.errstate(divide="ignore"):
        reach = CENTRE_SIGMA * np.sqrt(-2 * np.log(thresholds))
    half = np.minimum(reach, 0.5)
    height, width = size
    return np.stack([(0.5 - half) * width, (0.5 - half) * height, (0.5 + half) * width, (0.5 + half) * height], 1)
