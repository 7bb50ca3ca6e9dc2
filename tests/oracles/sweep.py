"""wsolevaluation's rule, literally: threshold, findContours, one by one (Choe et al. 2020)."""

import cv2
import numpy as np


def eight_bit(values):
    return (np.asarray(values, np.float64) * 255).astype(np.uint8)


def boxes_at(eight, threshold, *, every):
    """All contours' boxes (x, y, x + w, y + h), or the largest one's, of an 8-bit map at a share of its maximum."""
    _, mask = cv2.threshold(eight, int(threshold * eight.max()), 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    if not every:
        contours = [max(contours, key=cv2.contourArea)]
    return [(x, y, x + w, y + h) for x, y, w, h in map(cv2.boundingRect, contours)]


def published_iou(boxes, truth, shape):
    """The best inclusive IoU of boxes, cut off as the reference does, with inclusive published boxes."""
    height, width = shape
    rows = [(x0, y0, min(x1, width - 1), min(y1, height - 1)) for x0, y0, x1, y1 in boxes] or [(0, 0, 0, 0)]
    best = 0.0
    for a in rows:
        for b in truth:
            w = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
            h = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
            area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - w * h
            best = max(best, w * h / area if area > 0 else 0.0)
    return best
