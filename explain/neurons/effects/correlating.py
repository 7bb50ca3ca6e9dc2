"""Correlation over units, with p-value and bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["METHODS", "Correlation", "Method", "correlate"]

Method = Literal["pearson", "spearman"]
METHODS: tuple[Method, ...] = get_args(Method)
Floats = NDArray[np.float64]
_LEAST = 3
"""Pairs below which a correlation says nothing: two points lie on a line."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Correlation:
    """A coefficient, its 95 % interval, and the two-sided p-value of no correlation."""

    value: float
    low: float
    high: float
    p: float
    n: int
    """Pairs, such as units."""

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def correlate(x: Floats, y: Floats, method: Method, *, draws: int = 1000, seed: int = 0) -> Correlation | None:
    """Return the correlation of two rows of numbers; None for fewer than three pairs, or where one row is constant.

    The p-value is scipy's (``pearsonr``, ``spearmanr``). The interval is a percentile bootstrap over the pairs (Efron
    1979); drawings in which a row is constant are left out.

    Parameters
    ----------
    x, y
        float64 ``(n,)``. Pairs of which one is not a number are left out.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < _LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = stats.pearsonr(x, y) if method == "pearson" else stats.spearmanr(x, y)
    value, p = float(found.statistic), float(found.pvalue)
    drawn = _bootstrapped(x, y, method, draws, seed)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (value, value)
    return Correlation(value, min(float(low), value), max(float(high), value), p, len(x))


def _bootstrapped(x: Floats, y: Floats, method: Method, draws: int, seed: int) -> Floats:
    """Return the coefficient in each of so many drawings of the pairs, float64 ``(draws,)``; nan where undefined."""
    generator = np.random.default_rng(seed)
    parts = []
    step = max(1, _CHUNK // len(x))
    for start in range(0, draws, step):
        chosen = generator.integers(0, len(x), (min(step, draws - start), len(x)))
        one, other = x[chosen], y[chosen]
        if method == "spearman":
            one, other = stats.rankdata(one, axis=1), stats.rankdata(other, axis=1)
        parts.append(_rows(one, other))
    return np.concatenate(parts)


def _rows(x: Floats, y: Floats) -> Floats:
    """Return Pearson's coefficient of each row ``(r, n)``."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (x * y).sum(1) / spread
    return found
