"""Distributions of IoU as numbers that a template draws as inline SVG: histograms, and one run against another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["histograms_of", "scatter_of"]

_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 10, 20, 38
_SIZE = (270, 140)
_SQUARE = (300, 300)
_WIDTHS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_BINS = 24
"""At most so many bars."""


def histograms_of(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a histogram of IoUs for each run, all with the same bins and the same scale of shares.

    Bins are half-open, ``[low, high)``; the last one also holds the highest value.
    """
    top = max((value for own in values for value in own), default=0.0)
    width = next((one for one in _WIDTHS if top <= one * _BINS), _WIDTHS[-1])
    bins = max(1, math.ceil(round(top / width, 9)))
    bins += -bins % 4  # so that the four parts of the axis end at round numbers
    edges = [round(width * step, 6) for step in range(bins + 1)]
    counts = [np.histogram(own, edges)[0].tolist() for own in values]
    shares = [[100 * n / len(own) if own else 0.0 for n in row] for own, row in zip(values, counts, strict=True)]
    ceiling = _ceiling(max(max(row) for row in shares))
    return {
        "charts": [_bars(own, row, edges, ceiling) for own, row in zip(values, shares, strict=True)],
        "bins": [
            {"low": low, "high": high, "counts": [row[place] for row in counts]}
            for place, (low, high) in enumerate(pairwise(edges))
        ],
    }


def scatter_of(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return points of (first, second) IoU on one scale for both axes, with the line where both are the same."""
    width, height = _SQUARE
    top = _nice(max((value for pair in pairs for value in pair), default=0.0))

    def place(one: float, other: float) -> tuple[float, float]:
        return _LEFT + one / top * width, _TOP + (1 - other / top) * height

    return {
        "points": [place(*pair) for pair in pairs],
        "ticks": [(*place(value, value), value) for value in (top * step / 4 for step in range(5))],
        "frame": {"left": _LEFT, "top": _TOP, "width": width, "height": height},
        "viewbox": f"0 0 {_LEFT + width + _RIGHT} {_TOP + height + _BOTTOM}",
    }


def _bars(values: Sequence[float], shares: Sequence[float], edges: Sequence[float], ceiling: float) -> dict[str, Any]:
    width, height = _SIZE
    top = edges[-1]
    step = width / len(shares)
    low, middle, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])) if values else (0.0,) * 3
    return {
        "n": len(values),
        "quartiles": (low, middle, high),
        "highest": max(values, default=0.0),
        "bars": [
            {"x": _LEFT + step * place, "width": max(step - 1, 0.5), "height": share / ceiling * height}
            for place, share in enumerate(shares)
            if share
        ],
        "median": _LEFT + middle / top * width if values else None,
        "rows": [(_TOP + (1 - part / 2) * height, ceiling * part / 2) for part in range(3)],
        "columns": [(_LEFT + width * part / 4, top * part / 4) for part in range(5)],
        "frame": {"left": _LEFT, "top": _TOP, "width": width, "height": height},
        "viewbox": f"0 0 {_LEFT + width + _RIGHT} {_TOP + height + _BOTTOM}",
    }


def _ceiling(value: float) -> float:
    """Return a round share of at least ``value`` percent."""
    return next((float(one) for one in (2, 4, 10, 20, 30, 40, 60, 80, 100) if value <= one), 100.0)


def _nice(value: float) -> float:
    """Return a round IoU of at least ``value``."""
    return next((one for one in (0.02, 0.04, 0.08, 0.12, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0) if value <= one), 1.0)
