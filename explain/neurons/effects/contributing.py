"""Contributions: how much of a class's logit each unit gives, and what it gets from units of a layer before.

For a head that averages the maps (GAP) a logit is a sum over units: ``logit_c = sum_u w_cu mean_xy A_u + const_c``. The
term of a unit, averaged over the images of the class, is its contribution: exact, and ranked by ``w_cu`` it gives the
class-specific units of Zhou et al. (2016). For any other head the weight is the derivative of the logit summed over
places, and the contribution is derivative times activation, the same two numbers where the head is affine.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.errors import InputError, near
from explain.findings.result import Findings, source_of
from explain.nets.inputs import stream
from explain.nets.passes import Arrays, Work, run_pass
from explain.nets.subject import Subject
from explain.neurons.effects.between_layers import find_between, open_source
from explain.neurons.effects.class_pictures import class_pictures
from explain.neurons.effects.contribution_findings import (
    ClassContributions,
    ClassUnit,
    ContributionFindings,
    UnitContributions,
)
from explain.neurons.effects.contribution_tables import contribution_notes, contribution_tables
from explain.neurons.effects.heads import HeadWeights, class_gradients, exact_head
from explain.neurons.effects.observing import observe
from explain.neurons.effects.opening import Explained
from explain.neurons.effects.preparing import Opened, open_job
from explain.neurons.results import NeuronRun

__all__ = ["Rank", "contributions"]

Rank = Literal["contribution", "weight"]
_CLASSES = 3
"""Classes listed per unit, at either end."""
Floats = NDArray[np.float64]


def contributions(
    run: Explained | NeuronRun | str | Path,
    data: Any,
    model: nn.Module | Subject | str | None = None,
    *,
    top: int = 5,
    rank: Rank = "contribution",
    show: int = 6,
    other: Explained | NeuronRun | str | Path | None = None,
    from_layer: str | None = None,
    draws: int = 1000,
    seed: int = 0,
    limit: int | None = None,
    work: Work | None = None,
) -> Findings[ContributionFindings]:
    """Return what each unit gives to the classes of labelled images, and what it gets from a layer before.

    A contribution to a class is the mean over the images of that class, so that contributions of all units and the
    head's constant add up to the class's mean logit where the head is affine (``residual`` measures it).

    Parameters
    ----------
    run, data, model, seed, limit, work
        See `explain.neurons.effects`.
    top
        Units listed per class at either end (at most: those that give something, and those that take), and sources per
        unit.
    rank
        Order a class's units by ``"contribution"``, or by ``"weight"`` as Zhou et al. (2016) do.
    show
        Classes in the printed table and with pictures of the regions that fire their units, evenly spread.
    other
        A neuron run of a layer before, in the same network: its units are sources of this run's.
    from_layer
        The same by the layer's name, without formulas and thresholds, hence without overlaps.
    draws
        Resamplings of a class's images, for intervals.

    Raises
    ------
    InputError
        See `accuracy`; also a layer that does not come before the run's, options out of range.
    ModelError
        The logits do not depend on the layer.
    """
    _check_options(top, rank, show, draws)
    job, work = open_job(run, data, model, limit=limit), work or Work()
    _, first = next(stream(job.data.images, job.subject.transform, batch_size=1, stop=1))
    image = job.subject.placed(first)
    source = open_source(job, image, other, from_layer)
    head = exact_head(job.subject, job.layer, image)
    measure = partial(_exact, job, head) if head is not None else partial(_derived, job)
    seen = run_pass(job.subject, job.data.images, measure, "contributions", work)
    weights = seen["weight"] if head is None else head.weights[job.labels]
    classes, given = _classes(job, head, seen, weights, rank, top, draws, seed)
    found = find_between(job, source, top, work) if source is not None else None
    findings = ContributionFindings(
        head="gradient" if head is None else "exact",
        rank=rank,
        images=len(job.labels),
        residual=_residual(job, head, seen),
        classes=classes,
        units=_units(job, classes, given, found.sources if found is not None else {}),
        between=found.between if found is not None else None,
    )
    labels = np.array([row.label for row in classes], np.int64)
    arrays = {"labels": job.labels, "classes": labels, "contributions": given, "means": seen["mean"]}
    if head is not None:
        arrays |= {"weights": head.weights, "constants": head.constants}
    given_by = {"other": source.name if source is not None else None, "draws": draws, "seed": seed, "limit": limit}
    return Findings(
        "effects",
        kind="contributions",
        findings=findings,
        tables=contribution_tables(findings, job, show),
        notes=contribution_notes(findings, job),
        arrays=arrays | (found.arrays if found is not None else {}),
        examples=class_pictures(job, findings, seen["peak"], show, work),
        subject=job.subject,
        source=source_of(job.data),
        layer=job.explained.layer,
        settings={"top": top, "rank": rank, "show": show, **given_by},
        warnings=job.warnings,
    )


def _check_options(top: int, rank: str, show: int, draws: int) -> None:
    for name, value, least in (("top", top, 1), ("show", show, 0), ("draws", draws, 1)):
        if value < least:
            raise InputError(f"{name}={value}: give at least {least}")
    if rank not in get_args(Rank):
        raise InputError(f"unknown rank {rank!r}{near(rank, get_args(Rank))}: give contribution or weight")


def _exact(job: Opened, head: HeadWeights, images: Tensor, numbers: range) -> Arrays:
    (maps,), logits = observe(job.subject, [job.layer], images)
    labels = job.labels[numbers.start : numbers.stop]
    means = maps.double().mean((2, 3)).cpu().numpy()
    return {**_common(maps, logits, labels), "mean": means, "given": head.weights[labels] * means}


def _derived(job: Opened, images: Tensor, numbers: range) -> Arrays:
    labels = job.labels[numbers.start : numbers.stop]
    maps, gradients, logits = class_gradients(job.subject, job.layer, images, torch.from_numpy(labels))
    return {
        **_common(maps, logits, labels),
        "mean": maps.double().mean((2, 3)).cpu().numpy(),
        "given": (maps.double() * gradients.double()).sum((2, 3)).cpu().numpy(),
        "weight": gradients.double().sum((2, 3)).cpu().numpy(),
    }


def _common(maps: Tensor, logits: Tensor, labels: NDArray[np.int64]) -> Arrays:
    scores = logits.double().cpu().numpy()
    return {"peak": maps.amax((2, 3)).cpu().numpy(), "logit": scores[np.arange(len(labels)), labels]}


def _residual(job: Opened, head: HeadWeights | None, seen: Arrays) -> float | None:
    """Return how far contributions and constant are from the logits, as a share of the largest."""
    if head is None or not head.whole:
        return None
    sums = seen["given"].sum(1) + head.constants[job.labels]
    return float(np.abs(sums - seen["logit"]).max() / max(float(np.abs(seen["logit"]).max()), 1e-300))


def _classes(
    job: Opened,
    head: HeadWeights | None,
    seen: Arrays,
    weights: Floats,
    rank: Rank,
    top: int,
    draws: int,
    seed: int,
) -> tuple[tuple[ClassContributions, ...], Floats]:
    """Return the units of each class that there are images of, and all contributions float64 ``(classes, u)``."""
    found, given = [], []
    for label in sorted(set(job.labels.tolist())):
        own = np.flatnonzero(job.labels == label)
        mean, weight = seen["given"][own].mean(0), weights[own].mean(0)
        ranked = mean if rank == "contribution" else weight
        order = np.argsort(-ranked, kind="stable")
        ends = [end[sign * ranked[end] > 0][:top] for sign, end in ((1, order), (-1, order[::-1]))]
        drawn = np.random.default_rng(seed).multinomial(len(own), np.full(len(own), 1 / len(own)), draws)
        rows = [
            tuple(_class_unit(job, int(place), mean, weight, seen["given"][own], drawn) for place in end)
            for end in ends
        ]
        given.append(mean)
        found.append(
            ClassContributions(
                label=label,
                name=job.names[label],
                images=len(own),
                logit=float(seen["logit"][own].mean()),
                constant=float(head.constants[label]) if head is not None else None,
                top=rows[0],
                bottom=rows[1],
            )
        )
    return tuple(found), np.stack(given)


def _class_unit(
    job: Opened, place: int, mean: Floats, weight: Floats, given: Floats, drawn: NDArray[np.int64]
) -> ClassUnit:
    unit = job.explained.units[place]
    low = high = None
    if len(given) > 1:
        low, high = (float(end) for end in np.quantile(drawn @ given[:, place] / len(given), [0.025, 0.975]))
    return ClassUnit(unit.unit, unit.formula, float(weight[place]), float(mean[place]), low, high)


def _units(
    job: Opened,
    classes: tuple[ClassContributions, ...],
    given: Floats,
    sources: dict[int, dict[str, dict[str, tuple[tuple[int, float], ...]]]],
) -> dict[int, UnitContributions]:
    found = {}
    count = min(_CLASSES, len(classes))
    among_top = Counter(one.unit for row in classes for one in row.top)
    among_bottom = Counter(one.unit for row in classes for one in row.bottom)
    for place, unit in enumerate(job.explained.units):
        order = np.argsort(-given[:, place], kind="stable")
        ends = [
            tuple((classes[k].label, classes[k].name, float(given[k, place])) for k in end.tolist())
            for end in (order[:count], order[::-1][:count])
        ]
        found[unit.unit] = UnitContributions(
            unit=unit.unit,
            formula=unit.formula,
            iou=unit.iou,
            most=ends[0],
            least=ends[1],
            among_top=among_top[unit.unit],
            among_bottom=among_bottom[unit.unit],
            sources=sources.get(unit.unit, {}),
        )
    return found
