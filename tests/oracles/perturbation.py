"""Slow and literal Score-CAM (Wang et al. 2020, algorithm 1) and Ablation-CAM (Desai and Ramaswamy 2020, eq. 3-4)."""

from __future__ import annotations

import math

import numpy as np
from oracles.cam import bilinear


def score_cam_algorithm_1(features, image, score):
    """Map of one class: features ``(K, h, w)``, image ``(C, H, W)``, ``score(image) -> float``; black baseline."""
    height, width = image.shape[1:]
    baseline = score(np.zeros_like(image))
    contributions = []
    for plane in features:
        mask = bilinear(plane, (height, width))
        low, high = mask.min(), mask.max()
        if plane.max() == plane.min():
            mask = np.zeros((height, width))
        else:
            mask = (mask - low) / (high - low)
        masked = np.stack([channel * mask for channel in image])
        contributions.append(score(masked) - baseline)
    total = sum(math.exp(value) for value in contributions)
    weights = [math.exp(value) / total for value in contributions]
    return weighted(features, weights)


def ablation_cam_eq3(features, score):
    """Map of one class with a positive score: features ``(K, h, w)``, ``score(features) -> float``."""
    whole = score(features)
    weights = []
    for k in range(len(features)):
        ablated = features.copy()
        ablated[k] = 0
        weights.append((whole - score(ablated)) / whole)
    return weighted(features, weights)


def weighted(features, weights):
    """``ReLU(sum_k w_k A_k)``."""
    _, height, width = features.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            value = 0.0
            for k, weight in enumerate(weights):
                value += weight * float(features[k, y, x])
            out[y, x] = max(value, 0.0)
    return out
