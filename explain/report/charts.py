"""Charts as numbers that a template draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["curve_chart", "interval_chart"]

_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 12, 36, 40
_LARGE = (560, 220)
_NAMES, _INTERVALS = 110, (240, 20)


def curve_chart(
    name: str,
    lines: Mapping[str, Mapping[str, Any]],
    *,
    fixed: float | None = None,
    top: float | None = None,
    size: tuple[int, int] = _LARGE,
) -> dict[str, Any]:
    """Return a chart of accuracy (percent) over thresholds: one polyline per entry of ``lines``.

    Each line has ``thresholds``, ``accuracy`` and ``best`` (the threshold to mark, or None).

    Parameters
    ----------
    fixed
        A threshold to mark for all lines.
    top
        The largest accuracy that the plot must have room for, where several plots share a scale.
    size
        (width, height) of the plot without its labels, in units of the drawing.
    """
    width, height = size
    finite = [value for line in lines.values() for value in line["thresholds"] if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if top is None:
        top = max((value for line in lines.values() for value in line["accuracy"]), default=0.0)
    ceiling = min(100.0, max(10.0, math.ceil(top / 10) * 10))
    span = high - low or 1.0

    def place(threshold: float, accuracy: float) -> tuple[float, float]:
        return _LEFT + (threshold - low) / span * width, _TOP + (1 - accuracy / ceiling) * height

    drawn = []
    for label, line in lines.items():
        values = zip(line["thresholds"], line["accuracy"], strict=True)
        pairs = [(x, y) for x, y in values if math.isfinite(x)]
        best = max(pairs, key=lambda pair: pair[1], default=None)
        drawn.append(
            {
                "label": label,
                "points": " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in _thinned(pairs, width)),
                "best": best if line.get("best") is None or best is None else (line["best"], best[1]),
                "mark": place(best[0], best[1]) if best else None,
            }
        )
    step = 20 if ceiling > 50 else 10
    return {
        "name": name,
        "lines": drawn,
        "rows": [(place(low, y)[1], y) for y in range(0, int(ceiling) + 1, step)],
        "columns": [(place(x, 0)[0], x) for x in (low + span * quarter / 4 for quarter in range(5))],
        "fixed": place(fixed, 0)[0] if fixed is not None and low <= fixed <= high else None,
        "frame": {"left": _LEFT, "top": _TOP, "width": width, "height": height},
        "viewbox": f"0 0 {_LEFT + width + _RIGHT} {_TOP + height + _BOTTOM}",
    }


def _thinned(pairs: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Keep at most about ``most`` points, the highest always among them: the screen has no more columns."""
    if len(pairs) <= most:
        return pairs
    step = math.ceil(len(pairs) / most)
    best = max(range(len(pairs)), key=lambda index: pairs[index][1])
    kept = sorted({*range(0, len(pairs), step), best, len(pairs) - 1})
    return [pairs[index] for index in kept]


def interval_chart(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return scores in percent with their intervals: a line per method under each score's name, baselines across.

    Parameters
    ----------
    scores
        Each has a ``name``, ``cells`` (``label, value, low, high``; the ends None where they are not known) and
        ``baselines`` (``name, value``).
    """
    width, line = _INTERVALS
    y, groups = float(_TOP), []

    def place(value: float) -> float:
        return _NAMES + value / 100 * width

    for score in scores:
        heading = y + line * 0.7
        y += line
        marks = []
        for number, cell in enumerate(score["cells"]):
            known = cell["low"] is not None and cell["high"] is not None
            span = (place(cell["low"]), place(cell["high"])) if known else None
            marks.append({**cell, "y": y + line * (number + 0.5), "at": place(cell["value"]), "span": span})
        beside = [{**one, "at": place(one["value"])} for one in score["baselines"]]
        height = line * len(marks)
        groups.append(
            {"name": score["name"], "heading": heading, "marks": marks, "beside": beside, "top": y, "height": height}
        )
        y += height + line / 2
    return {
        "groups": groups,
        "columns": [(place(value), value) for value in range(0, 101, 20)],
        "frame": {"left": _NAMES, "top": _TOP, "width": width, "height": y - _TOP},
        "viewbox": f"0 0 {_NAMES + width + _RIGHT} {y + 20:g}",
    }
