"""What the page of a neuron run draws: histograms of activations, and the figures of the index as rows with bars."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import RunError
from explain.runs import read_arrays

__all__ = [
    "Values",
    "activation_chart",
    "beam_rows",
    "category_rows",
    "joined_bins",
    "length_rows",
    "proven",
    "read_values",
]

_WIDTH, _HEIGHT = 280, 64
_BARS = 40


@dataclass(frozen=True, eq=False)
class Values:
    """How often each unit took which values."""

    counts: NDArray[np.int64]
    """``(rows, bins)``."""
    edges: NDArray[np.float64]
    """``(bins + 1,)``."""


def read_values(folder: Path, rows: int) -> Values | None:
    """Return the histograms of a run folder; None where they are missing or of another number of rows."""
    path = folder / "arrays" / "histograms.npz"
    if not path.is_file():
        return None
    try:
        counts, edges = read_arrays(path, ("counts", "edges"))
    except RunError:
        return None
    return Values(counts, edges) if counts.shape == (rows, len(edges) - 1) else None


def joined_bins(counts: NDArray[np.int64], edges: NDArray[np.float64], most: int = _BARS) -> tuple[list[float], Any]:
    """Return edges and counts with neighbouring bins joined until each is a ``most``-th of the range wide.

    No bin is split, so the counts stay exact; bins that are wider by themselves stay as they are.
    """
    used = np.flatnonzero(counts)
    if not len(used):
        return [], []
    first, last = int(used[0]), int(used[-1]) + 1
    least = (edges[last] - edges[first]) / most
    ends, sums = [float(edges[first])], []
    begin = first
    for place in range(first, last):
        if edges[place + 1] - edges[begin] >= least * (1 - 1e-9) or place == last - 1:
            ends.append(float(edges[place + 1]))
            sums.append(int(counts[begin : place + 1].sum()))
            begin = place + 1
    return ends, sums


def activation_chart(
    edges: Sequence[float], counts: Sequence[int], threshold: float, upper: float | None = None
) -> dict[str, Any] | None:
    """Return a histogram as SVG path data, with the place of the threshold; None where there is nothing to draw.

    Heights are logarithms of counts per width, as nearly all values of most units are small.
    """
    if not counts:
        return None
    low, high = edges[0], edges[-1]
    span = high - low or 1.0
    widths = np.diff(edges)
    tall = np.log1p(np.asarray(counts) / np.maximum(widths, 1e-12) * (span / _BARS))
    top = float(tall.max()) or 1.0
    places = [round((edge - low) / span * _WIDTH, 1) for edge in edges]
    steps, level = [], 0.0
    for (left, right), height in zip(pairwise(places), tall.tolist(), strict=True):
        h = round(max(height / top * (_HEIGHT - 4), 0.6), 1) if height > 0 else 0.0
        if h and not level:
            steps.append(f"M{_short(left)} {_HEIGHT}")
        if h or level:
            steps.append(f"v{_short(level - h)}" + (f"h{_short(right - left)}" if h else "z"))
        level = h
    steps.append(f"v{_short(level)}z" if level else "")
    return {
        "path": "".join(steps),
        "low": 0.0 if abs(low) < 1e-4 else low,
        "high": high,
        "total": int(sum(counts)),
        "mark": _place(threshold, low, span),
        "end": None if upper is None else _place(upper, low, span),
        "viewbox": f"0 0 {_WIDTH} {_HEIGHT}",
        "height": _HEIGHT,
    }


def _short(value: float) -> str:
    """``12.0`` → ``12``, ``-0.54`` → ``-.5``: a page holds tens of thousands of these."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _place(value: float, low: float, span: float) -> float:
    return min(max((value - low) / span, 0.0), 1.0) * _WIDTH


def category_rows(summary: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Units per category, most first, with how many different single concepts describe them best.

    ``each`` and ``distinct``: the same where a unit has a label in every category; None in older runs.
    """
    each = {row["category"]: row for row in summary.get("histogram", [])}
    by_category = {name: row["detectors"] for name, row in each.items() if row["detectors_per_category"]}
    by_category |= summary["by_category"]
    labels = {(unit["label_category"], unit["label"]) for unit in units}
    distinct = Counter(category for category, _ in labels)
    top = max(by_category.values(), default=0)
    rows = sorted(by_category.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "name": name,
            "units": count,
            "concepts": distinct[name],
            "each": each[name]["detectors_per_category"] if name in each else None,
            "distinct": each[name]["unique_detectors_per_category"] if name in each else None,
            "width": 100 * count / top if top else 0,
            "width_concepts": 100 * distinct[name] / top if top else 0,
        }
        for name, count in rows
    ]


def length_rows(units: Sequence[Mapping[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """The mean over all units of the best IoU with at most so many concepts, beside held-out images and chance.

    A unit without formula counts as 0. Chance is known at the length of the whole search only.
    """
    found: dict[int, list[float]] = {}
    held: dict[int, list[float]] = {}
    for unit in units:
        for entry in unit["by_length"]:
            found.setdefault(entry["length"], []).append(entry["iou"])
        for length, value in enumerate((unit.get("evidence") or {}).get("heldout_by_length") or (), start=1):
            held.setdefault(length, []).append(value)
    tested = sum(unit.get("evidence") is not None for unit in units)
    chance = [unit["chance_mean"] for unit in units if unit.get("chance_mean") is not None]
    rows = []
    for length in sorted(found):
        last = length == max(found)
        rows.append(
            {
                "length": length,
                "iou": sum(found[length]) / len(units),
                "heldout": sum(held[length]) / tested if held.get(length) and tested else None,
                "chance": sum(chance) / len(chance) if chance and last else None,
                "good": sum(value > threshold for value in found[length]),
            }
        )
    scores = ("iou", "heldout", "chance")
    top = max((float(row[name] or 0) for row in rows for name in scores), default=0.0)
    for row in rows:
        for name in scores:
            row[f"width_{name}"] = 100 * (row[name] or 0) / top if top else 0
    return rows


def proven(units: Sequence[Mapping[str, Any]]) -> int:
    """Return how many formulas are proven; a unit that never fires has none."""
    return sum(bool(unit.get("certified")) for unit in units if unit["formula"] is not None)


def beam_rows(summary: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the searches came to: how many formulas are proven, and how often the beam alone was below."""
    explained = [unit for unit in units if unit["formula"] is not None]
    if "certified" not in summary or not explained:
        return []
    searches = Counter(unit["search"] for unit in explained)
    rows = [(f"formulas found by {name} search", str(count)) for name, count in sorted(searches.items())]
    rows.append(("of them proven: no formula of this length and grammar is better", str(proven(explained))))
    if summary.get("stopped"):
        rows.append(("stopped by a limit before the proof", str(summary["stopped"])))
    gaps = [float(unit["gap"]) for unit in explained if unit["gap"]]
    if gaps:
        rows.append(("not proven: by how much a better one could exceed them, at most", f"{max(gaps):.3f}"))
    if "beam_below" in summary:
        told = f"{summary['beam_below']} of {summary['beam_searched']}"
        rows.append(("units where the beam alone found less", told))
        gains = [float(unit["iou"] / unit["beam_iou"] - 1) for unit in explained if unit.get("beam_iou")]
        if summary["beam_below"]:
            mean = f"{100 * summary['beam_gain']:.1f} % of its IoU"
            rows.append(("there, by how much on average", mean))
            rows.append(("there, by how much at most", f"{100 * max(gains, default=math.nan):.1f} %"))
    return rows
