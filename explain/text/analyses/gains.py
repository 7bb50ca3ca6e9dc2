"""By how much one share of sentence pairs exceeds another on the same pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from explain.findings.scores import Score

__all__ = ["gain", "mean_gain"]

_DRAWS = 50  # resamplings held at one time


def gain(first: NDArray[np.float64], second: NDArray[np.float64], *, replicates: int = 10_000, seed: int = 0) -> Score:
    """Return the mean of ``first - second``, float64 ``(N,)`` each, in points; the interval is a bootstrap over pairs.

    Percentiles (Efron 1979). Pairs with the same difference are interchangeable, so drawing pairs anew is drawing how
    many there are of each distinct difference: exact, and fast where differences take few values.
    """
    n = len(first)
    if n == 0:
        return Score(0.0, -100.0, 100.0, 0)
    values, counts = np.unique(first - second, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, replicates) @ values / n
    return _score(float(values @ counts / n), drawn, n)


def mean_gain(
    gains: NDArray[np.float64], counts: NDArray[np.float64], *, replicates: int = 1000, seed: int = 0
) -> Score:
    """Return the sum of ``gains`` over that of ``counts``, in points, where pairs are drawn with all that they have.

    Parameters
    ----------
    gains, counts
        float64 ``(N,)``: of each pair, the sum of its differences, and how many they are; at least one in all.
    """
    n = len(gains)
    random = np.random.default_rng(seed)
    drawn = []
    for begin in range(0, replicates, _DRAWS):
        weights = random.multinomial(n, np.full(n, 1 / n), size=min(_DRAWS, replicates - begin))
        drawn.append((weights @ gains) / np.maximum(weights @ counts, 1))
    return _score(float(gains.sum() / counts.sum()), np.concatenate(drawn), int(counts.sum()))


def _score(value: float, drawn: NDArray[np.float64], n: int) -> Score:
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Score(100 * value, 100 * min(low, value), 100 * max(high, value), n)
