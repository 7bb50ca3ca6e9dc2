"""The job: units of a layer → thresholds → counts per cell → the formula that fits each unit best.

Network dissection (Bau et al. 2017) is the case ``length=1``; compositional explanations (Mu & Andreas 2020) search
formulas of several concepts. IoU is over all counted pixels of the probe set; pixels without any label are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data import as_probe
from explain.errors import DataError, InputError, ModelError
from explain.nets.inputs import stream
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.subject import Subject, as_subject
from explain.nets.tap import Tap, check_layer
from explain.nets.trace import trace
from explain.neurons.cells import CellBuilder, CellIndex
from explain.neurons.collect import Examples, Job, Progress, as_maps, collect_thresholds, count_active
from explain.neurons.results import NeuronRun, UnitExplanation, Units
from explain.neurons.search import SearchResult, beam_search, ceiling
from explain.neurons.thresholds import rank
from explain.runs import Checkpoint
from explain.types import ProbeSet

__all__ = ["dissect"]


def dissect(
    model: nn.Module | Subject | str,
    layer: str | None = None,
    probe: Any = "scenes",
    *,
    length: int = 3,
    search: str = "auto",
    beam: int = 5,
    quantile: float = 0.005,
    device: str | torch.device | None = None,
    resolution: tuple[int, int] = (112, 112),
    min_pixels: int = 0,
    units: Sequence[int] | range | None = None,
    examples: int = 4,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    keep_bytes: int = 1 << 29,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> NeuronRun:
    """Explain every unit of a layer by a logical formula of concepts.

    Parameters
    ----------
    layer
        A module's name, or ``features:relu``; the last map (`explain.nets.anatomy`) where None.
    probe
        A probe folder, a known name, ``(images, masks, names)``, a Dataset of (image, mask), or a `ProbeSet`.
    length
        Concepts per formula at most; 1 is network dissection.
    search
        ``"beam"``, or ``"auto"`` (beam).
    quantile
        A unit is active above the (k+1)-th largest of its n low-resolution values, ``k = ceil(quantile * n)``.
    resolution
        Pixels at which units and labels are compared: maps bilinear, labels nearest.
    min_pixels
        Concepts with fewer pixels are left out of formulas.
    units
        Channel numbers; all where None.
    examples
        Images kept per unit.
    keep_bytes
        Memory for maps kept between the passes; see `explain.neurons.collect`.

    Raises
    ------
    ModelError, InputError, DataError
        Unknown layers, options out of range, probe sets that do not fit.
    """
    if search not in ("auto", "beam"):
        raise InputError(f"unknown search {search!r}: use 'auto' or 'beam'")
    for name, value in (("length", length), ("beam", beam), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name}={value}: give at least 1")
    subject = _squashing(as_subject(model), probe_set := _opened(probe, limit))
    if device is not None:
        subject.to(device)
    tell = progress or (lambda stage, done, total: None)
    layer, channels, grid, before = _layer(subject, probe_set, layer)
    chosen = _units(units, channels)
    k = rank(quantile, len(probe_set) * grid[0] * grid[1])
    index = _index(probe_set, resolution, tell)
    job = Job(
        subject,
        probe_set,
        layer,
        chosen,
        grid,
        quantile,
        batch_size,
        workers,
        keep_bytes,
        checkpoint or Checkpoint(),
        tell,
    )
    thresholds, pieces = collect_thresholds(job)
    counts, best = count_active(job, thresholds, index, pieces, examples)
    _refuse_infinite(chosen, thresholds, best)
    tell("search", 0, len(chosen))
    found = beam_search(
        index.cells,
        counts,
        length=length,
        beam=beam,
        min_pixels=min_pixels,
        progress=lambda done, total: tell("search", done, total),
    )
    limits = ceiling(index.cells, counts)
    categories = {concept.name: concept.category for concept in index.cells.concepts}
    explained = tuple(
        _explanation(int(unit), result, float(threshold), float(limit_), categories)
        for unit, result, threshold, limit_ in zip(chosen, found, thresholds, limits, strict=True)
    )
    return NeuronRun(
        units=Units(explained),
        subject=subject,
        probe=probe_set,
        layer=layer,
        grid=grid,
        resolution=resolution,
        quantile=quantile,
        k=k,
        length=length,
        beam=beam,
        search="beam",
        min_pixels=min_pixels,
        passes=1 if pieces is not None else 2,
        before=before,
        index=index,
        counts=counts,
        examples=best,
    )


def _opened(probe: Any, limit: int | None) -> ProbeSet:
    found = as_probe(probe)
    if len(found) == 0:
        raise DataError(f"{found.name} holds no images")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 image")
    if limit is not None and limit < len(found):
        found = replace(found, images=found.images[:limit], names=found.names[:limit], hash=f"{found.hash}:{limit}")
    return found


def _squashing(subject: Subject, probe: ProbeSet) -> Subject:
    """Return the subject with a transform that shows the whole image, as the labels do."""
    if isinstance(probe.images[0], torch.Tensor):
        return subject
    if subject.transform is None:
        raise InputError(
            f"{probe.name} holds pictures and the model has no transform: use explain.load(model, transform=...)"
        )
    known = subject.preprocess
    if known is None:
        raise InputError(
            "the geometry of the subject's transform is unknown, so labels cannot be laid over its maps:"
            " use explain.nets.Preprocess, or torchvision's Resize, ToTensor, Normalize"
        )
    return replace(subject, transform=replace(known, crop_from=None))


def _layer(subject: Subject, probe: ProbeSet, layer: str | None) -> tuple[str, int, tuple[int, int], str | None]:
    """Return the layer's name, units and grid from the first image, and the layer before its activation if known."""
    _, first = next(stream(probe.images[:1], subject.transform, batch_size=1))
    first = subject.placed(first)
    if layer is None:
        traced = trace(subject.model, first)
        _, channels, height, width = traced.map.shape
        alike = [name for name, shape in traced.candidates if shape == (channels, height, width)]
        others = [name for name in alike if name not in traced.owners]
        return traced.layer, channels, (height, width), others[-1] if others else None
    check_layer(subject.model, layer)
    with eval_mode(subject.model), torch.no_grad(), Tap(subject.model, [layer]) as tap:
        with naming_errors(first):
            subject.model(first)
        _, channels, height, width = as_maps(tap[layer], layer).shape
    return layer, channels, (height, width), None


def _units(units: Sequence[int] | range | None, channels: int) -> NDArray[np.int64]:
    chosen = np.arange(channels) if units is None else np.asarray(list(units), dtype=np.int64)
    if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= channels or len(set(chosen.tolist())) != len(chosen):
        raise InputError(f"units {units}: the layer has units 0 to {channels - 1}; give each at most once")
    return np.sort(chosen)


def _index(probe: ProbeSet, resolution: tuple[int, int], tell: Progress) -> CellIndex:
    if len(resolution) != 2 or min(resolution) < 1:
        raise InputError(f"resolution {resolution}: give (height, width) in pixels")
    builder = CellBuilder(probe.concepts)
    for number in range(len(probe)):
        builder.add(probe.labels(number, resolution))
        tell("labels", number + 1, len(probe))
    return builder.finish()


def _refuse_infinite(units: NDArray[np.int64], thresholds: Tensor, best: Examples) -> None:
    wrong = ~thresholds.isfinite() | (best.peaks == torch.inf).any(1)
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        raise ModelError(
            f"unit {units[place]} has the threshold {float(thresholds[place])} or infinite activations:"
            " check the weights and the precision, or give a smaller quantile"
        )


def _explanation(
    unit: int, result: SearchResult, threshold: float, limit: float, categories: dict[str, str]
) -> UnitExplanation:
    from explain.neurons.formula import leaves

    label = str(result.by_length[0].formula) if result.by_length else None
    named = {categories[leaf] for leaf in leaves(result.formula)} if result.formula is not None else set()
    single = next(iter(leaves(result.by_length[0].formula))) if result.by_length else ""
    return UnitExplanation(
        unit=unit,
        formula=str(result.formula) if result.formula is not None else None,
        iou=result.iou,
        length=result.length,
        category=named.pop() if len(named) == 1 else ("mixed" if named else ""),
        threshold=threshold,
        active=result.active,
        precision=result.intersection / result.pixels if result.pixels else 0.0,
        recall=result.intersection / result.active if result.active else 0.0,
        ceiling=limit,
        search="beam",
        label=single if label is not None else None,
        score=result.by_length[0].iou if result.by_length else 0.0,
        label_category=categories.get(single, ""),
        best_by_length=tuple((most, str(row.formula), row.iou) for most, row in enumerate(result.by_length, 1)),
        runners_up=tuple((str(row.formula), row.iou, row.length) for row in result.beam[1:]),
    )
