"""Slow and literal FullGrad (Srinivas and Fleuret 2019, eq. 8) of a small convolutional network, in numpy.

The network is conv → BatchNorm → ReLU → conv → ReLU → mean → linear. A bias is added at every position of a layer;
its gradient is found by changing it at that position: the network is piecewise linear, so a small step is exact.
"""

from __future__ import annotations

import numpy as np
from oracles.cam import bilinear

STEP = 1e-6


def conv(x, weight):
    outs, _, size, _ = weight.shape
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    out = np.zeros((outs, height, width))
    for o in range(outs):
        for i in range(height):
            for j in range(width):
                out[o, i, j] = (weight[o] * x[:, i : i + size, j : j + size]).sum()
    return out


def layers(net):
    """The biases of the three spatial layers: conv, what BatchNorm adds, conv."""
    scale = net["gamma"] / np.sqrt(net["var"] + net["eps"])
    return [net["bias0"], net["beta"] - net["mean"] * scale, net["bias1"]]


def scores(net, x, extra):
    """All scores, with ``extra[l]`` added at layer l, position by position."""
    scale = net["gamma"] / np.sqrt(net["var"] + net["eps"])
    b0, b1, b2 = (bias[:, None, None] for bias in layers(net))
    z = conv(x, net["weight0"]) + b0 + extra[0]
    z = np.maximum(z * scale[:, None, None] + b1 + extra[1], 0)
    z = np.maximum(conv(z, net["weight1"]) + b2 + extra[2], 0)
    return net["weight2"] @ z.mean((1, 2)) + net["bias2"]


def slopes(function, array):
    """``d function / d array``, entry by entry: ``(entries of array, scores)`` in the array's shape."""
    found = np.zeros((*array.shape, len(function(array))))
    for index in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[index] += STEP
        down[index] -= STEP
        found[index] = (function(up) - function(down)) / (2 * STEP)
    return found


def terms(net, x):
    """``x * df/dx`` and ``b * df/db`` of the spatial layers, each ``(channels, h, w, scores)``."""
    inner = (x.shape[1] - 2, x.shape[2] - 2)
    zero = [
        np.zeros((len(net["bias0"]), *inner)),
        np.zeros((len(net["bias0"]), *inner)),
        np.zeros((len(net["bias1"]), inner[0] - 2, inner[1] - 2)),
    ]
    found = [x[..., None] * slopes(lambda v: scores(net, v, zero), x)]
    for place, bias in enumerate(layers(net)):

        def moved(extra, place=place):
            return scores(net, x, [*zero[:place], extra, *zero[place + 1 :]])

        found.append(bias[:, None, None, None] * slopes(moved, zero[place]))
    return found


def rescaled(values):
    values = np.abs(values)
    if values.max() == values.min():
        return np.zeros_like(values)
    return (values - values.min()) / (values.max() - values.min())


def fullgrad_eq8(found, size, which, per):
    """The map of score ``which`` from `terms`: psi of all, summed; scaled per "layer" or per "channel"."""
    total = np.zeros(size)
    for term in found:
        planes = term[..., which]
        planes = rescaled(planes) if per == "layer" else [rescaled(plane) for plane in planes]
        for plane in planes:
            total += bilinear(plane, size)
    return total
