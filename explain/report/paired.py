"""Two runs on the same images: intervals of differences over images, and McNemar's test.

The same numbers as `explain.localization.statistics`, which a report may not import: it needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import comb, erfc, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "Interval", "cross_fitted", "intervals", "mcnemar", "paired", "replicates"]

REPLICATES = 1000
_CHUNK = 50


@dataclass(frozen=True)
class Interval:
    """A number in points with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The second run's score minus the first's, in points."""

    interval: Interval
    only_first: int | None = None
    """Images that only the first run gets right; None for scores that no single image has right or wrong."""
    only_second: int | None = None
    p: float | None = None
    """McNemar's exact two-sided test of no difference."""


def replicates(n: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Return how often each of ``n`` images is drawn in each bootstrap replicate, in chunks ``(50, n)``."""
    generator = np.random.default_rng(seed)
    share = np.full(n, 1 / n)
    return [
        generator.multinomial(n, share, size=min(_CHUNK, REPLICATES - start)).astype(np.float32)
        for start in range(0, REPLICATES, _CHUNK)
    ]


def intervals(
    statistic: Callable[[NDArray[np.float32]], NDArray[np.float64]], n: int, draws: Iterable[NDArray[np.float32]]
) -> list[Interval]:
    """Return percentile intervals (Efron 1979) over images.

    ``statistic``: from weights ``(r, n)``, how often each image counts, to numbers ``(r, k)``; it must choose anew for
    each row what is chosen on the data, such as a threshold.
    """
    values = statistic(np.ones((1, n), np.float32))[0]
    low, high = np.quantile(np.concatenate([statistic(chunk) for chunk in draws]), [0.025, 0.975], axis=0)
    return [
        Interval(float(value), min(float(a), float(value)), max(float(b), float(value)))
        for value, a, b in zip(values, low, high, strict=True)
    ]


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value (McNemar 1947; binomial with one half over the images that flip)."""
    flips, fewer = only_first + only_second, min(only_first, only_second)
    if flips > 1000:  # exact terms would have hundreds of digits; the normal limit is as good
        return min(1.0, erfc(max(0.0, abs(only_first - only_second) - 1) / sqrt(2 * flips)))
    tail = sum(comb(flips, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**flips) if flips else 1.0


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_], interval: Interval) -> Difference:
    """Return the difference of two verdicts ``(n,)`` on the same images, with its test."""
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    return Difference(interval, lost, won, mcnemar(lost, won))


def cross_fitted(hits: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Return each image's verdict at the threshold that is best on the other half of the images; hits ``(n, t)``."""
    n = len(hits)
    order = np.random.default_rng(seed).permutation(n)
    halves = order[: n // 2], order[n // 2 :]
    verdict = np.zeros(n, np.bool_)
    for chosen_on, scored in (halves, halves[::-1]):
        best = int(hits[chosen_on].sum(0).argmax()) if len(chosen_on) else 0
        verdict[scored] = hits[scored, best]
    return verdict
