"""What `explain.faithfulness` found: scores of maps and of controls, curves, means with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, sqrt
from typing import Any

from torch import Tensor

__all__ = ["METRICS", "Curve", "Estimate", "Faithfulness", "Metric", "estimate", "share"]

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its 95 % interval; low and high may be None for a single image."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON takes it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Tensor, bounds: tuple[float, float] | None = None) -> Estimate:
    """Return the mean of ``(b, k)`` over images, with the normal interval ``mean ± 1.96 s / sqrt(b)``.

    Classes of one image are averaged first: they are no independent samples. ``bounds`` cut the interval.
    """
    rows = values.double().mean(1)
    n, mean = len(rows), float(rows.mean())
    if n < 2:
        return Estimate(mean, None, None, n)
    half = Z95 * float(rows.std()) / sqrt(n)
    lowest, highest = bounds or (-inf, inf)
    return Estimate(mean, max(lowest, mean - half), min(highest, mean + half), n)


def share(values: Tensor) -> Estimate:
    """Return the mean of percentages ``(b, k)`` that are 0 or 100, with the Wilson score interval (Wilson 1927).

    The normal interval of a share of 0 would be a point.
    """
    n, p = len(values), float(values.double().mean()) / 100
    centre, whole = p + Z95**2 / (2 * n), 1 + Z95**2 / n
    half = Z95 * sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Estimate(100 * p, max(0.0, 100 * (centre - half) / whole), min(100.0, 100 * (centre + half) / whole), n)


@dataclass(frozen=True)
class Metric:
    """One measure: its unit, and which way is better."""

    name: str
    unit: str
    higher_is_better: bool
    bounds: tuple[float, float]

    def mean(self, values: Tensor) -> Estimate:
        """Return the mean of scores ``(b, k)`` with its interval: Wilson's for shares, else normal."""
        return share(values) if self.name == "increase" else estimate(values, self.bounds)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("insertion", "AUC", True, (0.0, 1.0)),
        Metric("deletion", "AUC", False, (0.0, 1.0)),
        Metric("average_drop", "%", False, (0.0, 100.0)),
        Metric("increase", "%", True, (0.0, 100.0)),
        Metric("road", "probability", True, (-0.5, 0.5)),
    )
}


@dataclass(frozen=True)
class Curve:
    """The probability of the class while pixels are taken away or put back."""

    fractions: Tensor
    """float64 ``(s,)``: the share of pixels taken away (``deletion``, ``road_*``) or put back (``insertion``)."""
    probabilities: Tensor
    """float32 ``(b, k, s)``."""


@dataclass(frozen=True, repr=False)
class Faithfulness:
    """Scores of ``k`` maps for each of ``b`` images, beside those of maps that know nothing of the image."""

    scores: dict[str, Tensor]
    """Metric → float32 ``(b, k)``. Units and directions: `METRICS`."""
    controls: dict[str, dict[str, Tensor]]
    """Control → metric → float32 ``(b, k)``: the mean over the draws of a control."""
    curves: dict[str, Curve]
    """``insertion``, ``deletion``, ``road_morf``, ``road_lerf`` of the maps, as far as asked for."""
    classes: Tensor
    """int64 ``(b, k)``."""
    probabilities: Tensor
    """float32 ``(b, k)``: the softmax of the whole image, as measured here."""
    flat: Tensor
    """bool ``(b, k)``: maps of one value, which point nowhere; pixels are then taken in random order."""
    method: str
    layer: str
    settings: dict[str, Any]
    """What the scores depend on: steps, fractions, baselines, seed, …"""
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return int(self.classes.shape[0])

    def mean(self, metric: str) -> Estimate:
        """Return the mean of the maps' scores."""
        return METRICS[metric].mean(self.scores[metric])

    def advantage(self, metric: str, control: str) -> Estimate:
        """Return how much better than a control the maps are: paired by image and class, positive is better."""
        sign = 1 if METRICS[metric].higher_is_better else -1
        return estimate(sign * (self.scores[metric] - self.controls[control][metric]))

    def table(self) -> str:
        """Return the means as text: one row per metric, the controls beside the maps."""
        header = ["metric", "better", self.method, *self.controls]
        rows = [header]
        for name, metric in METRICS.items():
            if name in self.scores:
                controls = [str(metric.mean(scores[name])) for scores in self.controls.values()]
                better = "higher" if metric.higher_is_better else "lower"
                rows.append([f"{name} ({metric.unit})", better, str(self.mean(name)), *controls])
        widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def as_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Return everything as JSON takes it.

        Keys: ``method``, ``layer``, ``settings``; ``summary[metric]`` with ``unit``, ``better``, ``maps``,
        ``controls[control]`` and ``advantage[control]``, each ``{mean, low, high, n}``; ``images``: per image a list
        with one dict per class (``class``, ``name``, ``probability``, ``flat``, ``scores``, ``controls``, and with
        ``curves`` the probabilities along each curve, whose fractions stand in ``fractions``).
        """
        told: dict[str, Any] = {
            "method": self.method,
            "layer": self.layer,
            "settings": self.settings,
            "summary": {name: self._summary(name) for name in self.scores},
            "images": [
                [self._one(image, place, curves) for place in range(self.classes.shape[1])]
                for image in range(len(self))
            ],
        }
        if curves:
            told["fractions"] = {name: curve.fractions.tolist() for name, curve in self.curves.items()}
        return told

    def _summary(self, name: str) -> dict[str, Any]:
        metric = METRICS[name]
        return {
            "unit": metric.unit,
            "better": "higher" if metric.higher_is_better else "lower",
            "maps": self.mean(name).as_dict(),
            "controls": {control: metric.mean(scores[name]).as_dict() for control, scores in self.controls.items()},
            "advantage": {control: self.advantage(name, control).as_dict() for control in self.controls},
        }

    def _one(self, image: int, place: int, curves: bool) -> dict[str, Any]:
        number = int(self.classes[image, place])
        told: dict[str, Any] = {
            "class": number,
            "name": self.names[number] if self.names is not None else None,
            "probability": float(self.probabilities[image, place]),
            "flat": bool(self.flat[image, place]),
            "scores": {name: float(scores[image, place]) for name, scores in self.scores.items()},
            "controls": {
                control: {name: float(values[image, place]) for name, values in scores.items()}
                for control, scores in self.controls.items()
            },
        }
        if curves:
            told["curves"] = {name: curve.probabilities[image, place].tolist() for name, curve in self.curves.items()}
        return told

    def __repr__(self) -> str:
        b, k = self.classes.shape
        return f"Faithfulness of {self.method!r} on {b} image(s) x {k} class(es)\n{self.table()}"
