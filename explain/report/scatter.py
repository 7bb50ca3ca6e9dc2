"""A scatter plot as numbers that a template draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["scatter_chart"]

_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 12, 16, 40
_SIZE = (420, 260)


def scatter_chart(
    points: Sequence[tuple[float, float, str]], *, level: float | None = None, size: tuple[int, int] = _SIZE
) -> dict[str, Any]:
    """Return a plot of percentages over a share, with the line of least squares.

    Parameters
    ----------
    points
        (x from 0, y in percent, what to say of it).
    level
        A percentage to mark by a level line.
    size
        (width, height) of the plot without its labels, in units of the drawing.
    """
    width, height = size
    right = _rounded(max((x for x, _, _ in points), default=0.0))
    low = 10 * math.floor(min((y for _, y, _ in points), default=0.0) / 10)
    high = 10 * math.ceil(max((y for _, y, _ in points), default=100.0) / 10)
    low, high = (low, high) if high > low else (max(0, low - 10), min(100, max(high + 10, low + 10)))
    if level is not None:
        low, high = min(low, 10 * math.floor(level / 10)), max(high, 10 * math.ceil(level / 10))

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / right * width, _TOP + (high - y) / (high - low) * height

    line = _fitted(points)
    ends = [(x, line[0] + line[1] * x) for x in (min(p[0] for p in points), max(p[0] for p in points))] if line else []
    step = 20 if high - low > 50 else 10
    return {
        "points": [(*place(x, y), told) for x, y, told in points],
        "line": [place(x, min(max(y, low), high)) for x, y in ends],
        "level": place(0, level)[1] if level is not None else None,
        "rows": [(place(0, y)[1], y) for y in range(low, high + 1, step)],
        "columns": [(place(x, low)[0], x) for x in (right * quarter / 4 for quarter in range(5))],
        "frame": {"left": _LEFT, "top": _TOP, "width": width, "height": height},
        "viewbox": f"0 0 {_LEFT + width + _RIGHT} {_TOP + height + _BOTTOM}",
    }


def _fitted(points: Sequence[tuple[float, float, str]]) -> tuple[float, float] | None:
    """Return intercept and slope of the line of least squares; None where all x are equal."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _, _ in points) / max(1, n), sum(y for _, y, _ in points) / max(1, n)
    spread = sum((x - mean_x) ** 2 for x, _, _ in points)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y, _ in points) / spread
    return mean_y - slope * mean_x, slope


def _rounded(value: float) -> float:
    """Return the next of 1, 2, 4, 5, 8, 10 times a power of ten, for an axis that ends well."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-9))
