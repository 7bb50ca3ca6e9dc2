"""Test-time augmentation: maps and scores as means over views of an image, in the frame of the image itself.

A view is a picture of a window of the input, perhaps mirrored. Its map is mirrored back, laid into its window
on a common grid, and each cell of the grid is the mean over the views that show it. Maps are averaged raw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from explain.errors import InputError, near
from explain.maps import Cells
from explain.nets.inputs import Batch
from explain.types import Saliency

__all__ = ["Augmentation", "View", "augmented", "merge_maps", "views"]

Augmentation = Literal["flip", "scales", "tencrop"]

SCALES = (1.0, 0.75, 1.25)
MARGIN = 16 / 224
"""Ten-crop: how much larger than a crop the picture is that crops are cut from, on each side (256 for 224)."""


@dataclass(frozen=True)
class View:
    """Where a view lies in the input: a window in fractions of height and width, perhaps mirrored."""

    start: tuple[float, float] = (0.0, 0.0)
    """(y, x): the upper left corner of the window."""
    extent: tuple[float, float] = (1.0, 1.0)
    """(y, x): the size of the window."""
    flipped: bool = False
    """Mirrored left to right."""


def views(images: Tensor, kind: str, *, scales: Sequence[float] = SCALES) -> Iterator[tuple[View, Tensor]]:
    """Yield the views of a batch, one picture per image, made when asked for.

    Parameters
    ----------
    images
        ``(b, c, H, W)``.
    kind
        ``"flip"``: the images, and mirrored left to right. ``"scales"``: the images, and resized by ``scales``
        (for networks that take any size). ``"tencrop"``: the images are enlarged by 256/224, and the centre and the
        four corners are cut out at the size of the input, each also mirrored. These are the ten crops of Krizhevsky
        et al. (2012), whose maps the CAM paper's program merges; the network's input size stays.
    scales
        Factors of height and width, for ``"scales"``.

    Yields
    ------
    view, pictures
        ``(b, c, h, w)``; ``h, w`` are ``H, W`` but for ``"scales"``.

    Raises
    ------
    InputError
        Unknown kind, images that are no ``(b, c, H, W)``, impossible scales.
    """
    if kind not in get_args(Augmentation):
        known = get_args(Augmentation)
        raise InputError(f"unknown augmentation {kind!r}{near(str(kind), known)}; use {', '.join(known)}")
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)}: give (b, c, H, W)")
    if not scales or min(scales) <= 0 or round(min(scales) * min(images.shape[2:])) < 1:
        raise InputError(f"scales={tuple(scales)}: give factors that leave at least one pixel")
    return {"flip": _flips, "scales": lambda x: _scaled(x, scales), "tencrop": _ten_crops}[kind](images)


def merge_maps(seen: Sequence[View], maps: Sequence[Tensor], grid: tuple[int, int] | None = None) -> Tensor:
    """Return the mean of the maps of views, cell by cell, in the frame of the input.

    Parameters
    ----------
    seen
        The views.
    maps
        The maps of each, ``(b, k, h, w)``; sizes may differ between views.
    grid
        (height, width) of the result, which spans the input; where None as fine as the finest map. Maps are
        interpolated at the centres of its cells (bilinear; constant beyond the outermost centres).

    Returns
    -------
    Tensor
        ``(b, k, *grid)``. Views of the whole input whose maps have the grid's size are averaged without resampling.

    Raises
    ------
    InputError
        Not one map per view, maps of different batches, cells that no view shows.
    """
    if not maps or len(maps) != len(seen) or len({tuple(m.shape[:2]) for m in maps}) > 1:
        raise InputError(f"{len(maps)} maps for {len(seen)} views: give one for each, all of the same images")
    if grid is None:
        grid = (_finest(seen, maps, 0), _finest(seen, maps, 1))
    total = torch.zeros((), device=maps[0].device)
    count = torch.zeros(grid, device=maps[0].device)
    for view, values in zip(seen, maps, strict=True):
        rows, columns = (
            _interpolation(view.start[axis], view.extent[axis], values.shape[2 + axis], grid[axis]).to(values)
            for axis in (0, 1)
        )
        upright = values.flip(-1) if view.flipped else values
        whole = view.extent == (1.0, 1.0) and tuple(values.shape[2:]) == grid
        total = total + (upright if whole else rows @ upright @ columns.T)
        count += rows.sum(1)[:, None].round() * columns.sum(1).round()
    if not bool((count > 0).all()):
        raise InputError("some cells of the grid are shown by no view")
    return total / count.to(total)


def augmented(batch: Batch, kind: str, explain: Callable[[Batch, Tensor | None], Saliency]) -> Saliency:
    """Return the maps of a batch, as means over its views.

    The classes are those of the first view (the images themselves; the centre crop for ``"tencrop"``), for all
    views; scores and probabilities are means too. With ``"flip"`` an exact class activation map stays exact: the
    mean of its maps and its constant add up to the mean of the logits. Resampled maps are not exact.

    Parameters
    ----------
    batch
        The images and where they come from; the result is in their frame.
    kind
        See `views`.
    explain
        Explains a batch of pictures; given the classes int64 ``(b, k)`` to explain, or None where they are to be
        chosen (the first view, and where the first result has classes below 0: functions of the output).

    Raises
    ------
    InputError
        See `views`.
    """
    seen: list[View] = []
    found: list[Saliency] = []
    classes: Tensor | None = None
    for view, pictures in views(batch.tensor, kind):
        result = explain(Batch(pictures, None, None), classes)
        if not found and bool((result.classes >= 0).all()):
            classes = result.classes
        seen.append(view)
        found.append(result)
    first = found[0]
    exact = kind == "flip" and all(result.exact for result in found)
    height, width = batch.tensor.shape[2:]
    return replace(
        first,
        values=merge_maps(seen, [result.values for result in found]),
        scores=torch.stack([result.scores for result in found]).mean(0),
        probabilities=torch.stack([result.probabilities for result in found]).mean(0),
        constants=torch.stack([result.constants for result in found]).mean(0),
        exact=exact,
        residual=max(result.residual for result in found) if exact else float("nan"),
        input_size=(int(height), int(width)),
        cells=_mirrored(first.cells, first.values.shape[3], int(width)) if kind == "flip" else None,
        geometries=batch.geometries,
        images=batch.pictures,
    )


def _flips(images: Tensor) -> Iterator[tuple[View, Tensor]]:
    yield View(), images
    yield View(flipped=True), images.flip(-1)


def _scaled(images: Tensor, scales: Sequence[float]) -> Iterator[tuple[View, Tensor]]:
    for scale in scales:
        yield View(), _resized(images, scale)


def _ten_crops(images: Tensor) -> Iterator[tuple[View, Tensor]]:
    height, width = images.shape[2:]
    down, right = (2 * max(1, round(MARGIN * side)) for side in (height, width))
    large = F.interpolate(images, size=(height + down, width + right), mode="bilinear", align_corners=False)
    for top, left in ((down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)):
        crop = large[:, :, top : top + height, left : left + width]
        start = (top / large.shape[2], left / large.shape[3])
        extent = (height / large.shape[2], width / large.shape[3])
        yield View(start, extent), crop
        yield View(start, extent, flipped=True), crop.flip(-1)


def _resized(images: Tensor, scale: float) -> Tensor:
    size = [max(1, round(scale * side)) for side in images.shape[2:]]
    if size == list(images.shape[2:]):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)


def _finest(seen: Sequence[View], maps: Sequence[Tensor], axis: int) -> int:
    return max(round(m.shape[2 + axis] / view.extent[axis]) for view, m in zip(seen, maps, strict=True))


def _interpolation(start: float, extent: float, cells: int, grid: int) -> Tensor:
    """Return float64 ``(grid, cells)``: the weights of a window's cells at the grid's centres; zero outside it."""
    centres = ((torch.arange(grid, dtype=torch.float64) + 0.5) / grid - start) / extent
    inside = (centres >= -1e-9) & (centres <= 1 + 1e-9)
    place = (centres * cells - 0.5).clamp(0, cells - 1)
    low = place.floor().long()
    share = place - low
    weights = torch.zeros(grid, cells, dtype=torch.float64)
    rows = torch.arange(grid)
    weights[rows, low] += 1 - share
    weights[rows, (low + 1).clamp(max=cells - 1)] += share
    return weights * inside[:, None]


def _mirrored(cells: Cells | None, columns: int, width: int) -> Cells | None:
    """Return where the cells of the mean of a map and its mirror image look: symmetric about the middle."""
    if cells is None:
        return None
    return replace(cells, offset=(cells.offset[0], (width - (columns - 1) * cells.stride[1]) / 2))
