"""Unit-to-unit contributions between two layers: weight, correlation, overlap (Mu & Andreas 2020, released code).

As published: maps of the layer before are averaged down to the grid of the later one; the correlation is over all
places of all images; the overlap is the IoU of the places where the two fire, each above its own threshold, and
inhibition is that of the places where the unit before fires and those where the later one does not; the weight is the
mean over the kernel of the one convolution between them. Contributors and inhibitors are the pairs above the 99 % and
below the 1 % quantile of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.errors import InputError
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.passes import Arrays, Work, run_pass
from explain.nets.tap import call_order, cut
from explain.neurons.effects.contribution_findings import BetweenLayers, Measure, Pair
from explain.neurons.effects.observing import observe
from explain.neurons.effects.opening import Explained, check_model, layer_of, open_explained
from explain.neurons.effects.preparing import Opened
from explain.neurons.results import NeuronRun
from explain.neurons.units import UnitLayer, find_layers

__all__ = ["Between", "Source", "find_between", "joining_weight", "measures_of", "open_source"]

ALPHA = 0.01
_PAIRS = 10
"""Pairs listed at either end of a measure."""
Floats = NDArray[np.float64]
Ends = dict[str, tuple[tuple[int, float], ...]]


@dataclass(frozen=True, eq=False)
class Source:
    """The layer before."""

    name: str
    """What was given: the run, or the layer."""
    layer: UnitLayer
    thresholds: NDArray[np.float32] | None
    formulas: dict[int, str | None]
    weight: Floats | None
    """``(u, v)``: of the units of the later layer and of this one."""
    reason: str
    """Why there is no weight."""


@dataclass(frozen=True, eq=False)
class Between:
    """What two layers' units are to each other."""

    between: BetweenLayers
    sources: dict[int, dict[str, Ends]]
    """Of each unit, by measure: its contributors and inhibitors."""
    arrays: Arrays
    """``between_weight`` … float64 ``(u, v)``, and the numbers ``between_units`` int64 ``(v,)``."""


def open_source(
    job: Opened, image: Tensor, other: Explained | NeuronRun | str | Path | None, from_layer: str | None
) -> Source | None:
    """Return the layer before, or None where none is asked for.

    Raises
    ------
    InputError
        Both are given, another network, or a layer that does not feed the run's.
    """
    if other is None and from_layer is None:
        return None
    if other is not None and from_layer is not None:
        raise InputError("both other and from_layer name a layer before: give one")
    if other is not None:
        explained = open_explained(other)
        check_model(explained, job.subject)
        layer = layer_of(explained, job.subject, job.data.images)
        thresholds = explained.thresholds
        formulas = {unit.unit: unit.formula for unit in explained.units}
        name = str(explained.folder) if explained.folder is not None else explained.layer
    else:
        assert from_layer is not None
        (layer,) = find_layers(job.subject, image, [from_layer])
        thresholds, formulas, name = None, {}, from_layer
    _check_feeds(job, layer, image)
    weight = joining_weight(job.subject.model, layer, job.layer, image)
    found, reason = (None, weight) if isinstance(weight, str) else (weight, "")
    return Source(name, layer, thresholds, formulas, found, reason)


def _check_feeds(job: Opened, layer: UnitLayer, image: Tensor) -> None:
    """Refuse a layer that the run's layer is not computed from."""
    later, model = job.layer.layer, job.subject.model
    if layer.layer == later:
        raise InputError(f"layer {later!r} is the run's own: give one before it")
    with eval_mode(model), torch.inference_mode(False), torch.no_grad():
        with naming_errors(image):
            kept, _ = cut(model, [layer.layer, later], lambda: model(image.clone()))
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(kept[later].sum(), kept[layer.layer], allow_unused=True)
    if gradient is None:
        raise InputError(f"layer {layer.layer!r} does not feed {later!r}, which the run explains: give one before it")


def joining_weight(model: nn.Module, source: UnitLayer, target: UnitLayer, image: Tensor) -> Floats | str:
    """Return the mean over the kernel of the one convolution (or linear layer) between two layers.

    float64 ``(u, v)`` for the units of ``target`` and of ``source``; or one line that says why there is none. What
    normalises its output is not counted, as published.
    """
    joining = {
        name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear)) and name
    }
    layers = list(dict.fromkeys([source.layer, target.layer, *joining]))
    order = call_order(model, layers, lambda: model(image.clone()))
    begin = len(order) - 1 - order[::-1].index(source.layer)
    end = len(order) - 1 - order[::-1].index(target.layer)
    found = [name for name in order[begin + 1 : end + 1] if name in joining]
    if len(found) != 1:
        return f"{len(found)} convolutions lie between the layers, and a weight is that of a single one"
    module = joining[found[0]]
    weight = module.weight.detach().double()
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return f"the convolution {found[0]!r} between the layers works in groups"
    if tuple(weight.shape[:2]) != (target.total, source.total):
        return f"{found[0]!r} between the layers joins {weight.shape[1]} to {weight.shape[0]} channels, not their units"
    matrix: Floats = (weight.mean((2, 3)) if weight.ndim == 4 else weight).cpu().numpy()
    return matrix[np.ix_(target.units, source.units)]


def find_between(job: Opened, source: Source, top: int, work: Work) -> Between:
    """Return what the units of the run's layer are to those of the layer before, over all images."""
    sums = run_pass(job.subject, job.data.images, partial(_sums, job, source), "between", work, summed=True)
    matrices = measures_of(sums)
    if source.weight is not None:
        matrices = {"weight": source.weight, **matrices}
    own = job.explained.numbers
    measures, sources = [], {int(unit): dict[str, Ends]() for unit in own}
    for name, matrix in matrices.items():
        measure, ends = _measure(name, matrix, own, source.layer.units, top)
        measures.append(measure)
        for unit, rows in ends.items():
            sources[unit][name] = rows
    found = BetweenLayers(source.layer.layer, len(source.layer.units), source.formulas, tuple(measures), source.reason)
    arrays: Arrays = {f"between_{name}": matrix for name, matrix in matrices.items()}
    return Between(found, sources, {**arrays, "between_units": source.layer.units})


def _sums(job: Opened, source: Source, images: Tensor, numbers: range) -> Arrays:
    (later, before), _ = observe(job.subject, [job.layer, source.layer], images)
    before = F.adaptive_avg_pool2d(before, job.layer.grid)  # mean of equal blocks where the grids divide
    rows = [maps.transpose(0, 1).flatten(1) for maps in (later, before)]
    x, y = (maps.double() for maps in rows)
    found = {"n": torch.tensor(x.shape[1]), "x": x.sum(1), "y": y.sum(1), "xx": (x * x).sum(1), "yy": (y * y).sum(1)}
    found["xy"] = x @ y.T
    if source.thresholds is not None:
        limits = (job.explained.thresholds, source.thresholds)
        a, b = (
            (maps > torch.from_numpy(limit).to(maps.device)[:, None]).float()
            for maps, limit in zip(rows, limits, strict=True)
        )
        found |= {"a": a.sum(1).long(), "b": b.sum(1).long(), "ab": (a @ b.T).long()}  # exact below 2^24 places
    return {key: value.cpu().numpy() for key, value in found.items()}


def measures_of(sums: Arrays) -> dict[str, Floats]:
    """Return the matrices float64 ``(u, v)`` of sums over all places; nan where a unit is constant, or none fires.

    Parameters
    ----------
    sums
        ``n`` places; ``x, xx`` ``(u,)``, ``y, yy`` ``(v,)``, ``xy`` ``(u, v)``: sums of values and products; where
        thresholds are known also counts of places ``a`` ``(u,)``, ``b`` ``(v,)``, ``ab`` ``(u, v)``.
    """
    n = float(sums["n"])
    covariance = sums["xy"] - np.outer(sums["x"], sums["y"]) / n
    spreads = [np.maximum(sums[two] - sums[one] ** 2 / n, 0) for one, two in (("x", "xx"), ("y", "yy"))]
    flat = [spread <= 1e-12 * np.maximum(sums[two], 1e-300) for spread, two in zip(spreads, ("xx", "yy"), strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / np.sqrt(np.outer(*spreads))
        correlation[flat[0]] = np.nan
        correlation[:, flat[1]] = np.nan
        found = {"correlation": correlation.clip(-1, 1)}
        if "ab" in sums:
            a, b, both = sums["a"][:, None], sums["b"][None], sums["ab"]
            found["overlap"] = both / (a + b - both)
            found["inhibition"] = (b - both) / (n - a + both)
    return found


def _measure(
    name: str, matrix: Floats, own: NDArray[np.int64], other: NDArray[np.int64], top: int
) -> tuple[Measure, dict[int, Ends]]:
    """Return the strongest pairs of a measure, and each unit's contributors and inhibitors."""
    if not np.isfinite(matrix).any():
        return Measure(name, 0.0, 0.0, 0, 0, (), ()), {}
    low, high = (float(end) for end in np.nanquantile(matrix, [ALPHA, 1 - ALPHA]))
    listed = {"top": _extreme(matrix, own, other, 1.0), "bottom": _extreme(matrix, own, other, -1.0)}
    ends = {}
    for row, unit in enumerate(own.tolist()):
        values = matrix[row]
        above, below = np.flatnonzero(values > high), np.flatnonzero(values < low)
        if len(above) or len(below):
            ends[unit] = {
                "contributors": _listed(values, above[np.argsort(-values[above], kind="stable")][:top], other),
                "inhibitors": _listed(values, below[np.argsort(values[below], kind="stable")][:top], other),
            }
    counts = int((matrix > high).sum()), int((matrix < low).sum())
    return Measure(name, low, high, *counts, listed["top"], listed["bottom"]), ends


def _listed(values: Floats, places: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[tuple[int, float], ...]:
    return tuple((int(other[place]), float(values[place])) for place in places)


def _extreme(matrix: Floats, own: NDArray[np.int64], other: NDArray[np.int64], sign: float) -> tuple[Pair, ...]:
    """Return the pairs of largest value (sign 1) above 0, or of smallest (-1) below 0."""
    flat = np.where(np.isfinite(matrix), sign * matrix, 0.0).ravel()
    order = np.argsort(-flat, kind="stable")[:_PAIRS]
    places = [divmod(place, len(other)) for place in order[flat[order] > 0].tolist()]
    return tuple(Pair(int(own[row]), int(other[column]), float(matrix[row, column])) for row, column in places)
