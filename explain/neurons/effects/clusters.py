"""Means of what was tried on every image with every cut-out, with intervals that respect both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Resampling", "clustered_means"]

_TOGETHER = 100  # resamplings at a time


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    draws: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float | None
    """None where there is one image and one cut-out: nothing tells how the mean would vary."""
    high: float | None
    n: int
    """How many values it is the mean of."""

    @property
    def known(self) -> bool:
        """True where there is an interval."""
        return self.low is not None

    def text(self, form: str = ".1f", scale: float = 100.0) -> str:
        """Return the mean and its interval as text, by default in percent."""
        value = format(self.value * scale, form)
        if self.low is None or self.high is None:
            return value
        return f"{value} [{format(self.low * scale, form)}, {format(self.high * scale, form)}]"


def clustered_means(
    values: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    resampling: Resampling,
) -> list[Estimate]:
    """Return the mean of each column with the 2.5 and 97.5 % points of a bootstrap over two crossed factors.

    Values that share an image, or a cut-out, are not independent. Images and cut-outs are drawn anew, each with
    replacement and independently of each other, and a value counts as often as its image times as often as its cut-out
    was drawn (the pigeonhole bootstrap: Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)).

    Parameters
    ----------
    values
        ``(n, m)``: m columns that are resampled together; at least one row.
    first, second
        ``(n,)``: which image and which cut-out each row is of.
    """
    _, one = np.unique(first, return_inverse=True)
    _, other = np.unique(second, return_inverse=True)
    sizes = int(one.max()) + 1, int(other.max()) + 1
    cells, cell = np.unique(one * sizes[1] + other, return_inverse=True)
    counts = np.bincount(cell).astype(np.float64)
    sums = np.stack([np.bincount(cell, column) for column in values.T], 1)
    means = values.mean(0)
    if sizes == (1, 1):
        return [Estimate(float(mean), None, None, len(values)) for mean in means]
    rng = np.random.default_rng(resampling.seed)
    drawn = []
    for start in range(0, resampling.draws, _TOGETHER):
        count = min(_TOGETHER, resampling.draws - start)
        ones, others = (rng.multinomial(size, np.full(size, 1 / size), count) for size in sizes)
        weights = (ones[:, cells // sizes[1]] * others[:, cells % sizes[1]]).astype(np.float64)
        total = weights @ counts
        drawn.append((weights @ sums)[total > 0] / total[total > 0, None])  # no drawn image met a drawn cut-out
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    return [
        Estimate(float(mean), min(float(a), float(mean)), max(float(b), float(mean)), len(values))
        for mean, a, b in zip(means, low, high, strict=True)
    ]
