"""Unit counts: how many pixels of each cell a unit is active on.

Maps are upsampled to the resolution of the labels (bilinear) and compared with the unit's threshold, as in
Bau et al. (2017) and Mu & Andreas (2020). What is kept is one whole number per unit and cell.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.neurons.sparse_counts import (
    UnitCounts,
    from_keys,
    intersections,
    iou,
    merge_counts,
    stack_counts,
    sum_keys,
    unit_counts,
)
from explain.neurons.upsampling import Axes, Upsampling, upsample

__all__ = [
    "CountAccumulator",
    "UnitCounts",
    "active_masks",
    "count_units",
    "from_keys",
    "intersections",
    "iou",
    "merge_counts",
    "stack_counts",
    "sum_keys",
    "unit_counts",
    "upsample",
]

Ints = NDArray[np.int64]
_PENDING = 1 << 24  # numbers kept before they are summed up: 256 MB


class CountAccumulator:
    """Adds up unit counts batch by batch, in bounded memory; the order of batches does not matter."""

    def __init__(self, units: int, cells: int) -> None:
        self.units = units
        self.cells = cells
        self._pieces: list[tuple[Ints, Ints]] = []
        self._waiting = 0
        self._settled = 0

    def add(self, maps: Tensor, thresholds: Tensor, cell_ids: NDArray[np.int64] | Tensor) -> None:
        """Count one batch; for the arguments and errors see `count_units`."""
        if maps.ndim == 4 and maps.shape[1] != self.units:
            raise InputError(f"maps have {maps.shape[1]} units, {self.units} were announced")
        for piece in _count_pieces(maps, thresholds, cell_ids, self.cells):
            self._pieces.append(piece)
            self._waiting += len(piece[0])
            # Summing up when the new pieces outweigh the old sum keeps the whole cost at n log n.
            if self._waiting > max(_PENDING, self._settled):
                self._settle()

    def finish(self) -> UnitCounts:
        """Return the sum so far; more batches may follow."""
        self._settle()
        keys, counts = self._pieces[0]
        return from_keys(keys, counts, self.units, self.cells)

    def _settle(self) -> None:
        none = np.zeros(0, np.int64)
        pieces = self._pieces or [(none, none)]
        keys, counts = (np.concatenate(part) for part in zip(*pieces, strict=True))
        self._pieces = [sum_keys(keys, counts)]
        self._settled, self._waiting = len(self._pieces[0][0]), 0


def count_units(maps: Tensor, thresholds: Tensor, cell_ids: NDArray[np.int64] | Tensor, cells: int) -> UnitCounts:
    """Count the active pixels of one batch per unit and cell.

    Parameters
    ----------
    maps
        float32 ``(b, u, h, w)`` at the layer's own resolution; ``(b, u, 1, 1)`` for linear units.
    thresholds
        float32 ``(u,)``: active is what lies strictly above, after upsampling.
    cell_ids
        int64 ``(b, H, W)``: the cell of each pixel, -1 where ignored (`CellIndex.cell_ids`).
    cells
        How many cells there are.

    Raises
    ------
    InputError
        Shapes do not fit, or a cell number is out of range.
    """
    accumulator = CountAccumulator(maps.shape[1] if maps.ndim == 4 else 0, cells)
    accumulator.add(maps, thresholds, cell_ids)
    return accumulator.finish()


def active_masks(
    maps: Tensor,
    thresholds: Tensor,
    size: tuple[int, int],
    *,
    upper: Tensor | None = None,
    upsampling: Upsampling | Axes = "bilinear",
    budget: int | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ``(image (p,), unit (p,), mask bool (p, H, W))`` for the maps that are active somewhere.

    An upsampled value never exceeds what it is made of, so only maps whose largest value is above the threshold are
    upsampled. What lies above ``upper (u,)`` is not active. Pairs come by image, then unit; ``budget`` limits the
    upsampled values held at one time.
    """
    _check_maps(maps, thresholds)
    maps, limits = maps.detach().float(), thresholds.to(maps.device).float()
    images, units = (maps.amax((2, 3)) > limits).nonzero(as_tuple=True)
    if budget is None:  # a processor's cache, or enough to keep an accelerator busy
        budget = 1 << 20 if maps.device.type == "cpu" else 1 << 26
    step = max(1, budget // (size[0] * size[1]))
    for begin in range(0, len(images), step):
        image, unit = images[begin : begin + step], units[begin : begin + step]
        large = upsample(maps[image, unit], size, upsampling)
        mask = large > limits[unit][:, None, None]
        if upper is not None:
            mask &= large <= upper.to(maps.device)[unit][:, None, None]
        yield image, unit, mask


def _count_pieces(
    maps: Tensor, thresholds: Tensor, cell_ids: NDArray[np.int64] | Tensor, cells: int
) -> Iterator[tuple[Ints, Ints]]:
    _check_maps(maps, thresholds)
    ids = torch.as_tensor(cell_ids)
    if ids.ndim != 3 or len(ids) != len(maps):
        raise InputError(f"cell ids must be ({len(maps)}, H, W) for {len(maps)} images, got {tuple(ids.shape)}")
    if ids.numel() and not -1 <= int(ids.min()) <= int(ids.max()) < cells:
        raise InputError(f"cell ids run from {int(ids.min())} to {int(ids.max())}, but there are {cells} cells")
    # Cells are renumbered within the batch: few enough to count without sorting the pixels.
    table, local = torch.unique(ids.to(maps.device, torch.int64), return_inverse=True)
    local = local.flatten()
    for image, unit, mask in active_masks(maps, thresholds, (cell_ids.shape[1], cell_ids.shape[2])):
        pair, pixel = _positions(mask, image)
        places, counts = _tally(pair * len(table) + local[pixel], len(image) * len(table))
        cell = table[places % len(table)]
        keys = unit[places // len(table)] * cells + cell
        yield keys[cell >= 0].cpu().numpy(), counts[cell >= 0].cpu().numpy()


def _positions(mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each set bit of ``(p, H, W)`` its pair and its place among the pixels of all images."""
    if mask.device.type == "cpu":  # numpy is twice as fast at this
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    else:
        flat = mask.flatten().nonzero().flatten()
    number = torch.arange(len(mask), device=mask.device)
    pair = number.repeat_interleave(mask.flatten(1).sum(1))
    return pair, flat + ((image - number) * mask[0].numel())[pair]


def _tally(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the distinct values in 0 … size - 1 and how often each occurs."""
    if size > max(1 << 16, 4 * len(values)):
        distinct, counts = torch.unique(values, return_counts=True)
        return distinct, counts
    counts = torch.bincount(values, minlength=size)
    distinct = counts.nonzero().flatten()
    return distinct, counts[distinct]


def _check_maps(maps: Tensor, thresholds: Tensor) -> None:
    if maps.ndim != 4:
        raise InputError(f"maps must be (b, u, h, w), got {tuple(maps.shape)}: linear units are (b, u, 1, 1)")
    if thresholds.shape != (maps.shape[1],):
        raise InputError(f"{maps.shape[1]} units need as many thresholds, got {tuple(thresholds.shape)}")
