"""How maps are brought to the resolution of the labels: every pixel of an axis is made of two rows (or columns).

`torch.nn.functional.interpolate` rounds differently with the number of channels, the memory format and the device,
and may exceed the corners. Thresholds are values of the maps, so such a last bit decides over pixels. Here a value
is ``near + (far - near) * share`` with a share of at most one half, which stays between its corners and is the same
bits in any batch and on any device; the compiled counts (`explain.neurons.firing`) do the same arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError, near
from explain.maps import Cells as Centres

__all__ = ["Axes", "Taps", "Upsampling", "make_axes", "upsample"]

Upsampling = Literal["bilinear", "nearest", "pil", "receptive-field"]
"""``"bilinear"``: ``align_corners=False``; ``"nearest"``: the cell that a pixel's centre lies in; ``"pil"``: the bits
of Pillow's BILINEAR on float images, as compositional explanations used; ``"receptive-field"``: bilinear between the
centres of the receptive fields, constant beyond the outermost, as network dissection did."""


@dataclass(frozen=True, eq=False)
class Taps:
    """What each of the n pixels of one axis is made of: two positions of the map, and how much each counts."""

    near: NDArray[np.int64]
    """``(n,)``: a position of the map, the nearer one but for ``"pil"``."""
    far: NDArray[np.int64]
    """``(n,)``: the other one; the same where only one counts."""
    share: NDArray[np.float64]
    """``(n,)``: the weight of ``far``; float32 values unless ``double``."""
    rest: NDArray[np.float64]
    """``(n,)``: the weight of ``near``; read only with ``double``."""
    double: bool = False
    """Weights, products and their sum are float64, and are rounded to float32 once (Pillow)."""

    def __len__(self) -> int:
        return len(self.near)


Axes = tuple[Taps, Taps]
"""(rows, columns)."""


def make_axes(
    how: Upsampling | Axes,
    grid: tuple[int, int],
    size: tuple[int, int],
    *,
    centres: Centres | None = None,
    input_size: tuple[int, int] | None = None,
) -> Axes:
    """Return the taps of rows and columns that bring maps of ``grid`` (h, w) to ``size`` (H, W).

    Parameters
    ----------
    how
        A name (see `Upsampling`), or taps, which are checked and returned.
    centres, input_size
        Where the cells of the map look (`explain.nets.cells_at`), and the (height, width) of the input tensor; for
        ``"receptive-field"`` only.

    Raises
    ------
    InputError
        Unknown name, sizes that do not fit, a receptive field that is not known, or Pillow's filter for maps that
        are larger than the labels (it then averages more than two positions).
    """
    if not isinstance(how, str):
        return _checked(how, grid, size)
    if how not in get_args(Upsampling):
        raise InputError(f"unknown upsampling {how!r}{near(how, get_args(Upsampling))}: use {_names()}")
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"cannot bring maps to {size}: give (height, width) in pixels")
    if how == "receptive-field":
        if centres is None or input_size is None:
            raise InputError("upsampling='receptive-field' needs to know where the cells look: use 'bilinear'")
        rows, columns = (_looking(centres, axis, grid[axis], size[axis], input_size[axis]) for axis in (0, 1))
        return rows, columns
    make = {"bilinear": _bilinear, "nearest": _nearest, "pil": _pillow}[how]
    return make(grid[0], size[0]), make(grid[1], size[1])


def upsample(maps: Tensor, size: tuple[int, int], how: Upsampling | Axes = "bilinear") -> Tensor:
    """Return float32 maps ``(p, h, w)`` at ``(H, W)``: columns first, then rows.

    A value lies between the values it is made of, and is the same bits in any batch and on any device.
    """
    rows, columns = make_axes(how, (maps.shape[1], maps.shape[2]), size)
    return _along(_along(maps.float(), columns, 2), rows, 1)


def _along(maps: Tensor, taps: Taps, axis: int) -> Tensor:
    index = [torch.from_numpy(part).to(maps.device) for part in (taps.near, taps.far)]
    kind = torch.float64 if taps.double else torch.float32
    share, rest = (torch.from_numpy(part).to(maps.device, kind) for part in (taps.share, taps.rest))
    if axis == 1:
        share, rest = share[:, None], rest[:, None]
    low, high = (maps.index_select(axis, one) for one in index)
    if taps.double:
        return low.double().mul_(rest).add_(high.double().mul_(share)).float()
    return high.sub_(low).mul_(share).add_(low)


def _checked(axes: Axes, grid: tuple[int, int], size: tuple[int, int]) -> Axes:
    for taps, old, new in zip(axes, grid, size, strict=True):
        ends = [int(part.max(initial=0)) for part in (taps.near, taps.far)]
        if len(taps) != new or max(ends) >= old or min(taps.near.min(), taps.far.min()) < 0:
            raise InputError(f"taps for {len(taps)} pixels of {max(ends) + 1} positions do not fit {new} of {old}")
    return axes


def _names() -> str:
    return ", ".join(repr(name) for name in get_args(Upsampling))


def _places(old: int, new: int) -> NDArray[np.float64]:
    """Return where the centres of ``new`` pixels lie among the centres of ``old`` positions."""
    return (np.arange(new) + 0.5) * old / new - 0.5


def _lerp(place: NDArray[Any], old: int) -> Taps:
    place = place.clip(0, old - 1)
    close = place.round()
    share = np.abs(place - close).astype(np.float32).astype(np.float64)
    other = close + np.sign(place - close)
    return Taps(close.astype(np.int64), other.astype(np.int64), share, 1 - share)


def _bilinear(old: int, new: int) -> Taps:
    return _lerp(_places(old, new), old)


def _nearest(old: int, new: int) -> Taps:
    index = np.arange(new) * 2 * old + old  # in whole numbers, so that a centre on an edge always goes up
    return _single(index // (2 * new))


def _single(index: NDArray[np.int64]) -> Taps:
    return Taps(index, index, np.zeros(len(index)), np.ones(len(index)))


def _looking(centres: Centres, axis: int, old: int, new: int, pixels: int) -> Taps:
    """Return taps as `explain.maps.resize_aligned` takes them."""
    middles = (np.arange(new) + 0.5) * (pixels / new)
    return _lerp((middles - centres.offset[axis]) / centres.stride[axis], old)


def _pillow(old: int, new: int) -> Taps:
    """Return Pillow's triangle filter: its own order of operations, for the same bits."""
    if old > new:
        raise InputError(
            f"Pillow's filter averages maps of {old} positions to {new} pixels: use upsampling='bilinear', or a"
            " resolution that is not below the map's"
        )
    scale = old / new
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - 1.0 + 0.5).astype(np.int64), 0)  # towards zero, as C does
    last = np.minimum((centre + 1.0 + 0.5).astype(np.int64), old) - 1
    weights = [np.maximum(0.0, 1.0 - np.abs(index - centre + 0.5)) for index in (first, last)]
    weights[1] = np.where(last > first, weights[1], 0.0)
    total = weights[0] + weights[1]
    return Taps(first, last, weights[1] / total, weights[0] / total, double=True)
