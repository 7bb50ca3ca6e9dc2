"""One image under one protocol: published boxes in the protocol's frame, the map's boxes, and all that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import DataError, InputError
from explain.localization.boxes import map_size
from explain.localization.planes import Swept, box_curve, planes_of, sweep_plane
from explain.localization.protocols import Protocol
from explain.maps import Cells
from explain.types import Geometry, LocalizationSet

__all__ = [
    "BUDGETS",
    "Frame",
    "frame_of",
    "iou_table",
    "mask_of",
    "pixel_histogram",
    "pointing_and_energy",
    "score_boxes",
    "score_image",
    "score_images",
    "truth_in",
]

BUDGETS = (1, 5)
"""Boxes per image, largest first, whose precision and recall are recorded."""


Record = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Frame:
    """Where one image's maps are thresholded."""

    size: tuple[int, int]
    """(height, width) of the plane."""
    scale: tuple[float, float]
    """(y, x): pixels of the image (of the data's frame) per pixel of the plane."""
    offset: tuple[float, float]
    """(y, x): where the plane begins, in pixels of the image."""

    def to_image(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move boxes ``(n, 4)`` of the plane to the image."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        moved: NDArray[np.float64] = boxes * np.array([sx, sy, sx, sy]) + np.array([ox, oy, ox, oy])
        return moved

    def from_image(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move boxes ``(n, 4)`` of the image to the plane."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        moved: NDArray[np.float64] = (boxes - np.array([ox, oy, ox, oy])) / np.array([sx, sy, sx, sy])
        return moved


def frame_of(rules: Protocol, image: tuple[int, int], geometry: Geometry | None, input_size: tuple[int, int]) -> Frame:
    """Return the frame of an image of (height, width); ``geometry`` None: the image is the input.

    Raises
    ------
    InputError
        The protocol wants the whole picture squashed to the input, and the transform crops.
    """
    if geometry is None:
        return Frame(input_size, (1.0, 1.0), (0.0, 0.0))
    if rules.frame == "original":
        top, left, _, _ = geometry.region
        return Frame(map_size(geometry, input_size), (1.0, 1.0), (float(top), float(left)))
    if geometry.covers == rules.crop:
        wanted = "a centre crop of the squashed picture" if rules.crop else "the whole picture, squashed"
        raise InputError(f"protocol {rules.name} shows the network {wanted}, and the transform does not")
    return Frame(input_size, geometry.scale, geometry.offset)


def truth_in(frame: Frame, rules: Protocol, data: LocalizationSet, index: int) -> NDArray[np.float64]:
    """Return the boxes ``(m, 4)`` of image ``index`` as the protocol calculates with them.

    Half-open where it takes areas as they are; else the numbers that the data set publishes.
    """
    boxes = _chosen(data.boxes[index], rules)
    if rules.edges != "half-open" and data.edges == "inclusive":
        boxes = boxes - np.array([0.0, 0.0, 1.0, 1.0])
    elif rules.edges != "half-open":  # wsolevaluation's CUB corners: x + width, inside the image
        height, width = data.sizes[index]
        boxes = np.minimum(boxes, np.array([np.inf, np.inf, width - 1, height - 1]))
    if rules.truth == "truncated":  # the order of operations counts: the quotient may be a whole number
        height, width = data.sizes[index]
        per = np.array([frame.size[1], frame.size[0]] * 2, np.float64)
        cut: NDArray[np.float64] = np.trunc(boxes * per / np.array([width, height] * 2, np.float64))
        return cut
    moved = frame.from_image(boxes)
    if rules.truth == "clipped":
        moved = moved.clip(0, np.array([frame.size[1], frame.size[0]] * 2))
    return moved


def _chosen(boxes: NDArray[np.float64], rules: Protocol) -> NDArray[np.float64]:
    if rules.instances == "first":
        return boxes[:1]
    if rules.instances == "largest" and len(boxes) > 1:
        largest = int((boxes[:, 2:] - boxes[:, :2]).prod(1).argmax())
        return boxes[largest : largest + 1]
    return boxes


def score_images(
    values: Tensor,
    rules: Protocol,
    data: LocalizationSet,
    indices: Sequence[int],
    geometries: tuple[Geometry, ...] | None,
    input_size: tuple[int, int],
    cells: Cells | None = None,
) -> Record:
    """Return the records of raw maps ``(n, h, w)`` of images ``indices``, stacked; see `score_image`."""
    frames = [
        frame_of(rules, data.sizes[index], geometries[row] if geometries is not None else None, input_size)
        for row, index in enumerate(indices)
    ]
    found: list[Record] = []
    same = len({frame.size for frame in frames}) == 1
    planes = planes_of(values, rules, frames[0].size, input_size, cells) if same else None
    for row, (index, frame) in enumerate(zip(indices, frames, strict=True)):
        plane = (
            planes[row]
            if planes is not None
            else planes_of(values[row : row + 1], rules, frame.size, input_size, cells)[0]
        )
        found.append(score_image(plane, frame, rules, data, index))
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def score_image(plane: NDArray[np.float64], frame: Frame, rules: Protocol, data: LocalizationSet, index: int) -> Record:
    """Return what is recorded of one image.

    Returns
    -------
    dict of arrays
        ``ious (t,)``, ``counts (t,)``, ``at_fixed (j,)``: see `explain.localization.planes.Curve`; ``box (4,)``: the
        first box at the fixed threshold in pixels of the image, NaN where there is none; ``pointing ()``: whether the
        maximum lies in a box; ``energy ()``: the share of what is positive that lies in the boxes; ``budget (2, 2)``:
        of the first 1 and 5 boxes, how many are right and how many of the image's boxes they find; ``shown ()``,
        ``truths ()``: how many there are. With masks ``pixels (2, t + 2)``: histogram of the object's and of other
        pixels.
    """
    record = score_boxes(sweep_plane(plane, rules), frame, rules, data, index)
    record |= pointing_and_energy(plane, frame.from_image(data.boxes[index]))
    if rules.masks:
        record["pixels"] = pixel_histogram(plane, mask_of(data, index, plane.shape), rules.threshold_steps)
    return record


def score_boxes(swept: Swept, frame: Frame, rules: Protocol, data: LocalizationSet, index: int) -> Record:
    """Return the part of `score_image` that boxes alone decide."""
    truth = truth_in(frame, rules, data, index)
    curve = box_curve(swept, rules, truth)
    return {
        "ious": curve.ious,
        "counts": curve.counts,
        "at_fixed": curve.at_fixed,
        "box": frame.to_image(curve.fixed[:1])[0] if len(curve.fixed) else np.full(4, np.nan),
        "shown": np.array(len(curve.fixed), np.int32),
        "truths": np.array(len(truth), np.int32),
        "budget": _budget(curve.fixed, truth, rules),
    }


def pointing_and_energy(plane: NDArray[np.float64], boxes: NDArray[np.float64]) -> Record:
    """Pointing game (Zhang et al. 2016) and its energy-based form (Wang et al. 2020), against boxes of the plane."""
    height, width = plane.shape
    inside = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in np.ceil(boxes - 0.5).clip(0).astype(int):  # pixels whose centre lies in a box
        inside[y0:y1, x0:x1] = True
    positive = plane.clip(0)
    total = float(positive.sum(dtype=np.float64))
    share = float(positive[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0
    hit = bool(inside.flat[int(plane.argmax())]) and total > 0
    return {"pointing": np.array(hit), "energy": np.array(share)}


def _budget(boxes: NDArray[np.float64], truth: NDArray[np.float64], rules: Protocol) -> NDArray[np.int32]:
    """Return, for the first boxes of each of `BUDGETS`, how many are right, and how many of the truth they find."""
    plus = 0.0 if rules.edges == "half-open" else 1.0
    hits = iou_table(boxes[: max(BUDGETS)], truth, plus) >= rules.iou
    return np.array([[hits[:n].any(1).sum(), hits[:n].any(0).sum()] for n in BUDGETS], np.int32)


def iou_table(boxes: NDArray[np.float64], truth: NDArray[np.float64], plus: float = 0.0) -> NDArray[np.float64]:
    """Return the IoU ``(n, m)`` of boxes; ``plus`` 1 counts the last row and column of each."""
    a, b = boxes[:, None].astype(np.float64), truth[None].astype(np.float64)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + plus, 0, None)
    shared = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2] + plus).prod(-1) + (b[..., 2:] - b[..., :2] + plus).prod(-1) - shared
    found: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def mask_of(data: LocalizationSet, index: int, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an image's objects ``(h, w)``: 1 object, 0 background, 255 ignored.

    Raises
    ------
    DataError
        The data have no masks.
    """
    if data.masks is None:
        raise DataError(f"{data.name} has no masks: this protocol scores pixels (use one that scores boxes)")
    return data.masks(index, (size[0], size[1]))


def pixel_histogram(plane: NDArray[np.float64], mask: NDArray[np.uint8], steps: int) -> NDArray[np.int64]:
    """Return how many pixels of the object (row 0) and of the background (row 1) fall in each bin, ``(2, steps + 2)``.

    Bin ``k`` holds ``k / steps <= value < (k + 1) / steps``, bin ``steps`` holds 1 (Choe et al. 2020, section 4.2);
    pixels that the mask ignores (255) are left out. ``plane`` is within 0…1.
    """
    edges = np.arange(steps) * (1 / steps)
    near = np.minimum((plane * steps).astype(np.int64), steps - 1)
    # The product may round across an edge; the edges themselves decide.
    near += (near + 1 < steps) & (plane >= edges[np.minimum(near + 1, steps - 1)])
    near -= plane < edges[near]
    near[plane >= 1] = steps
    kept = mask != 255
    joint = np.bincount(near[kept] + (steps + 2) * (mask[kept] != 1), minlength=2 * (steps + 2))
    return joint.reshape(2, steps + 2)
