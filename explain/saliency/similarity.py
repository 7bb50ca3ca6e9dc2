"""How alike two saliency maps are: rank correlation and structural similarity, as in the sanity checks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from explain.errors import InputError
from explain.types import normalize_maps

__all__ = ["spearman", "ssim"]

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation of maps ``(b, k, h, w)``, map by map: float32 ``(b, k)``, -1…1.

    Equal values share the mean of their ranks. NaN where a map is flat: it ranks nothing.
    """
    _check(one, other)
    ranks = [_mean_ranks(maps.flatten(2)) for maps in (one, other)]
    a, b = (rank - rank.mean(2, keepdim=True) for rank in ranks)
    scale = (a.square().sum(2) * b.square().sum(2)).sqrt()
    return torch.where(scale > 0, (a * b).sum(2) / scale, torch.nan).float()


def _mean_ranks(values: Tensor) -> Tensor:
    """Return the ranks of ``(b, k, n)`` from 1, equal values sharing their mean, float64."""
    values = values.contiguous()
    ordered = values.sort(dim=2).values
    first, last = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (first + last + 1).double() / 2


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Return the structural similarity of maps ``(b, k, h, w)``, map by map: float32 ``(b, k)``, at most 1.

    Wang et al. 2004, "Image Quality Assessment", eq. 13: Gaussian window of 11 x 11, standard deviation 1.5 (less
    where the maps are smaller), K1 = 0.01, K2 = 0.03; the mean over all places where the window fits. Each map is
    scaled to 0…1 first (a flat one to 0), so the dynamic range L is 1.
    """
    _check(one, other)
    b, k, height, width = one.shape
    x, y = (normalize_maps(maps.double(), "minmax").view(b * k, 1, height, width) for maps in (one, other))
    kernel = _window(min(height, width), x)
    mean_x, mean_y = F.conv2d(x, kernel), F.conv2d(y, kernel)
    var_x = F.conv2d(x * x, kernel) - mean_x**2
    var_y = F.conv2d(y * y, kernel) - mean_y**2
    covariance = F.conv2d(x * y, kernel) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    share = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    whole = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (share / whole).mean((1, 2, 3)).view(b, k).float()


def _window(side: int, like: Tensor) -> Tensor:
    width = min(WINDOW, side - 1 + side % 2)  # the largest odd number that fits
    place = torch.arange(width, device=like.device, dtype=like.dtype) - width // 2
    row = torch.softmax(-(place**2) / (2 * SIGMA**2), 0)
    return (row[:, None] * row)[None, None]


def _check(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or one.ndim != 4:
        raise InputError(f"maps of {tuple(one.shape)} and {tuple(other.shape)}: give two of one shape (b, k, h, w)")
    if not bool(one.isfinite().all() and other.isfinite().all()):
        raise InputError("the maps hold NaN or infinity: they cannot be compared")
