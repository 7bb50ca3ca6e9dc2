"""The job: units of a layer → thresholds → counts per cell → the formula that fits each unit best.

Network dissection (Bau et al. 2017) is the case ``length=1``; compositional explanations (Mu & Andreas 2020) search
formulas of several concepts. IoU is over all counted pixels of the probe set; pixels without any label are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from explain.data import as_probe
from explain.distributed import ALONE, World
from explain.errors import DataError, InputError
from explain.nets.inputs import stream
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import trace
from explain.neurons.collect import Job, Progress, collect_units, refuse_infinite, top_examples
from explain.neurons.counts import UnitCounts, stack_counts
from explain.neurons.dissection import INTERPRETABLE, Detecting, UnitTable, unit_tables
from explain.neurons.domains import IouRule
from explain.neurons.evidence.gathering import Asked, Evidence, gather, held_out_images, with_q_values
from explain.neurons.evidence.parts import Measured, count_images, image_pixels
from explain.neurons.finding import Finder, How, chosen_search, concepts_where_firing, find
from explain.neurons.firing import count_firing
from explain.neurons.formula import leaves
from explain.neurons.indexing import open_index
from explain.neurons.kinds import kind_of
from explain.neurons.relatedness import Relatedness, relatedness
from explain.neurons.results import NeuronRun, UnitExplanation, Units, labelled
from explain.neurons.search import Compat, SearchResult, ceiling
from explain.neurons.units import UnitLayer, find_layers
from explain.runs import Checkpoint
from explain.types import ProbeSet

__all__ = ["dissect"]


def dissect(
    model: nn.Module | Subject | str,
    layer: str | None = None,
    probe: Any = "scenes",
    *,
    length: int = 3,
    search: How = "auto",
    beam: int = 5,
    quantile: float = 0.005,
    device: str | torch.device | None = None,
    resolution: tuple[int, int] = (112, 112),
    min_pixels: int = 0,
    penalty: float = 1.0,
    limit_concepts: int | None = None,
    or_not: bool = False,
    compat: Compat | None = None,
    time_per_unit: float | None = None,
    stop_gap: float = 0.0,
    held_out: float | None = None,
    split_column: str | None = None,
    shuffles: int = 999,
    draws: int = 1000,
    seed: int = 0,
    iou: IouRule = "all",
    threshold_iou: float = INTERPRETABLE,
    related_by: str | Path | None = None,
    related_at: float | None = None,
    units: Sequence[int] | range | None = None,
    examples: int = 4,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    keep_bytes: int = 1 << 29,
    cells_cache: bool = True,
    checkpoint: Checkpoint | None = None,
    world: World = ALONE,
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
        ``"beam"``; ``"optimal"``, with a proof up to three concepts and a bound for more; ``"auto"``: optimal up to
        three concepts where that takes less than a minute, else beam. Each unit says which found its formula.
    quantile
        A unit is active above the (k+1)-th largest of its n low-resolution values, ``k = ceil(quantile * n)``.
    resolution
        Pixels at which units and labels are compared: maps bilinear, labels nearest.
    min_pixels
        Concepts with fewer pixels are left out of formulas.
    penalty, limit_concepts, or_not, compat
        ``penalty, limit, or_not, compat`` of `explain.neurons.search.beam_search`; with search by beam.
    time_per_unit, stop_gap
        With ``search="optimal"`` and a length of 4 and more: seconds for the search of a unit (1 where None; 0: no more
        than the beam, and the ceiling as its bound; ``math.inf``: until proven), and the difference of bound and IoU
        that is good enough. Units that a clock stopped may differ from machine to machine; they say so.
    held_out, split_column
        Search on part of the images and score on the rest: a share of them drawn by ``seed``, or the images for which a
        column of the probe set says other than train. Where neither is given the search uses all images, and the
        held-out IoU comes from two searches on either half, each scored on the other.
    shuffles
        Searches over shuffled images per unit, for p-values; 0: none. See `explain.neurons.evidence.chance`.
    draws
        Resamplings of the images, for intervals; 0: none. See `explain.neurons.evidence.resampling`.
    iou
        Over which pixels single concepts are scored: ``"all"``, ``"annotated"``, ``"netdissect-lite"``; see
        `explain.neurons.domains`. Each unit's ``label`` and ``categories`` follow it; all three scores are kept.
        Formulas are searched over all pixels in any case.
    threshold_iou
        A unit detects a concept where their IoU is strictly above this.
    related_by, related_at
        A file of word vectors or a taxonomy that says which concepts are related, for the kinds of formula, and the
        cosine or the edges up to which they are; see `explain.neurons.relatedness`. By category where None.
    units
        Channel numbers; all where None.
    examples
        Images kept per unit.
    keep_bytes
        Memory for maps kept between the passes; see `explain.neurons.collect`.
    cells_cache
        Keep the cells beside the data and use them again; see `explain.neurons.indexing`.

    Raises
    ------
    ModelError, InputError, DataError
        Unknown layers, options out of range, probe sets that do not fit.
    """
    finder = Finder(length, beam, search, penalty, limit_concepts, min_pixels, or_not, compat, time_per_unit, stop_gap)
    asked = Asked(held_out, split_column, shuffles, draws, seed)
    detecting = Detecting(iou, threshold_iou)
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    subject = _squashing(as_subject(model), probe_set := _opened(probe, limit))
    if device is not None:
        subject.to(device)
    held = held_out_images(asked, probe_set)  # before the passes, as it may be refused
    related = relatedness(related_by, probe_set.concepts, related_at)
    tell = progress or (lambda stage, done, total: None)
    unit_layer, before = _layer(subject, probe_set, layer, units)
    layer, chosen, grid = unit_layer.layer, unit_layer.units, unit_layer.grid
    opened = open_index(probe_set, resolution, cache=cells_cache, world=world, progress=tell)
    index = opened.index
    job = Job(
        subject,
        probe_set,
        (unit_layer,),
        quantile,
        batch_size,
        workers,
        keep_bytes,
        checkpoint=checkpoint or Checkpoint(),
        progress=tell,
    )
    (collected,) = collect_units(job, world)
    refuse_infinite(collected)
    best = top_examples(collected, examples)
    # By all units of the layer, so that runs over some of them choose alike.
    finder = replace(finder, search=chosen_search(finder, len(index.cells.concepts), unit_layer.total))
    own = world.share(len(chosen), 1)
    measured = Measured(
        index, collected.firing.select(own), collected.thresholds[own.start : own.stop], image_pixels(index)
    )
    parts = world.gather(
        _search_units(
            measured, finder, asked, detecting, held, chosen[own.start : own.stop], subject, checkpoint, world, tell
        )
    )
    evidence = with_q_values([row for part in parts for row in part.evidence])
    counts = stack_counts([part.counts for part in parts])
    categories = {concept.name: concept.category for concept in index.cells.concepts}
    explained = tuple(
        labelled(_explanation(unit, result, threshold, limit_, categories, row, related), table, detecting)
        for unit, result, threshold, limit_, row, table in zip(
            chosen.tolist(),
            (row for part in parts for row in part.found),
            collected.thresholds.tolist(),
            (row for part in parts for row in part.ceilings),
            evidence,
            (row for part in parts for row in part.tables),
            strict=True,
        )
    )
    return NeuronRun(
        units=Units(explained),
        subject=subject,
        probe=probe_set,
        layer=layer,
        grid=grid,
        resolution=resolution,
        quantile=quantile,
        k=collected.k,
        length=length,
        beam=beam,
        search=finder.search,
        min_pixels=min_pixels,
        finder=finder,
        asked=asked,
        detecting=detecting,
        related=related,
        passes=collected.passes,
        before=before,
        index=index,
        cells_file=opened.file,
        cells_reused=opened.reused,
        counts=counts,
        examples=best,
    )


@dataclass(frozen=True)
class _Part:
    """What one process found of its units."""

    found: list[SearchResult]
    ceilings: list[float]
    evidence: tuple[Evidence, ...]
    tables: tuple[UnitTable, ...]
    counts: UnitCounts
    """Of all images."""


def _search_units(
    measured: Measured,
    finder: Finder,
    asked: Asked,
    detecting: Detecting,
    held: NDArray[np.bool_] | None,
    numbers: NDArray[np.int64],
    subject: Subject,
    checkpoint: Checkpoint | None,
    world: World,
    tell: Progress,
) -> _Part:
    counts = count_firing(
        measured.firing,
        measured.thresholds,
        measured.index,
        units=measured.units,
        device=subject.device,
        progress=lambda done, total: tell("counts", done, total),
    )
    cells, searched = (measured.index.cells, counts) if held is None else count_images(measured, ~held)
    tell("search", 0, len(numbers))
    allowed = None
    if finder.compat is not None:
        allowed = concepts_where_firing(measured.index, measured.firing, measured.units)
    found = find(
        finder,
        cells,
        searched,
        allowed=allowed,
        device=subject.device,
        progress=lambda done, total: tell("search", done, total),
    )
    tables = unit_tables(
        measured,
        cells,
        searched,
        found,
        detecting,
        images=None if held is None else ~held,
        min_pixels=finder.min_pixels,
        device=subject.device,
        progress=tell,
    )
    evidence = gather(
        measured,
        cells,
        searched,
        found,
        finder,
        asked,
        held_out=held,
        numbers=numbers,
        checkpoint=checkpoint,
        world=world,
        progress=tell,
    )
    return _Part(found, ceiling(cells, searched).tolist(), evidence, tables, counts)


def _opened(probe: Any, limit: int | None) -> ProbeSet:
    found = as_probe(probe)
    if len(found) == 0:
        raise DataError(f"{found.name} holds no images")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 image")
    return found if limit is None else found.first(limit)


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


def _layer(
    subject: Subject, probe: ProbeSet, layer: str | None, units: Sequence[int] | range | None
) -> tuple[UnitLayer, str | None]:
    """Return the units from the first image, and the layer before their activation if it is known."""
    _, first = next(stream(probe.images[:1], subject.transform, batch_size=1))
    first = subject.placed(first)
    before = None
    if layer is None:
        traced = trace(subject.model, first)
        _, channels, height, width = traced.map.shape
        alike = [name for name, shape in traced.candidates if shape == (channels, height, width)]
        others = [name for name in alike if name not in traced.owners]
        layer, before = traced.layer, others[-1] if others else None
    (found,) = find_layers(subject, first, [layer], units=units)
    return found, before


def _explanation(
    unit: int,
    result: SearchResult,
    threshold: float,
    limit: float,
    categories: dict[str, str],
    evidence: Evidence,
    related: Relatedness | None,
) -> UnitExplanation:
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
        search=result.search,
        bound=result.bound,
        stopped=result.stopped,
        kind=kind_of(result.formula, categories, related.near if related is not None else None),
        label=single if label is not None else None,
        score=result.by_length[0].iou if result.by_length else 0.0,
        label_category=categories.get(single, ""),
        best_by_length=tuple((most, str(row.formula), row.iou) for most, row in enumerate(result.by_length, 1)),
        runners_up=tuple((str(row.formula), row.iou, row.length) for row in result.beam[1:]),
        evidence=evidence,
    )
