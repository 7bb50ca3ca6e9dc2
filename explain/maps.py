"""Resizing and normalising maps, and where their cells look: the arithmetic below `explain.types`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from explain.errors import InputError

__all__ = ["Align", "Cells", "Normalization", "normalize_maps", "resize_aligned", "resize_maps"]

Normalization = Literal["max", "minmax"]
Align = Literal["grid", "receptive-field"]
"""Where maps lie: ``"grid"``: their cells tile the input evenly; ``"receptive-field"``: where the cells look."""


@dataclass(frozen=True)
class Cells:
    """Where the cells of a map look: the centres of their receptive fields, in pixels of the input tensor.

    Cell (i, j) is centred on ``offset + (i, j) * stride``; 0 is the left (upper) edge of the first pixel, whose
    centre is 0.5.
    """

    offset: tuple[float, float]
    """(y, x): the centre of cell (0, 0)."""
    stride: tuple[float, float]
    """(y, x): from one cell to the next."""

    @classmethod
    def tiling(cls, grid: tuple[int, int], input_size: tuple[int, int]) -> Cells:
        """Return the cells of a ``grid`` (height, width) that tile the input evenly: what ``"grid"`` assumes."""
        height, width = (size / count for size, count in zip(input_size, grid, strict=True))
        return cls((height / 2, width / 2), (height, width))

    def centres(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the centres of a grid's rows and columns, float64 ``(h,)`` and ``(w,)``."""
        rows, columns = (
            start + step * torch.arange(count, dtype=torch.float64)
            for start, step, count in zip(self.offset, self.stride, grid, strict=True)
        )
        return rows, columns

    def shift(self, grid: tuple[int, int], input_size: tuple[int, int]) -> tuple[float, float]:
        """Return (y, x): how far the middle of all centres lies from the middle of the input, in input pixels."""
        y, x = (
            start + step * (count - 1) / 2 - size / 2
            for start, step, count, size in zip(self.offset, self.stride, grid, input_size, strict=True)
        )
        return y, x

    def resampled(self, grid: tuple[int, int], size: tuple[int, int]) -> Cells:
        """Return the cells of a map of ``grid`` after it was resized to ``size`` as a picture would be."""
        steps = [count / new for count, new in zip(grid, size, strict=True)]
        y, x = (
            start + (step - 1) / 2 * stride for start, step, stride in zip(self.offset, steps, self.stride, strict=True)
        )
        return Cells((y, x), (self.stride[0] * steps[0], self.stride[1] * steps[1]))


def resize_maps(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(b, k, h, w)`` maps to ``size = (height, width)``: bilinear, ``align_corners=False``."""
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"cannot resize maps to {size}: give (height, width) in pixels")
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)


def resize_aligned(values: Tensor, size: tuple[int, int], cells: Cells, input_size: tuple[int, int]) -> Tensor:
    """Resize ``(b, k, h, w)`` maps to ``size = (height, width)`` so that each value stands where its cell looks.

    Bilinear interpolation between the centres of the cells, constant beyond the outermost ones. ``size`` spans the
    whole input, whatever its resolution; the result is that of `resize_maps` where the cells tile the input evenly.
    """
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"cannot resize maps to {size}: give (height, width) in pixels")
    for axis in (0, 1):
        count, side, pixels = values.shape[2 + axis], size[axis], input_size[axis]
        middles = (torch.arange(side, dtype=torch.float64) + 0.5) * (pixels / side)
        where = ((middles - cells.offset[axis]) / cells.stride[axis]).clamp(0, count - 1)
        near = where.floor().clamp(max=max(0, count - 2))
        share = (where - near).to(values.device, values.dtype)
        index = near.long().to(values.device)
        # Two gathers, not a matrix product: the same bits on any batch, and none of a device's reduced precisions.
        first = values.index_select(2 + axis, index)
        second = values.index_select(2 + axis, (index + 1).clamp(max=count - 1))
        values = torch.lerp(first, second, share if axis == 1 else share[:, None])
    return values


def normalize_maps(values: Tensor, how: Normalization = "max") -> Tensor:
    """Normalise each ``(h, w)`` map on its own; a flat or all-zero map gives zeros, never NaN.

    ``"max"`` divides by the maximum (negative values stay negative); ``"minmax"`` maps to 0…1.
    No epsilon is added, so maps of any scale come out the same.
    """
    top = values.amax((-2, -1), keepdim=True)
    if how == "max":
        return torch.where(top > 0, values / torch.where(top > 0, top, torch.ones_like(top)), 0.0)
    if how == "minmax":
        low = values.amin((-2, -1), keepdim=True)
        span = top - low
        return torch.where(span > 0, (values - low) / torch.where(span > 0, span, torch.ones_like(span)), 0.0)
    raise InputError(f"unknown normalisation {how!r}: use 'max' or 'minmax'")
