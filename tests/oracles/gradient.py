"""Slow and literal maps of the Grad-CAM family for one image: map ``(K, h, w)``, gradient ``(K, h, w)``, float64."""

from __future__ import annotations

import math

import numpy as np
import torch


def rectified(value):
    return value if value > 0 else 0.0


def weighted(features, weights):
    """``ReLU(sum_k w_k A_k)``, position by position."""
    channels, height, width = features.shape
    plane = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            plane[y, x] = rectified(math.fsum(float(weights[k]) * float(features[k, y, x]) for k in range(channels)))
    return plane


def grad_cam(features, gradient):
    """Selvaraju et al. 2017, eq. 1 and 2."""
    _, height, width = features.shape
    weights = [math.fsum(float(v) for v in np.ravel(plane)) / (height * width) for plane in gradient]
    return weighted(features, weights)


def xgrad_cam(features, gradient):
    """Fu et al. 2020, eq. 8: ``w_k = sum_p (A_k(p) / sum_q A_k(q)) g_k(p)``."""
    weights = []
    for plane, slope in zip(features, gradient, strict=True):
        mass = math.fsum(float(v) for v in np.ravel(plane))
        weights.append(
            math.fsum(float(a) / mass * float(g) for a, g in zip(np.ravel(plane), np.ravel(slope), strict=True))
        )
    return weighted(features, weights)


def elementwise(features, gradient, rule):
    """``ReLU(sum_k rule(g_k(p), A_k(p)))`` for HiResCAM (``g A``) and LayerCAM (``ReLU(g) A``)."""
    channels, height, width = features.shape
    plane = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            terms = (rule(float(gradient[k, y, x]), float(features[k, y, x])) for k in range(channels))
            plane[y, x] = rectified(math.fsum(terms))
    return plane


def hires_cam(features, gradient):
    """Draelos and Carin 2020, eq. 3."""
    return elementwise(features, gradient, lambda g, a: g * a)


def layer_cam(features, gradient):
    """Jiang et al. 2021, eq. 5-7."""
    return elementwise(features, gradient, lambda g, a: rectified(g) * a)


def grad_cam_pp(features, head, index):
    """Chattopadhay et al. 2018, eq. 10 and 19: weights from the derivatives of ``Y = exp(logit)``, by autograd.

    ``alpha(p) = Y''(p) / (2 Y''(p) + sum_q A(q) Y'''(p))``, ``w = sum_p alpha(p) ReLU(Y'(p))``; the derivatives are
    pure ones in ``A_k(p)``. Returned over ``Y``, the factor that the paper leaves to normalising. For heads that are
    piecewise linear, as the paper has it.
    """
    channels, height, width = features.shape
    weights = []
    for k in range(channels):
        mass, weight = math.fsum(float(v) for v in np.ravel(features[k])), 0.0
        for y in range(height):
            for x in range(width):
                one, two, three, top = derivatives_of_exp(features, head, index, (k, y, x))
                below = 2 * two + mass * three
                alpha = two / below if below != 0 else 0.0
                weight += alpha * rectified(one) / top
        weights.append(weight)
    return weighted(features, weights)


def derivatives_of_exp(features, head, index, place):
    """First three derivatives of ``exp(logit)`` in one number of the map, and ``exp(logit)``."""
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bump = torch.zeros(features.shape, dtype=torch.float64)
    bump[place] = 1
    top = head(torch.as_tensor(features, dtype=torch.float64)[None] + step * bump)[0, index].exp()
    found, value = [], top
    for _ in range(3):
        (value,) = torch.autograd.grad(value, step, create_graph=True)
        found.append(float(value.detach()))
    return (*found, float(top.detach()))


def principal(rows):
    """Part of each row along the first right singular vector of the centred rows, and that vector; by a full SVD."""
    centred = rows - rows.mean(0)
    _, _, vectors = np.linalg.svd(centred, full_matrices=True)
    return centred @ vectors[0], vectors[0]


def eigen_cam(features):
    """Muhammad and Yeasin 2020, sign open."""
    channels, height, width = features.shape
    rows = np.array([[float(features[k, y, x]) for k in range(channels)] for y in range(height) for x in range(width)])
    return principal(rows)[0].reshape(height, width)


def eigen_grad_cam(features, gradient):
    """The same of ``g A``."""
    return eigen_cam(np.asarray(features, dtype=np.float64) * np.asarray(gradient, dtype=np.float64))


def finer_cam(features, logits_gradient, logits, index, others=3, share=0.6):
    """Zhang et al. 2025, eq. 3-4: Grad-CAM of ``y_c - share mean_d y_d`` over the ``others`` nearest logits.

    ``logits_gradient`` ``(classes, K, h, w)``.
    """
    distance = sorted((abs(float(logits[d]) - float(logits[index])), d) for d in range(len(logits)) if d != index)
    rivals = [d for _, d in distance[:others]]
    combined = np.array(logits_gradient[index], dtype=np.float64)
    for d in rivals:
        combined = combined - share / len(rivals) * np.asarray(logits_gradient[d], dtype=np.float64)
    return grad_cam(features, combined)
