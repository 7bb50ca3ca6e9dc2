"""Slow and literal measures of faithfulness, from the papers, in numpy; one image and one class at a time.

``probability`` is a function of an image ``(c, h, w)`` that returns the probability of the class.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np


def falling_order(plane):
    """Pixels (row, column) by falling value; the planes of the tests have no ties."""
    places = [(y, x) for y in range(plane.shape[0]) for x in range(plane.shape[1])]
    return sorted(places, key=lambda place: -plane[place])


def perturbation_curve(probability, start, finish, plane, steps):
    """RISE: start from one image and turn it into the other, pixel by pixel, the most salient first."""
    order = falling_order(plane)
    image, done, curve = start.copy(), 0, [probability(start)]
    for step in range(1, steps + 1):
        upto = int(np.round(step * len(order) / steps))
        for y, x in order[done:upto]:
            image[:, y, x] = finish[:, y, x]
        done = upto
        curve.append(probability(image))
    return curve


def trapezoids(curve):
    """Area under equally spaced values over 0…1."""
    return sum((a + b) / 2 for a, b in pairwise(curve)) / (len(curve) - 1)


def average_drop(whole, masked):
    """Grad-CAM++, section IV-A: ``max(0, Y - O) / Y`` in percent."""
    return 100 * max(0.0, whole - masked) / whole


def explanation(image, plane):
    """Grad-CAM++: ``E = L * I`` with ``L`` rectified and scaled to 0…1."""
    out = np.zeros_like(image)
    top = plane.max()
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            share = max(0.0, plane[y, x]) / top if top > 0 else 0.0
            out[:, y, x] = image[:, y, x] * share
    return out


def impute(image, missing):
    """ROAD, section 4.2: each missing pixel is the weighted mean of its neighbours; one dense linear system."""
    height, width = missing.shape
    places = [tuple(place) for place in np.argwhere(missing)]
    number = {place: n for n, place in enumerate(places)}
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), image.shape[0]))
    for n, (y, x) in enumerate(places):
        for v in (-1, 0, 1):
            for u in (-1, 0, 1):
                place = (y + v, x + u)
                if (v, u) == (0, 0) or not (0 <= place[0] < height and 0 <= place[1] < width):
                    continue
                weight = 1 / 6 if v == 0 or u == 0 else 1 / 12
                matrix[n, n] += weight
                if place in number:
                    matrix[n, number[place]] -= weight
                else:
                    right[n] += weight * image[:, place[0], place[1]]
    out = image.copy()
    solution = np.linalg.solve(matrix, right)
    for n, (y, x) in enumerate(places):
        out[:, y, x] = solution[n]
    return out


def blur(image, sigma, radius):
    """A Gaussian cut at ``radius`` pixels, borders repeated."""
    height, width = image.shape[1:]
    out = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            total = 0.0
            for v in range(-radius, radius + 1):
                for u in range(-radius, radius + 1):
                    weight = math.exp(-(v * v + u * u) / (2 * sigma**2))
                    total += weight
                    row, column = min(max(y + v, 0), height - 1), min(max(x + u, 0), width - 1)
                    out[:, y, x] += weight * image[:, row, column]
            out[:, y, x] /= total
    return out


def mean_ranks(values):
    """Ranks from 1; equal values share the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def spearman(one, other):
    """Pearson's correlation of the ranks."""
    a, b = (np.array(mean_ranks(list(np.ravel(plane)))) for plane in (one, other))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def ssim(one, other, width=11, sigma=1.5):
    """Wang et al. 2004, eq. 13-16, on planes scaled to 0…1 each; the mean over windows that fit."""
    x, y = ((plane - plane.min()) / (plane.max() - plane.min()) for plane in (one, other))
    radius = width // 2
    weights = np.array(
        [
            [math.exp(-(v * v + u * u) / (2 * sigma**2)) for u in range(-radius, radius + 1)]
            for v in range(-radius, radius + 1)
        ]
    )
    weights /= weights.sum()
    found = []
    for row in range(x.shape[0] - width + 1):
        for column in range(x.shape[1] - width + 1):
            a, b = (plane[row : row + width, column : column + width] for plane in (x, y))
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            covariance = (weights * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append((2 * ma * mb + c1) * (2 * covariance + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(found))
