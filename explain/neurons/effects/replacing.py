"""What stands in the place of a unit's map: nothing, its mean, its map of another image, a multiple, a forced value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError, near

__all__ = [
    "LEVELS",
    "REPLACEMENTS",
    "Forced",
    "Level",
    "Replace",
    "donors_of",
    "mean_shifts",
    "parse_places",
    "replaced",
]

Replace = Literal["zero", "mean", "resample", "insert", "scale"]
"""``"zero"``: nothing; ``"mean"``: the unit's mean over all images and places; ``"resample"``: its map of another
image; ``"insert"``: forced up to a value at given places; ``"scale"``: its own map times a factor."""
REPLACEMENTS: tuple[Replace, ...] = ("zero", "mean", "resample", "insert")
Level = Literal["threshold", "top"]
"""How high a unit is forced: to its threshold, or to the 99 % quantile of its peaks in the images."""
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True, eq=False)
class Forced:
    """Where units are forced up, and to which value."""

    places: NDArray[np.bool_]
    """``(h, w)`` of the layer's grid."""
    levels: NDArray[np.float32]
    """``(channels,)``; a value that is higher already stays."""


def parse_places(text: str, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the cells of a grid ``(h, w)`` that ``"all"``, ``"centre"`` or ``"y0,x0,y1,x1"`` names.

    ``"centre"`` is the middle half of the height and of the width; the four numbers are shares of both, 0 to 1.

    Raises
    ------
    InputError
        None of these, or a box that holds no cell's centre.
    """
    boxes = {"all": (0.0, 0.0, 1.0, 1.0), "centre": (0.25, 0.25, 0.75, 0.75)}
    try:
        top, left, bottom, right = boxes[text] if text in boxes else map(float, text.split(","))
    except ValueError:
        raise InputError(
            f"places {text!r}{near(text, list(boxes))}: give all, centre or y0,x0,y1,x1 as shares of the image"
        ) from None
    rows, columns = ((np.arange(count) + 0.5) / count for count in grid)
    found: NDArray[np.bool_] = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    if not found.any():
        raise InputError(f"places {text!r} hold no cell of a map of {grid[0]} x {grid[1]}: give a larger box")
    return found


def donors_of(count: int, seed: int) -> NDArray[np.int64]:
    """Return int64 ``(n,)``: the image whose maps stand in for those of each image; never its own, each once.

    Raises
    ------
    InputError
        Fewer than two images.
    """
    if count < 2:
        raise InputError("resampling takes the maps of another image, and there is only one: give more images")
    order = np.random.default_rng(seed).permutation(count)
    found = np.empty(count, np.int64)
    found[order] = np.roll(order, 1)
    return found


def mean_shifts(how: Replace, means: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each unit's spatial mean moves, float64 ``(n, u)``.

    Parameters
    ----------
    means
        ``(n, u)``: the units' own means.
    given
        Of ``"mean"``: the mean over all images ``(u,)``; of ``"resample"``: the donors' means ``(n, u)``; of
        ``"insert"``: the means of the forced maps ``(n, u)``; of ``"scale"``: the factor ``(1,)``; not read for
        ``"zero"``.
    """
    if how == "zero":
        return -means
    return (given * means if how == "scale" else given) - means


def replaced(
    how: Replace, maps: Tensor, *, mean: Tensor | None, donors: Tensor | None, forced: Forced | None, factor: float
) -> Tensor:
    """Return what stands in the place of maps ``(b, c, h, w)``, of a shape that broadcasts to theirs.

    Parameters
    ----------
    mean
        ``(c,)``, for ``"mean"``.
    donors
        ``(b, c, h, w)``, for ``"resample"``.
    forced
        For ``"insert"``.
    factor
        For ``"scale"``.
    """
    if how == "mean":
        assert mean is not None
        return mean.to(maps)[None, :, None, None]
    if how == "resample":
        assert donors is not None
        return donors.to(maps)
    if how == "insert":
        assert forced is not None
        places = torch.from_numpy(forced.places).to(maps.device)
        levels = torch.from_numpy(forced.levels).to(maps)[:, None, None]
        return torch.where(places, torch.maximum(maps, levels), maps)
    return maps * factor if how == "scale" else torch.zeros_like(maps[:1])
