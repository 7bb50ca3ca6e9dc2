from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.boxes import best_pixel_iou, box_at, max_box_accuracy, top_k_error

from explain.localization.metrics import (
    Score,
    best_ious,
    centre_boxes,
    classification_error,
    gt_known,
    max_box_acc,
    proportion,
    top_loc_error,
)

THRESHOLDS = np.arange(20) / 20


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
        # n = p n: 1 / (1 + z^2) and the like
        (1, 1, 100 / (1 + 3.841459), 100.0),
        (0, 10, 0.0, 100 * 3.841459 / 13.841459),
    ],
)
def test_wilson_intervals(hits, n, low, high):
    score = proportion(np.arange(n) < hits)
    assert score.value == pytest.approx(100 * hits / n)
    assert score.low == pytest.approx(low, abs=0.006)
    assert score.high == pytest.approx(high, abs=0.006)
    # The bounds solve |p - q| = z sqrt(q (1 - q) / n).
    for bound in (score.low, score.high):
        q = bound / 100
        if 0 < q < 1:
            assert abs(hits / n - q) == pytest.approx(1.959964 * math.sqrt(q * (1 - q) / n), abs=1e-6)


def test_scores_of_nothing():
    assert proportion(np.zeros(0, bool)) == Score(0.0, 0.0, 100.0, 0)
    assert max_box_acc(np.zeros((0, 3)))[0].n == 0
    assert str(proportion(np.array([True]))) == "100.0 [20.7, 100.0]"


def made(seed, n=12, classes=7):
    """Integer maps, boxes, labels and logits of n images."""
    rng = np.random.default_rng(seed)
    planes = rng.integers(-1, 20, (n, 6, 7)).astype(np.float32)
    truths = []
    for _ in range(n):
        rows = []
        for _ in range(rng.integers(1, 3)):
            x0, y0 = rng.integers(0, 3, 2)
            rows.append((int(x0), int(y0), int(x0 + rng.integers(2, 5)), int(y0 + rng.integers(2, 4))))
        truths.append(rows)
    logits = rng.permuted(np.tile(np.arange(classes), (n, 1)), axis=1)
    return planes, truths, rng.integers(0, classes, n), logits


def measured(planes, truths):
    """IoU with the best truth at every threshold, from the oracle's boxes."""
    return np.array(
        [
            [best_pixel_iou(box_at(plane, share), rows) for share in THRESHOLDS]
            for plane, rows in zip(planes, truths, strict=True)
        ]
    )


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_max_box_acc_is_the_literal_loop(seed):
    planes, truths, _, _ = made(seed)
    score, index = max_box_acc(measured(planes, truths), 0.5, replicates=20)
    best, where = max_box_accuracy(planes, truths, THRESHOLDS)
    assert score.value == pytest.approx(best)
    assert THRESHOLDS[index] == where
    assert score.low <= score.value <= score.high


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 5]))
def test_top_k_localization_error_is_the_literal_loop(seed, k):
    planes, truths, labels, logits = made(seed)
    boxes = [box_at(plane, 0.2) for plane in planes]
    iou = np.array([best_pixel_iou(box, rows) for box, rows in zip(boxes, truths, strict=True)])
    ranks = np.array([(row > row[label]).sum() for row, label in zip(logits, labels, strict=True)])
    assert top_loc_error(iou, ranks, k).value == pytest.approx(top_k_error(logits, labels, boxes, truths, k))
    assert gt_known(iou).value == pytest.approx(100 - top_k_error(logits, labels, boxes, truths, logits.shape[1]))
    assert classification_error(ranks, k).value == pytest.approx(100 * np.mean(ranks >= k))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_best_ious_count_pixels(seed):
    planes, truths, _, _ = made(seed, n=4)
    for plane, rows in zip(planes, truths, strict=True):
        boxes = [box_at(plane, share) or (0, 0, 0, 0) for share in THRESHOLDS]
        expected = [best_pixel_iou(box, rows) for box in boxes]
        assert best_ious(np.array(boxes), np.array(rows, np.float64)).tolist() == pytest.approx(expected)
    assert best_ious(np.zeros((3, 4)), np.zeros((0, 4))).tolist() == [0, 0, 0]


def test_an_iou_at_the_level_is_right():
    assert gt_known(np.array([0.5, 0.4999999])).value == 50


def test_the_interval_of_max_box_acc_is_repeatable_and_covers():
    rng = np.random.default_rng(0)
    ious = rng.random((200, 10))
    first, again, other = (max_box_acc(ious, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again != other
    assert first.low < first.value < first.high
    assert 5 < first.high - first.low < 20  # about 2 * 1.96 * sqrt(.25 / 200) = 14, less for the best of ten
    assert max_box_acc(np.ones((9, 3)))[0] == Score(100.0, 100.0, 100.0, 9)
    assert max_box_acc(np.array([[0.0, 1.0, 1.0]]))[1] == 1  # the first of the best


def test_centre_boxes():
    boxes = centre_boxes((40, 60), np.array([0.0, 0.2, 0.99]))
    assert boxes[0].tolist() == [0, 0, 60, 40]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert area[1] == pytest.approx(1200)  # half of the image at the paper's threshold
    assert area[2] < area[1]
    assert np.allclose((boxes[:, :2] + boxes[:, 2:]) / 2, [30, 20])
    # The box where the Gaussian is above the share of its maximum, along the middle row.
    x = (np.arange(60000) + 0.5) / 60000 - 0.5
    sigma = math.sqrt(0.5) / 2 / math.sqrt(2 * math.log(5))
    above = x[np.exp(-(x**2) / (2 * sigma**2)) > 0.2]
    assert boxes[1, 2] / 60 - 0.5 == pytest.approx(above.max(), abs=1e-4)
