"""From a raw map to the plane that a protocol thresholds, and to boxes at every threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.localization._overlap import curve_of_boxes, curve_of_components
from explain.localization._union import levels_of
from explain.localization.protocols import Protocol
from explain.localization.released import jpeg_grey, released_boxes
from explain.localization.sweep import level_of, quantised, sweep_all, sweep_largest
from explain.maps import Cells, normalize_maps, resize_aligned, resize_maps

__all__ = ["Curve", "Swept", "box_curve", "masks_of", "of_boxes", "planes_of", "sweep_plane", "thresholds_of"]

_TOP = 255


@dataclass(frozen=True)
class Swept:
    """Every box that one plane gives, half-open, in pixels of the plane."""

    boxes: NDArray[np.float64]
    """``(m, 4)``."""
    spans: NDArray[np.int64]
    """``(m, 2)``: the first and last mask that has the box."""
    order: NDArray[np.int64]
    """``(m,)``: the box of a mask with the largest number comes first."""
    column: NDArray[np.int64]
    """``(t,)``: the mask of each of the protocol's thresholds."""
    size: tuple[int, int]
    """(height, width) of the plane."""
    fixed: int
    """The mask of the protocol's fixed threshold, which need not be one of those."""

    def scaled(self, size: tuple[int, int]) -> Swept:
        """Return the same boxes on a plane of another size."""
        y, x = size[0] / self.size[0], size[1] / self.size[1]
        return replace(self, boxes=self.boxes * np.array([x, y, x, y]), size=size)


@dataclass(frozen=True)
class Curve:
    """What one map gave at each of a protocol's thresholds (`thresholds_of`), against the boxes of one image."""

    ious: NDArray[np.float64]
    """``(t,)``: IoU of the box, or of the best of all boxes, with the best of the image's boxes."""
    counts: NDArray[np.int32]
    """``(t,)``: how many boxes there are."""
    fixed: NDArray[np.float64]
    """``(n, 4)``: the boxes at the fixed threshold, larger ones first, in numbers of the protocol; n = 0: none."""
    at_fixed: NDArray[np.float64]
    """``(j,)``: the best IoU of the first 1 … j of them; of all, for protocols that count every component."""


def thresholds_of(rules: Protocol) -> NDArray[np.float64]:
    """Return the thresholds ``(t,)`` at which a protocol's boxes can differ.

    ``i / threshold_steps``; of those that fall on the same 8-bit level of a normalised map, whose maximum is 255, the
    first. The released CAM code has one set of boxes only.
    """
    if rules.component == "distance-transform":
        return np.array([rules.threshold])
    grid = np.arange(rules.threshold_steps, dtype=np.float64) / rules.threshold_steps
    return grid[np.unique(level_of(grid, _TOP), return_index=True)[1]] if rules.precision == "8-bit" else grid


def masks_of(rules: Protocol) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Return the thresholds ``(m,)`` of all masks, which of them are `thresholds_of` ``(t,)``, and the fixed one."""
    grid = thresholds_of(rules)
    every = np.union1d(grid, [rules.threshold])
    return every, np.searchsorted(every, grid), int(np.searchsorted(every, rules.threshold))


def planes_of(
    values: Tensor, rules: Protocol, size: tuple[int, int], input_size: tuple[int, int], cells: Cells | None = None
) -> NDArray[np.float64]:
    """Return raw maps ``(n, h, w)`` as a protocol thresholds them, ``(n, height, width)`` at ``size``.

    float32 for protocols of that precision; 8-bit ones come as float64 within 0…1, before they are cut.

    Parameters
    ----------
    input_size
        What the maps span: (height, width) of the network's input.
    cells
        Where the maps' cells look; None: they tile the input evenly.
    """
    exact = values.detach().to(torch.float32 if rules.precision == "float32" else torch.float64)[:, None]
    flat = exact.amax((2, 3), keepdim=True) == exact.amin((2, 3), keepdim=True)
    if rules.normalization == "minmax-before":
        exact = normalize_maps(exact, "minmax")
    if rules.sign != "signed" and rules.interpolation != "matlab":
        exact = exact.clamp_min(0) if rules.sign == "relu" else exact.abs()
    large = _resized(exact, rules, size, input_size, cells)
    if rules.normalization == "minmax":
        large = torch.where(flat, 0.0, normalize_maps(large, "minmax"))  # not rounding in the resized map, blown up
    elif rules.precision in ("8-bit", "jpeg"):
        large = normalize_maps(large.clamp_min(0), "max")
    found: NDArray[np.float64] = large[:, 0].cpu().numpy()
    return found


def _resized(
    values: Tensor, rules: Protocol, size: tuple[int, int], input_size: tuple[int, int], cells: Cells | None
) -> Tensor:
    if rules.interpolation == "bilinear":
        return resize_maps(values, size) if cells is None else resize_aligned(values, size, cells, input_size)
    if cells is not None:
        raise InputError(f"protocol {rules.name} resizes by {rules.interpolation}: it takes maps on the grid only")
    if rules.interpolation == "bicubic":
        return F.interpolate(values, size=size, mode="bicubic", align_corners=False)
    # As ILSVRC_generate_heatmap.m: to the input, the absolute value (of the crops' sum), to the image.
    planes = []
    for plane in values[:, 0].cpu().numpy():
        middle = _matlab(plane, input_size)
        middle = {"signed": middle, "relu": middle.clip(0), "absolute": np.abs(middle)}[rules.sign]
        planes.append(_matlab(middle, size))
    return torch.from_numpy(np.stack(planes))[:, None]


def _matlab(plane: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize as MATLAB's ``imresize``: Keys' cubic with a = -0.5, antialiased where smaller, mirrored at the border."""
    found: NDArray[np.float64] = _weights(plane.shape[0], size[0]) @ plane @ _weights(plane.shape[1], size[1]).T
    return found


@cache
def _weights(before: int, after: int) -> NDArray[np.float64]:
    """Return what each of ``before`` samples gives to each of ``after``: ``(after, before)``, rows sum to 1."""
    narrow = min(1.0, after / before)
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    reach = 2 / narrow
    taps = np.floor(centres - reach)[:, None].astype(np.int64) + np.arange(int(np.ceil(2 * reach)) + 2)
    x = np.abs(narrow * (centres[:, None] - taps))
    cubic = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0))
    mirrored = taps % (2 * before)
    mirrored = np.minimum(mirrored, 2 * before - 1 - mirrored)
    found = np.zeros((after, before))
    np.add.at(found, (np.arange(after)[:, None], mirrored), cubic / cubic.sum(1, keepdims=True))
    return found


def sweep_plane(plane: NDArray[np.float64], rules: Protocol, grid: NDArray[np.float64] | None = None) -> Swept:
    """Return the boxes of one plane ``(h, w)`` of `planes_of` at every threshold.

    ``grid`` ``(t,)``: the thresholds, for planes whose maximum need not be 1; `thresholds_of` where None.
    """
    size = (plane.shape[0], plane.shape[1])
    if rules.component == "distance-transform":
        grey = jpeg_grey(plane) if rules.precision == "jpeg" else quantised(plane).astype(np.uint8)
        boxes = released_boxes(grey)
        spans, order = np.zeros((len(boxes), 2), np.int64), -np.arange(len(boxes))
        return Swept(boxes.astype(np.float64), spans, order, np.zeros(1, np.int64), size, 0)
    levels, count, column, fixed = _levels(plane, rules, grid)
    if rules.component == "all":
        rows = sweep_all(levels, count, holes=True).astype(np.int64)
        order = np.where(rows[:, 7] > 0, rows[:, 6] - levels.size, rows[:, 6])  # holes after components
        return Swept(rows[:, 2:6].astype(np.float64), rows[:, :2], order, column, size, fixed)
    boxes = sweep_largest(levels, count, polygon=rules.component == "polygon")
    return of_boxes(boxes.astype(np.float64), column, size, fixed)


def of_boxes(boxes: NDArray[np.float64], column: NDArray[np.int64], size: tuple[int, int], fixed: int) -> Swept:
    """Return what was swept from one box ``(masks, 4)`` per mask; empty ones are none."""
    masks = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    return Swept(boxes[masks], np.stack([masks, masks], 1), np.zeros(len(masks), np.int64), column, size, fixed)


def box_curve(swept: Swept, rules: Protocol, truth: NDArray[np.float64]) -> Curve:
    """Return how swept boxes lie on published boxes ``(m, 4)``, in numbers of the protocol."""
    plus = 0.0 if rules.edges == "half-open" else 1.0
    blank = _empty(rules, swept.size)
    none = float(curve_of_boxes(blank, truth, plus)[0]) if len(blank) else 0.0
    boxes, spans, column = _published(swept.boxes, rules, swept.size), swept.spans, swept.column
    masks = max(int(column.max()), swept.fixed) + 1
    inside = spans[:, 0] < masks
    last = np.minimum(spans[inside, 1], masks - 1)
    counts = np.zeros(masks + 1, np.int32)
    np.add.at(counts, spans[inside, 0], 1)
    np.add.at(counts, last + 1, -1)
    each = np.stack([spans[inside, 0], last], 1)
    ious = curve_of_components(boxes[inside], each, masks, truth, plus, none)
    mask = swept.fixed
    at = np.flatnonzero((spans[:, 0] <= mask) & (mask <= spans[:, 1]))
    shown = boxes[at[np.argsort(-swept.order[at], kind="stable")]] if len(at) else blank
    return Curve(
        ious[column], np.cumsum(counts[:-1]).astype(np.int32)[column], shown, _first(shown, rules, truth, plus)
    )


def _first(shown: NDArray[np.float64], rules: Protocol, truth: NDArray[np.float64], plus: float) -> NDArray[np.float64]:
    """Return the best IoU of the first 1 … j boxes; of all boxes, where the protocol counts every component."""
    most = max(box for _, box in rules.guesses)
    ious = curve_of_boxes(shown, truth, plus)
    if rules.component == "all":
        return np.full(most, ious.max(initial=0.0))
    padded = np.concatenate([ious[:most], np.zeros(max(0, most - len(ious)))])
    found: NDArray[np.float64] = np.maximum.accumulate(padded)
    return found


def _levels(
    plane: NDArray[np.float64], rules: Protocol, grid: NDArray[np.float64] | None
) -> tuple[NDArray[np.int32], int, NDArray[np.int64], int]:
    """Return integer levels, how many masks they give, the mask of each threshold, and that of the fixed one."""
    every, column, fixed = masks_of(rules)
    if grid is not None:
        every = np.union1d(grid, [rules.threshold])
        column, fixed = np.searchsorted(every, grid), int(np.searchsorted(every, rules.threshold))
    if rules.precision == "8-bit":
        eight = quantised(plane)
        masks = level_of(every, int(eight.max()))
        return eight, _TOP, masks[column], int(masks[fixed])
    top = plane.dtype.type(1) if rules.normalization == "minmax-before" else plane.max()
    if not plane.max() > 0:
        return np.zeros(plane.shape, np.int32), len(every), column, fixed
    # The same product and comparison as `value > t * max` pixel by pixel: levels count thresholds below.
    return levels_of(np.ascontiguousarray(plane), every.astype(plane.dtype) * top), len(every), column, fixed


def _published(boxes: NDArray[np.float64], rules: Protocol, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return half-open boxes as the protocol's numbers."""
    if rules.edges != "clipped" or len(boxes) == 0:
        return boxes
    cut: NDArray[np.float64] = np.minimum(boxes, np.array([np.inf, np.inf, size[1] - 1, size[0] - 1]))
    return cut


def _empty(rules: Protocol, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the box ``(0 or 1, 4)`` of an empty mask."""
    blank = {"none": (), "origin": (0, 0, 0, 0), "corner": (0, 0, 1, 1), "image": (0, 0, size[1], size[0])}
    return np.array(blank[rules.empty], np.float64).reshape(-1, 4)
