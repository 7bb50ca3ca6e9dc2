"""The maps that fire: all that is needed of a layer to count again, without the model.

Counts for part of the images, for shuffled labels (the null of chance), for bootstraps, or at another resolution are
made from this store: only maps with a value above their unit's threshold can be active anywhere after upsampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.neurons._firing import Places, count_pairs, make_axis, make_work, take_counts
from explain.neurons._threads import spread, threads
from explain.neurons.cells import CellIndex
from explain.neurons.counts import UnitCounts, from_keys, sum_keys
from explain.neurons.upsampling import Axes, Upsampling, make_axes, upsample

__all__ = ["Firing", "count_firing", "firing_from_pieces", "merge_firing"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
_PIXELS = 1 << 26  # upsampled values that an accelerator holds at one time


@dataclass(frozen=True, eq=False)
class Firing:
    """The maps with a value above their unit's threshold, by unit, then image; each pair once."""

    unit: Ints
    """int64 ``(p,)``: place among the units that were collected, from 0."""
    image: Ints
    """int64 ``(p,)``."""
    maps: Floats
    """float32 ``(p, h, w)``, at the layer's own resolution."""

    def __len__(self) -> int:
        return len(self.unit)

    def __repr__(self) -> str:
        return f"Firing({len(self)} maps of {self.grid[0]} x {self.grid[1]})"

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        return self.maps.shape[1], self.maps.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.unit.nbytes + self.image.nbytes + self.maps.nbytes

    def indptr(self, units: int) -> Ints:
        """Return int64 ``(units + 1,)``: unit u has the pairs ``indptr[u] … indptr[u + 1] - 1``."""
        return np.searchsorted(self.unit, np.arange(units + 1)).astype(np.int64)

    def select(self, units: Sequence[int] | Ints) -> Firing:
        """Return the pairs of some units, which are numbered anew in the order given."""
        chosen = np.asarray(units, np.int64)
        indptr = self.indptr(int(chosen.max(initial=-1)) + 1)
        sizes = np.diff(indptr)[chosen]
        begin = np.concatenate([[0], np.cumsum(sizes)])
        take = np.repeat(indptr[chosen] - begin[:-1], sizes) + np.arange(begin[-1])
        return Firing(np.repeat(np.arange(len(chosen)), sizes).astype(np.int64), self.image[take], self.maps[take])


def firing_from_pieces(pieces: list[tuple[Ints, Ints, Floats]], grid: tuple[int, int]) -> Firing:
    """Return the store of pieces ``(unit, image, maps)`` in any order; the list is emptied, for the memory's sake."""
    none = np.zeros(0, np.int64)
    unit = np.concatenate([none, *(piece[0] for piece in pieces)])
    image = np.concatenate([none, *(piece[1] for piece in pieces)])
    order = np.lexsort((image, unit))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    maps = np.empty((len(order), *grid), np.float32)
    position = len(order)
    while pieces:
        part = pieces.pop()[2]
        position -= len(part)
        maps[place[position : position + len(part)]] = part
    return Firing(unit[order], image[order], maps)


def merge_firing(parts: Sequence[Firing]) -> Firing:
    """Return the store of several shards of images, over the same units; the same as that of one pass."""
    if len({part.grid for part in parts}) != 1:
        raise InputError(f"maps of {[part.grid for part in parts]} cannot be merged")
    return firing_from_pieces([(part.unit, part.image, part.maps) for part in parts], parts[0].grid)


def count_firing(
    firing: Firing,
    thresholds: Floats | Tensor,
    index: CellIndex,
    *,
    units: int,
    images: Ints | None = None,
    weights: Ints | None = None,
    upper: Floats | Tensor | None = None,
    upsampling: Upsampling | Axes = "bilinear",
    workers: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> UnitCounts:
    """Count the active pixels of each unit on each cell: ``threshold < upsampled value <= upper``.

    Parameters
    ----------
    thresholds
        float32 ``(units,)``. Maps that fire above a lower threshold than the one they were collected for are missing.
    index
        The cells, at the resolution to upsample to.
    units
        How many units there are; those that never fire have empty rows.
    images
        int64 ``(N,)``: whose labels each image is laid on; -1 leaves it out. Itself where None. A permutation gives
        the counts of shuffled labels, -1 for some images those of the others.
    weights
        int64 ``(N,)``: how often each image's labels count; a bootstrap draws them. Once where None.
    upper
        float32 ``(units,)``: the upper end of a unit's range of activation; infinity where None.
    upsampling
        See `explain.neurons.upsampling`; taps of rows and columns for ``"receptive-field"``.
    workers
        Threads; the process's share of the cores where None. The counts do not depend on it.
    device
        On an accelerator the pixels are counted there, with the same result.
    progress
        Called now and then with the number of units done and in all.

    Returns
    -------
    UnitCounts
        int64, exact; cells ascending within a unit.

    Raises
    ------
    InputError
        Shapes do not fit, or an image or unit is out of range.
    """
    limits = _limits(thresholds, upper, units)
    laid = _laid(firing, images, index, units)
    times = np.ones(len(index), np.int64) if weights is None else np.require(weights, np.int64, ["C"])
    if times.shape != (len(index),) or times.min(initial=0) < 0:
        raise InputError(f"weights must be {len(index)} whole numbers from 0 on, one per image, got {times.shape}")
    height, width = index.local.shape[1:]
    axes = make_axes(upsampling, firing.grid, (height, width))
    if torch.device(device).type != "cpu":
        return _count_dense(firing, limits, laid, times, index, units, axes, torch.device(device))
    return _count_compiled(firing, limits, laid, times, index, units, axes, workers or threads(), progress)


def _limits(thresholds: Floats | Tensor, upper: Floats | Tensor | None, units: int) -> Floats:
    low = np.asarray(thresholds, np.float32)
    high = np.full(units, np.inf, np.float32) if upper is None else np.asarray(upper, np.float32)
    if low.shape != (units,) or high.shape != (units,):
        raise InputError(f"{units} units need as many thresholds, got {low.shape} and {high.shape}")
    return np.stack([low, high])


def _laid(firing: Firing, images: Ints | None, index: CellIndex, units: int) -> Ints:
    """Return the image whose labels each pair lies on, after all numbers were checked."""
    count = len(index) if images is None else len(images)
    for name, numbers, end in (("unit", firing.unit, units), ("image", firing.image, count)):
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < end:
            raise InputError(f"the maps name {name} {numbers.max()}, but there are {end}")
    if images is None:
        return np.require(firing.image, np.int64, ["C", "W"])
    images = np.asarray(images, np.int64)
    if len(images) and not -1 <= images.min() <= images.max() < len(index):
        raise InputError(f"labels of image {images.max()} were asked for, but there are {len(index)} images")
    return images[firing.image]


def _count_compiled(
    firing: Firing,
    limits: Floats,
    laid: Ints,
    times: Ints,
    index: CellIndex,
    units: int,
    axes: Axes,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> UnitCounts:
    indptr = firing.indptr(units)
    maps = np.require(firing.maps, np.float32, ["C", "W"])
    places = Places(
        np.ascontiguousarray(index.local),
        np.require(index.start, np.int64, ["C", "W"]),
        np.require(index.lookup, np.int64, ["C", "W"]),
        len(index.cells),
    )
    rows, columns = make_axis(axes[0]), make_axis(axes[1])
    plain = np.require(times, np.int64, ["C", "W"])

    def work(part: range) -> tuple[Ints, list[Ints], list[Ints]]:
        memory, met = make_work(columns, places), np.zeros(len(part), np.int64)
        cells, counts = [], []
        for at, unit in enumerate(part):
            low, high = limits[0, unit], limits[1, unit]
            found = count_pairs(
                laid, plain, maps, low, high, rows, columns, places, memory, indptr[unit], indptr[unit + 1]
            )
            met[at] = found
            cells.append(np.empty(found, np.int64))
            counts.append(np.empty(found, np.int64))
            take_counts(memory, cells[-1], counts[-1])
        return met, cells, counts

    none = np.zeros(0, np.int64)
    sizes, cells, counts = [none], [none], [none]
    with ThreadPoolExecutor(workers) as pool:
        for part, found in zip(shares := spread(indptr, 8 * workers), pool.map(work, shares), strict=True):
            sizes.append(found[0])
            cells += found[1]
            counts += found[2]
            if progress is not None:
                progress(part.stop, units)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return UnitCounts(indptr, np.concatenate(cells), np.concatenate(counts))


def _count_dense(
    firing: Firing,
    limits: Floats,
    laid: Ints,
    times: Ints,
    index: CellIndex,
    units: int,
    axes: Axes,
    device: torch.device,
) -> UnitCounts:
    """Count on an accelerator: every pixel of the maps that fire, block by block of pairs."""
    cells = len(index.cells)
    pieces = [
        (keys.cpu().numpy(), counts.cpu().numpy())
        for keys, counts in _dense_pieces(firing, limits, laid, times, index, axes, device)
    ]
    none = np.zeros(0, np.int64)
    keys, counts = (np.concatenate([none, *(piece[side] for piece in pieces)]) for side in (0, 1))
    return from_keys(*sum_keys(keys, counts), units, cells)


def _dense_pieces(
    firing: Firing, limits: Floats, laid: Ints, times: Ints, index: CellIndex, axes: Axes, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    cells, size = len(index.cells), (index.local.shape[1], index.local.shape[2])
    start, lookup, often = (_tensor(array, device) for array in (index.start, index.lookup, times))
    low, high = torch.from_numpy(limits).to(device)
    used = np.flatnonzero(laid >= 0)
    step = max(1, _PIXELS // (size[0] * size[1]))
    for begin in range(0, len(used), step):
        pairs = used[begin : begin + step]
        unit = _tensor(firing.unit[pairs], device)
        large = upsample(torch.from_numpy(firing.maps[pairs]).to(device), size, axes)
        active = (large > low[unit][:, None, None]) & (large <= high[unit][:, None, None])
        images, row = np.unique(laid[pairs], return_inverse=True)
        local = torch.from_numpy(index.local[images].astype(np.int32)).to(device).flatten(1)
        pair, pixel = active.flatten(1).nonzero(as_tuple=True)
        image = _tensor(images, device)[_tensor(row, device)[pair]]
        place = local[_tensor(row, device)[pair], pixel].long() + start[image]
        counted = (place < start[image + 1]) & (often[image] > 0)  # what is ignored has a number behind all
        pair, place, image = pair[counted], place[counted], image[counted]
        # Of one image all pixels weigh the same, so pixels are counted first and weighed then.
        keys, counts = torch.unique((pair * cells + lookup[place]), return_counts=True)
        pair = keys // cells
        weight = often[_tensor(laid[pairs], device)[pair]]
        keys, where = torch.unique(unit[pair] * cells + keys % cells, return_inverse=True)
        yield keys, torch.zeros_like(keys).index_add_(0, where, counts * weight)


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.require(array, np.int64, ["C", "W"])).to(device)
