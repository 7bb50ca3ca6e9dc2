"""Boxes of components at every threshold of a map, in one pass.

Pixels enter in falling order of value; a union-find over 8-neighbours keeps box, size and area of each component
(`explain.localization._union`). After the pixels above a threshold are in, its components are known: no mask is ever
made, and the cost hardly depends on the number of thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.localization._components import EVENT, all_components, all_holes
from explain.localization._largest import largest_by_pixels, largest_by_polygon
from explain.localization._neighbours import tables
from explain.localization._union import levels_of

__all__ = [
    "Components",
    "Semantics",
    "level_of",
    "quantised",
    "sweep_all",
    "sweep_largest",
    "threshold_grid",
    "threshold_sweep",
]

Semantics = Literal["pixels", "opencv"]
"""``"pixels"``: ``value > t * max`` as it is, the largest component has most pixels, ties raster-first: as
`explain.locate`. ``"opencv"``: 8-bit levels ``floor(255 value) > int(t * max level)``, the largest has the largest
``cv2.contourArea``, ties as ``max(cv2.findContours(...))`` takes them, and holes are components too: as wsolevaluation.
"""

_LEVELS = 255


@dataclass(frozen=True)
class Components:
    """Every component of one map at every threshold; a row stands for thresholds between which it does not change."""

    boxes: Tensor
    """int64 ``(m, 4)``: half-open xyxy, in pixels of the map."""
    pixels: Tensor
    """int64 ``(m,)``: how many pixels it has; of a hole, how many are missing."""
    first: Tensor
    """int64 ``(m,)``: number of the lowest threshold at which it stands so."""
    last: Tensor
    """int64 ``(m,)``: number of the highest, inclusive."""
    holes: Tensor
    """bool ``(m,)``: whether it is a hole (``"opencv"`` only)."""
    thresholds: int
    """How many thresholds there are."""

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, threshold: int) -> Tensor:
        """Return the boxes ``(k, 4)`` at the threshold of this number: larger ones first, holes last."""
        if not 0 <= threshold < self.thresholds:
            raise InputError(f"threshold number {threshold}: there are {self.thresholds}")
        chosen = ((self.first <= threshold) & (threshold <= self.last)).nonzero()[:, 0]
        order = np.lexsort((-self.pixels[chosen].numpy(), self.holes[chosen].numpy()))
        return self.boxes[chosen[torch.from_numpy(order)]]


def threshold_grid(steps: int = 1000) -> Tensor:
    """Return the thresholds ``i / steps``, float64 ``(steps,)``, rounded as ``numpy.arange(0, 1, 1 / steps)`` is.

    Parameters
    ----------
    steps
        How many.
    """
    return torch.from_numpy(np.arange(steps) * (1 / steps))


@overload
def threshold_sweep(
    maps: Tensor,
    thresholds: Tensor | None = None,
    *,
    semantics: Semantics = ...,
    components: Literal["largest"] = ...,
    workers: int = ...,
) -> Tensor: ...


@overload
def threshold_sweep(
    maps: Tensor,
    thresholds: Tensor | None = None,
    *,
    semantics: Semantics = ...,
    components: Literal["all"],
    workers: int = ...,
) -> list[Components]: ...


def threshold_sweep(
    maps: Tensor,
    thresholds: Tensor | None = None,
    *,
    semantics: Semantics = "pixels",
    components: Literal["largest", "all"] = "largest",
    workers: int = 1,
) -> Tensor | list[Components]:
    """Return the largest component's box of every map at every threshold, or all components' boxes.

    Parameters
    ----------
    maps
        ``(n, h, w)``. ``"pixels"``: raw, of any scale; a map that is nowhere positive has no box. ``"opencv"``: uint8,
        or floating point within 0…1 (`explain.maps.normalize_maps`).
    thresholds
        ``(t,)``, strictly rising, ``0 <= t < 1``, shares of each map's maximum; 0, 0.001, … 0.999 where None.
    semantics
        How masks are cut, what counts as large, and whether holes count; see `Semantics`.
    components
        ``"largest"`` or ``"all"``.
    workers
        Threads over maps (the compiled part releases the GIL).

    Returns
    -------
    Tensor
        ``"largest"``: int64 ``(n, t, 4)``, half-open ``xyxy`` in pixels of the map; zeros where there is no box.
    list of Components
        ``"all"``: one per map.

    Raises
    ------
    InputError
        Thresholds that do not rise within [0, 1), maps of a wrong shape or range, with NaN or infinity.
    """
    _check_maps(maps)
    shares = threshold_grid() if thresholds is None else thresholds.detach().cpu()
    _check_thresholds(shares)
    if components not in ("largest", "all"):
        raise InputError(f"components={components!r}: use 'largest' or 'all'")
    cut = _cutter(maps, shares, semantics)
    found: list[Any] = _each(
        lambda index: _one(*cut(index), semantics=semantics, every=components == "all"), len(maps), workers
    )
    if components == "all":
        return found
    boxes = np.stack(found) if found else np.zeros((0, len(shares), 4), np.int64)
    return torch.from_numpy(boxes)


def quantised(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the 8-bit levels ``floor(255 v)`` of maps within 0…1."""
    return (values * _LEVELS).astype(np.uint8).astype(np.int32)


def level_of(thresholds: NDArray[np.float64], top: int) -> NDArray[np.int64]:
    """Return the 8-bit level ``int(t * top)`` of each threshold, in float64, for a map whose maximum is ``top``."""
    return (thresholds * top).astype(np.int64)


def sweep_largest(levels: NDArray[np.int32], count: int, *, polygon: bool) -> NDArray[np.int64]:
    """Return the largest component's box ``(count, 4)`` of masks ``levels > t``, t = 0 … count-1; zeros: none."""
    boxes = np.zeros((count, 4), np.int64)
    kernel = largest_by_polygon if polygon else largest_by_pixels
    kernel(levels, count, tables(), boxes)
    return boxes


def sweep_all(levels: NDArray[np.int32], count: int, *, holes: bool) -> NDArray[np.int32]:
    """Return every component of masks ``levels > t`` as rows ``(m, 8)``; see `EVENT`."""
    room = np.empty((levels.size + 1, EVENT), np.int32)
    rows = [room[: all_components(levels, count, tables(), room)].copy()]
    if holes:
        rows.append(room[: all_holes(levels, count, room)].copy())
    return np.concatenate(rows)


def _one(
    levels: NDArray[np.int32], count: int, of_threshold: NDArray[np.int64], *, semantics: Semantics, every: bool
) -> NDArray[np.int64] | Components:
    """Return the boxes of one map; ``of_threshold`` ``(t,)``: which of ``count`` masks belongs to each threshold."""
    opencv = semantics == "opencv"
    if not every:
        return sweep_largest(levels, count, polygon=opencv)[of_threshold]
    rows = sweep_all(levels, count, holes=opencv)
    first = np.searchsorted(of_threshold, rows[:, 0], side="left")
    last = np.searchsorted(of_threshold, rows[:, 1], side="right") - 1
    kept = first <= last
    table = torch.from_numpy(rows[kept].astype(np.int64))
    first, last = first[kept], last[kept]
    return Components(
        table[:, 2:6], table[:, 6], torch.from_numpy(first), torch.from_numpy(last), table[:, 7] > 0, len(of_threshold)
    )


Cut = Callable[[int], tuple[NDArray[np.int32], int, NDArray[np.int64]]]


def _cutter(maps: Tensor, shares: Tensor, semantics: Semantics) -> Cut:
    """Return what gives, for a map: levels, the number of masks, and the mask of each threshold."""
    if semantics == "opencv":
        grid = shares.double().numpy()
        if maps.dtype == torch.uint8:
            eight = maps.cpu().numpy().astype(np.int32)
        else:
            if len(maps) and not (0 <= float(maps.amin()) and float(maps.amax()) <= 1):
                raise InputError("semantics='opencv' takes maps within 0…1: use maps.normalized('minmax'), or uint8")
            eight = quantised(maps.detach().cpu().double().numpy())
        return lambda index: (eight[index], _LEVELS, level_of(grid, int(eight[index].max())))
    if semantics != "pixels":
        raise InputError(f"semantics={semantics!r}: use 'pixels' or 'opencv'")
    values, count = np.ascontiguousarray(maps.detach().float().cpu().numpy()), len(shares)
    every = np.arange(count)
    limits = shares.float().numpy()

    def cut(index: int) -> tuple[NDArray[np.int32], int, NDArray[np.int64]]:
        plane = values[index]
        top = plane.max()
        if not top > 0:
            return np.zeros(plane.shape, np.int32), count, every
        # The same float32 product and comparison as `value > t * max` pixel by pixel: levels count thresholds below.
        levels: NDArray[np.int32] = levels_of(plane, limits * top)
        return levels, count, every

    return cut


def _each(function: Callable[[int], Any], number: int, workers: int) -> list[Any]:
    if workers > 1 and number > 1:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, range(number)))
    return [function(index) for index in range(number)]


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 3:
        raise InputError(f"maps of shape {tuple(maps.shape)}: threshold_sweep needs (n, h, w)")
    if maps.is_floating_point() and not bool(maps.isfinite().all()):
        raise InputError("a map holds NaN or infinity: it cannot be thresholded")


def _check_thresholds(shares: Tensor) -> None:
    if shares.ndim != 1 or len(shares) == 0 or not bool((shares >= 0).all() & (shares < 1).all()):
        raise InputError("thresholds must be a rising list of shares of the maximum, 0 <= t < 1")
    if not bool((shares[1:] > shares[:-1]).all()):
        raise InputError("thresholds must rise strictly")
