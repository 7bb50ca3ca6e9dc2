"""What stands in for pixels that are taken away: constant and blurred baselines, and ROAD's noisy linear imputation.

All functions work on tensors that are already preprocessed, on their own device, without graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from explain.errors import InputError

__all__ = ["BLUR", "Baseline", "baseline_of", "blurred", "impute"]

Baseline = Literal["zero", "mean", "blur"] | Tensor

BLUR = 5 / 224
"""Standard deviation of the blur as a share of the shorter side: 5 pixels of 224, as in the code of RISE."""

_WINDOW = 11 / 5
"""Width of the blur's window in standard deviations: RISE's kernel is 11 pixels wide."""

_TOLERANCE = 2e-5
"""Energy norm of the error at which the imputation stops, relative to that of the first guess."""

_ITERATIONS = 500
"""More than an image of 4096 x 4096 takes; reached only where an input holds NaN or infinity."""


def baseline_of(images: Tensor, baseline: Baseline, blur: float = BLUR) -> Tensor:
    """Return what ``baseline`` means for preprocessed images ``(b, c, h, w)``, in their shape.

    Parameters
    ----------
    baseline
        ``"zero"``: zeros *of the tensor*, which after ``(x - mean) / std`` is the mean colour of the training data,
        not black; ``"mean"``: the mean of each image and channel; ``"blur"``: the image blurred (see `blurred`); or a
        tensor that broadcasts to the images, such as ``((0 - mean) / std).view(1, 3, 1, 1)`` for black.

    Raises
    ------
    InputError
        Another word, or a tensor of another shape or with NaN.
    """
    if isinstance(baseline, Tensor):
        try:
            given = baseline.to(images).expand_as(images)
        except RuntimeError:
            raise InputError(
                f"a baseline of shape {tuple(baseline.shape)} does not fit images of {tuple(images.shape)}:"
                " give (c, 1, 1), or one that broadcasts to (b, c, h, w)"
            ) from None
        if not bool(given.isfinite().all()):
            raise InputError("the baseline holds NaN or infinity")
        return given
    if baseline == "zero":
        return torch.zeros_like(images)
    if baseline == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if baseline == "blur":
        return blurred(images, blur)
    raise InputError(f"unknown baseline {baseline!r}: use 'zero', 'mean', 'blur' or a tensor")


def blurred(images: Tensor, share: float = BLUR) -> Tensor:
    """Return images ``(b, c, h, w)`` blurred by a Gaussian of ``share`` of the shorter side.

    The window is 2.2 standard deviations wide, as in the code of RISE (11 x 11 pixels, standard deviation 5, at 224),
    at least 3 pixels. Borders are repeated; zeros, as RISE pads, would draw a frame around the image.

    Raises
    ------
    InputError
        ``share`` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"blur={share}: give the standard deviation as a share of the shorter side, between 0 and 1")
    sigma = share * min(images.shape[2:])
    radius = max(1, int(_WINDOW * sigma / 2))
    place = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.softmax(-(place**2) / (2 * sigma**2), 0).to(images.dtype)
    channels = images.shape[1]
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def impute(images: Tensor, missing: Tensor, noise: Tensor | None = None) -> Tensor:
    """Fill missing pixels by noisy linear imputation, the debiasing of ROAD.

    Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods", section 4.2.
    Every missing pixel is the weighted mean of its neighbours, known or missing: weight 1/6 for the four that share
    a side, 1/12 for the four at the corners; at the border the weights of the neighbours that exist are rescaled.
    That is one sparse linear system per image and channel. The paper solves it by factorisation, one image at a
    time; it is symmetric and positive definite (a Laplacian with known borders), so here conjugate gradients solve
    all of them at once on the device, preconditioned by a multigrid cycle.

    Parameters
    ----------
    images
        ``(n, c, h, w)``, floating point.
    missing
        Bool ``(n, h, w)``: True where a pixel is to be filled.
    noise
        ``(n, c, h, w)``: added to the filled pixels (the paper: normal, standard deviation 0.01, so that a smooth
        patch does not give away the shape of the mask); None for none.

    Returns
    -------
    Tensor
        ``(n, c, h, w)`` in the dtype of the images; known pixels as they were.

    Raises
    ------
    InputError
        An image has no known pixel, or the shapes do not fit.
    """
    n, height, width = images.shape[0], *images.shape[2:]
    if missing.shape != (n, height, width) or missing.dtype != torch.bool:
        raise InputError(f"missing is {missing.dtype} {tuple(missing.shape)}: give bool {(n, height, width)}")
    if bool(missing.flatten(1).all(1).any()):
        raise InputError("an image has no known pixel to impute from: take away less than everything")
    hole = missing[:, None].to(torch.float32)
    known = images.float() * (1 - hole)
    guess = known.sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
    solved = _conjugate_gradients(known, hole, guess)
    if noise is not None:
        solved = solved + noise.float()
    return torch.where(missing[:, None], solved.to(images.dtype), images)


def _conjugate_gradients(known: Tensor, hole: Tensor, guess: Tensor) -> Tensor:
    """Solve for the pixels where ``hole`` is 1; ``known`` is the image with zeros there."""
    grids = _grids(hole)
    x = guess * hole
    residual = hole * (_neighbours(known) + _neighbours(x) - grids[0].degree * x)
    step = preconditioned = _v_cycle(residual, grids)
    energy = first = _dot(residual, preconditioned)
    for _ in range(_ITERATIONS):
        # Not `while energy > ...`: a NaN that came in with the image must end the loop too.
        if not bool((energy > _TOLERANCE**2 * first).any()):
            break
        image_of = hole * (grids[0].degree * step - _neighbours(step))
        length = _ratio(energy, _dot(step, image_of))
        x = x + length * step
        residual = residual - length * image_of
        preconditioned = _v_cycle(residual, grids)
        before, energy = energy, _dot(residual, preconditioned)
        step = preconditioned + _ratio(energy, before) * step
    return x


def _neighbours(values: Tensor) -> Tensor:
    """Return the weighted sum over the eight neighbours: 1/6 beside, 1/12 at the corners, 0 outside."""
    n, c, height, width = values.shape
    stencil = torch.tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]], device=values.device) / 12
    kernel = stencil.expand(n * c, 1, 3, 3)
    # As channels of one image: on the CPU a depthwise convolution is several times faster than one with one channel.
    return F.conv2d(values.reshape(1, n * c, height, width), kernel, padding=1, groups=n * c).view_as(values)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((2, 3), keepdim=True)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """Divide, with 0 where a system is solved already."""
    return torch.where(other > 0, one / torch.where(other > 0, other, 1.0), 0.0)


# --- the preconditioner: one V-cycle over ever coarser grids --------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """One grid of the V-cycle: 1 where it has an unknown, and the sum of the weights that lie on the grid."""

    hole: Tensor
    degree: Tensor


def _grids(hole: Tensor) -> list[_Grid]:
    """Return the grids: a coarser node is an unknown where its hat function lies inside the hole."""
    grids = [_Grid(hole, _neighbours(torch.ones_like(hole[:1])))]
    while min(hole.shape[2:]) > 2:
        hole = (_coarser(1 - hole) == 0).to(hole.dtype)
        if not bool(hole.any()):
            break
        grids.append(_Grid(hole, _neighbours(torch.ones_like(hole[:1]))))
    return grids


def _v_cycle(residual: Tensor, grids: list[_Grid], level: int = 0) -> Tensor:
    """Return a rough solution: a Jacobi step, the coarser grids' correction, a Jacobi step (symmetric in all).

    Jacobi without damping is right here: the stencil's eigenvalues lie in [0, 4/3].
    """
    hole, degree = grids[level].hole, grids[level].degree
    x = residual / degree
    if level + 1 < len(grids):
        left = hole * (residual - degree * x + _neighbours(x))
        coarse = grids[level + 1].hole * _coarser(left)
        x = x + _finer(_v_cycle(coarse, grids, level + 1), (x.shape[2], x.shape[3]))
    left = hole * (residual - degree * x + _neighbours(x))
    return x + left / degree


def _coarser(values: Tensor) -> Tensor:
    """Sum over hat functions ``[1/2 1 1/2]`` along both axes, at every second pixel."""
    rows = F.pad(values, (0, 0, 1, 1))
    rows = rows[..., 1:-1:2, :] + (rows[..., :-2:2, :] + rows[..., 2::2, :]) / 2
    both = F.pad(rows, (1, 1))
    return both[..., 1:-1:2] + (both[..., :-2:2] + both[..., 2::2]) / 2


def _finer(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate to ``size``: the exact transpose of `_coarser`, as conjugate gradients need it."""
    n, c, height, width = values.shape
    rows = values.new_empty((n, c, size[0], width))
    rows[..., ::2, :] = values
    rows[..., 1::2, :] = values[..., : size[0] // 2, :] / 2
    rows[..., 1 : 2 * height - 1 : 2, :] += values[..., 1:, :] / 2
    both = values.new_empty((n, c, *size))
    both[..., ::2] = rows
    both[..., 1::2] = rows[..., : size[1] // 2] / 2
    both[..., 1 : 2 * width - 1 : 2] += rows[..., 1:] / 2
    return both
