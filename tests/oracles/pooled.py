"""Slow and literal: the head of the CAM paper's networks (Zhou et al. 2016, sections 2 and 3.1)."""

from __future__ import annotations

import numpy as np


def convolution_relu(plane, weight, bias):
    """3x3 convolution, stride 1, padding 1, then ReLU: ``(c, h, w)`` and ``(u, c, 3, 3)`` → ``(u, h, w)``."""
    channels, height, width = plane.shape
    out = np.zeros((len(weight), height, width))
    for unit in range(len(weight)):
        for y in range(height):
            for x in range(width):
                total = float(bias[unit])
                for k in range(channels):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= y + dy < height and 0 <= x + dx < width:
                                total += float(weight[unit, k, dy + 1, dx + 1]) * float(plane[k, y + dy, x + dx])
                out[unit, y, x] = max(total, 0.0)
    return out


def pooled_scores(units, weight, bias, pool):
    """``S_c = sum_k w_k^c F_k + b_c``, ``F_k`` the mean (GAP) or the maximum (GMP) of unit ``k``'s map."""
    scores = []
    for c in range(len(weight)):
        total = float(bias[c])
        for k in range(len(units)):
            values = [float(value) for row in units[k] for value in row]
            total += float(weight[c, k]) * (sum(values) / len(values) if pool == "avg" else max(values))
        scores.append(total)
    return np.array(scores)
