"""Pasting, pixel by pixel, and the bootstrap over two crossed factors, draw by draw."""

from __future__ import annotations

import numpy as np


def pasted(photo, pixels, alpha, top, left):
    """Lay a cut-out that is already of the box's size into a photo: alpha-weighted means, rounded to the nearest."""
    result = photo.copy()
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            at = top + y, left + x
            if 0 <= at[0] < photo.shape[0] and 0 <= at[1] < photo.shape[1]:
                for colour in range(3):
                    share = int(alpha[y, x])
                    mixed = (share * int(pixels[y, x, colour]) + (255 - share) * int(photo[(*at, colour)])) / 255
                    result[(*at, colour)] = int(np.floor(mixed + 0.5))
    return result


def covered_share(alpha, top, left, photo):
    total = 0
    for y in range(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            if 0 <= top + y < photo[0] and 0 <= left + x < photo[1]:
                total += int(alpha[y, x]) / 255
    return total / (photo[0] * photo[1])


def pigeonhole_means(values, first, second, draws, seed):
    """Means of resampled tables: every image and every cut-out is drawn as often as its lot falls."""
    rng = np.random.default_rng(seed)
    ones, others = sorted(set(first)), sorted(set(second))
    means = []
    for _ in range(draws):
        images = [ones[k] for k in rng.integers(len(ones), size=len(ones))]
        cutouts = [others[k] for k in rng.integers(len(others), size=len(others))]
        drawn = [
            values[row]
            for image in images
            for cutout in cutouts
            for row in range(len(values))
            if first[row] == image and second[row] == cutout
        ]
        if drawn:
            means.append(np.mean(drawn))
    return means
