"""Slow and literal training: AdamW (Loshchilov and Hutter 2019, algorithm 2) on one weight matrix, by hand."""

from __future__ import annotations

import numpy as np


def softmax_gradient(weight, inputs, targets):
    """Gradient of the mean cross entropy of ``inputs @ weight.T``: ``mean_i (p_i - onehot_i) x_i``."""
    total = np.zeros_like(weight)
    loss = 0.0
    for row, target in zip(inputs, targets, strict=True):
        scores = weight @ row
        shares = np.exp(scores - scores.max())
        shares = shares / shares.sum()
        loss -= float(np.log(shares[target]))
        for index in range(len(weight)):
            total[index] += (shares[index] - (index == target)) * row
    return total / len(inputs), loss / len(inputs)


def adamw(weight, batches, rates, decay=0.01, first=0.9, second=0.999, epsilon=1e-8):
    """Train on a list of ``(inputs, targets)`` with a learning rate for each; return the weight and the losses."""
    weight = weight.astype(np.float64).copy()
    mean, square, losses = np.zeros_like(weight), np.zeros_like(weight), []
    for step, ((inputs, targets), rate) in enumerate(zip(batches, rates, strict=True), 1):
        gradient, loss = softmax_gradient(weight, inputs, targets)
        losses.append(loss)
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient**2
        weight = weight - rate * decay * weight
        weight = weight - rate * (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + epsilon)
    return weight, losses
