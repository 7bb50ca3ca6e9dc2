"""Where a cell looks, by measurement: the pixels that a linear network of positive weights lets through to it."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn

LEFT_OUT = (
    *("BatchNorm2d", "LayerNorm", "LayerNorm2d", "SqueezeExcitation", "ShiftedWindowAttention"),
    *("ReLU", "ReLU6", "SiLU", "GELU", "Dropout"),
)


def averaging(net):
    """Return a float64 copy that only averages: equal positive weights, max pooling by mean.

    Norms, gates and attention are left out. What remains is the geometry: kernels, strides, paddings, dilations and
    the way paths join.
    """
    copied = copy.deepcopy(net).double().eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            kind = type(child).__name__
            if isinstance(child, (nn.Conv2d, nn.Linear)):
                with torch.no_grad():
                    child.weight.fill_(1 / child.weight[0].numel())
                    if child.bias is not None:
                        child.bias.zero_()
            elif isinstance(child, nn.MaxPool2d):
                same = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, nn.AvgPool2d(*same))
            elif kind in LEFT_OUT:
                setattr(parent, name, nn.Identity())
    return copied


def window(to_map, shape, cell):
    """Return the half-open (top, left, bottom, right) of the pixels that reach a cell ``(i, j)``.

    ``to_map``: images ``(1, c, h, w)`` of ``shape`` to a map ``(1, c, h, w)``, linear and positive.
    """
    images = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    value = to_map(images)[0, :, cell[0], cell[1]].sum()
    (gradient,) = torch.autograd.grad(value, images)
    seen = gradient[0].abs().sum(0) > 0
    rows, columns = (torch.nonzero(seen.any(axis)).flatten().tolist() for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def aligned(plane, size, offset, stride, input_size):
    """Upsample ``(h, w)``: pixel centres take the bilinear value between the cells' centres, constant beyond them."""
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            total = 0.0
            place = ((y + 0.5) * input_size[0] / size[0], (x + 0.5) * input_size[1] / size[1])
            (top, down), (left, along) = (
                _between(place[axis], offset[axis], stride[axis], plane.shape[axis]) for axis in (0, 1)
            )
            for row, row_share in ((top, 1 - down), (top + 1, down)):
                for column, column_share in ((left, 1 - along), (left + 1, along)):
                    if row_share and column_share:
                        total += row_share * column_share * float(plane[row, column])
            out[y, x] = total
    return out


def _between(place, offset, stride, count):
    """The cell before a place, and how far the place is on the way to the next one."""
    if place <= offset:
        return 0, 0.0
    if place >= offset + (count - 1) * stride:
        return count - 1, 0.0
    cell = math.floor((place - offset) / stride)
    return cell, (place - offset) / stride - cell
