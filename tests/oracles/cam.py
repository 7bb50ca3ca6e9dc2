"""Slow and literal class activation maps, from Zhou et al. (2016), section 2, and bilinear upsampling."""

from __future__ import annotations

import math

import numpy as np


def cam_eq2(features, weights):
    """``M_c(x, y) = sum_k w_k^c f_k(x, y)``: features ``(K, h, w)``, weights of one class ``(K,)``."""
    channels, height, width = features.shape
    plane = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            for k in range(channels):
                plane[y][x] += float(weights[k]) * float(features[k, y, x])
    return np.array(plane)


def score_eq1(features, weights):
    """``S_c = sum_k w_k^c F_k`` with ``F_k = sum_xy f_k(x, y)``."""
    score = 0.0
    for k in range(len(features)):
        pooled = 0.0
        for value in np.ravel(features[k]):
            pooled += float(value)
        score += float(weights[k]) * pooled
    return score


def bilinear(plane, size):
    """Upsample ``(h, w)``: pixel centres map to pixel centres (``align_corners=False``), borders repeat."""
    old_height, old_width = plane.shape
    height, width = size
    out = np.zeros(size)
    for y in range(height):
        for x in range(width):
            v = max((y + 0.5) * old_height / height - 0.5, 0.0)
            u = max((x + 0.5) * old_width / width - 0.5, 0.0)
            top, left = math.floor(v), math.floor(u)
            for row, row_share in ((top, 1 - (v - top)), (top + 1, v - top)):
                for column, column_share in ((left, 1 - (u - left)), (left + 1, u - left)):
                    value = plane[min(row, old_height - 1), min(column, old_width - 1)]
                    out[y, x] += row_share * column_share * float(value)
    return out
