"""The CAM family that needs a map and a gradient: one pure formula each.

Symbols: ``A`` the map ``(b, c, h, w)``; ``g = dy/dA`` the gradient of ``k`` scores ``(b, k, c, h, w)``; sums over
``p`` run over positions. Each formula returns ``(b, k, h, w)``. On a head that is affine in the mean of the map
``g_k(p) = W_k / (h w)`` everywhere, and the *closed* form says what the formula then comes to, from ``A`` and the
weights ``W (b, k, c)`` alone: no gradient, no ``(b, k, c, h, w)`` tensor. Nothing has an absolute epsilon, so that
maps keep their shape at any scale of the logits (Grad-CAM++ alone depends on it, as published).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["METHODS", "GradientMethod"]

Formula = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GradientMethod:
    """One method: its formula over (map, gradient), and its closed form over (map, weights) if it has one."""

    name: str
    formula: Formula
    closed: Formula | None
    source: str


def grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """``ReLU(sum_k w_k A_k)``, ``w_k = mean_p g_k(p)`` (Selvaraju et al. 2017, eq. 1-2)."""
    return _weighted(a, g.mean((3, 4))).relu()


def grad_cam_closed(a: Tensor, w: Tensor) -> Tensor:
    """``ReLU(sum_k W_k A_k) / hw``: Grad-CAM, HiResCAM and XGrad-CAM of a pooling head."""
    return _weighted(a, w).relu() / _positions(a)


def grad_cam_pp(a: Tensor, g: Tensor) -> Tensor:
    """``ReLU(sum_k w_k A_k)``, ``w_k = sum_p alpha ReLU(g)`` (Chattopadhay et al. 2018, eq. 5 and 19).

    ``alpha = g^2 / (2 g^2 + S_k g^3) = 1 / (2 + S_k g)`` with ``S_k = sum_p A_k(p)``, and 0 where ``g = 0``. Equation
    19 takes ``exp(logit)`` for the score: its factor in ``w_k`` is the same for all channels and is left out.
    """
    mass = a.sum((2, 3))[:, None, :, None, None]
    below = 2 + mass * g
    alpha = torch.where((g != 0) & (below != 0), 1 / torch.where(below != 0, below, 1), 0)
    return _weighted(a, (alpha * g.relu()).sum((3, 4))).relu()


def grad_cam_pp_closed(a: Tensor, w: Tensor) -> Tensor:
    """Channel weights ``ReLU(W_k) / (2 + W_k mean_p A_k)``."""
    below = 2 + w * a.mean((2, 3))[:, None]
    return _weighted(a, torch.where(below != 0, w.relu() / torch.where(below != 0, below, 1), 0)).relu()


def xgrad_cam(a: Tensor, g: Tensor) -> Tensor:
    """``ReLU(sum_k w_k A_k)``, ``w_k = sum_p g A / sum_p A`` (Fu et al. 2020, eq. 8).

    A channel whose values cancel to rounding has no such weight, and is left out (rectified maps have none).
    """
    mass, size = a.sum((2, 3))[:, None], a.abs().sum((2, 3))[:, None]
    sound = mass.abs() > 4 * torch.finfo(a.dtype).eps * size
    weight = torch.einsum("bkchw,bchw->bkc", g, a) / torch.where(sound, mass, 1)
    return _weighted(a, torch.where(sound, weight, 0)).relu()


def hires_cam(a: Tensor, g: Tensor) -> Tensor:
    """``ReLU(sum_k g_k A_k)`` (Draelos and Carin 2020, eq. 3)."""
    return torch.einsum("bkchw,bchw->bkhw", g, a).relu()


def layer_cam(a: Tensor, g: Tensor) -> Tensor:
    """``ReLU(sum_k ReLU(g_k) A_k)`` (Jiang et al. 2021, eq. 5-7)."""
    return torch.einsum("bkchw,bchw->bkhw", g.relu(), a).relu()


def layer_cam_closed(a: Tensor, w: Tensor) -> Tensor:
    """``ReLU(sum_k ReLU(W_k) A_k) / hw``."""
    return grad_cam_closed(a, w.relu())


def elementwise(a: Tensor, g: Tensor) -> Tensor:
    """``sum_k ReLU(g_k A_k)``: Grad-CAM element by element, as in pytorch-grad-cam."""
    parts: Tensor = (g * a[:, None]).relu()
    return parts.sum(2)


def eigen_cam(a: Tensor, g: Tensor) -> Tensor:
    """Return the projection of each position on the first principal component (Muhammad and Yeasin 2020).

    The same for every class. From the ``hw x hw`` Gram matrix of the centred map rather than from a full
    decomposition; signed so that it rises with the total activation of a position.
    """
    return _principal(a).unsqueeze(1).expand(-1, g.shape[1], -1, -1).contiguous()


def eigen_grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """First principal component of ``g A``, class by class, signed to rise with ``sum_k g_k A_k``."""
    product = g * a[:, None]
    found: Tensor = _principal(product.flatten(0, 1)).unflatten(0, product.shape[:2])
    return found


def _weighted(a: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("bkc,bchw->bkhw", weights, a)


def _positions(a: Tensor) -> int:
    return a.shape[2] * a.shape[3]


def _principal(values: Tensor) -> Tensor:
    """``(n, c, h, w)`` to ``(n, h, w)``: each position's part along the first principal component over positions."""
    rows = values.flatten(2).transpose(1, 2).double()  # (n, hw, c)
    # Scaled to one before squaring: maps of 1e-30 or 1e30 keep their shape.
    largest = rows.abs().amax((1, 2), keepdim=True)
    rows = rows / torch.where(largest > 0, largest, 1)
    centred = rows - rows.mean(1, keepdim=True)
    values_of, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    first = vectors[..., -1] * values_of[:, -1:].clamp_min(0).sqrt()
    agrees = (first * rows.sum(2)).sum(1, keepdim=True)
    extreme = first.gather(1, first.abs().argmax(1, keepdim=True))
    sign = torch.where(agrees != 0, agrees, extreme).sign()
    found: Tensor = (first * sign * largest[:, 0]).to(values.dtype)
    return found.view(len(values), *values.shape[2:])


METHODS = {
    method.name: method
    for method in (
        GradientMethod("gradcam", grad_cam, grad_cam_closed, "Selvaraju et al. 2017, eq. 1-2"),
        GradientMethod("gradcam++", grad_cam_pp, grad_cam_pp_closed, "Chattopadhay et al. 2018, eq. 5, 19"),
        GradientMethod("xgradcam", xgrad_cam, grad_cam_closed, "Fu et al. 2020, eq. 8"),
        GradientMethod("hirescam", hires_cam, grad_cam_closed, "Draelos and Carin 2020, eq. 3"),
        GradientMethod("layercam", layer_cam, layer_cam_closed, "Jiang et al. 2021, eq. 5-7"),
        GradientMethod("elementwise", elementwise, None, "pytorch-grad-cam, GradCAMElementWise"),
        GradientMethod("eigencam", eigen_cam, None, "Muhammad and Yeasin 2020"),
        GradientMethod("eigengradcam", eigen_grad_cam, None, "pytorch-grad-cam, EigenGradCAM"),
        GradientMethod("finercam", grad_cam, grad_cam_closed, "Zhang et al. 2025, eq. 3-4"),
    )
}
"""By the name that `explain.attribute` takes. Finer-CAM is Grad-CAM of another score: see `Selection`."""
