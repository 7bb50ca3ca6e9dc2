"""Slow, literal attribution: one pixel, one window, one step at a time, from the papers."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn


class Rule(torch.autograd.Function):
    """A ReLU whose backward pass is that of guided backpropagation or of the deconvolution network.

    Springenberg et al. 2015, figure 1: backpropagation keeps gradients where the input was positive; the
    "deconvnet" keeps positive gradients; guided backpropagation keeps positive gradients where the input was positive.
    """

    @staticmethod
    def forward(ctx, value, guided):
        ctx.save_for_backward(value)
        ctx.guided = guided
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (value,) = ctx.saved_tensors
        kept = gradient * (gradient > 0)
        return (kept * (value > 0) if ctx.guided else kept), None


class RuleReLU(nn.Module):
    def __init__(self, guided):
        super().__init__()
        self.guided = guided

    def forward(self, value):
        return Rule.apply(value, self.guided)


def occlusion(network, image, column, window, stride):
    """Zeiler and Fergus 2014, section 4.2: the loss of the score where a window is covered, averaged over windows.

    Windows start every ``stride`` pixels, the last one where the side is covered first.
    """
    _, height, width = image.shape
    base = float(network(image[None])[0, column])
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    for row, left in itertools.product(_starts(height, window[0], stride[0]), _starts(width, window[1], stride[1])):
        covered = image.clone()
        covered[:, row : row + window[0], left : left + window[1]] = 0
        total[row : row + window[0], left : left + window[1]] += base - float(network(covered[None])[0, column])
        count[row : row + window[0], left : left + window[1]] += 1
    return total / count


def _starts(side, window, stride):
    return [stride * n for n in range(1 + math.ceil((side - window) / stride))]


def ablation(network, image, column, segments):
    """What the score loses when one segment is set to zero."""
    base = float(network(image[None])[0, column])
    found = torch.zeros(image.shape[1:])
    for segment in segments.unique().tolist():
        covered = image.clone()
        covered[:, segments == segment] = 0
        found[segments == segment] = base - float(network(covered[None])[0, column])
    return found


def shapley(network, image, column, segments):
    """Shapley 1953: the mean gain of a segment over all orders in which segments can be added to a zero image."""
    ids = segments.unique().tolist()
    gain = dict.fromkeys(ids, 0.0)
    orders = list(itertools.permutations(ids))
    for order in orders:
        shown = torch.zeros_like(image)
        before = float(network(shown[None])[0, column])
        for segment in order:
            shown[:, segments == segment] = image[:, segments == segment]
            after = float(network(shown[None])[0, column])
            gain[segment] += (after - before) / len(orders)
            before = after
    found = torch.zeros(image.shape[1:])
    for segment in ids:
        found[segments == segment] = gain[segment]
    return found


def integrated_gradients(network, image, column, steps):
    """Sundararajan et al. 2017, eq. 1, by the midpoint rule, baseline zero; summed over channels."""
    total = torch.zeros_like(image)
    for step in range(steps):
        leaf = ((step + 0.5) / steps * image).detach()[None].requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf)[0, column], leaf)
        total += gradient[0] / steps
    return (image * total).sum(0)
