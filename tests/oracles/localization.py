"""Localization protocols as the field's own code has them, slow and literal: one map, one threshold, one box at a time.

Published boxes are the numbers of the data set (x0, y0, x1, y1), as each code reads them; sizes are (height, width).
"""

from __future__ import annotations

import io
import math

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt
from skimage.measure import label

# Resizing, by the definition: every output pixel is a weighted mean of input pixels around its own centre.


def triangle(x):
    return max(0.0, 1 - abs(x))


def keys(a):
    """Keys' cubic: OpenCV's and torch's with a = -0.75, MATLAB's and Pillow's with a = -0.5."""

    def kernel(x):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    return kernel


def weights(old, new, kernel, reach, *, antialias=False, mirrored=False):
    """(new, old): how much each input pixel counts in each output pixel."""
    scale = new / old
    stretch = min(1.0, scale) if antialias else 1.0
    table = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) / scale - 0.5
        first, last = math.floor(centre - reach / stretch), math.ceil(centre + reach / stretch)
        taps = [(j, kernel((centre - j) * stretch)) for j in range(first, last + 1)]
        total = sum(weight for _, weight in taps)
        for j, weight in taps:
            if mirrored:
                j %= 2 * old
                j = 2 * old - 1 - j if j >= old else j
            table[i, min(max(j, 0), old - 1)] += weight / total
    return table


def resized(plane, size, how):
    """Resize ``(h, w)``: "bilinear", "bicubic" (OpenCV: borders repeated) or "matlab" (imresize: borders mirrored)."""
    options = {
        "bilinear": (triangle, 1, {}),
        "bicubic": (keys(-0.75), 2, {}),
        "matlab": (keys(-0.5), 2, {"antialias": True, "mirrored": True}),
    }
    kernel, reach, more = options[how]
    rows, columns = (weights(old, new, kernel, reach, **more) for old, new in zip(plane.shape, size, strict=True))
    return rows @ np.asarray(plane, np.float64) @ columns.T


# Planes: what is thresholded.


def minmax(plane):
    """0 … 1; a flat map is all zeros."""
    low, high = plane.min(), plane.max()
    return np.zeros_like(plane) if low == high else (plane - low) / (high - low)


def wsol_plane(raw, size):
    return minmax(resized(raw, size, "bicubic"))


def tscam_plane(raw, size):
    return minmax(resized(raw, size, "bilinear"))


def bas_plane(raw, size):
    """Scaled to 0 … 1 at the map's own resolution, then resized."""
    return resized(minmax(np.asarray(raw, np.float64)), size, "bilinear")


def paper_plane(raw, size, *, relu=False):
    return resized(np.maximum(raw, 0) if relu else raw, size, "bilinear")


def released_plane(raw, input_size, size):
    """ILSVRC_generate_heatmap.m without its ten crops; what imwrite makes of values below 0 is 0."""
    large = resized(np.abs(resized(raw, input_size, "matlab")), size, "matlab")
    return np.maximum(large / large.max(), 0) if large.max() > 0 else np.zeros_like(large)


def jpeg(plane):
    """8 bit, rounded, written as JPEG of quality 75 and read again."""
    file = io.BytesIO()
    Image.fromarray((np.clip(plane, 0, 1) * 255 + 0.5).astype(np.uint8)).save(file, "JPEG", quality=75)
    return np.array(Image.open(io.BytesIO(file.getvalue())))


# Boxes, as the codes write them.


def levels(plane):
    return (plane * 255).astype(np.uint8)


def contours_of(eight, level, *, every):
    """(x, y, x + w, y + h) of the largest contour of ``eight > level``, or of all of them."""
    _, mask = cv2.threshold(eight, level, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if contours and not every:
        contours = [max(contours, key=cv2.contourArea)]
    return [(x, y, x + w, y + h) for x, y, w, h in map(cv2.boundingRect, contours)]


def wsol_boxes(eight, threshold, *, every):
    height, width = eight.shape
    rows = contours_of(eight, int(threshold * eight.max()), every=every)
    return [(x0, y0, min(x1, width - 1), min(y1, height - 1)) for x0, y0, x1, y1 in rows] or [(0, 0, 0, 0)]


def tscam_box(eight, threshold):
    return (contours_of(eight, int(threshold * eight.max()), every=False) or [(0, 0, 1, 1)])[0]


def component_box(mask):
    """The 8-connected component with most pixels, the first in raster order of several; None without any."""
    numbers = label(mask, connectivity=2)
    counts = {}
    for number in numbers.ravel().tolist():
        if number:
            counts[number] = counts.get(number, 0) + 1
    if not counts:
        return None
    best = max(counts, key=lambda number: counts[number])
    rows, columns = np.nonzero(numbers == best)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def bas_box(plane, threshold):
    height, width = plane.shape
    return component_box(plane > threshold) or (0, 0, width, height)


def paper_box(plane, threshold):
    """Above a share of the maximum, compared in the plane's own precision."""
    top = plane.max()
    return component_box(plane > plane.dtype.type(threshold) * top) if top > 0 else None


def shrunk(mask):
    """dt_binary and the threshold after it: 255 where the distance, scaled to 255, is above 10."""
    if mask.all() or not mask.any():
        return np.where(mask, 255, 0).astype(np.uint8)
    near = distance_transform_edt(mask)
    return np.where((near * (255 / near.max()) + 0.5).astype(np.int64) > 10, 255, 0).astype(np.uint8)


def limit(value, low, high):
    return low if value < low else min(value, high)


def released_rows(grey, shares=(20, 100, 110)):
    """(x, y, width, height) of dt_box.cpp with an OpenCV that clears the outermost pixels; sides may be negative."""
    height, width = grey.shape
    rows = []
    for share in shares:
        mask = shrunk(grey > share)
        mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = 0
        for contour in cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]:
            x, y, w, h = cv2.boundingRect(contour)
            rows.append(
                (
                    limit(x, 0, width - 5),
                    limit(y, 0, height - 5),
                    limit(w, 0, width - x - 5),
                    limit(h, 0, height - y - 5),
                )
            )
    rows = sorted(rows, key=lambda row: -row[2] * row[3])
    i = 0
    while i < len(rows):
        j = i + 1
        while j < len(rows):
            a, b = rows[i], rows[j]
            wide = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
            high = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
            if wide * high > int(max(a[2] * a[3], b[2] * b[3]) * 0.5):
                rows.pop(j)
            j += 1
        i += 1
    return rows


def released_boxes(grey):
    """The boxes as ILSVRC_evaluate_bbox.m orders their corners, without those that have no pixel."""
    corners = [(x, y, x + w, y + h) for x, y, w, h in released_rows(grey) if w > 0 and h > 0]
    return [(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in corners]


# Published boxes in each code's frame.


def wsol_truth(box, image, size):
    """``int(x * new / old)`` of every edge."""
    per = [(size[1], image[1]), (size[0], image[0])] * 2
    return tuple(int(float(edge) * float(new) / float(old)) for edge, (new, old) in zip(box, per, strict=True))


def tscam_truth(box, image, size):
    """``int(x / old * new)``, kept within the picture."""
    x0, y0, x1, y1 = box
    (height, width), (h, w) = image, size
    return (
        int(max(x0 / width * w, 0)),
        int(max(y0 / height * h, 0)),
        int(min(x1 / width * w, w - 1)),
        int(min(y1 / height * h, h - 1)),
    )


def bas_truth(box, image, wide, crop):
    """To the squashed picture, cut to its centre, over the crop's side and back."""
    found = []
    for place, edge in enumerate(box):
        axis = 1 - place % 2
        corner = round((wide[axis] - crop[axis]) / 2)
        edge = edge * (wide[axis] / image[axis])
        edge = max(corner, edge) if place < 2 else min(corner + crop[axis], edge)
        found.append((edge - corner) / crop[axis] * crop[axis])
    return tuple(found)


# IoU.


def overlap(a, b, plus):
    """``plus`` 1: boxes hold their last row and column; 0: they end before them."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + plus
    h = min(a[3], b[3]) - max(a[1], b[1]) + plus
    if w <= 0 or h <= 0:
        return 0.0
    union = (a[2] - a[0] + plus) * (a[3] - a[1] + plus) + (b[2] - b[0] + plus) * (b[3] - b[1] + plus) - w * h
    return w * h / union if union > 0 else 0.0


def best(boxes, truths, plus):
    return max((overlap(a, b, plus) for a in boxes for b in truths), default=0.0)


# Scores.


def first_tau(hits_at):
    """The best share of images over thresholds in percent, and its first threshold: hits ``[image][threshold]``."""
    n, steps = len(hits_at), len(hits_at[0])
    top, where = -1.0, 0
    for t in range(steps):
        share = 100 * sum(row[t] for row in hits_at) / n
        if share > top:
            top, where = share, t
    return top, where


def devkit_error(guesses, truths, labels, blacklisted):
    """Localization error in percent of (class, box) guesses per image; boxes inclusive; ``>= 0.5`` is right."""
    wrong = 0.0
    for row, boxes, wanted, skip in zip(guesses, truths, labels, blacklisted, strict=True):
        if skip:
            continue
        errors = []
        for number, box in row:
            if number != wanted:
                errors.append(1)
            else:
                errors.append(min(int(overlap(box, truth, 1) < 0.5) for truth in boxes) if box is not None else 1)
        wrong += min(errors)
    return 100 * wrong / (len(labels) - sum(blacklisted))


def per_class(values, labels):
    """The mean over classes of each class's mean, in percent."""
    rows = {}
    for value, number in zip(values, labels, strict=True):
        rows.setdefault(number, []).append(float(value))
    return 100 * sum(sum(row) / len(row) for row in rows.values()) / len(rows)


def histogram(plane, mask, steps):
    """PxAP's two histograms, by numpy.histogram and the edges of the reference."""
    edges = np.append(np.arange(0, 1, 1 / steps), [1.0, 2.0, 3.0])
    return np.stack([np.histogram(plane[mask == value], bins=edges)[0] for value in (1, 0)])


def pixel_ap(histograms):
    """The area under precision and recall from the highest threshold down."""
    right = wrong = 0
    total, area, before = histograms[0].sum(), 0.0, 0.0
    for k in reversed(range(histograms.shape[1])):
        right, wrong = right + histograms[0, k], wrong + histograms[1, k]
        if right + wrong:
            area += right / (right + wrong) * (right / total - before)
        before = right / total
    return 100 * area


# What is wrong with a box, by counting pixels of whole-numbered boxes.


def cells(box):
    x0, y0, x1, y1 = box
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


def kind(box, truths, *, right, first):
    """TS-CAM's kinds in its order; a wrong class is told only where the box is right."""
    if right:
        return "right" if first else "misclassified"
    if box is None:
        return "no box"
    own = cells(box)
    covered = [len(own & cells(truth)) / len(cells(truth)) for truth in truths]
    if sum(share > 0.3 for share in covered) > 1:
        return "multi-instance"
    ious = [len(own & cells(truth)) / len(own | cells(truth)) for truth in truths]
    best = ious.index(max(ious))
    if len(own & cells(truths[best])) / len(own) > 0.5:
        return "part"
    return "more" if covered[best] >= 0.7 else "background"


# Maps to try all this on.


def cam_like(rng, grid):
    """White noise with a bump, as the maps of a network look."""
    y, x = np.indices(grid)
    centre = rng.uniform(0, 1, 2) * grid
    reach = max(1.0, rng.uniform(0.15, 0.4) * min(grid))
    bump = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * reach**2))
    return (rng.normal(0, 0.4, grid) + rng.uniform(1, 3) * bump).astype(np.float32)


def nasty_maps(rng, grid):
    """Flat, zero, negative, one pixel, the maximum in a corner, several components, holes, two values, huge, tiny."""
    flat, spot = np.full(grid, 0.7), np.zeros(grid)
    spot[rng.integers(grid[0]), rng.integers(grid[1])] = 3
    corner = rng.uniform(0, 1, grid)
    corner[0, -1] = 2
    hole = np.ones(grid)
    hole[1:-1, 1:-1] = rng.uniform(0, 0.1, (grid[0] - 2, grid[1] - 2))
    found = [
        flat,
        np.zeros(grid),
        -flat,
        -rng.uniform(0.1, 1, grid),
        spot,
        corner,
        hole,
        rng.integers(0, 2, grid),
        rng.normal(0, 1, grid),
        rng.normal(0, 1e20, grid),
        rng.normal(0, 1e-20, grid),
        rng.integers(-2, 3, grid),
    ]
    return [plane.astype(np.float32) for plane in found]
